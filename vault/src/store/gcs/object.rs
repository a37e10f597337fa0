//! What the service tells of an object, as its documents have it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

use crate::store::{Lock, LockMode, VersionId};

/// One generation of an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) name: String,
    /// Its version.
    generation: String,
    #[serde(deserialize_with = "number")]
    pub(super) size: u64,
    /// When it was stored; `updated` would change with its lock.
    pub(super) time_created: Timestamp,
    /// When it became noncurrent; without it, it is the live one.
    pub(super) time_deleted: Option<Timestamp>,
    /// The service's own, over what it stored. Objects that were composed of others have none.
    pub(super) md5_hash: Option<String>,
    retention: Option<Retention>,
}

/// A lock, as the service spells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retention {
    mode: Option<String>,
    retain_until_time: Option<Timestamp>,
}

/// Numbers of 64 bits stand in strings.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    String::deserialize(from)?.parse().map_err(de::Error::custom)
}

impl Object {
    pub(super) fn version(&self) -> VersionId {
        VersionId(self.generation.clone())
    }

    /// Its lock; `None` also for a mode that isn't known here, which nothing may rest on.
    pub(super) fn lock(&self) -> Option<Lock> {
        let retention = self.retention.as_ref()?;
        let mode = match retention.mode.as_deref()? {
            "Locked" => LockMode::Compliance,
            "Unlocked" => LockMode::Governance,
            _ => return None,
        };
        Some(Lock { mode, until: retention.retain_until_time? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(retention: &str) -> Option<Object> {
        let text = format!(
            r#"{{"name": "a", "generation": "1795619696821802", "size": "5", "timeCreated": "2026-11-25T15:14:56.821Z"{retention}}}"#
        );
        serde_json::from_str(&text).ok()
    }

    #[test]
    fn locks_are_read_and_odd_ones_are_none() {
        let until = "2100-01-02T03:04:05Z";
        let lock = |mode: &str| {
            object(&format!(r#", "retention": {{"mode": "{mode}", "retainUntilTime": "{until}"}}"#))
                .unwrap()
                .lock()
        };
        let until: Timestamp = until.parse().unwrap();
        assert_eq!(lock("Locked"), Some(Lock { mode: LockMode::Compliance, until }));
        assert_eq!(lock("Unlocked"), Some(Lock { mode: LockMode::Governance, until }));
        assert_eq!(lock("Ajar"), None);
        assert_eq!(object("").unwrap().lock(), None);
        assert_eq!(object(r#", "retention": {"mode": "Locked"}"#).unwrap().lock(), None);
        assert!(
            object(r#", "retention": {"mode": "Locked", "retainUntilTime": "soon"}"#).is_none()
        );
    }
}
