//! From the service's refusal to an error that a person can act on.

use crate::store::StoreError;
use crate::store::http::{Answer, Node};

/// Longest part of a server's message that is passed on, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// A refusal, in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    message: String,
}

impl Refusal {
    pub(super) fn of(answer: &Answer) -> Self {
        let doc = Node::parse(&answer.body).unwrap_or_default();
        let text = |name: &str| doc.text_at(&[name]).unwrap_or_default();
        let code = answer.header("x-ms-error-code").unwrap_or_else(|| text("Code"));
        let visible = |c: &char| !c.is_control();
        // The first line says it; those below repeat the request's id and time.
        let message = text("Message").lines().next().unwrap_or_default();
        Self {
            status: answer.status,
            code: code.chars().filter(visible).take(80).collect(),
            message: message.chars().filter(visible).take(MESSAGE_LEN_MAX).collect(),
        }
    }

    /// The service's words, for a message.
    pub(super) fn words(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", _) => format!(
                "HTTP status {} in words that aren't Azure's: is the endpoint right?",
                self.status
            ),
            (code, "") => format!("{code} (HTTP status {})", self.status),
            (code, message) => format!("{code}: {message}"),
        }
    }

    pub(super) fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    /// Whether the object or version isn't there, in words that only the service uses: a bare 404 of some proxy must
    /// never pass for a missing object.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 && matches!(self.code.as_str(), "BlobNotFound" | "ResourceNotFound")
    }

    /// Whether the object was there already, or another one than was named.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(
            self.code.as_str(),
            "BlobAlreadyExists" | "ConditionNotMet" | "UnauthorizedBlobOverwrite"
        )
    }

    /// Whether a policy or a legal hold is what forbids it.
    pub(super) fn is_immutable(&self) -> bool {
        self.code.contains("Immutable") || self.code.contains("LegalHold")
    }

    /// Whether it is refused because the version is the current one.
    pub(super) fn is_current(&self) -> bool {
        self.code == "OperationNotAllowedOnRootBlob"
    }

    /// Whether a refused write says that the container can't lock.
    pub(super) fn is_about_locks(&self) -> bool {
        let words = self.words().to_ascii_lowercase();
        matches!(self.status, 400 | 405 | 409 | 501)
            && (words.contains("immutab") || words.contains("worm"))
    }

    /// The error that stands for it. `action` reads on from 'refused to'; `what` names the object.
    pub(super) fn error(&self, target: &str, action: &str, what: &str) -> StoreError {
        let (target, action, detail) = (target.to_owned(), action.to_owned(), self.words());
        match self.code.as_str() {
            "ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled" => {
                return StoreError::NoTarget { target };
            }
            "Md5Mismatch" | "InvalidMd5" => {
                return StoreError::Altered { what: what.to_owned(), detail };
            }
            _ => {}
        }
        if self.is_missing() {
            return StoreError::NotFound { what: what.to_owned(), target };
        }
        if self.is_conflict() {
            return StoreError::Conflict { what: what.to_owned(), target };
        }
        if self.is_denied() || self.is_immutable() {
            return StoreError::Denied { target, action, detail };
        }
        if self.is_transient() {
            return StoreError::Unreachable { target, detail };
        }
        StoreError::Other { target, action, detail }
    }
}
