//! Credentials for Azure: an account key or a shared access signature from the settings or the environment, or else a
//! token that `object_store` fetches: a client's secret, a workload's identity, the machine's identity.

use std::fmt;
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::azure::{
    AzureAccessKey, AzureConfigKey, AzureCredential, AzureCredentialProvider,
    MicrosoftAzureBuilder, split_sas,
};

use crate::store::StoreError;
use crate::store::http::{FIND_TIMEOUT, chain, fetched, few_tries, is_visible, short_waits};
use crate::store::open::Env;
use crate::store::target::TargetOptions;

/// A credential's source, and a description of it for messages.
#[derive(Clone)]
pub(super) struct Credentials {
    provider: AzureCredentialProvider,
    described: &'static str,
    target: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.described)
    }
}

impl Credentials {
    /// Chooses the source. Tokens are only fetched at the first request.
    ///
    /// # Errors
    /// [`StoreError::NoCredential`] if the source that was named holds none.
    pub(super) fn find(
        options: &TargetOptions,
        account: &str,
        env: Env<'_>,
        target: &str,
    ) -> Result<Self, StoreError> {
        let none = |detail: String| StoreError::NoCredential { target: target.to_owned(), detail };
        let made = |provider, described| Self { provider, described, target: target.to_owned() };
        let env = |name: &str| env(name).filter(|v| !v.trim().is_empty());

        if let Some(secret) = options.secret().map_err(none)? {
            let provider = fixed(secret.expose()).map_err(none)?;
            return Ok(made(provider, "the secret in the settings"));
        }
        for name in ["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_KEY"] {
            if let Some(secret) = env(name) {
                let provider = fixed(&secret).map_err(|why| none(format!("{name}: {why}")))?;
                return Ok(made(provider, "the secret in the environment"));
            }
        }
        let mut builder = tokens(account);
        let mut described = "the machine's managed identity (instance metadata service)";
        for (variable, key, source) in [
            ("AZURE_CLIENT_ID", AzureConfigKey::ClientId, None),
            ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId, None),
            ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost, None),
            ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret, Some("the client's secret")),
            (
                "AZURE_FEDERATED_TOKEN_FILE",
                AzureConfigKey::FederatedTokenFile,
                Some("the workload's identity"),
            ),
            ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint, None),
        ] {
            let Some(value) = env(variable) else { continue };
            builder = builder.with_config(key, value);
            described = source.unwrap_or(described);
        }
        let azure = builder.build().map_err(|e| none(chain(&e)))?;
        Ok(made(Arc::clone(azure.credentials()), described))
    }

    /// The credential to sign the next request with.
    ///
    /// # Errors
    /// [`StoreError::NoCredential`] that says where was looked.
    pub(super) async fn get(&self) -> Result<Arc<AzureCredential>, StoreError> {
        let none = |detail: String| StoreError::NoCredential {
            target: self.target.clone(),
            detail: format!("{} gave none: {detail}", self.described),
        };
        let credential = fetched(self.provider.as_ref(), FIND_TIMEOUT).await.map_err(none)?;
        // It becomes a header, and the signer beneath would panic on what can't be in one.
        match credential.as_ref() {
            AzureCredential::BearerToken(token) if !is_visible(token) => {
                Err(none("the token holds characters that can't be in one".into()))
            }
            _ => Ok(credential),
        }
    }
}

/// An account key (base64), or a shared access signature, which is told by its `sig=`.
fn fixed(secret: &str) -> Result<AzureCredentialProvider, String> {
    let secret = secret.trim();
    if !is_visible(secret) {
        return Err("the secret is empty, or holds characters that can't be in one".into());
    }
    let credential = if secret.contains("sig=") {
        let pairs = split_sas(secret).map_err(|_| "the shared access signature can't be read")?;
        AzureCredential::SASToken(pairs)
    } else {
        // The error beneath would repeat a part of the key.
        let key = AzureAccessKey::try_new(secret)
            .map_err(|_| "it is neither an account key (base64) nor a shared access signature")?;
        AzureCredential::AccessKey(key)
    };
    Ok(Arc::new(StaticCredentialProvider::new(credential)))
}

/// A builder that is only used for its ways to get at a token.
fn tokens(account: &str) -> MicrosoftAzureBuilder {
    MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name("unused")
        .with_retry(few_tries())
        .with_client_options(short_waits().with_allow_http(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::target::Secret;

    fn find(secret: &str) -> Result<Credentials, StoreError> {
        let options =
            TargetOptions { secret_access_key: Some(Secret::new(secret)), ..Default::default() };
        Credentials::find(&options, "acct", &|_| None, "az://acct/c")
    }

    #[tokio::test]
    async fn keys_and_signatures_are_told_apart() {
        let key = find("a2V5\n").unwrap().get().await.unwrap();
        assert!(matches!(*key, AzureCredential::AccessKey(_)));
        let sas = find("?sv=2023-11-03&sp=rw&sig=a%2Bb%3D").unwrap().get().await.unwrap();
        let AzureCredential::SASToken(pairs) = sas.as_ref() else { panic!("{sas:?}") };
        assert!(pairs.contains(&("sig".into(), "a+b=".into())), "{pairs:?}");
        for bad in ["", "not base64!", "two words"] {
            let error = find(bad).unwrap_err().to_string();
            assert!(error.starts_with("no credential for az://acct/c"), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[tokio::test]
    async fn the_environment_is_read() {
        let env = |name: &str| (name == "AZURE_STORAGE_KEY").then(|| "a2V5".to_owned());
        let found =
            Credentials::find(&TargetOptions::default(), "acct", &env, "az://acct/c").unwrap();
        assert_eq!(format!("{found:?}"), "Credentials(the secret in the environment)");
    }
}
