//! A store in memory, for tests: with versions, delete markers, locks, and a log of every request, since what an
//! operation asks of a target is part of its behaviour.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;

use crate::store::{
    Listed, Lock, LockMode, ObjectKey, Prefix, Protection, Prune, Store, StoreError, Stored,
    Strength, Version, VersionId,
};

const URL: &str = "memory://";

/// One request that a [`MemoryStore`] was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A write.
    Put(ObjectKey),
    /// A read of a whole object.
    Get(ObjectKey, Option<VersionId>),
    /// A read of a range.
    GetRange(ObjectKey, Option<VersionId>, Range<u64>),
    /// A listing.
    List(Prefix),
    /// A listing of versions.
    ListVersions(Prefix),
    /// A question about a lock.
    Retention(ObjectKey),
    /// An extension of a lock.
    Extend(ObjectKey, Option<VersionId>),
    /// A deletion.
    Delete(ObjectKey),
}

#[derive(Debug)]
struct Held {
    version: VersionId,
    /// `None` for a delete marker.
    body: Option<Bytes>,
    lock: Option<Lock>,
    modified: Timestamp,
}

impl Held {
    fn peek(&self, key: &ObjectKey) -> Peek {
        Peek {
            key: key.clone(),
            version: self.version.clone(),
            size: self.body.as_ref().map(|body| body.len() as u64),
            locked_until: self.lock.map(|lock| lock.until),
            modified: self.modified,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Versions of each key, oldest first.
    objects: BTreeMap<ObjectKey, Vec<Held>>,
    written: u64,
    log: Vec<Request>,
    unreachable_after: Option<usize>,
    /// What the store takes for now; the host's clock if unset.
    clock: Option<Timestamp>,
    faults: Option<Faults>,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails, and has no effect.
    Before,
    /// It has its effect, but the answer is lost.
    After,
    /// A write arrives twice, and the target keeps both versions.
    Twice,
    /// The target says that this credential may not.
    Denied,
    /// It and all requests after it fail, until the faults are set anew: the other end has crashed.
    Crash,
}

/// Decides what goes wrong with each request.
struct Faults(DecideFault);

/// Says of each request what goes wrong with it.
pub type DecideFault = Box<dyn FnMut(&Request) -> Fault + Send>;

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faults(…)")
    }
}

/// A version as a test looks at it, past all that a store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// Where it lies.
    pub key: ObjectKey,
    /// Which it is.
    pub version: VersionId,
    /// Its length in bytes; `None` for a delete marker.
    pub size: Option<u64>,
    /// When its lock ends.
    pub locked_until: Option<Timestamp>,
    /// When it was written.
    pub modified: Timestamp,
}

/// A target in memory, with locks that hold against [`Prune`] but not against its own adversary's methods.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

impl State {
    fn now(&self) -> Timestamp {
        self.clock.unwrap_or_else(Timestamp::now)
    }

    fn push(&mut self, key: &ObjectKey, body: Option<Bytes>, lock: Option<Lock>) -> VersionId {
        self.written += 1;
        let version = VersionId(format!("v{}", self.written));
        let held = Held { version: version.clone(), body, lock, modified: self.now() };
        self.objects.entry(key.clone()).or_default().push(held);
        version
    }

