//! Azure Blob Storage: locks by version-level immutability policies, set by the request that writes.

mod client;
mod credentials;
mod listing;
mod locking;
mod probe;
mod refusal;
mod write;

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use self::client::{Azure, Client};
use self::credentials::Credentials;
use self::locking::Container;
use self::refusal::Refusal;
use super::http::{self, Answer, Call, Endpoint, Guard, HIDDEN, Locked, Proof, named};
use super::open::Env;
use super::target::{TargetOptions, TargetUrl};
use super::{
    Calls, Listed, Lock, LockPolicy, ObjectKey, Prefix, Protection, Prune, Store, StoreError,
    Stored, Version, VersionId,
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
    proof: Proof,
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
        options.refuse_amazon_s("az")?;
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
            proof: Proof::default(),
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

    /// The request that puts `lock` (`None`: no lock) in the place of the one that there is.
    fn relock<'a>(
        &self,
        path: &'a str,
        what: &str,
        version: Option<&VersionId>,
        lock: Option<Lock>,
    ) -> Call<'a> {
        let method = if lock.is_some() { "PUT" } else { "DELETE" };
        let call = Call::new(method, Some(path), "change the lock of", what)
            .query("comp", "immutabilityPolicies");
        let call = of_version(call, version);
        match lock {
            Some(lock) => locking::with_lock(call, lock),
            None => call,
        }
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
            self.proof.see();
        }
        Ok(held)
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError> {
        http::extended(self, key, version, until).await
    }

    async fn protection(&self) -> Result<Protection, StoreError> {
        let container = Container::ask(&self.client).await?;
        let mut notes: Vec<String> = container.note.clone().into_iter().collect();
        let strength = self.proof.strength(self.policy, container.locks, UNLOCKABLE, &mut notes);
        Ok(Protection {
            strength,
            asked: http::mode_of(self.policy).filter(|_| container.locks != Some(false)),
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
impl Locked for AzureStore {
    fn guard(&self) -> Guard<'_> {
        let Self { policy, proof, client, .. } = self;
        Guard { policy: *policy, proof, clock: &client.clock, word: locking::word }
    }

    async fn set_lock(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        _held: Option<Lock>,
        lock: Lock,
    ) -> Result<Option<Lock>, StoreError> {
        let path = self.path(key);
        let call = self.relock(&path, &named(key, Some(version)), Some(version), Some(lock));
        let answer = self.client.send(&call).await?;
        if !answer.is_success() {
            let refusal = Refusal::of(&answer);
            return Err(match refusal.status {
                405 | 501 => self.unprotected(refusal.words()),
                _ => self.error(&call, &refusal),
            });
        }
        Ok(locking::lock_in_headers(&answer))
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
            && lock.until > self.client.clock.now()
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
