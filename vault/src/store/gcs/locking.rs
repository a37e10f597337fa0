//! Object retention as Google spells it, and what a bucket tells about itself.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::refusal::Refusal;
use crate::store::http::{self, Call};
use crate::store::{Lock, LockMode, StoreError};

/// Google's word for a mode.
pub(super) fn word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Compliance => "Locked",
        LockMode::Governance | LockMode::ImmutableFile | LockMode::Advisory => "Unlocked",
    }
}

/// A lock as documents have it; `null` takes one away.
pub(super) fn retention(lock: Option<Lock>) -> Value {
    lock.map_or(Value::Null, |lock| {
        let until = http::whole_seconds(lock.until).to_string();
        json!({ "mode": word(lock.mode), "retainUntilTime": until })
    })
}

/// A request's body that sets the lock of an object.
pub(super) fn retention_document(lock: Option<Lock>) -> Bytes {
    json!({ "retention": retention(lock) }).to_string().into()
}

/// Claims the right to lift locks that aren't `Locked`: to shorten, lift or lock one.
pub(super) fn overriding(call: Call<'_>) -> Call<'_> {
    call.query("overrideUnlockedRetention", "true")
}

/// What a bucket tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Whether objects can have locks; `None` where it didn't tell.
    pub(super) locks: Option<bool>,
    /// Whether it keeps noncurrent versions, if it told.
    pub(super) versioning: Option<bool>,
    /// Its own retention policy, in the words that S3 has for a default retention.
    pub(super) default_retention: Option<String>,
    /// Why it didn't tell, and what else should be known.
    pub(super) notes: Vec<String>,
    /// All that it told.
    pub(super) document: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    object_retention: Mode,
    versioning: Versioning,
    retention_policy: Option<Policy>,
    default_event_based_hold: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mode {
    mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versioning {
    enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Policy {
    retention_period: String,
    is_locked: bool,
}

impl Bucket {
    /// Asks the bucket.
    ///
    /// # Errors
    /// [`StoreError`], but a refusal to tell is an answer.
    pub(super) async fn ask(client: &Client) -> Result<Self, StoreError> {
        let call = Call::new("GET", None, "read the bucket's settings", "");
        let answer = client.send(&call).await?;
        if answer.is_success() {
            return Self::read(&answer.body).ok_or_else(|| StoreError::Other {
                target: client.target.clone(),
                action: call.action.clone(),
                detail: "the answer isn't a bucket of Google's: is the endpoint right?".into(),
            });
        }
        let refusal = Refusal::of(&answer);
        // A wrong token is refused everywhere, with 401; only a lack of this one right can be lived with.
        if refusal.status == 403 && !refusal.is_transient() {
            let note = format!("the bucket's settings can't be read: {}", refusal.words());
            return Ok(Self { notes: vec![note], ..Self::default() });
        }
        if refusal.is_missing() {
            return Err(StoreError::NoTarget { target: client.target.clone() });
        }
        Err(refusal.error(&client.target, &call.action, "the bucket"))
    }

    fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        if value.get("kind")? != "storage#bucket" {
            return None;
        }
        let document: Document = serde_json::from_value(value.clone()).ok()?;
        let mut notes = Vec::new();
        if document.default_event_based_hold {
            notes.push(
                "the bucket puts an event-based hold on each new object: nothing can be pruned before it is lifted"
                    .into(),
            );
        }
        let default_retention = document.retention_policy.map(|policy| {
            let seconds: u64 = policy.retention_period.parse().unwrap_or(u64::MAX);
            let mode = if policy.is_locked { "COMPLIANCE" } else { "GOVERNANCE" };
            format!("{mode} {} days", seconds.div_ceil(86_400))
        });
        Some(Self {
            locks: Some(document.object_retention.mode == "Enabled"),
            versioning: Some(document.versioning.enabled),
            default_retention,
            notes,
            document: Some(value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_settings_are_read() {
        let with = Bucket::read(
            br#"{"kind": "storage#bucket", "objectRetention": {"mode": "Enabled"}, "versioning": {"enabled": true},
                "retentionPolicy": {"retentionPeriod": "2592000", "isLocked": true}}"#,
        )
        .unwrap();
        assert_eq!((with.locks, with.versioning), (Some(true), Some(true)));
        assert_eq!(with.default_retention.as_deref(), Some("COMPLIANCE 30 days"));
        let without = Bucket::read(br#"{"kind": "storage#bucket"}"#).unwrap();
        assert_eq!((without.locks, without.versioning), (Some(false), Some(false)));
        assert_eq!(without.default_retention, None);
        for other in ["", "{}", r#"{"kind": "storage#object"}"#, "[]"] {
            assert_eq!(Bucket::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn to_lift_a_lock_is_to_set_none() {
        assert_eq!(retention_document(None), r#"{"retention":null}"#);
    }
}
