//! A target as one life sees it: each of its requests passes the gate.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use std::ops::Range;

use super::gate::{Gate, Life, Place, Waiting, unreachable};
use crate::store::memory::{Fault, MemoryStore, Request};
use crate::store::{
    Listed, Lock, ObjectKey, Prefix, Protection, Prune, Store, StoreError, Stored, Version,
    VersionId,
};

/// A target behind the gate.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) gate: Arc<Gate>,
    pub(super) target: Arc<MemoryStore>,
    pub(super) place: Place,
    pub(super) life: Life,
    /// Whether answers tell the target's time, as those of all targets but a local folder do.
    pub(super) tells_time: bool,
    /// Tells whether anything of the life is left.
    pub(super) _held: Arc<()>,
}

/// What an answer says, in a word.
trait Told {
    fn told(&self) -> String;
}

impl Told for Bytes {
    fn told(&self) -> String {
        format!("{} bytes", self.len())
    }
}

impl Told for Stored {
    fn told(&self) -> String {
        format!("{:?} {:?}", self.version, self.lock.map(|lock| lock.until))
    }
}

impl Told for Option<Lock> {
    fn told(&self) -> String {
        format!("locked until {:?}", self.map(|lock| lock.until))
    }
}

impl Told for () {
    fn told(&self) -> String {
        "done".into()
    }
}

impl<T> Told for Vec<T> {
    fn told(&self) -> String {
        format!("{} of them", self.len())
    }
}

impl Door {
    /// Sends a request, whose effect is `effect`, and waits for the answer.
    async fn ask<T: Told + Send + 'static>(
        &self,
        request: Request,
        effect: impl FnOnce(&MemoryStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = Arc::new(Mutex::new(None));
        let (target, into, place) = (self.target.clone(), answer.clone(), self.place);
        let effect = Box::new(move |fault| {
            if fault != Fault::None {
                target.set_faults(Some(Box::new(move |_| fault)));
            }
            let result = effect(&target).map_err(|error| placed(error, place));
            if fault != Fault::None {
                target.set_faults(None);
            }
            target.take_log();
            let outcome = result.as_ref().map_or_else(ToString::to_string, Told::told);
            *into.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            outcome
        });
        Waiting::send(&self.gate, place, self.life, request, effect).await?;
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.unwrap_or_else(|| Err(unreachable(place, "killed")))
    }

    /// One page of a listing: what comes after a key, and all versions of each key that is listed.
    async fn page<T: Send + 'static>(
        &self,
        prefix: &Prefix,
        after: Option<ObjectKey>,
        request: fn(Prefix) -> Request,
        list: fn(&MemoryStore, &Prefix) -> Vec<Result<T, StoreError>>,
        key: fn(&T) -> &ObjectKey,
    ) -> Result<Vec<T>, StoreError> {
        let (least, below) = (self.gate.weather(self.life).page, prefix.clone());
        self.ask(request(prefix.clone()), move |target| {
            let mut page: Vec<T> = Vec::new();
            for item in list(target, &below) {
                let item = item?;
                if after.as_ref().is_some_and(|after| key(&item) <= after) {
                    continue;
                }
                if page.len() >= least && page.last().is_some_and(|last| key(last) != key(&item)) {
                    break;
                }
                page.push(item);
            }
            Ok(page)
        })
        .await
    }

    /// A listing, page by page: what happens meanwhile may or may not be in it.
    fn pages<'a, T: Send + 'static>(
        &'a self,
        prefix: &Prefix,
        request: fn(Prefix) -> Request,
        list: fn(&MemoryStore, &Prefix) -> Vec<Result<T, StoreError>>,
        key: fn(&T) -> &ObjectKey,
    ) -> BoxStream<'a, Result<T, StoreError>> {
        let prefix = prefix.clone();
        let pages = stream::try_unfold(Some(None), move |after: Option<Option<ObjectKey>>| {
            let prefix = prefix.clone();
            async move {
                let Some(after) = after else { return Ok(None) };
                let page = self.page(&prefix, after, request, list, key).await?;
                let least = self.gate.weather(self.life).page;
                let last = page.last().map(|item| key(item).clone());
                // A short page is the last one.
                let next = last.filter(|_| page.len() >= least).map(Some);
                Ok::<_, StoreError>(Some((stream::iter(page.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// A target in memory answers at once.
fn at_once<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.now_or_never().unwrap()
}

fn placed(error: StoreError, place: Place) -> StoreError {
    match error {
        StoreError::NotFound { what, .. } => StoreError::NotFound { what, target: place.url() },
        StoreError::Conflict { what, .. } => StoreError::Conflict { what, target: place.url() },
        StoreError::Unreachable { detail, .. } => unreachable(place, &detail),
        other => other,
    }
}

#[async_trait]
impl Store for Door {
    fn url(&self) -> String {
        self.place.url()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        retain_until: Timestamp,
    ) -> Result<Stored, StoreError> {
        let key = key.clone();
        self.ask(Request::Put(key.clone()), move |t| at_once(t.put(&key, body, retain_until))).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        max: u64,
    ) -> Result<Bytes, StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        let request = Request::Get(key.clone(), version.clone());
        self.ask(request, move |t| at_once(t.get(&key, version.as_ref(), max))).await
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        let request = Request::GetRange(key.clone(), version.clone(), range.clone());
        self.ask(request, move |t| at_once(t.get_range(&key, version.as_ref(), range))).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<Listed, StoreError>> {
        let list = |target: &MemoryStore, prefix: &Prefix| {
            target.list(prefix).collect().now_or_never().unwrap_or_default()
        };
        self.pages(prefix, Request::List, list, |listed| &listed.key)
    }

    fn list_versions(&self, prefix: &Prefix) -> BoxStream<'_, Result<Version, StoreError>> {
        let list = |target: &MemoryStore, prefix: &Prefix| {
            target.list_versions(prefix).collect().now_or_never().unwrap_or_default()
        };
        self.pages(prefix, Request::ListVersions, list, |version| &version.key)
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<Option<Lock>, StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        let request = Request::Retention(key.clone());
        self.ask(request, move |t| at_once(t.retention(&key, version.as_ref()))).await
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        until: Timestamp,
    ) -> Result<Option<Lock>, StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        let request = Request::Extend(key.clone(), version.clone());
        self.ask(request, move |t| at_once(t.extend(&key, version.as_ref(), until))).await
    }

    async fn protection(&self) -> Result<Protection, StoreError> {
        self.target.protection().await
    }

    fn clock_offset_ms(&self) -> Option<i64> {
        let skew = self.gate.weather(self.life).skew;
        self.tells_time.then(|| -i64::try_from(skew.as_millis()).unwrap())
    }

    fn now(&self) -> Timestamp {
        let now = self.gate.now();
        if self.tells_time { now } else { now + self.gate.weather(self.life).skew }
    }
}

#[async_trait]
impl Prune for Door {
    async fn delete(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<(), StoreError> {
        let (key, version) = (key.clone(), version.cloned());
        let request = Request::Delete(key.clone());
        self.ask(request, move |t| at_once(t.delete(&key, version.as_ref()))).await
    }
}
