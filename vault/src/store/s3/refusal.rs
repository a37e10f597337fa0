//! From a server's refusal to an error that a person can act on.

use crate::store::StoreError;
use crate::store::http::{Answer, Node};

/// Longest part of a server's message that is passed on, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// A refusal, in the server's own words: only its code and message, for the rest of the document may hold parts
/// of the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    /// The region that the server would have liked, if it named one.
    region: Option<String>,
}

impl Refusal {
    pub(super) fn of(answer: &Answer) -> Self {
        let doc = Node::parse(&answer.body).unwrap_or_default();
        // Some servers wrap the error once more.
        let error =
            if doc.name == "ErrorResponse" { doc.child("Error").unwrap_or(&doc) } else { &doc };
        let text = |name: &str| error.text_at(&[name]).unwrap_or_default().to_owned();
        let region = answer
            .header("x-amz-bucket-region")
            .map(str::to_owned)
            .or_else(|| error.text_at(&["Region"]).map(str::to_owned));
        let visible = |c: &char| !c.is_control();
        Self {
            status: answer.status,
            code: text("Code").chars().filter(visible).take(80).collect(),
            message: text("Message").chars().filter(visible).take(MESSAGE_LEN_MAX).collect(),
            region,
        }
    }

    /// The server's words, for a message.
    pub(super) fn words(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", _) if self.status == 403 => "HTTP status 403".into(),
            ("", _) => format!(
                "HTTP status {} in words that aren't S3's: is the endpoint right?",
                self.status
            ),
            (code, "") => format!("{code} (HTTP status {})", self.status),
            (code, message) => format!("{code}: {message}"),
        }
    }

    /// Whether trying the same again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self.status {
            408 | 429 | 500 | 502 | 503 | 504 => !self.is_full(),
            400 => matches!(self.code.as_str(), "RequestTimeout" | "SlowDown"),
            409 => matches!(self.code.as_str(), "OperationAborted" | "ConditionalRequestConflict"),
            _ => false,
        }
    }

    /// Whether it may be the target's bucket that is missing, and not the object.
    pub(super) fn is_no_bucket(&self) -> bool {
        self.code == "NoSuchBucket"
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self.status, 401 | 403)
    }

    /// Whether the object or version isn't there, in words that only an S3 server uses: a bare 404 of some proxy
    /// must never pass for a missing object. 405 answers a read of a delete marker's version.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchKey" | "NoSuchVersion")
            || (self.status == 405 && self.code == "MethodNotAllowed")
            || (self.status == 400
                && self.code == "InvalidArgument"
                && self.message.contains("version id"))
    }

    /// Whether the server says that it doesn't know this kind of request.
    pub(super) fn is_unsupported(&self) -> bool {
        self.status == 501 || matches!(self.code.as_str(), "NotImplemented" | "MethodNotAllowed")
    }

    fn is_full(&self) -> bool {
        self.status == 507
            || matches!(
                self.code.as_str(),
                "QuotaExceeded"
                    | "InsufficientStorage"
                    | "InsufficientCapacity"
                    | "XMinioStorageFull"
                    | "StorageFull"
            )
    }

    /// The error that stands for it. `action` reads on from 'refused to'; `what` names the object.
    pub(super) fn error(&self, target: &str, action: &str, what: &str) -> StoreError {
        let target = target.to_owned();
        let detail = self.words();
        if self.is_no_bucket() {
            return StoreError::NoTarget { target };
        }
        if self.is_full() {
            return StoreError::Full { target, detail };
        }
        if self.is_missing() {
            return StoreError::NotFound { what: what.to_owned(), target };
        }
        if let Some(region) = self.wrong_region() {
            return StoreError::Config {
                detail: format!("{target} is in another region: set {region} ({detail})"),
            };
        }
        if self.is_denied() {
            return StoreError::Denied { target, action: action.to_owned(), detail };
        }
        if matches!(
            self.code.as_str(),
            "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
        ) {
            return StoreError::Altered { what: what.to_owned(), detail };
        }
        if self.is_transient() {
            return StoreError::Unreachable { target, detail };
        }
        StoreError::Other { target, action: action.to_owned(), detail }
    }

    fn wrong_region(&self) -> Option<String> {
        let redirect = matches!(
            self.code.as_str(),
            "PermanentRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
        ) || self.status == 301;
        redirect.then(|| match &self.region {
            Some(region) => format!("region = \"{region}\""),
            None => "its region".into(),
        })
    }
}
