//! Version-level immutability as Azure spells it: headers, and what a container tells about itself.

use super::client::Client;
use super::refusal::Refusal;
use crate::store::http::{self, Answer, Call, Node};
use crate::store::{Lock, LockMode, StoreError};

pub(super) const MODE_HEADER: &str = "x-ms-immutability-policy-mode";
pub(super) const UNTIL_HEADER: &str = "x-ms-immutability-policy-until-date";

/// Azure's word for a mode.
pub(super) fn word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Compliance => "locked",
        LockMode::Governance | LockMode::ImmutableFile | LockMode::Advisory => "unlocked",
    }
}

/// Gives a request the headers that set a lock.
pub(super) fn with_lock(call: Call<'_>, lock: Lock) -> Call<'_> {
    call.header(UNTIL_HEADER, http::http_date(http::whole_seconds(lock.until)))
        .header(MODE_HEADER, word(lock.mode))
}

fn lock_from(mode: Option<&str>, until: Option<&str>) -> Option<Lock> {
    let mode = match mode?.to_ascii_lowercase().as_str() {
        "locked" => LockMode::Compliance,
        "unlocked" => LockMode::Governance,
        _ => return None,
    };
    Some(Lock { mode, until: http::parse_date(until?)? })
}

/// The lock in the headers of an answer.
pub(super) fn lock_in_headers(answer: &Answer) -> Option<Lock> {
    lock_from(answer.header(MODE_HEADER), answer.header(UNTIL_HEADER))
}

/// The lock in a listing's element.
pub(super) fn lock_in_listing(blob: &Node) -> Option<Lock> {
    lock_from(
        blob.text_at(&["Properties", "ImmutabilityPolicyMode"]),
        blob.text_at(&["Properties", "ImmutabilityPolicyUntilDate"]),
    )
}

/// Whether a legal hold keeps a version, which nothing here sets or lifts.
pub(super) fn is_held(answer: &Answer) -> bool {
    answer.header("x-ms-legal-hold").is_some_and(|held| held.eq_ignore_ascii_case("true"))
}

/// What a container tells about its locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    /// Whether version-level immutability is enabled; `None` where it didn't tell.
    pub(super) locks: Option<bool>,
    /// Why it didn't tell.
    pub(super) note: Option<String>,
}

impl Container {
    /// Asks the container.
    ///
    /// # Errors
    /// [`StoreError`], but a refusal to tell is an answer.
    pub(super) async fn ask(client: &Client) -> Result<Self, StoreError> {
        let call = Call::new("HEAD", None, "read the container's properties", "")
            .query("restype", "container");
        let answer = client.send(&call).await?;
        if answer.is_success() {
            let told = answer.header("x-ms-immutable-storage-with-versioning-enabled");
            let locks = told.and_then(|word| word.to_ascii_lowercase().parse().ok());
            let note = locks.is_none().then(|| {
                "the server's answer about the container says nothing of version-level immutability"
                    .to_owned()
            });
            return Ok(Self { locks, note });
        }
        let refusal = Refusal::of(&answer);
        // A wrong key is refused everywhere; only a lack of this one right can be lived with.
        if refusal.is_denied() && refusal.code.starts_with("Authorization") {
            let note = format!("the container's properties can't be read: {}", refusal.words());
            return Ok(Self { locks: None, note: Some(note) });
        }
        Err(refusal.error(&client.target, &call.action, "the container"))
    }
}
