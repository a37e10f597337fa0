//! What every store must do, whatever lies beneath it; each target's tests run all of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use keephold_vault::store::{
    Listed, LockMode, LockPolicy, ObjectKey, Prefix, Probe, Prune, Store, StoreError, Strength,
    Version,
};

/// How targets differ in what they promise.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The mode of its locks; `None` where it was opened without.
    pub lock: Option<LockMode>,
    /// What it says of itself.
    pub strength: Strength,
    /// Whether what is stored has a version.
    pub versions: bool,
    /// Whether it keeps what is overwritten.
    pub keeps: bool,
    /// Whether it refuses a second object under a key (`If-None-Match`, or its own care).
    pub exclusive: bool,
    /// How many objects make more than one page of a listing.
    pub many: usize,
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

pub fn in_hours(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

pub fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

pub async fn listed(store: &dyn Prune, prefix: &Prefix) -> Vec<Listed> {
    store.list(prefix).try_collect().await.unwrap()
}

pub async fn versions(store: &dyn Prune, prefix: &Prefix) -> Vec<Version> {
    store.list_versions(prefix).try_collect().await.unwrap()
}

/// Everything below, with each kind of lock, on stores of a service that keeps versions and holds locks.
#[allow(dead_code, reason = "S3's servers each have tests of their own")]
pub async fn run_with_each_lock(open: impl Fn(LockPolicy) -> Arc<dyn Probe>) {
    for (policy, lock, strength) in [
        (LockPolicy::Compliance, Some(LockMode::Compliance), Strength::Compliance),
        (LockPolicy::Governance, Some(LockMode::Governance), Strength::Governance),
        (LockPolicy::None, None, Strength::None),
    ] {
        let target =
            Target { lock, strength, versions: true, keeps: true, exclusive: true, many: 40 };
        run(open(policy).as_ref(), target).await;
    }
}

/// Everything below, on one fresh store.
pub async fn run(store: &dyn Prune, target: Target) {
    reads_give_what_was_written(store).await;
    large_objects_survive(store).await;
    odd_keys_are_kept(store).await;
    listings_are_whole_and_in_order(store, target).await;
    writing_twice_is_one_object(store, target).await;
    locks_hold_and_only_grow(store, target).await;
    what_is_free_can_be_deleted(store, target).await;
    protection_is_told(store, target).await;
}

async fn reads_give_what_was_written(store: &dyn Prune) {
    let k = key("runs/h/j/one");
    let body = Bytes::from_static(b"0123456789");
    let stored = store.put(&k, body.clone(), in_hours(1)).await.unwrap();
    let v = stored.version.as_ref();
    assert_eq!(stored.key, k);
    for version in [None, v] {
        assert_eq!(store.get(&k, version, 10).await.unwrap(), body);
        assert_eq!(store.get_range(&k, version, 0..10).await.unwrap(), body);
        assert_eq!(store.get_range(&k, version, 3..5).await.unwrap(), "34");
        assert_eq!(store.get_range(&k, version, 9..10).await.unwrap(), "9");
        assert!(store.get_range(&k, version, 4..4).await.unwrap().is_empty());
        for beyond in [5..11, 10..12, 100..110] {
            let error = store.get_range(&k, version, beyond).await.unwrap_err();
            assert!(matches!(error, StoreError::Truncated { .. }), "{error:?}");
        }
        let error = store.get(&k, version, 9).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { size: 10, max: 9, .. }), "{error:?}");
    }
    let missing = key("runs/h/j/none");
    for error in [
        store.get(&missing, None, 10).await.unwrap_err(),
        store.get_range(&missing, None, 0..1).await.unwrap_err(),
        store
            .get(&key("runs/h/j/one/below"), None, 10)
            .await
            .err()
            .unwrap_or(StoreError::NotFound { what: String::new(), target: String::new() }),
        store.extend(&missing, v, in_hours(1)).await.err().unwrap_or(StoreError::NotFound {
            // Without locks there is nothing to extend.
            what: String::new(),
            target: String::new(),
        }),
    ] {
        assert!(
            matches!(error, StoreError::NotFound { .. } | StoreError::Other { .. }),
            "{error:?}"
        );
    }
    let empty = key("runs/h/j/empty");
    store.put(&empty, Bytes::new(), in_hours(1)).await.unwrap();
    assert!(store.get(&empty, None, 0).await.unwrap().is_empty());
}

async fn large_objects_survive(store: &dyn Prune) {
    let body: Bytes = (0..9_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    let k = key("packs/ab/large");
    store.put(&k, body.clone(), in_hours(1)).await.unwrap();
    assert!(store.get(&k, None, 32 << 20).await.unwrap() == body);
    assert!(store.get_range(&k, None, 8_000_000..9_000_000).await.unwrap() == body[8_000_000..]);
}

async fn odd_keys_are_kept(store: &dyn Prune) {
    let odd = key("runs/web-1/a.b_41-c/20260101T000000Z-1_x.y");
    store.put(&odd, Bytes::from_static(b"odd"), in_hours(1)).await.unwrap();
    assert_eq!(store.get(&odd, None, 3).await.unwrap(), "odd");
    let folder = Prefix::folder(&["runs", "web-1", "a.b_41-c"]).unwrap();
    let found = listed(store, &folder).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key, odd);
    assert_eq!(versions(store, &folder).await[0].key, odd);
}

