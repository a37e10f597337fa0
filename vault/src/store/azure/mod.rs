//! Azure Blob Storage: locks by version-level immutability policies, set by the request that writes.

mod client;
mod credentials;
mod listing;
mod locking;
mod probe;
mod refusal;
mod write;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OnceCell;

use self::client::{Azure, Client};
use self::credentials::Credentials;
use self::locking::Container;
use self::refusal::Refusal;
use super::http::{self, Answer, Call, Endpoint, HIDDEN};
use super::open::Env;
use super::target::{TargetOptions, TargetUrl};
use super::{
    Calls, Listed, Lock, LockPolicy, ObjectKey, Prefix, Protection, Prune, Store, StoreError,
    Stored, Strength, Version, VersionId,
};

/// What refusing a container without locks is called.
pub(super) const UNLOCKABLE: &str = "version-level immutability is not enabled on the container";

/// A vault in a container.
#[derive(Debug)]
pub(super) struct AzureStore {
    client: Client,
    /// What stands before each key: empty, or ending in a slash.
    root: String,
    policy: LockPolicy,
    /// What the container tells of itself, asked before the first locked write.
    container: OnceCell<Container>,
    /// Whether a lock has been read back.
    proven: AtomicBool,
    /// Whether a written lock could not be read back.
    unkept: AtomicBool,
    /// Whether writes were answered with versions: 0 not known, 1 no, 2 yes.
    versions: AtomicU8,
}

impl AzureStore {
    /// Puts settings and environment together. Nothing is sent.
    ///
    /// # Errors
    /// [`StoreError::Config`], [`StoreError::NoCredential`].
    pub(super) fn open(
        url: &TargetUrl,
        options: &TargetOptions,
        env: Env<'_>,
    ) -> Result<Self, StoreError> {
        let TargetUrl::Azure { account, container, prefix } = url else {
            return Err(StoreError::Config { detail: format!("{url} is not in a container") });
        };
        for (name, set) in [
            ("access_key_id", options.access_key_id.is_some()),
            ("profile", options.profile.is_some()),
            ("region", options.region.is_some()),
        ] {
            if set {
                return Err(StoreError::Config {
                    detail: format!("`{name}` means nothing for az://: remove it"),
                });
            }
        }
        let target = url.to_string();
        let own = format!("https://{account}.blob.core.windows.net");
        let endpoint = options.endpoint.as_deref().unwrap_or(&own);
        let endpoint = Endpoint::new(Some(endpoint), "", container, None, options.allow_http)?;
        let credentials = Credentials::find(options, account, env, &target)?;
        let service = Azure { endpoint, account: account.clone(), credentials };
        Ok(Self {
            client: Client::new(service, options.ca_file.as_deref(), options, target)?,
            root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            policy: options.lock,
            container: OnceCell::new(),
            proven: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            versions: AtomicU8::new(0),
        })
    }

