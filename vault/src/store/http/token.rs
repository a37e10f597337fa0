//! Credentials that `object_store` gets at: with short waits, since a host that has none at all must learn so in
//! seconds.

use std::sync::Arc;
use std::time::Duration;

use object_store::{BackoffConfig, ClientOptions, CredentialProvider, RetryConfig};

use super::client::chain;

/// How long finding a credential may take in all.
pub(in crate::store) const FIND_TIMEOUT: Duration = Duration::from_secs(10);

/// How often, and for how long, the source of a credential is asked again.
pub(in crate::store) fn few_tries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: Duration::from_secs(5),
    }
}

/// The HTTP client that asks it.
pub(in crate::store) fn short_waits() -> ClientOptions {
    ClientOptions::new()
        .with_timeout(Duration::from_secs(5))
        .with_connect_timeout(Duration::from_secs(2))
}

/// Gets a credential, or says in words why there is none.
pub(in crate::store) async fn fetched<C>(
    provider: &dyn CredentialProvider<Credential = C>,
    timeout: Duration,
) -> Result<Arc<C>, String> {
    match tokio::time::timeout(timeout, provider.get_credential()).await {
        Ok(Ok(credential)) => Ok(credential),
        Ok(Err(e)) => Err(chain(&e)),
        Err(_) => Err(format!("no answer within {} s", timeout.as_secs())),
    }
}

/// Whether a text may be part of a header: the signers beneath would panic on what can't.
pub(in crate::store) fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (0x21..0x7f).contains(&b))
}
