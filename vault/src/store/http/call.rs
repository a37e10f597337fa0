//! A request before it is signed, and the answer to it.

use std::time::Duration;

use bytes::Bytes;
use object_store::HeaderMap;

use super::sums::{Sha256Sum, Sums};

/// The slowest line that an upload or download is still waited for, in bytes a second.
const BANDWIDTH_MIN: u64 = 64 * 1024;

/// How long a server may think about a request, beside the time that its bytes take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The same, and how long to go on trying, while the server has never answered.
pub(super) const FIRST_CONTACT: Duration = Duration::from_secs(20);

/// Largest answer to anything but a read: a listing of 1,000 versions has well below 1 MB.
pub(in crate::store) const DOCUMENT_LEN_MAX: u64 = 16 << 20;

/// Most bytes of a read that its time limit grows with: a caller's bound may be no more than a safeguard.
const READ_LEN_TIMED: u64 = 256 << 20;

/// A request, before it is signed.
pub(in crate::store) struct Call<'a> {
    pub(in crate::store) method: &'static str,
    /// The key with the vault's prefix; `None` for the bucket itself.
    pub(in crate::store) key: Option<&'a str>,
    pub(in crate::store) query: Vec<(&'static str, String)>,
    pub(in crate::store) headers: Vec<(&'static str, String)>,
    pub(in crate::store) body: Bytes,
    /// What stands before and after the body, where a service wants it in a document of several parts.
    pub(in crate::store) around: Option<(Bytes, Bytes)>,
    /// The body's SHA-256, if it has a body.
    pub(in crate::store) sha256: Option<Sha256Sum>,
    /// Longest answer to accept.
    pub(in crate::store) answer_max: u64,
    /// How many bytes of answer to allow time for; 0 for documents.
    pub(in crate::store) expected: u64,
    /// What is done, reading on from 'refused to'.
    pub(in crate::store) action: String,
    /// The object, for messages.
    pub(in crate::store) what: String,
}

impl<'a> Call<'a> {
    pub(in crate::store) fn new(
        method: &'static str,
        key: Option<&'a str>,
        action: &str,
        what: &str,
    ) -> Self {
        Self {
            method,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            around: None,
            sha256: None,
            answer_max: DOCUMENT_LEN_MAX,
            expected: 0,
            action: format!("{action} {what}").trim_end().to_owned(),
            what: what.to_owned(),
        }
    }

    pub(in crate::store) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(in crate::store) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Lets the answer have up to `max` bytes, and time for as many (within reason).
    pub(in crate::store) fn reads(mut self, max: u64) -> Self {
        self.answer_max = max;
        self.expected = max.min(READ_LEN_TIMED);
        self
    }

    /// Gives it a body, with the checksum that every service knows.
    pub(in crate::store) fn body(self, body: Bytes, sums: &Sums) -> Self {
        self.body_without_md5(body, sums.sha256).header("content-md5", sums.md5_base64())
    }

    /// Gives it a body for a service that needs no more than its SHA-256.
    pub(in crate::store) fn body_without_md5(mut self, body: Bytes, sha256: Sha256Sum) -> Self {
        self.body = body;
        self.sha256 = Some(sha256);
        self
    }

    /// Gives it a body as one part of a document, whose other parts are `before` and `after` it.
    pub(in crate::store) fn part(mut self, before: String, body: Bytes, after: String) -> Self {
        self.body = body;
        self.around = Some((before.into(), after.into()));
        self
    }

    /// How long one attempt may take.
    pub(super) fn timeout(&self, reached: bool, connect: Duration) -> Duration {
        let bytes = self.body.len() as u64 + self.expected;
        let thinking = if reached { ANSWER_TIMEOUT } else { FIRST_CONTACT };
        connect + thinking + Duration::from_secs(bytes / BANDWIDTH_MIN)
    }
}

/// A server's answer, whatever its status.
#[derive(Debug)]
pub(in crate::store) struct Answer {
    pub(in crate::store) status: u16,
    pub(super) headers: HeaderMap,
    pub(in crate::store) body: Bytes,
}

impl Answer {
    pub(in crate::store) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(in crate::store) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}