    fn find(
        &mut self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<&mut Held, StoreError> {
        let versions = self.objects.get_mut(key).map(Vec::as_mut_slice).unwrap_or_default();
        let held = match version {
            Some(version) => versions.iter_mut().find(|held| held.version == *version),
            None => versions.last_mut(),
        };
        held.filter(|held| held.body.is_some()).ok_or_else(|| missing(key, version))
    }
}

fn unreachable(detail: &str) -> StoreError {
    StoreError::Unreachable { target: URL.into(), detail: detail.into() }
}

fn answered(fault: Fault) -> Result<(), StoreError> {
    if fault == Fault::After { Err(unreachable("the answer was lost")) } else { Ok(()) }
}

fn missing(key: &ObjectKey, version: Option<&VersionId>) -> StoreError {
    let what = version.map_or_else(|| key.to_string(), |v| format!("{key} (version {v})"));
    StoreError::NotFound { what, target: URL.into() }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self, request: Request) -> Result<(MutexGuard<'_, State>, Fault), StoreError> {
        let mut state = self.state();
        if state.unreachable_after.is_some_and(|n| state.log.len() >= n) {
            return Err(unreachable("cut off"));
        }
        let fault = state.faults.as_mut().map_or(Fault::None, |faults| (faults.0)(&request));
        state.log.push(request);
        match fault {
            Fault::Crash => {
                state.unreachable_after = Some(0);
                Err(unreachable("crashed"))
            }
            Fault::Before => Err(unreachable("the request was lost")),
            Fault::Denied => Err(StoreError::Denied {
                target: URL.into(),
                action: "do this".into(),
                detail: "AccessDenied".into(),
            }),
            _ => Ok((state, fault)),
        }
    }

