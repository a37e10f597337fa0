//! What the services that are reached by HTTP share: the way of a request, the server's clock, checksums, addresses,
//! credentials that are fetched, small XML documents, proving and extending locks, and putting the versions of a key in
//! order.

mod call;
mod client;
mod clock;
mod endpoint;
mod locked;
mod sums;
mod token;
mod versions;
mod xml;

pub(super) use call::{Answer, Call};
pub(super) use client::{Client, Judgement, Service, chain, request, unwritable};
pub(super) use clock::{Clock, check_offset};
pub(super) use endpoint::{Endpoint, decode};
pub(super) use locked::{Guard, Locked, Proof, extended, prove};
pub(super) use sums::{Sha256Sum, Sums};
pub(super) use token::{FIND_TIMEOUT, fetched, few_tries, is_visible, short_waits};
pub(super) use versions::{HIDDEN, by_key};
pub(super) use xml::Node;

use std::ops::Range;

use bytes::Bytes;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::{Lock, LockMode, LockPolicy, ObjectKey, Store, StoreError, VersionId};

/// The bytes of an answer to a read of `range`, if they are just those. 416 says that the object ends before it.
///
/// # Errors
/// [`StoreError::Truncated`], and [`StoreError::Other`] for a server that knows no ranges.
pub(super) fn ranged(
    answer: Answer,
    range: &Range<u64>,
    call: &Call<'_>,
    target: &str,
) -> Result<Bytes, StoreError> {
    let wanted = range.end.saturating_sub(range.start);
    match answer.status {
        206 if answer.body.len() as u64 == wanted => Ok(answer.body),
        // The whole object: right where it is just what was asked for.
        200 if range.start == 0 && answer.body.len() as u64 == wanted => Ok(answer.body),
        200 => Err(StoreError::Other {
            target: target.to_owned(),
            action: call.action.clone(),
            detail: "the server took no notice of the range that was asked for".into(),
        }),
        _ => Err(StoreError::Truncated { what: call.what.clone(), wanted }),
    }
}

/// A time as HTTP headers write it: whole seconds, GMT.
pub(super) fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Reads a time as HTTP headers write it.
pub(super) fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

/// A key with its version, for messages.
pub(super) fn named(key: &ObjectKey, version: Option<&VersionId>) -> String {
    version.map_or_else(|| key.to_string(), |v| format!("{key} (version {v})"))
}

/// The mode that a policy's writes carry; `None` for no lock.
pub(super) fn mode_of(policy: LockPolicy) -> Option<LockMode> {
    match policy {
        LockPolicy::Compliance => Some(LockMode::Compliance),
        LockPolicy::Governance => Some(LockMode::Governance),
        LockPolicy::None => None,
    }
}

/// The lock that a write gets; `None` where a policy wants none.
pub(super) fn lock_for(policy: LockPolicy, until: Timestamp) -> Option<Lock> {
    mode_of(policy).map(|mode| Lock { mode, until: whole_seconds(until) })
}

/// The end of a lock in whole seconds, rounded up: servers keep no less than they are asked for, but no more.
pub(super) fn whole_seconds(until: Timestamp) -> Timestamp {
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    until.round(up).unwrap_or(until)
}

/// The stronger of two modes: an extension must never weaken a lock.
pub(super) fn stronger(a: LockMode, b: LockMode) -> LockMode {
    if a == LockMode::Compliance || b == LockMode::Compliance {
        LockMode::Compliance
    } else {
        LockMode::Governance
    }
}

/// Whether a lock is no weaker and no shorter than another.
pub(super) fn covers(held: Lock, asked: Lock) -> bool {
    held.until >= asked.until && stronger(held.mode, asked.mode) == held.mode
}

/// The lock of an object that was there already: `held` if that will do, else it is extended.
pub(super) async fn covering(
    store: &dyn Store,
    key: &ObjectKey,
    version: Option<&VersionId>,
    asked: Option<Lock>,
    held: Option<Lock>,
) -> Result<Option<Lock>, StoreError> {
    match (asked, held) {
        (None, _) => Ok(None),
        (Some(asked), Some(held)) if covers(held, asked) => Ok(Some(held)),
        (Some(asked), _) => store.extend(key, version, asked.until).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_end_on_whole_seconds_never_earlier() {
        let until: Timestamp = "2026-01-01T00:00:00.000000001Z".parse().unwrap();
        assert_eq!(whole_seconds(until).to_string(), "2026-01-01T00:00:01Z");
        assert_eq!(whole_seconds(whole_seconds(until)), whole_seconds(until));
    }

    #[test]
    fn dates_are_written_as_headers_have_them() {
        let time: Timestamp = "2026-01-05T07:08:09Z".parse().unwrap();
        assert_eq!(http_date(time), "Mon, 05 Jan 2026 07:08:09 GMT");
        assert_eq!(parse_date(&http_date(time)), Some(time));
    }
}
