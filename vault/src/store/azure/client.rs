//! Requests to Azure Blob Storage: their addresses, their signature, and what a refusal means for the attempt.

use async_trait::async_trait;
use object_store::azure::AzureAuthorizer;
use object_store::client::HttpRequest;

use super::credentials::Credentials;
use super::refusal::Refusal;
use crate::store::StoreError;
use crate::store::calls::CallKind;
use crate::store::http::{self, Answer, Call, Endpoint, Judgement, Service};

/// A container's client.
pub(super) type Client = http::Client<Azure>;

/// How a container is reached, and by whom.
#[derive(Debug)]
pub(super) struct Azure {
    pub(super) endpoint: Endpoint,
    pub(super) account: String,
    pub(super) credentials: Credentials,
}

#[async_trait]
impl Service for Azure {
    fn base(&self) -> &str {
        self.endpoint.base()
    }

    async fn sign(&self, call: &Call<'_>, target: &str) -> Result<HttpRequest, StoreError> {
        let credential = self.credentials.get().await?;
        let path = call.key.map(|key| format!("/{key}")).unwrap_or_default();
        let mut request = http::request(call, &self.endpoint.below(&path, &call.query), target)?;
        // It adds the date and the version of the service's interface (2023-11-03) as well.
        AzureAuthorizer::new(&credential, &self.account)
            .try_authorize(&mut request)
            .map_err(|_| http::unwritable(call, "signature", target))?;
        Ok(request)
    }

    fn kind(&self, call: &Call<'_>) -> CallKind {
        let comp = call.query.iter().find(|(name, _)| *name == "comp").map(|(_, v)| v.as_str());
        match (call.method, comp) {
            ("PUT", Some("immutabilityPolicies")) => CallKind::Extend,
            ("PUT", _) => CallKind::Put,
            ("GET", Some("list")) => CallKind::List,
            ("GET", _) if call.key.is_some() => CallKind::Get,
            ("GET" | "HEAD", _) => CallKind::Head,
            _ => CallKind::Free,
        }
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        let refusal = Refusal::of(answer);
        if refusal.is_transient() {
            return Judgement::Passing(refusal.words());
        }
        // The service says no more of a date that is too far off.
        if refusal.code == "AuthenticationFailed" {
            return Judgement::PerhapsSkewed;
        }
        Judgement::Stands
    }
}
