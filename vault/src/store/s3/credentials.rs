//! Credentials: where they come from, in the order that other tools use too.
//!
//! The settings; the environment; a profile (keys, or a program that prints them); a web identity; a container's
//! role; the machine's role. The last three are `object_store`'s work, with short waits: a host that has no
//! credential at all must learn so in seconds.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::{CredentialProvider, StaticCredentialProvider};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::profile::Profile;
use crate::store::StoreError;
use crate::store::http::{FIND_TIMEOUT, chain, fetched, few_tries, is_visible, short_waits};
use crate::store::open::Env;
use crate::store::target::TargetOptions;

/// How long a `credential_process` may take: it may have to ask a server, or a hardware key.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

/// A credential's source, and a description of it for messages.
#[derive(Clone)]
pub(super) struct Credentials {
    provider: AwsCredentialProvider,
    described: String,
    timeout: Duration,
    target: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.described)
    }
}

impl Credentials {
    /// Chooses the source. Roles are only asked at the first request.
    ///
    /// # Errors
    /// [`StoreError::NoCredential`] if the source that was named holds none.
    pub(super) fn find(
        options: &TargetOptions,
        profile: Option<&Profile>,
        region: &str,
        env: Env<'_>,
        target: &str,
    ) -> Result<Self, StoreError> {
        let none = |detail: String| StoreError::NoCredential { target: target.to_owned(), detail };
        let made = |provider, described: String, timeout| {
            Ok(Self { provider, described, timeout, target: target.to_owned() })
        };
        let env = |name: &str| env(name).filter(|v| !v.trim().is_empty());

        if let Some(found) = from_options(options).map_err(none)? {
            return made(found, "the key in the settings".into(), FIND_TIMEOUT);
        }
        if options.profile.is_none() {
            match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
                (Some(id), Some(secret)) => {
                    let key =
                        fixed(&id, &secret, env("AWS_SESSION_TOKEN").as_deref()).map_err(none)?;
                    return made(key, "the key in the environment".into(), FIND_TIMEOUT);
                }
                (Some(_), None) => {
                    return Err(none(
                        "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY isn't".into(),
                    ));
                }
                (None, Some(_)) => {
                    return Err(none(
                        "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID isn't".into(),
                    ));
                }
                (None, None) => {}
            }
        }
        let asked = options.profile.is_some() || env("AWS_PROFILE").is_some();
        if let Some(profile) = profile {
            if let Some((found, timeout)) = from_profile(profile).map_err(none)? {
                return made(found, format!("profile `{}`", profile.name), timeout);
            }
            if let Some(token_file) = profile.get("web_identity_token_file") {
                let role = profile.get("role_arn").unwrap_or_default();
                let builder = roles(region)
                    .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file)
                    .with_config(AmazonS3ConfigKey::RoleArn, role);
                return made(
                    build(builder).map_err(none)?,
                    format!("profile `{}`", profile.name),
                    FIND_TIMEOUT,
                );
            }
            for unsupported in ["role_arn", "sso_session", "sso_start_url", "login_session"] {
                if asked && profile.get(unsupported).is_some() {
                    return Err(none(format!(
                        "profile `{0}` uses {unsupported}, which is not supported; give it \
                         credential_process = aws configure export-credentials --profile {0}",
                        profile.name
                    )));
                }
            }
            if asked {
                return Err(none(format!(
                    "profile `{}` holds no key and no credential_process",
                    profile.name
                )));
            }
        }
        let mut builder = roles(region);
        let mut described = "the machine's role (instance metadata service)";
        let mut any = false;
        for (variable, key, source) in [
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                AmazonS3ConfigKey::WebIdentityTokenFile,
                "the web identity",
            ),
            ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn, ""),
            ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName, ""),
            ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint, ""),
            (
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
                "the container's role",
            ),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                AmazonS3ConfigKey::ContainerCredentialsFullUri,
                "the container's role",
            ),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
                "",
            ),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint, ""),
        ] {
            let Some(value) = env(variable) else { continue };
            builder = builder.with_config(key, value);
            if !source.is_empty() && !any {
                (described, any) = (source, true);
            }
        }
        if !any && env("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"))
        {
            return Err(none(
                "no key in settings, environment or profile; roles of machines are switched off"
                    .into(),
            ));
        }
        made(build(builder).map_err(none)?, described.into(), FIND_TIMEOUT)
    }

    /// The credential to sign the next request with.
    ///
    /// # Errors
    /// [`StoreError::NoCredential`] that says where was looked.
    pub(super) async fn get(&self) -> Result<Arc<AwsCredential>, StoreError> {
        let none = |detail: String| StoreError::NoCredential {
            target: self.target.clone(),
            detail: format!(
                "none in settings, environment or profile but {}, and that gave none: {detail}",
                self.described
            ),
        };
        let credential = fetched(self.provider.as_ref(), self.timeout).await.map_err(none)?;
        check(&credential).map_err(none)?;
        Ok(credential)
    }
}

