//! Google Cloud Storage: locks by object retention, set by the request that writes. A version is a generation.

mod client;
mod credentials;
mod listing;
mod locking;
mod object;
mod probe;
mod refusal;
mod settings;
mod write;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use self::client::{Client, Google};
use self::credentials::Credentials;
use self::locking::Bucket;
use self::object::Object;
use self::refusal::Refusal;
use super::http::{
    self, Answer, Call, Endpoint, Guard, HIDDEN, Locked, Proof, by_key, named, ranged,
};
use super::open::Env;
use super::target::{TargetOptions, TargetUrl};
use super::{
    BucketSettings, Calls, Listed, Lock, LockPolicy, ObjectKey, Prefix, Protection, Prune, Store,
    StoreError, Stored, Version, VersionId,
};

/// What refusing a bucket without locks is called.
const UNLOCKABLE: &str = "object retention is not enabled on the bucket";

/// The service's own address.
const SERVICE: &str = "https://storage.googleapis.com";

/// A vault in a bucket.
#[derive(Debug)]
pub(super) struct GcsStore {
    client: Client,
    /// What stands before each key: empty, or ending in a slash.
    root: String,
    policy: LockPolicy,
    /// What the bucket tells of itself, asked before the first locked write.
    bucket: OnceCell<Bucket>,
    proof: Proof,
}

impl GcsStore {
    /// Puts settings and environment together. Nothing is sent.
    ///
    /// # Errors
    /// [`StoreError::Config`], [`StoreError::NoCredential`].
    pub(super) fn open(
        url: &TargetUrl,
        options: &TargetOptions,
        env: Env<'_>,
    ) -> Result<Self, StoreError> {
        let TargetUrl::Google { bucket, prefix } = url else {
            return Err(StoreError::Config { detail: format!("{url} is not in a bucket") });
        };
        options.refuse_amazon_s("gs")?;
        let target = url.to_string();
        let endpoint = options.endpoint.as_deref().unwrap_or(SERVICE);
        let endpoint = Endpoint::of_service(endpoint, options.allow_http)?;
        let credentials = Credentials::find(options, env, &target)?;
        let service = Google { endpoint, bucket: bucket.clone(), credentials };
        Ok(Self {
            client: Client::new(service, options.ca_file.as_deref(), options, target)?,
            root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            policy: options.lock,
            bucket: OnceCell::new(),
            proof: Proof::default(),
        })
    }

    fn path(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.root)
    }

    /// A request that doesn't succeed becomes the error that it means.
    async fn send(&self, call: &Call<'_>) -> Result<Answer, StoreError> {
        let answer = self.client.send(call).await?;
        if answer.is_success() { Ok(answer) } else { Err(self.error(call, &answer)) }
    }

    fn error(&self, call: &Call<'_>, answer: &Answer) -> StoreError {
        Refusal::of(answer).error(&self.client.target, &call.action, &call.what)
    }

    /// The object that an answer is about.
    fn object_in(&self, answer: &Answer, action: &str) -> Result<Object, StoreError> {
        serde_json::from_slice(&answer.body).map_err(|e| StoreError::Other {
            target: self.client.target.clone(),
            action: action.to_owned(),
            detail: format!("the answer tells of no object: {e}"),
        })
    }

    /// What there is to know of one generation.
    async fn look(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        action: &str,
    ) -> Result<Object, StoreError> {
        let path = self.path(key);
        let call = Call::new("GET", Some(&path), action, &named(key, version));
        let call = of_version(call, version);
        let answer = self.send(&call).await?;
        self.object_in(&answer, &call.action)
    }

    /// The request that puts `lock` (`None`: no lock) in the place of the one that there is.
    fn relock<'a>(
        &self,
        path: &'a str,
        what: &str,
        version: Option<&VersionId>,
        lock: Option<Lock>,
    ) -> Call<'a> {
        // Whoever may change it need not be allowed to see who else may, which the answer would tell otherwise.
        let mut call = Call::new("PATCH", Some(path), "change the lock of", what)
            .query("projection", "noAcl")
            .header("content-type", "application/json");
        call.body = locking::retention_document(lock);
        of_version(call, version)
    }

    /// Reads contents: all, or what the call's range says.
    async fn read(
        &self,
        call: Call<'_>,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Answer, StoreError> {
        let call = of_version(call.query("alt", "media"), version);
        let answer = self.client.send(&call).await?;
        let of_range = call.headers.iter().any(|(name, _)| *name == "range");
        if answer.is_success() || (answer.status == 416 && of_range) {
            return Ok(answer);
        }
        if answer.status == 404 {
            // It is said in plain words here, as any proxy could: the document about the object says it for sure.
            self.look(key, version, "read").await?;
        }
        Err(self.error(&call, &answer))
    }
}