async fn listings_are_whole_and_in_order(store: &dyn Prune, target: Target) {
    let names: Vec<String> = (0..target.many)
        .map(|i| match i % 4 {
            // A folder, and names that sort before and after its slash.
            0 => format!("index/{i:05}/x"),
            1 => format!("index/{:05}-", i - 1),
            2 => format!("index/{:05}0", i - 2),
            _ => format!("index/{i:05}"),
        })
        .collect();
    futures::stream::iter(&names)
        .map(|name| async move {
            store.put(&key(name), Bytes::from(name.clone()), in_seconds(1)).await.unwrap();
        })
        .buffer_unordered(16)
        .collect::<Vec<()>>()
        .await;
    let mut wanted = names;
    wanted.sort();
    let found = listed(store, &Prefix::index()).await;
    assert_eq!(found.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), wanted);
    for object in &found {
        assert_eq!(object.size, object.key.as_str().len() as u64);
        let age = Timestamp::now().duration_since(object.modified).as_secs();
        assert!((-60..900).contains(&age), "{object:?}");
    }
    let all = versions(store, &Prefix::index()).await;
    assert_eq!(all.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), wanted);
    assert!(all.iter().all(|v| v.latest && !v.delete_marker));
    assert!(all.iter().all(|v| v.version.is_some() == target.versions));
    assert!(listed(store, &Prefix::all()).await.len() > found.len());
    assert!(listed(store, &Prefix::folder(&["nothing", "here"]).unwrap()).await.is_empty());
}

async fn writing_twice_is_one_object(store: &dyn Prune, target: Target) {
    let k = key("packs/cd/twice");
    let body = Bytes::from_static(b"the same");
    let first = store.put(&k, body.clone(), in_hours(1)).await.unwrap();
    let until = in_hours(2);
    let second = store.put(&k, body.clone(), until).await.unwrap();
    if let Some(lock) = second.lock {
        assert!(lock.until >= until);
        let held = store.retention(&k, second.version.as_ref()).await.unwrap().unwrap();
        assert!(held.until >= until, "{held:?}");
    }
    if target.exclusive {
        assert_eq!(second.version, first.version);
        let third = store.put(&k, body, in_hours(1)).await.unwrap();
        assert_eq!(third.lock, second.lock, "a later write with a shorter lock shortens nothing");
        for other in ["different", "the sama", ""] {
            let error = store.put(&k, Bytes::from(other), in_hours(3)).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
        }
        assert_eq!(versions(store, &Prefix::folder(&["packs", "cd"]).unwrap()).await.len(), 1);
    }
    assert_eq!(store.get(&k, None, 100).await.unwrap(), "the same");
}

async fn locks_hold_and_only_grow(store: &dyn Prune, target: Target) {
    let k = key("packs/ef/locked");
    let until = in_hours(1);
    let stored = store.put(&k, Bytes::from_static(b"held"), until).await.unwrap();
    let v = stored.version.as_ref();
    assert_eq!(v.is_some(), target.versions);
    let Some(mode) = target.lock else {
        assert_eq!(stored.lock, None);
        assert_eq!(store.retention(&k, v).await.unwrap(), None);
        assert_eq!(store.extend(&k, v, in_hours(2)).await.unwrap(), None);
        return;
    };
    let lock = stored.lock.unwrap();
    assert_eq!(lock.mode, mode);
    assert!(lock.until >= until && lock.until < until + SignedDuration::from_secs(1));
    assert_eq!(store.retention(&k, v).await.unwrap(), Some(lock));

    let error = store.delete(&k, v).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Locked { until, .. } if *until == lock.until),
        "{error:?}"
    );
    assert_eq!(store.get(&k, v, 4).await.unwrap(), "held");

    let later = in_hours(3);
    let longer = store.extend(&k, v, later).await.unwrap().unwrap();
    assert!(longer.until >= later);
    assert_eq!(longer.mode, mode);
    assert_eq!(store.retention(&k, v).await.unwrap(), Some(longer));
    let kept = store.extend(&k, v, in_hours(2)).await.unwrap().unwrap();
    assert_eq!(kept, longer, "an extension never shortens");
    assert_eq!(store.retention(&k, v).await.unwrap(), Some(longer));
    assert_eq!(store.get(&k, v, 4).await.unwrap(), "held");
}

async fn what_is_free_can_be_deleted(store: &dyn Prune, target: Target) {
    let k = key("packs/01/short");
    let stored = store.put(&k, Bytes::from_static(b"short"), in_seconds(3)).await.unwrap();
    let v = stored.version.as_ref();
    if target.lock.is_some() {
        let error = store.delete(&k, v).await.unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    store.delete(&k, v).await.unwrap();
    let error = store.get(&k, None, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let folder = Prefix::folder(&["packs", "01"]).unwrap();
    assert!(versions(store, &folder).await.is_empty(), "no marker stays behind");
    store.delete(&k, v).await.unwrap();
    store.put(&k, Bytes::from_static(b"again"), in_seconds(1)).await.unwrap();
    assert_eq!(store.get(&k, None, 9).await.unwrap(), "again");
}

async fn protection_is_told(store: &dyn Prune, target: Target) {
    let protection = store.protection().await.unwrap();
    assert_eq!(protection.strength, target.strength, "{protection:?}");
    assert_eq!(protection.versioning, Some(target.keeps));
    if matches!(target.strength, Strength::None | Strength::Advisory) {
        assert!(!protection.notes.is_empty());
    }
    let as_store: &dyn Store = store;
    if target.strength >= Strength::Governance {
        assert_eq!(protection.object_lock, Some(true));
        assert!(as_store.clock_offset_ms().unwrap().abs() < 5_000);
    }
}
