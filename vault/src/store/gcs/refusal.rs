//! From the service's refusal to an error that a person can act on.

use serde::Deserialize;

use crate::store::StoreError;
use crate::store::http::Answer;

/// Longest part of a server's message that is passed on, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// A refusal, in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `notFound`, `forbidden`; empty where the answer isn't a document of the service's.
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    error: Error,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
    errors: Vec<Detail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    reason: String,
}

impl Refusal {
    pub(super) fn of(answer: &Answer) -> Self {
        let document = serde_json::from_slice::<Document>(&answer.body).ok();
        let Error { message, errors } = document.map(|d| d.error).unwrap_or_default();
        let reason = errors.into_iter().next().unwrap_or_default().reason;
        // Reads of contents are refused in plain words, which stand in no document. What is a page is a proxy's.
        let plain = || {
            let text = String::from_utf8_lossy(&answer.body);
            let line = text.trim().lines().next().unwrap_or_default();
            if line.starts_with('<') { String::new() } else { line.to_owned() }
        };
        let message = if message.is_empty() { plain() } else { message };
        let visible = |c: &char| !c.is_control();
        Self {
            status: answer.status,
            reason: reason.chars().filter(visible).take(80).collect(),
            message: message.chars().filter(visible).take(MESSAGE_LEN_MAX).collect(),
        }
    }

    /// The service's words, for a message.
    pub(super) fn words(&self) -> String {
        match (self.reason.as_str(), self.message.as_str()) {
            ("", "") => format!(
                "HTTP status {} in words that aren't Google's: is the endpoint right?",
                self.status
            ),
            ("", message) => format!("HTTP status {}, {message}", self.status),
            (reason, "") => format!("{reason} (HTTP status {})", self.status),
            (reason, message) => format!("{reason}: {message}"),
        }
    }

    pub(super) fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
            || (self.status == 403
                && matches!(self.reason.as_str(), "rateLimitExceeded" | "userRateLimitExceeded"))
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    /// Whether something isn't there, in a document that only the service writes: a bare 404 of some proxy must never
    /// pass for a missing object.
    pub(super) fn is_missing(&self) -> bool {
        // fake-gcs-server puts a blank into the word.
        self.status == 404 && self.reason.replace(' ', "").eq_ignore_ascii_case("notFound")
    }

    fn is_no_bucket(&self) -> bool {
        self.is_missing() && self.message.contains("bucket does not exist")
    }

    /// Whether there is an object under that key already.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.status, 409 | 412) && !self.reason.is_empty()
    }

    /// Whether the service found other bytes than those whose checksum it was told.
    fn is_altered(&self) -> bool {
        self.status == 400 && self.message.contains("doesn't match calculated")
    }

    /// Whether a refused write says that the bucket can't lock.
    pub(super) fn is_about_locks(&self) -> bool {
        matches!(self.status, 400 | 409 | 412 | 501)
            && self.message.to_ascii_lowercase().contains("retention")
    }

    /// The error that stands for it. `action` reads on from 'refused to'; `what` names the object.
    pub(super) fn error(&self, target: &str, action: &str, what: &str) -> StoreError {
        let (target, action, detail) = (target.to_owned(), action.to_owned(), self.words());
        if self.is_no_bucket() {
            return StoreError::NoTarget { target };
        }
        if self.is_missing() {
            return StoreError::NotFound { what: what.to_owned(), target };
        }
        if self.is_transient() {
            return StoreError::Unreachable { target, detail };
        }
        if self.is_denied() {
            return StoreError::Denied { target, action, detail };
        }
        if self.is_altered() {
            return StoreError::Altered { what: what.to_owned(), detail };
        }
        StoreError::Other { target, action, detail }
    }
}
