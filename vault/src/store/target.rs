//! Where a vault lies, as the operator writes it: a URL, and the settings that go with it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::StoreError;
use super::lock::LockPolicy;

/// A vault's place: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://account/container/prefix`, `file:///path`, or a
/// plain path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetUrl {
    /// A bucket on Amazon S3 or a compatible server.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Where the vault begins in the bucket: empty, or without a slash at either end.
        prefix: String,
    },
    /// A bucket of Google Cloud Storage.
    Google {
        /// The bucket's name.
        bucket: String,
        /// Where the vault begins in the bucket: empty, or without a slash at either end.
        prefix: String,
    },
    /// A container of Azure Blob Storage.
    Azure {
        /// The storage account's name.
        account: String,
        /// The container's name.
        container: String,
        /// Where the vault begins in the container: empty, or without a slash at either end.
        prefix: String,
    },
    /// A folder on this machine.
    Local {
        /// The folder, absolute.
        path: PathBuf,
    },
}

impl TargetUrl {
    /// Reads a target's URL. A plain path stands for `file://`, and a relative one begins at the current folder.
    ///
    /// # Errors
    /// [`StoreError::Config`] that says what is wrong. It never repeats a user part of the URL: that could be a key.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::parse_path(text);
        };
        match scheme {
            "s3" => {
                let (bucket, prefix) = parse_bucket("s3", rest)?;
                Ok(Self::S3 { bucket, prefix })
            }
            "gs" => {
                let (bucket, prefix) = parse_bucket("gs", rest)?;
                Ok(Self::Google { bucket, prefix })
            }
            "az" => Self::parse_azure(rest),
            "file" => Self::parse_file(text, rest),
            "http" | "https" => config(
                "the vault's url is an http address: write s3://bucket/prefix there, and the address as `endpoint`",
            ),
            "azure" | "abfs" | "abfss" => {
                config(format!("write az://account/container/prefix instead of {scheme}://"))
            }
            "gcs" => config("write gs://bucket/prefix instead of gcs://"),
            _ if ["s3", "gs", "az", "file"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known)) =>
            {
                config(format!("write {}:// in small letters", scheme.to_ascii_lowercase()))
            }
            _ => config(format!(
                "unknown kind of target `{scheme}://`; use s3://, gs://, az:// or file://"
            )),
        }
    }

    /// Whether it is a folder on this machine, and no service.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    fn parse_azure(rest: &str) -> Result<Self, StoreError> {
        let mut parts = rest.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        let (account, container, prefix) = (part(), part(), part());
        if rest.contains('@') || rest.contains('?') {
            return config(
                "credentials don't belong in the vault's url: use secret_file or the environment",
            );
        }
        if account.contains(['.', ':']) {
            return config(
                "az:// is followed by the account's name, not a server; name the server as `endpoint`",
            );
        }
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        if !(3..=24).contains(&account.len()) || !account.bytes().all(plain) {
            return config(format!(
                "`{account}` can't be a storage account's name: write az://account/container/prefix"
            ));
        }
        if container.is_empty() {
            return config("az:// lacks the container's name: write az://account/container/prefix");
        }
        let plain = |c: u8| plain(c) || c == b'-';
        if !(3..=63).contains(&container.len()) || !container.bytes().all(plain) {
            return config(format!("`{container}` can't be a container's name"));
        }
        Ok(Self::Azure {
            account: account.to_owned(),
            container: container.to_owned(),
            prefix: check_prefix(prefix)?.to_owned(),
        })
    }

    fn parse_file(text: &str, rest: &str) -> Result<Self, StoreError> {
        if !rest.starts_with('/') {
            return config(format!("`{text}` lacks a slash: write file:///{rest} for /{rest}"));
        }
        let path = url::Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
        match path {
            Some(path) => Ok(Self::Local { path }),
            None => config(format!("`{text}` can't be read as a file URL")),
        }
    }

    fn parse_path(text: &str) -> Result<Self, StoreError> {
        let lower = text.to_ascii_lowercase();
        if text.is_empty() {
            return config("the vault's url is empty: write s3://bucket/prefix or file:///path");
        }
        if ["s3:", "s3/", "gs:", "gs/", "file:"].iter().any(|begin| lower.starts_with(begin)) {
            return config(format!(
                "`{text}` lacks its `://`: write s3://bucket/prefix, gs://bucket/prefix or file:///path"
            ));
        }
        match std::path::absolute(text) {
            Ok(path) => Ok(Self::Local { path }),
            Err(e) => config(format!("`{text}` can't be made an absolute path: {e}")),
        }
    }
}

