//! Object Lock as S3 spells it: headers, documents, and what a bucket tells about itself.

use bytes::Bytes;

use super::client::Client;
use super::refusal::Refusal;
use crate::store::http::{self, Answer, Call, Node};
use crate::store::{Lock, LockMode, StoreError};

pub(super) const MODE_HEADER: &str = "x-amz-object-lock-mode";
pub(super) const UNTIL_HEADER: &str = "x-amz-object-lock-retain-until-date";

/// S3's word for a mode.
pub(super) fn word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Compliance => "COMPLIANCE",
        LockMode::Governance | LockMode::ImmutableFile | LockMode::Advisory => "GOVERNANCE",
    }
}

fn mode_from(word: &str) -> Option<LockMode> {
    match word {
        "COMPLIANCE" => Some(LockMode::Compliance),
        "GOVERNANCE" => Some(LockMode::Governance),
        _ => None,
    }
}

/// The body of PutObjectRetention; without a lock it asks for the one that is there to be lifted.
pub(super) fn retention_document(lock: Option<Lock>) -> Bytes {
    let inner = lock.map_or_else(String::new, |lock| {
        format!(
            "<Mode>{}</Mode><RetainUntilDate>{}</RetainUntilDate>",
            word(lock.mode),
            http::whole_seconds(lock.until)
        )
    });
    Bytes::from(format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inner}</Retention>"
    ))
}

/// The lock in an answer to GetObjectRetention.
pub(super) fn lock_in(answer: &Answer) -> Option<Lock> {
    let doc = Node::parse(&answer.body)?;
    let mode = mode_from(doc.text_at(&["Mode"])?)?;
    let until = doc.text_at(&["RetainUntilDate"])?.parse().ok()?;
    Some(Lock { mode, until })
}

/// The lock in the headers of a HEAD or GET; servers leave them out for credentials that may not see them.
pub(super) fn lock_in_headers(answer: &Answer) -> Option<Lock> {
    let mode = mode_from(answer.header(MODE_HEADER)?)?;
    let until = answer.header(UNTIL_HEADER)?.parse().ok()?;
    Some(Lock { mode, until })
}

/// Whether a refused GetObjectRetention only says that there is no lock.
pub(super) fn says_no_lock(refusal: &Refusal) -> bool {
    refusal.code == "NoSuchObjectLockConfiguration"
        || refusal.code == "ObjectLockConfigurationNotFoundError"
        || (refusal.status == 400 && refusal.code == "InvalidRequest")
}

/// What a bucket tells about its Object Lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BucketLock {
    /// Whether it is enabled; `None` where the bucket didn't tell.
    pub(super) enabled: Option<bool>,
    /// `COMPLIANCE 30 days`.
    pub(super) default_retention: Option<String>,
    /// Why it didn't tell.
    pub(super) note: Option<String>,
}

impl BucketLock {
    /// Asks the bucket.
    ///
    /// # Errors
    /// [`StoreError`], but a refusal to tell is an answer.
    pub(super) async fn ask(client: &Client) -> Result<Self, StoreError> {
        let call =
            Call::new("GET", None, "read the bucket's lock settings", "").query("object-lock", "");
        let answer = client.send(&call).await?;
        if answer.is_success() {
            return Ok(Self::read(&answer.body));
        }
        let refusal = Refusal::of(&answer);
        if refusal.code == "ObjectLockConfigurationNotFoundError" {
            return Ok(Self { enabled: Some(false), ..Self::default() });
        }
        // A wrong key is refused everywhere; only a lack of this one right can be lived with.
        let lacks_right =
            refusal.is_denied() && matches!(refusal.code.as_str(), "AccessDenied" | "");
        if lacks_right || refusal.is_unsupported() {
            let note =
                format!("the bucket's Object Lock settings can't be read: {}", refusal.words());
            return Ok(Self { note: Some(note), ..Self::default() });
        }
        Err(refusal.error(&client.target, &call.action, "the bucket"))
    }

    fn read(body: &[u8]) -> Self {
        let doc = Node::parse(body).unwrap_or_default();
        let enabled = doc.text_at(&["ObjectLockEnabled"]) == Some("Enabled");
        let rule = doc.child("Rule").and_then(|r| r.child("DefaultRetention"));
        let default_retention = rule.and_then(|r| {
            let mode = r.text_at(&["Mode"])?;
            let length = ["Days", "Years"].iter().find_map(|unit| {
                let count = r.text_at(&[unit]).filter(|n| !n.is_empty() && *n != "0")?;
                Some(format!("{count} {}", unit.to_ascii_lowercase()))
            })?;
            Some(format!("{mode} {length}"))
        });
        Self { enabled: Some(enabled), default_retention, note: None }
    }
}

/// Whether the bucket keeps versions: `Err` holds the note why it can't be told.
///
/// # Errors
/// [`StoreError`] where the target can't be asked at all.
pub(super) async fn ask_versioning(client: &Client) -> Result<Result<bool, String>, StoreError> {
    let call = Call::new("GET", None, "read the bucket's versioning", "").query("versioning", "");
    let answer = client.send(&call).await?;
    if answer.is_success() {
        let doc = Node::parse(&answer.body).unwrap_or_default();
        return Ok(Ok(doc.text_at(&["Status"]) == Some("Enabled")));
    }
    let refusal = Refusal::of(&answer);
    let lacks_right = refusal.is_denied() && matches!(refusal.code.as_str(), "AccessDenied" | "");
    if lacks_right || refusal.is_unsupported() {
        return Ok(Err(format!("the bucket's versioning can't be read: {}", refusal.words())));
    }
    Err(refusal.error(&client.target, &call.action, "the bucket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_settings_are_read() {
        let with = BucketLock::read(
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
              <Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
        );
        assert_eq!(with.enabled, Some(true));
        assert_eq!(with.default_retention.as_deref(), Some("COMPLIANCE 30 days"));
        let without = BucketLock::read(b"<ObjectLockConfiguration/>");
        assert_eq!(without.enabled, Some(false));
    }
}
