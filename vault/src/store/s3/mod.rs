//! S3 and its compatibles: locks by Object Lock, set by the request that writes.

mod client;
mod credentials;
mod listing;
mod locking;
mod permissions;
mod probe;
mod profile;
mod refusal;
mod settings;
mod upload;
mod write;

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use self::client::{Client, S3};
use self::credentials::Credentials;
use self::locking::BucketLock;
use self::profile::Profile;
use self::refusal::Refusal;
use self::upload::Md5Need;
use super::open::Env;
use super::target::{TargetOptions, TargetUrl};
use super::{
    BucketSettings, Calls, Listed, Lock, LockPolicy, ObjectKey, Prefix, Protection, Prune, Store,
    StoreError, Stored, Version, VersionId,
};
use crate::store::http::{self, Answer, Call, Endpoint, Sums, named};

/// A vault in a bucket.
#[derive(Debug)]
pub(super) struct S3Store {
    client: Client,
    /// What stands before each key: empty, or ending in a slash.
    root: String,
    policy: LockPolicy,
    /// The bucket's lock settings, asked before the first locked write.
    bucket_lock: OnceCell<BucketLock>,
    /// What was seen of locks.
    proof: http::Proof,
    /// Whether the server takes `If-None-Match`; it does until it says otherwise.
    conditional: AtomicBool,
    /// Whether it needs MD5 with packs.
    md5: Md5Need,
}