/// The bucket and the prefix of `s3://` or `gs://`.
fn parse_bucket(scheme: &str, rest: &str) -> Result<(String, String), StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return config(
            "credentials don't belong in the vault's url: use a file, a profile or the environment",
        );
    }
    if bucket.is_empty() {
        return config(format!(
            "{scheme}:// lacks the bucket's name: write {scheme}://bucket/prefix"
        ));
    }
    if bucket.contains(':') {
        return config(format!(
            "{scheme}:// is followed by the bucket's name, not a server; name the server as `endpoint`"
        ));
    }
    // Some servers of S3's kind know buckets with capitals.
    let capitals = scheme == "s3";
    let plain = |c: u8| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || b"._-".contains(&c)
            || (capitals && c.is_ascii_uppercase())
    };
    if bucket.len() < 3 || bucket.len() > 255 || !bucket.bytes().all(plain) {
        return config(format!("`{bucket}` can't be a bucket's name"));
    }
    Ok((bucket.to_owned(), check_prefix(prefix)?.to_owned()))
}

/// A vault's prefix without a slash at its end.
fn check_prefix(prefix: &str) -> Result<&str, StoreError> {
    let prefix = prefix.trim_end_matches('/');
    if prefix.split('/').any(|part| matches!(part, "" | "." | "..")) && !prefix.is_empty() {
        return config(format!("the prefix `{prefix}` has an empty component, `.` or `..`"));
    }
    if prefix.len() > PREFIX_LEN_MAX {
        return config(format!("the prefix is longer than {PREFIX_LEN_MAX} bytes"));
    }
    if prefix.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '\\')) {
        return config(format!("the prefix {prefix:?} holds a character that isn't allowed in it"));
    }
    Ok(prefix)
}

/// Longest prefix of a vault inside a bucket, in bytes, so that prefix and key stay below S3's 1,024.
const PREFIX_LEN_MAX: usize = 400;

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Google { bucket, prefix } if prefix.is_empty() => write!(f, "gs://{bucket}"),
            Self::Google { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            Self::Azure { account, container, prefix } if prefix.is_empty() => {
                write!(f, "az://{account}/{container}")
            }
            Self::Azure { account, container, prefix } => {
                write!(f, "az://{account}/{container}/{prefix}")
            }
            Self::Local { path } => match url::Url::from_file_path(path) {
                Ok(url) => f.write_str(url.as_str()),
                Err(()) => write!(f, "file://{}", path.display()),
            },
        }
    }
}

/// A text that must never be shown: its `Debug` is `***`, and it is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to reach a target. All have defaults; a TOML table can be read into it, also flattened into a wider one.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct TargetOptions {
    /// The server's address, for S3-compatible servers (`https://s3.example.net`); Amazon's own if unset here, in
    /// the environment and in the profile. For Azure, the address below which containers lie
    /// (`https://account.blob.core.usgovcloudapi.net`, `http://127.0.0.1:10000/devstoreaccount1`). For Google, the
    /// service's address (`https://storage.googleapis.com`).
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// Whether the bucket stands in the path instead of the host's name. Unset: yes where an endpoint is named.
    pub path_style: Option<bool>,
    /// What locks writes get.
    pub lock: LockPolicy,
    /// Whether the endpoint may be plain `http://`.
    pub allow_http: bool,
    /// The profile to take from the AWS configuration files, as `AWS_PROFILE`.
    pub profile: Option<String>,
    /// The access key's id; needs [`secret_file`](Self::secret_file) or [`secret_access_key`](Self::secret_access_key).
    pub access_key_id: Option<String>,
    /// A file that holds the secret access key and nothing else; for Azure the account key, or a shared access
    /// signature; for Google a service account's key (JSON), or an access token.
    pub secret_file: Option<PathBuf>,
    /// The secret access key itself: set by programs (or tests), never read from a configuration file.
    #[serde(skip)]
    pub secret_access_key: Option<Secret>,
    /// The token that goes with a temporary key: set by programs only.
    #[serde(skip)]
    pub session_token: Option<Secret>,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one attempt to connect may take, in seconds.
    pub connect_timeout_s: u64,
    /// How long failing requests are tried again, in seconds, once the server has answered before. A server that
    /// never answered is given up after 20 s, or after this if that is shorter.
    pub retry_s: u64,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            lock: LockPolicy::default(),
            allow_http: false,
            profile: None,
            access_key_id: None,
            secret_file: None,
            secret_access_key: None,
            session_token: None,
            ca_file: None,
            connect_timeout_s: 5,
            retry_s: 180,
        }
    }
}

