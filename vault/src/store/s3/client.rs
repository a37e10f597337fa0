//! Requests to S3: their addresses, their signature, and what a refusal means for the attempt.

use async_trait::async_trait;
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequest;

use super::credentials::Credentials;
use super::refusal::Refusal;
use crate::store::StoreError;
use crate::store::calls::CallKind;
use crate::store::http::{self, Answer, Call, Endpoint, Judgement, Service, Sha256Sum};

/// A bucket's client.
pub(super) type Client = http::Client<S3>;

/// How a bucket is reached, and by whom.
#[derive(Debug)]
pub(super) struct S3 {
    pub(super) endpoint: Endpoint,
    pub(super) region: String,
    pub(super) credentials: Credentials,
}

#[async_trait]
impl Service for S3 {
    fn base(&self) -> &str {
        self.endpoint.base()
    }

    async fn sign(&self, call: &Call<'_>, target: &str) -> Result<HttpRequest, StoreError> {
        let credential = self.credentials.get().await?;
        let mut request = http::request(call, &self.endpoint.url(call.key, &call.query), target)?;
        if let Some(sha256) = call.sha256 {
            // Locked writes need a checksum: this one, or MD5 (upload.rs).
            let value =
                sha256.base64().parse().map_err(|_| http::unwritable(call, "checksum", target))?;
            request.headers_mut().insert("x-amz-checksum-sha256", value);
        }
        let digest = call.sha256.unwrap_or(Sha256Sum::NOTHING);
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, Some(&digest.0))
            .map_err(|_| http::unwritable(call, "signature", target))?;
        Ok(request)
    }

    fn kind(&self, call: &Call<'_>) -> CallKind {
        let asks = |name: &str| call.query.iter().any(|(n, _)| *n == name);
        match call.method {
            "PUT" if asks("retention") => CallKind::Extend,
            "PUT" => CallKind::Put,
            "GET" if asks("list-type") || asks("versions") => CallKind::List,
            "GET" if call.key.is_some() && !asks("retention") => CallKind::Get,
            "GET" | "HEAD" => CallKind::Head,
            _ => CallKind::Free,
        }
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        let refusal = Refusal::of(answer);
        match refusal.code.as_str() {
            "RequestTimeTooSkewed" => Judgement::Skewed,
            _ if refusal.is_transient() => Judgement::Passing(refusal.words()),
            _ => Judgement::Stands,
        }
    }
}