    fn path(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.root)
    }

    /// A request that doesn't succeed becomes the error that it means.
    async fn send(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        let answer = self.client.send(call).await?;
        if answer.is_success() { Ok(answer) } else { Err(self.error(call, &Refusal::of(&answer))) }
    }

    fn error(&self, call: &Call<'_>, refusal: &Refusal) -> StoreError {
        refusal.error(&self.client.target, &call.action, &call.what)
    }

    /// The version that an answer names, noting whether there is one.
    fn version_in(&self, answer: &Answer) -> Option<VersionId> {
        let version = answer.header("x-ms-version-id").filter(|v| !v.is_empty());
        self.versions.store(if version.is_some() { 2 } else { 1 }, Ordering::Relaxed);
        version.map(|v| VersionId(v.to_owned()))
    }

    /// The time by the service's clock.
    fn service_time(&self) -> Timestamp {
        let offset = SignedDuration::from_millis(self.client.clock.offset_ms().unwrap_or(0));
        Timestamp::now().checked_add(offset).unwrap_or_else(|_| Timestamp::now())
    }

    /// The properties of one version, as headers.
    async fn look(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        action: &str,
    ) -> Result<Answer, StoreError> {
        let path = self.path(key);
        let call = Call::new("HEAD", Some(&path), action, &named(key, version));
        self.send(&of_version(call, version)).await
    }

    async fn delete_version(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let path = self.path(key);
        let call = Call::new("DELETE", Some(&path), "delete", &named(key, version));
        let answer = self.client.send(&of_version(call, version)).await?;
        let refusal = Refusal::of(&answer);
        Ok(if answer.is_success() || refusal.is_missing() { Ok(()) } else { Err(refusal) })
    }

    /// Makes the current version a previous one, if it is still the one with this ETag: only those can be deleted.
    async fn demote(&self, key: &ObjectKey, etag: &str) -> Result<(), StoreError> {
        let path = self.path(key);
        let call =
            Call::new("DELETE", Some(&path), "delete", key.as_str()).header("if-match", etag);
        let answer = self.client.send(&call).await?;
        let refusal = Refusal::of(&answer);
        // Another one has become current meanwhile: then it is a previous one already.
        if answer.is_success() || refusal.is_missing() || answer.status == 412 {
            return Ok(());
        }
        Err(self.error(&call, &refusal))
    }
}

/// A key with its version, for messages.
fn named(key: &ObjectKey, version: Option<&VersionId>) -> String {
    version.map_or_else(|| key.to_string(), |v| format!("{key} (version {v})"))
}

fn of_version<'a>(call: Call<'a>, version: Option<&VersionId>) -> Call<'a> {
    match version {
        Some(version) => call.query("versionid", &version.0),
        None => call,
    }
}