impl S3Store {
    /// Puts settings, environment and profile together. Nothing is sent.
    ///
    /// # Errors
    /// [`StoreError::Config`], [`StoreError::NoCredential`].
    pub(super) fn open(
        url: &TargetUrl,
        options: &TargetOptions,
        env: Env<'_>,
    ) -> Result<Self, StoreError> {
        let TargetUrl::S3 { bucket, prefix } = url else {
            return Err(StoreError::Config { detail: format!("{url} is not in a bucket") });
        };
        let target = url.to_string();
        // Keys in the settings need no profile; a broken one elsewhere should not matter then.
        let profile = match options.access_key_id {
            Some(_) if options.profile.is_none() => None,
            _ => Profile::load(options.profile.as_deref(), env, &target)?,
        };
        let from_profile =
            |name: &str| profile.as_ref().and_then(|p| p.get(name)).map(str::to_owned);
        let env_set = |name: &str| env(name).filter(|v| !v.trim().is_empty());
        let endpoint = options
            .endpoint
            .clone()
            .or_else(|| env_set("AWS_ENDPOINT_URL_S3"))
            .or_else(|| env_set("AWS_ENDPOINT_URL"))
            .or_else(|| from_profile("endpoint_url"));
        let region = options
            .region
            .clone()
            .or_else(|| env_set("AWS_REGION"))
            .or_else(|| env_set("AWS_DEFAULT_REGION"))
            .or_else(|| from_profile("region"))
            .unwrap_or_else(|| "us-east-1".into());
        if !region.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
            || region.is_empty()
        {
            return Err(StoreError::Config {
                detail: format!("`{region}` can't be a region's name"),
            });
        }
        let ca_file = options.ca_file.clone().or_else(|| env_set("AWS_CA_BUNDLE").map(Into::into));
        let endpoint = Endpoint::new(
            endpoint.as_deref(),
            &region,
            bucket,
            options.path_style,
            options.allow_http,
        )?;
        let credentials = Credentials::find(options, profile.as_ref(), &region, env, &target)?;
        Ok(Self {
            client: Client::new(
                S3 { endpoint, region, credentials },
                ca_file.as_deref(),
                options,
                target,
            )?,
            root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            policy: options.lock,
            bucket_lock: OnceCell::new(),
            proof: http::Proof::default(),
            conditional: AtomicBool::new(true),
            md5: Md5Need::default(),
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

    /// Sets a version's lock: the one request that changes anything stored, and it can only lengthen.
    async fn put_retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        lock: Lock,
    ) -> Result<(), StoreError> {
        let path = self.path(key);
        let document = locking::retention_document(Some(lock));
        let sums = Sums::now(&document);
        let call = Call::new("PUT", Some(&path), "extend the lock of", &named(key, Some(version)))
            .query("retention", "")
            .query("versionId", &version.0)
            .body(document, &sums);
        self.send(&call).await.map(drop)
    }
}

#[async_trait]
impl Store for S3Store {
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
        let mut call = Call::new("GET", Some(&path), "read", &named(key, version)).reads(max);
        if let Some(version) = version {
            call = call.query("versionId", &version.0);
        }
        Ok(self.send(&call).await?.body)
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
        let mut call = Call::new("GET", Some(&path), "read", &named(key, version))
            .header("range", format!("bytes={}-{}", range.start, range.end - 1))
            .reads(wanted);
        if let Some(version) = version {
            call = call.query("versionId", &version.0);
        }
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
        listing::versions(&self.client, &self.root, prefix)
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        let path = self.path(key);
        let mut call = Call::new("GET", Some(&path), "read the lock of", &named(key, version))
            .query("retention", "");
        if let Some(version) = version {
            call = call.query("versionId", &version.0);
        }
        let answer = self.client.send(&call).await?;
        if answer.is_success() {
            return Ok(locking::lock_in(&answer));
        }
        let refusal = Refusal::of(&answer);
        if locking::says_no_lock(&refusal) { Ok(None) } else { Err(self.error(&call, &refusal)) }
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
        let until = http::whole_seconds(until);
        let held = match self.retention(key, Some(version)).await {
            Ok(held) => held,
            // Then the server alone sees to it that nothing is shortened.
            Err(StoreError::Denied { .. }) => None,
            Err(e) => return Err(e),
        };
        if let Some(held) = held.filter(|held| http::covers(*held, Lock { mode, until })) {
            return Ok(Some(held));
        }
        let lock = match held {
            Some(held) => {
                Lock { mode: http::stronger(held.mode, mode), until: held.until.max(until) }
            }
            None => Lock { mode, until },
        };
        self.put_retention(key, version, lock).await?;
        Ok(Some(lock))
    }

    async fn protection(&self) -> Result<Protection, StoreError> {
        let versioning = locking::ask_versioning(&self.client).await?;
        let lock = BucketLock::ask(&self.client).await?;
        let mut notes = Vec::new();
        let versioning = versioning.map_err(|note| notes.push(note)).ok();
        notes.extend(lock.note.clone());
        let strength =
            self.proof.strength(self.policy, lock.enabled, self.unlockable(), &mut notes);
        Ok(Protection {
            strength,
            asked: http::mode_of(self.policy).filter(|_| lock.enabled != Some(false)),
            versioning,
            object_lock: lock.enabled,
            default_retention: lock.default_retention,
            notes,
        })
    }

    async fn settings(&self) -> Result<BucketSettings, StoreError> {
        settings::ask(&self.client, &self.root).await
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        self.client.clock.offset_ms()
    }

    fn calls(&self) -> Option<Calls> {
        Some(self.client.calls.now())
    }
}

#[async_trait]
impl Prune for S3Store {
    async fn delete(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<(), StoreError> {
        if version.is_none() && self.policy != LockPolicy::None {
            return Err(StoreError::Config {
                detail: format!(
                    "{key} can't be deleted without naming the version: that would only hide it"
                ),
            });
        }
        let path = self.path(key);
        // Never without a version: where versions are kept that would only hide the object. `null` names the
        // object of a bucket that keeps none.
        let id = version.map_or("null", |v| v.0.as_str());
        let call =
            Call::new("DELETE", Some(&path), "delete", &named(key, version)).query("versionId", id);
        let answer = self.client.send(&call).await?;
        if answer.is_success() {
            return Ok(());
        }
        let refusal = Refusal::of(&answer);
        if refusal.is_missing() {
            return Ok(());
        }
        // Servers answer a lock and a lack of rights alike.
        if refusal.is_denied()
            && let Ok(Some(lock)) = self.retention(key, version).await
            && lock.until > Timestamp::now()
        {
            return Err(StoreError::Locked { what: named(key, version), until: lock.until });
        }
        Err(self.error(&call, &refusal))
    }
}