impl TargetOptions {
    /// The secret that the settings hold or name a file of.
    ///
    /// # Errors
    /// A file that can't be read, in words.
    pub(super) fn secret(&self) -> Result<Option<Secret>, String> {
        match (&self.secret_access_key, &self.secret_file) {
            (Some(secret), _) => Ok(Some(secret.clone())),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map(|text| Some(Secret::new(text)))
                .map_err(|e| format!("secret_file {} can't be read: {e}", path.display())),
            (None, None) => Ok(None),
        }
    }

    /// Refuses settings that only S3 knows.
    ///
    /// # Errors
    /// [`StoreError::Config`] that names the setting.
    pub(super) fn refuse_amazon_s(&self, scheme: &str) -> Result<(), StoreError> {
        let set = [
            ("access_key_id", self.access_key_id.is_some()),
            ("profile", self.profile.is_some()),
            ("region", self.region.is_some()),
            ("path_style", self.path_style.is_some()),
        ];
        match set.iter().find(|(_, set)| *set) {
            Some((name, _)) => config(format!("`{name}` means nothing for {scheme}://: remove it")),
            None => Ok(()),
        }
    }

    /// [`connect_timeout_s`](Self::connect_timeout_s), at least one second.
    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_s.max(1))
    }
}

fn config<T>(detail: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Config { detail: detail.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written_alike() {
        for (text, shown) in [
            ("s3://backups", "s3://backups"),
            ("s3://backups/", "s3://backups"),
            ("s3://backups/prod/db/", "s3://backups/prod/db"),
            ("gs://backups", "gs://backups"),
            ("gs://backups_1/prod/db/", "gs://backups_1/prod/db"),
            ("az://acct1/backups", "az://acct1/backups"),
            ("az://acct1/backups/prod/db/", "az://acct1/backups/prod/db"),
            ("file:///srv/vault", "file:///srv/vault"),
            ("file:///srv/my%20vault", "file:///srv/my%20vault"),
            ("/srv/vault", "file:///srv/vault"),
        ] {
            assert_eq!(TargetUrl::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(
            TargetUrl::parse("file:///srv/my%20vault").unwrap(),
            TargetUrl::Local { path: "/srv/my vault".into() }
        );
        let relative = TargetUrl::parse("vault").unwrap();
        assert!(
            matches!(relative, TargetUrl::Local { path } if path.is_absolute() && path.ends_with("vault"))
        );
    }

    #[test]
    fn typos_are_named_and_secrets_not_repeated() {
        for (text, word) in [
            ("", "empty"),
            ("s3:/bucket", "://"),
            ("s3/bucket", "://"),
            ("S3://bucket", "small letters"),
            ("s3://", "bucket's name"),
            ("s3://host:9000/b", "endpoint"),
            ("s3://abc/../b", ".."),
            ("s3://abc//b", "empty component"),
            ("s3://b", "can't be a bucket"),
            ("https://host/b", "endpoint"),
            ("gcs://bucket", "gs://bucket/prefix"),
            ("gs:/bucket", "://"),
            ("gs://", "gs:// lacks the bucket's name"),
            ("gs://Bucket", "can't be a bucket"),
            ("gs://host:9000/b", "endpoint"),
            ("gs://abc/../b", ".."),
            ("GS://bucket", "small letters"),
            ("abfs://c@a/b", "az://account/container"),
            ("AZ://acct1/c", "small letters"),
            ("az://", "storage account's name"),
            ("az://Acct/backups", "storage account's name"),
            ("az://acct1", "container's name"),
            ("az://acct1/x_y", "can't be a container"),
            ("az://acct1.blob.core.windows.net/c", "endpoint"),
            ("az://acct1/backups/a/../b", ".."),
            ("ftp://b", "unknown kind"),
            ("file://srv/vault", "file:///srv/vault"),
        ] {
            let error = TargetUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let error = TargetUrl::parse("s3://AKIA:hunter2@bucket/x").unwrap_err().to_string();
        assert!(!error.contains("hunter2") && !error.contains("AKIA"), "{error}");
        let error = TargetUrl::parse("gs://user:hunter2@bucket/x").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        for sas in ["az://acct1/backups?sig=hunter2", "az://u:hunter2@acct1/backups"] {
            let error = TargetUrl::parse(sas).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let options =
            TargetOptions { secret_access_key: Some(Secret::new("hunter2")), ..Default::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