#[async_trait]
impl Store for AzureStore {
    fn url(&self) -> String {
        self.client.target.clone()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        self.write(key, body, retain_until).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        max: u64,
    ) -> Result<Bytes, StoreError> {
        let path = self.path(key);
        let call = Call::new("GET", Some(&path), "read", &named(key, version)).reads(max);
        Ok(self.send(&of_version(call, version)).await?.body)
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let path = self.path(key);
        let call = Call::new("GET", Some(&path), "read", &named(key, version))
            .header("range", format!("bytes={}-{}", range.start, range.end - 1))
            .reads(wanted);
        let call = of_version(call, version);
        let answer = self.client.send(&call).await?;
        if !answer.is_success() && answer.status != 416 {
            return Err(self.error(&call, &Refusal::of(&answer)));
        }
        http::ranged(answer, &range, &call, &self.client.target)
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>> {
        listing::objects(&self.client, &self.root, prefix)
    }

    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>> {
        http::by_key(listing::versions(&self.client, &self.root, prefix), &self.client.target)
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        let held = match self.look(key, version, "read the lock of").await {
            Ok(answer) => locking::lock_in_headers(&answer),
            // A credential that may not read the object may still list it, and listings tell locks too.
            Err(denied @ StoreError::Denied { .. }) => {
                match listing::lock_of(&self.client, &self.path(key), version).await {
                    Ok(Some(held)) => held,
                    Ok(None) | Err(_) => return Err(denied),
                }
            }
            Err(e) => return Err(e),
        };
        if held.is_some() {
            self.proven.store(true, Ordering::Relaxed);
        }
        Ok(held)
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError> {
        let Some(mode) = http::mode_of(self.policy) else {
            return Ok(None);
        };
        let Some(version) = version else {
            return Err(StoreError::Config {
                detail: format!(
                    "the lock of {key} can't be extended without naming the version that was stored"
                ),
            });
        };
        self.client.clock.check(&self.client.target)?;
        let asked = Lock { mode, until: http::whole_seconds(until) };
        // Unlike S3, the service lets who may set a policy shorten one that isn't locked: without knowing what there
        // is, nothing is set.
        let held = self.retention(key, Some(version)).await?;
        if let Some(held) = held.filter(|held| http::covers(*held, asked)) {
            return Ok(Some(held));
        }
        let lock = held.map_or(asked, |held| Lock {
            mode: http::stronger(held.mode, mode),
            until: held.until.max(asked.until),
        });
        let path = self.path(key);
        let call = Call::new("PUT", Some(&path), "extend the lock of", &named(key, Some(version)))
            .query("comp", "immutabilityPolicies");
        let call = locking::with_lock(of_version(call, Some(version)), lock);
        let answer = self.client.send(&call).await?;
        if !answer.is_success() {
            let refusal = Refusal::of(&answer);
            return Err(match refusal.status {
                405 | 501 => self.unprotected(refusal.words()),
                _ => self.error(&call, &refusal),
            });
        }
        match locking::lock_in_headers(&answer) {
            Some(set) if http::covers(set, lock) => Ok(Some(set)),
            set => Err(self.unkept(key, Some(version), lock, set)),
        }
    }

    async fn protection(&self) -> Result<Protection, StoreError> {
        let container = Container::ask(&self.client).await?;
        let mut notes: Vec<String> = container.note.clone().into_iter().collect();
        let proven = self.proven.load(Ordering::Relaxed);
        let strength = match (self.policy, container.locks) {
            (LockPolicy::None, _) => {
                notes.push("lock = \"none\": nothing that is written is locked".into());
                Strength::None
            }
            (_, Some(false)) => {
                notes.push(format!("{UNLOCKABLE}: writes that ask for a lock are refused"));
                Strength::None
            }
            _ if self.unkept.load(Ordering::Relaxed) => {
                notes.push("a lock that was written could not be read back".into());
                Strength::None
            }
            (_, None) if !proven => {
                notes.push(
                    "the container doesn't tell whether it has version-level immutability, and no lock was read \
                     back yet: it is not called immutable"
                        .into(),
                );
                Strength::Advisory
            }
            (LockPolicy::Compliance, _) => Strength::Compliance,
            (LockPolicy::Governance, _) => Strength::Governance,
        };
        Ok(Protection {
            strength,
            versioning: match self.versions.load(Ordering::Relaxed) {
                // Version-level immutability can't be without versions.
                0 => container.locks.filter(|locks| *locks),
                known => Some(known == 2),
            },
            object_lock: container.locks,
            // The container's own default policy can be seen by its management only.
            default_retention: None,
            notes,
        })
    }

    fn unlockable(&self) -> &'static str {
        UNLOCKABLE
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        self.client.clock.offset_ms()
    }

    fn calls(&self) -> Option<Calls> {
        Some(self.client.calls.now())
    }
}

#[async_trait]
impl Prune for AzureStore {
    async fn delete(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<(), StoreError> {
        // It is nothing that is stored: it goes with the last version.
        if version.is_some_and(|v| v.0 == HIDDEN) {
            return Ok(());
        }
        if version.is_none() && self.policy != LockPolicy::None {
            return Err(StoreError::Config {
                detail: format!(
                    "{key} can't be deleted without naming the version: that would only hide it"
                ),
            });
        }
        let Err(refusal) = self.delete_version(key, version).await? else { return Ok(()) };
        let looked = self.look(key, version, "look at").await;
        if let Ok(answer) = &looked
            && let Some(lock) = locking::lock_in_headers(answer)
            && lock.until > self.service_time()
        {
            return Err(StoreError::Locked { what: named(key, version), until: lock.until });
        }
        let refusal = match looked {
            Ok(answer) if refusal.is_current() && !locking::is_held(&answer) => {
                let etag = answer.header("etag").unwrap_or_default().to_owned();
                self.demote(key, &etag).await?;
                match self.delete_version(key, version).await? {
                    Ok(()) => return Ok(()),
                    Err(refusal) => refusal,
                }
            }
            Ok(_) | Err(_) => refusal,
        };
        Err(refusal.error(
            &self.client.target,
            &format!("delete {}", named(key, version)),
            key.as_str(),
        ))
    }
}