fn from_options(options: &TargetOptions) -> Result<Option<AwsCredentialProvider>, String> {
    let secret = options.secret()?;
    let secret = secret.as_ref().map(|secret| secret.expose().trim());
    let token = options.session_token.as_ref().map(crate::store::target::Secret::expose);
    match (&options.access_key_id, secret) {
        (Some(id), Some(secret)) => fixed(id, secret, token).map(Some),
        (Some(_), None) => Err("access_key_id is set, but secret_file isn't".into()),
        (None, Some(_)) => Err("secret_file is set, but access_key_id isn't".into()),
        (None, None) => Ok(None),
    }
}

fn from_profile(profile: &Profile) -> Result<Option<(AwsCredentialProvider, Duration)>, String> {
    match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            Ok(Some((fixed(id, secret, profile.get("aws_session_token"))?, FIND_TIMEOUT)))
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(format!("profile `{}` holds only half of a key", profile.name))
        }
        (None, None) => Ok(profile.get("credential_process").map(|command| {
            let provider =
                ProcessProvider { command: command.to_owned(), cached: Mutex::new(None) };
            (Arc::new(provider) as AwsCredentialProvider, PROCESS_TIMEOUT)
        })),
    }
}

fn fixed(id: &str, secret: &str, token: Option<&str>) -> Result<AwsCredentialProvider, String> {
    let credential = AwsCredential {
        key_id: id.trim().to_owned(),
        secret_key: secret.trim().to_owned(),
        token: token.map(|t| t.trim().to_owned()),
    };
    check(&credential)?;
    Ok(Arc::new(StaticCredentialProvider::new(credential)))
}

/// Parts that become headers must be able to: the signer beneath would panic on them.
fn check(credential: &AwsCredential) -> Result<(), String> {
    if !is_visible(&credential.key_id) || !credential.token.as_deref().is_none_or(is_visible) {
        return Err(
            "the access key's id or the session token holds characters that can't be in one".into(),
        );
    }
    if credential.secret_key.is_empty() {
        return Err("the secret access key is empty".into());
    }
    Ok(())
}

/// A builder that is only used for its ways to get at a role's credential.
fn roles(region: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_bucket_name("unused")
        .with_region(region)
        .with_retry(few_tries())
        .with_client_options(short_waits())
}

fn build(builder: AmazonS3Builder) -> Result<AwsCredentialProvider, String> {
    let s3 = builder.build().map_err(|e| chain(&e))?;
    Ok(Arc::clone(s3.credentials()))
}

/// Runs a profile's `credential_process`, and again shortly before what it printed expires.
struct ProcessProvider {
    command: String,
    cached: Mutex<Option<(Arc<AwsCredential>, Option<Timestamp>)>>,
}

impl fmt::Debug for ProcessProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("credential_process")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessOutput {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<Timestamp>,
}

#[async_trait]
impl CredentialProvider for ProcessProvider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        if let Some((credential, expires)) = &*cached {
            let soon = Timestamp::now() + SignedDuration::from_mins(2);
            if expires.is_none_or(|at| at > soon) {
                return Ok(Arc::clone(credential));
            }
        }
        let fresh = self.run().await.map_err(|e| object_store::Error::Generic {
            store: "credential_process",
            source: e.into(),
        })?;
        *cached = Some(fresh.clone());
        Ok(fresh.0)
    }
}

impl ProcessProvider {
    async fn run(&self) -> Result<(Arc<AwsCredential>, Option<Timestamp>), String> {
        let output = tokio::process::Command::new("/bin/sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|e| format!("it can't be run: {e}"))?;
        if !output.status.success() {
            let said: String =
                String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
            return Err(format!("it ended with {}: {said}", output.status));
        }
        // Neither the output nor the parser's words about it may be shown: they hold the secret.
        let parsed: ProcessOutput = serde_json::from_slice(&output.stdout).map_err(|e| {
            format!(
                "its output isn't the JSON it should be (line {}, column {})",
                e.line(),
                e.column()
            )
        })?;
        if parsed.version != 1 {
            return Err(format!("its output has version {}, not 1", parsed.version));
        }
        let credential = AwsCredential {
            key_id: parsed.access_key_id,
            secret_key: parsed.secret_access_key,
            token: parsed.session_token,
        };
        Ok((Arc::new(credential), parsed.expiration))
    }
}