fn of_version<'a>(call: Call<'a>, version: Option<&VersionId>) -> Call<'a> {
    match version {
        Some(version) => call.query("generation", &version.0),
        None => call,
    }
}

#[async_trait]
impl Store for GcsStore {
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
        Ok(self.read(call, key, version).await?.body)
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
        let what = named(key, version);
        let call = || Call::new("GET", Some(&path), "read", &what);
        let asked = call()
            .header("range", format!("bytes={}-{}", range.start, range.end - 1))
            .reads(wanted);
        let answer = self.read(asked, key, version).await?;
        ranged(answer, &range, &call(), &self.client.target)
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>> {
        listing::objects(&self.client, &self.root, prefix)
    }

    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>> {
        by_key(listing::versions(&self.client, &self.root, prefix), &self.client.target)
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        let object = match self.look(key, version, "read the lock of").await {
            // A credential that may not read the object may still list it, and listings tell locks too.
            Err(denied @ StoreError::Denied { .. }) => {
                match listing::find(&self.client, &self.path(key), version).await {
                    Ok(Some(object)) => object,
                    Ok(None) | Err(_) => return Err(denied),
                }
            }
            looked => looked?,
        };
        let held = object.lock();
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
        let bucket = Bucket::ask(&self.client).await?;
        let mut notes = bucket.notes;
        let strength = self.proof.strength(self.policy, bucket.locks, UNLOCKABLE, &mut notes);
        Ok(Protection {
            strength,
            asked: http::mode_of(self.policy).filter(|_| bucket.locks != Some(false)),
            versioning: bucket.versioning,
            object_lock: bucket.locks,
            default_retention: bucket.default_retention,
            notes,
        })
    }

    async fn settings(&self) -> Result<BucketSettings, StoreError> {
        Ok(settings::told(&Bucket::ask(&self.client).await?, &self.root))
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
impl Locked for GcsStore {
    fn guard(&self) -> Guard<'_> {
        let Self { policy, proof, client, .. } = self;
        Guard { policy: *policy, proof, clock: &client.clock, word: locking::word }
    }

    async fn set_lock(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        held: Option<Lock>,
        lock: Lock,
    ) -> Result<Option<Lock>, StoreError> {
        let path = self.path(key);
        let call = self.relock(&path, &named(key, Some(version)), Some(version), Some(lock));
        // Only to lock for good what could be lifted: the service wants the same right for it as for lifting.
        let stricter = held.is_some_and(|held| held.mode != lock.mode);
        let call = if stricter { locking::overriding(call) } else { call };
        let answer = self.send(&call).await?;
        Ok(self.object_in(&answer, &call.action)?.lock())
    }
}

#[async_trait]
impl Prune for GcsStore {
    async fn delete(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<(), StoreError> {
        let Some(version) = version else {
            return Err(StoreError::Config {
                detail: format!(
                    "{key} can't be deleted without naming the version: that would only hide it"
                ),
            });
        };
        // It is nothing that is stored: it goes with the last version.
        if version.0 == HIDDEN {
            return Ok(());
        }
        let path = self.path(key);
        let what = named(key, Some(version));
        let call = of_version(Call::new("DELETE", Some(&path), "delete", &what), Some(version));
        let answer = self.client.send(&call).await?;
        let refusal = Refusal::of(&answer);
        if answer.is_success() || refusal.is_missing() {
            return Ok(());
        }
        // The service answers a lock and a lack of rights alike.
        if refusal.is_denied()
            && let Ok(Some(lock)) = self.retention(key, Some(version)).await
            && lock.until > self.client.clock.now()
        {
            return Err(StoreError::Locked { what, until: lock.until });
        }
        Err(self.error(&call, &answer))
    }
}