    /// A request that only reads: a lost answer is a lost request.
    fn asked_to_read(&self, request: Request) -> Result<MutexGuard<'_, State>, StoreError> {
        let (state, fault) = self.asked(request)?;
        answered(fault).map(|()| state)
    }

    /// Sets the store's clock; it stands still until it is set again.
    pub fn set_clock(&self, now: Timestamp) {
        self.state().clock = Some(now);
    }

    /// Lets `faults` decide what goes wrong from now on; `None` for nothing. Ends a crash and a cut.
    pub fn set_faults(&self, faults: Option<DecideFault>) {
        let mut state = self.state();
        state.unreachable_after = None;
        state.faults = faults.map(Faults);
    }

    /// Everything that lies there, by key, oldest version first.
    pub fn peek(&self) -> Vec<Peek> {
        let state = self.state();
        let all = state.objects.iter();
        all.flat_map(|(key, versions)| versions.iter().map(|held| held.peek(key))).collect()
    }

    /// What lies under one key, oldest version first.
    pub fn peek_at(&self, key: &ObjectKey) -> Vec<Peek> {
        let state = self.state();
        let versions = state.objects.get(key).map(Vec::as_slice).unwrap_or_default();
        versions.iter().map(|held| held.peek(key)).collect()
    }

    /// Ends the locks of all versions of an object: what only time can do elsewhere.
    pub fn unlock(&self, key: &ObjectKey) {
        for held in self.state().objects.get_mut(key).into_iter().flatten() {
            held.lock = None;
        }
    }

    /// The requests since the last call.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }

    /// The keys of all objects, hidden ones too.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.state().objects.keys().cloned().collect()
    }

    /// Lets only `n` more requests through.
    pub fn cut_off_after(&self, n: usize) {
        let mut state = self.state();
        state.unreachable_after = Some(state.log.len() + n);
    }

    /// Lets all requests through again.
    pub fn reconnect(&self) {
        self.state().unreachable_after = None;
    }

    /// An attacker's plain delete: a delete marker over the object.
    pub fn hide(&self, key: &ObjectKey) {
        self.state().push(key, None, None);
    }

    /// An attacker's plain overwrite: a newer version over the object.
    pub fn overwrite(&self, key: &ObjectKey, body: impl Into<Bytes>) {
        self.state().push(key, Some(body.into()), None);
    }

    /// What no lock helps against: the newest version's bytes change where they lie.
    pub fn rot(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        if let Ok(held) = self.state().find(key, None) {
            let mut bytes = held.body.take().unwrap_or_default().to_vec();
            change(&mut bytes);
            held.body = Some(bytes.into());
        }
    }

    /// Loses every version of an object.
    pub fn lose(&self, key: &ObjectKey) {
        self.state().objects.remove(key);
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn url(&self) -> String {
        URL.into()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        let (mut state, fault) = self.asked(Request::Put(key.clone()))?;
        let lock = Lock { mode: LockMode::Compliance, until: retain_until };
        if let Ok(held) = state.find(key, None) {
            if held.body.as_ref() != Some(&body) {
                return Err(StoreError::Conflict { what: key.to_string(), target: URL.into() });
            }
            held.lock = held.lock.filter(|old| old.until >= retain_until).or(Some(lock));
            answered(fault)?;
            return Ok(Stored {
                key: key.clone(),
                version: Some(held.version.clone()),
                lock: held.lock,
            });
        }
        if fault == Fault::Twice {
            state.push(key, Some(body.clone()), Some(lock));
        }
        let version = state.push(key, Some(body), Some(lock));
        answered(fault)?;
        Ok(Stored { key: key.clone(), version: Some(version), lock: Some(lock) })
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        max: u64,
    ) -> Result<Bytes, StoreError> {
        let mut state = self.asked_to_read(Request::Get(key.clone(), version.cloned()))?;
        let body = state.find(key, version)?.body.clone().unwrap_or_default();
        let size = body.len() as u64;
        if size > max {
            return Err(StoreError::TooLarge { what: key.to_string(), size, max });
        }
        Ok(body)
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let request = Request::GetRange(key.clone(), version.cloned(), range.clone());
        let mut state = self.asked_to_read(request)?;
        let body = state.find(key, version)?.body.clone().unwrap_or_default();
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match bounds.filter(|&(start, end)| start <= end && end <= body.len()) {
            Some((start, end)) => Ok(body.slice(start..end)),
            None => Err(StoreError::Truncated {
                what: key.to_string(),
                wanted: range.end.saturating_sub(range.start),
            }),
        }
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>> {
        let state = match self.asked_to_read(Request::List(prefix.clone())) {
            Ok(state) => state,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let below =
            state.objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix.as_str()));
        let listed: Vec<_> = below
            .filter_map(|(key, versions)| {
                let held = versions.last()?;
                let size = held.body.as_ref()?.len() as u64;
                Some(Ok(Listed { key: key.clone(), size, modified: held.modified }))
            })
            .collect();
        stream::iter(listed).boxed()
    }

    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>> {
        let state = match self.asked_to_read(Request::ListVersions(prefix.clone())) {
            Ok(state) => state,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let below =
            state.objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix.as_str()));
        let versions: Vec<_> = below
            .flat_map(|(key, versions)| {
                versions.iter().rev().enumerate().map(|(age, held)| {
                    Ok(Version {
                        key: key.clone(),
                        version: Some(held.version.clone()),
                        size: held.body.as_ref().map_or(0, |body| body.len() as u64),
                        modified: held.modified,
                        latest: age == 0,
                        delete_marker: held.body.is_none(),
                    })
                })
            })
            .collect();
        stream::iter(versions).boxed()
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        Ok(self.asked_to_read(Request::Retention(key.clone()))?.find(key, version)?.lock)
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError> {
        let (mut state, fault) = self.asked(Request::Extend(key.clone(), version.cloned()))?;
        let held = state.find(key, version)?;
        let longer = Lock { mode: LockMode::Compliance, until };
        held.lock = held.lock.filter(|old| old.until >= until).or(Some(longer));
        let lock = held.lock;
        answered(fault)?;
        Ok(lock)
    }

    async fn protection(&self) -> Result<Protection, StoreError> {
        Ok(Protection {
            strength: Strength::Compliance,
            asked: Some(LockMode::Compliance),
            versioning: Some(true),
            object_lock: Some(true),
            default_retention: None,
            notes: Vec::new(),
        })
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        None
    }

    fn now(&self) -> Timestamp {
        self.state().now()
    }
}

#[async_trait]
impl Prune for MemoryStore {
    async fn delete(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<(), StoreError> {
        let (mut state, fault) = self.asked(Request::Delete(key.clone()))?;
        let now = state.now();
        let Some(versions) = state.objects.get_mut(key) else { return Err(missing(key, version)) };
        let at = versions.iter().rposition(|held| version.is_none_or(|v| held.version == *v));
        let Some(at) = at else { return Err(missing(key, version)) };
        if let Some(lock) = versions[at].lock.filter(|lock| lock.until > now) {
            return Err(StoreError::Locked { what: key.to_string(), until: lock.until });
        }
        versions.remove(at);
        if versions.is_empty() {
            state.objects.remove(key);
        }
        answered(fault)
    }
}
