//! Credentials for Google: an access token, or a service account's key, from the settings or the environment; the file
//! of `gcloud`; or else the machine's service account, which is also how a workload's identity is told on GKE.
//! `object_store` makes tokens of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder};
use serde::Deserialize;

use crate::store::StoreError;
use crate::store::http::{FIND_TIMEOUT, chain, fetched, few_tries, is_visible, short_waits};
use crate::store::open::Env;
use crate::store::target::TargetOptions;

/// Where `gcloud auth application-default login` leaves its file, below the home folder.
const GCLOUD_FILE: &str = ".config/gcloud/application_default_credentials.json";

/// A credential's source, and a description of it for messages.
#[derive(Clone)]
pub(super) struct Credentials {
    provider: GcpCredentialProvider,
    described: String,
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
        env: Env<'_>,
        target: &str,
    ) -> Result<Self, StoreError> {
        let none = |detail: String| StoreError::NoCredential { target: target.to_owned(), detail };
        let made =
            |provider, described| Ok(Self { provider, described, target: target.to_owned() });
        let env = |name: &str| env(name).filter(|v| !v.trim().is_empty());

        if let Some(secret) = options.secret().map_err(none)? {
            let provider = given(secret.expose()).map_err(none)?;
            return made(provider, "the secret in the settings".to_owned());
        }
        if let Some(token) = env("CLOUDSDK_AUTH_ACCESS_TOKEN") {
            let provider =
                fixed(&token).map_err(|why| none(format!("CLOUDSDK_AUTH_ACCESS_TOKEN: {why}")))?;
            return made(provider, "the token in the environment".to_owned());
        }
        let named = env("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
        let usual = || {
            let file = Path::new(&env("HOME")?).join(GCLOUD_FILE);
            file.exists().then_some(file)
        };
        if let Some(path) = named.or_else(usual) {
            let shown = path.display().to_string();
            let provider = in_file(&path).map_err(|why| none(format!("{shown}: {why}")))?;
            return made(provider, shown);
        }
        let provider = built(tokens()).map_err(|e| none(chain(&e)))?;
        made(provider, "the machine's service account (metadata server)".to_owned())
    }

    /// The credential to sign the next request with.
    ///
    /// # Errors
    /// [`StoreError::NoCredential`] that says where was looked.
    pub(super) async fn get(&self) -> Result<Arc<GcpCredential>, StoreError> {
        let none = |detail: String| StoreError::NoCredential {
            target: self.target.clone(),
            detail: format!("{} gave none: {detail}", self.described),
        };
        let credential = fetched(self.provider.as_ref(), FIND_TIMEOUT).await.map_err(none)?;
        if is_visible(&credential.bearer) {
            return Ok(credential);
        }
        Err(none("the token is empty, or holds characters that can't be in one".into()))
    }
}

/// What a file of credentials says of itself.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// A service account's key (JSON), or else an access token.
fn given(secret: &str) -> Result<GcpCredentialProvider, String> {
    let secret = secret.trim();
    if !secret.starts_with('{') {
        return fixed(secret);
    }
    match kind(secret)?.as_str() {
        "service_account" => service_account(secret),
        other => Err(format!(
            "the secret is a credential of the kind `{other}`: give a service account's key, or name that file in \
             GOOGLE_APPLICATION_CREDENTIALS"
        )),
    }
}

fn in_file(path: &Path) -> Result<GcpCredentialProvider, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("it can't be read: {e}"))?;
    match kind(&text)?.as_str() {
        "service_account" => service_account(&text),
        "authorized_user" => {
            let builder = tokens().with_application_credentials(path.to_string_lossy());
            built(builder).map_err(|_| "it lacks what belongs to the credential of a user".into())
        }
        other => Err(format!(
            "credentials of the kind `{other}` aren't supported: use a service account's key, or run on a machine that has \
             a service account"
        )),
    }
}

/// The kind of a credential. Neither the text nor the parser's words about it may be shown: they hold the secret.
fn kind(text: &str) -> Result<String, String> {
    serde_json::from_str::<Kind>(text).map(|k| k.kind).map_err(|e| {
        format!(
            "it isn't a file of credentials (JSON with a `type`): line {}, column {}",
            e.line(),
            e.column()
        )
    })
}

fn service_account(text: &str) -> Result<GcpCredentialProvider, String> {
    built(tokens().with_service_account_key(text)).map_err(|_| {
        "the service account's key can't be used: it lacks `client_email` or `private_key_id`, or `private_key` is no \
         RSA key"
            .into()
    })
}

fn fixed(token: &str) -> Result<GcpCredentialProvider, String> {
    let bearer = token.trim().to_owned();
    if !is_visible(&bearer) {
        return Err(
            "the secret is empty, or neither a service account's key (JSON) nor an access token"
                .into(),
        );
    }
    Ok(Arc::new(StaticCredentialProvider::new(GcpCredential { bearer })))
}

/// A builder that is only used for its ways to get at a token.
fn tokens() -> GoogleCloudStorageBuilder {
    GoogleCloudStorageBuilder::new()
        .with_bucket_name("unused")
        .with_retry(few_tries())
        .with_client_options(short_waits())
}

fn built(builder: GoogleCloudStorageBuilder) -> object_store::Result<GcpCredentialProvider> {
    Ok(Arc::clone(builder.build()?.credentials()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::target::Secret;

    fn find(secret: &str) -> Result<Credentials, StoreError> {
        let options =
            TargetOptions { secret_access_key: Some(Secret::new(secret)), ..Default::default() };
        Credentials::find(&options, &|_| None, "gs://bucket")
    }

    #[tokio::test]
    async fn tokens_are_taken_as_they_are_and_what_is_no_key_is_refused_unrepeated() {
        assert_eq!(find("ya29.abc\n").unwrap().get().await.unwrap().bearer, "ya29.abc");
        for (bad, word) in [
            ("", "is empty"),
            ("two words", "neither"),
            ("{", "line 1"),
            (r#"{"private_key": "hunter2"}"#, "`type`"),
            (r#"{"type": "external_account", "x": "hunter2"}"#, "`external_account`"),
            (r#"{"type": "service_account", "private_key": "hunter2"}"#, "can't be used"),
            (
                r#"{"type": "service_account", "private_key": "hunter2", "private_key_id": "1", "client_email": "a@b"}"#,
                "no RSA key",
            ),
        ] {
            let error = find(bad).unwrap_err().to_string();
            assert!(error.starts_with("no credential for gs://bucket"), "{error}");
            assert!(error.contains(word), "{bad}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("two words"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_environment_is_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(GCLOUD_FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(
            &file,
            r#"{"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}"#,
        )
        .unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let found = |set: &[(&'static str, &str)]| {
            let set: Vec<_> = set.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            let env = move |name: &str| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.clone())
            };
            Credentials::find(&TargetOptions::default(), &env, "gs://bucket")
                .map(|found| found.described)
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            found(&[("CLOUDSDK_AUTH_ACCESS_TOKEN", "ya29"), ("HOME", &home)]),
            Ok("the token in the environment".into())
        );
        assert_eq!(found(&[("HOME", &home)]), Ok(file.display().to_string()));
        let missing = found(&[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere"), ("HOME", &home)]);
        assert!(missing.unwrap_err().contains("/nowhere: it can't be read"));
        assert_eq!(found(&[]), Ok("the machine's service account (metadata server)".into()));
    }
}
