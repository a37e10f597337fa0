//! Requests to Google Cloud Storage (its JSON interface): their addresses, their token, and what a refusal means for the
//! attempt.

use async_trait::async_trait;
use object_store::client::HttpRequest;

use super::credentials::Credentials;
use super::refusal::Refusal;
use crate::store::StoreError;
use crate::store::calls::CallKind;
use crate::store::http::{self, Answer, Call, Endpoint, Judgement, Service};

/// A bucket's client.
pub(super) type Client = http::Client<Google>;

/// How a bucket is reached, and by whom.
#[derive(Debug)]
pub(super) struct Google {
    pub(super) endpoint: Endpoint,
    pub(super) bucket: String,
    pub(super) credentials: Credentials,
}

impl Google {
    /// Uploads have an address of their own, listings ask with a prefix, and a slash in a key is no slash of the path.
    fn address(&self, call: &Call<'_>) -> String {
        let bucket = self.bucket.as_str();
        let components: &[&str] = match call.key {
            _ if call.method == "POST" => &["upload", "storage", "v1", "b", bucket, "o"],
            Some(key) => &["storage", "v1", "b", bucket, "o", key],
            None if lists(call) => &["storage", "v1", "b", bucket, "o"],
            None => &["storage", "v1", "b", bucket],
        };
        self.endpoint.joined(components, &call.query)
    }
}

fn lists(call: &Call<'_>) -> bool {
    call.query.iter().any(|(name, _)| *name == "prefix")
}

#[async_trait]
impl Service for Google {
    fn base(&self) -> &str {
        self.endpoint.base()
    }

    async fn sign(&self, call: &Call<'_>, target: &str) -> Result<HttpRequest, StoreError> {
        let credential = self.credentials.get().await?;
        let mut request = http::request(call, &self.address(call), target)?;
        let value = format!("Bearer {}", credential.bearer)
            .parse()
            .map_err(|_| http::unwritable(call, "token", target))?;
        request.headers_mut().insert("authorization", value);
        Ok(request)
    }

    fn kind(&self, call: &Call<'_>) -> CallKind {
        match call.method {
            "POST" => CallKind::Put,
            "PATCH" => CallKind::Extend,
            "GET" if lists(call) => CallKind::List,
            "GET" if call.query.iter().any(|(name, _)| *name == "alt") => CallKind::Get,
            "GET" => CallKind::Head,
            _ => CallKind::Free,
        }
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        let refusal = Refusal::of(answer);
        if refusal.is_transient() {
            return Judgement::Passing(refusal.words());
        }
        // A token that was signed by a wrong clock is refused as any other that isn't valid.
        if refusal.status == 401 {
            return Judgement::PerhapsSkewed;
        }
        Judgement::Stands
    }
}
