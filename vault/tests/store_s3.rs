//! Buckets on real servers, Ceph's gateway and LocalStack, against the suite that every store must pass, and
//! what only a bucket can meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod store_s3_credentials;
mod store_s3_trouble;
#[allow(unreachable_pub)]
mod store_servers;
#[allow(unreachable_pub)]
mod store_suite;

use std::time::{Duration, Instant};

use bytes::Bytes;
use keephold_vault::store::{
    LockMode, LockPolicy, Prefix, Secret, StoreError, Strength, TargetUrl, create_target,
    ensure_lockable,
};
use store_servers::{NO_ENV, Server, both, ceph, localstack, open};
use store_suite::{Target, in_hours, key, versions};

async fn conforms(server: Server, lock: LockPolicy, many: usize) {
    let bucket = server.bucket(lock != LockPolicy::None).await;
    let (mode, strength) = match lock {
        LockPolicy::Compliance => (Some(LockMode::Compliance), Strength::Compliance),
        LockPolicy::Governance => (Some(LockMode::Governance), Strength::Governance),
        LockPolicy::None => (None, Strength::None),
    };
    let locked = mode.is_some();
    // Ceph takes no notice of If-None-Match where versions are kept.
    let exclusive = !(server.is_ceph && locked);
    let target = Target { lock: mode, strength, versions: locked, keeps: locked, exclusive, many };
    store_suite::run(server.open(&bucket, lock).as_ref(), target).await;
}

#[tokio::test]
async fn ceph_with_compliance_conforms() {
    conforms(ceph(), LockPolicy::Compliance, 1100).await;
}

#[tokio::test]
async fn ceph_with_governance_conforms() {
    conforms(ceph(), LockPolicy::Governance, 40).await;
}

#[tokio::test]
async fn ceph_without_locks_conforms() {
    conforms(ceph(), LockPolicy::None, 40).await;
}

#[tokio::test]
async fn localstack_with_compliance_conforms() {
    conforms(localstack(), LockPolicy::Compliance, 1100).await;
}

#[tokio::test]
async fn localstack_with_governance_conforms() {
    conforms(localstack(), LockPolicy::Governance, 40).await;
}

#[tokio::test]
async fn localstack_without_locks_conforms() {
    conforms(localstack(), LockPolicy::None, 40).await;
}

/// An attacker's newer version and delete marker: the true version stays readable, and its own lock is extended.
#[tokio::test]
async fn hidden_versions_are_seen_read_and_extended() {
    for server in both() {
        let bucket = server.bucket(true).await;
        let store = server.open(&bucket, LockPolicy::Compliance);
        let k = key("packs/ab/true");
        let stored = store.put(&k, Bytes::from_static(b"true"), in_hours(1)).await.unwrap();
        let v = stored.version.as_ref();
        let path = format!("{bucket}/vault/packs/ab/true");
        assert_eq!(server.call("PUT", &path, &[], "forged!").await.0, 200);
        assert_eq!(store.get(&k, None, 100).await.unwrap(), "forged!");
        assert_eq!(store.get(&k, v, 100).await.unwrap(), "true");

        let later = in_hours(5);
        let lock = store.extend(&k, v, later).await.unwrap().unwrap();
        assert!(lock.until >= later);
        assert_eq!(store.retention(&k, v).await.unwrap(), Some(lock));
        let all = versions(store.as_ref(), &Prefix::packs()).await;
        let forged = all.iter().find(|found| found.latest).unwrap().version.clone();
        assert_ne!(forged, stored.version);
        assert_eq!(
            store.retention(&k, forged.as_ref()).await.unwrap(),
            None,
            "only the true one got the lock"
        );

        assert_eq!(server.call("DELETE", &path, &[], "").await.0, 204);
        let error = store.get(&k, None, 100).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
        assert_eq!(store.get(&k, v, 100).await.unwrap(), "true");
        assert_eq!(store.get_range(&k, v, 1..3).await.unwrap(), "ru");
        assert_eq!(
            store.extend(&k, v, in_hours(6)).await.unwrap().unwrap().mode,
            LockMode::Compliance
        );
        let all = versions(store.as_ref(), &Prefix::packs()).await;
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].delete_marker && all[0].latest && all[0].size == 0);
        assert_eq!((all[1].size, all[2].size), (7, 4));
        assert_eq!(all[2].version, stored.version);
        let error = store.get(&k, all[0].version.as_ref(), 10).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "a marker's own version: {error:?}");

        // The pruner may take away what isn't locked, and then the true version shows again.
        for surplus in &all[..2] {
            store.delete(&k, surplus.version.as_ref()).await.unwrap();
        }
        assert_eq!(store.get(&k, None, 100).await.unwrap(), "true");
        assert!(matches!(store.delete(&k, v).await.unwrap_err(), StoreError::Locked { .. }));

        let error = store.extend(&k, None, in_hours(9)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Config { .. }),
            "an extension must name its version: {error:?}"
        );
        let error = store.delete(&k, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Config { .. }), "and so must a deletion: {error:?}");
    }
}

#[tokio::test]
async fn extending_a_version_that_is_gone_says_so() {
    for server in both() {
        let bucket = server.bucket(true).await;
        let store = server.open(&bucket, LockPolicy::Compliance);
        let k = key("packs/ab/gone");
        let stored =
            store.put(&k, Bytes::from_static(b"x"), store_suite::in_seconds(2)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        store.delete(&k, stored.version.as_ref()).await.unwrap();
        let error = store.extend(&k, stored.version.as_ref(), in_hours(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{server:?}: {error:?}");
    }
}

/// A stronger lock is never turned into a weaker one by an extension under a weaker policy.
#[tokio::test]
async fn an_extension_keeps_the_stronger_mode() {
    for server in both() {
        let bucket = server.bucket(true).await;
        let k = key("packs/ab/mode");
        let strong = server.open(&bucket, LockPolicy::Compliance);
        let stored = strong.put(&k, Bytes::from_static(b"x"), in_hours(1)).await.unwrap();
        let weak = server.open(&bucket, LockPolicy::Governance);
        let lock = weak.extend(&k, stored.version.as_ref(), in_hours(2)).await.unwrap().unwrap();
        assert_eq!(lock.mode, LockMode::Compliance);
        assert_eq!(strong.retention(&k, stored.version.as_ref()).await.unwrap(), Some(lock));
    }
}

#[tokio::test]
async fn a_bucket_without_lock_is_refused_unless_none_was_asked_for() {
    for server in both() {
        let bucket = server.bucket(false).await;
        let url = TargetUrl::parse(&format!("s3://{bucket}/vault")).unwrap();
        for lock in [LockPolicy::Compliance, LockPolicy::Governance] {
            let store = server.open(&bucket, lock);
            let error = store
                .put(&key("vault.json"), Bytes::from_static(b"{}"), in_hours(1))
                .await
                .unwrap_err();
            assert!(matches!(error, StoreError::Unprotected { .. }), "{error:?}");
            let protection = store.protection().await.unwrap();
            assert_eq!(
                (protection.strength, protection.object_lock),
                (Strength::None, Some(false))
            );
            assert!(matches!(
                ensure_lockable(store.as_ref(), lock).await,
                Err(StoreError::Unprotected { .. })
            ));
            let made = create_target(&url, &server.options(lock), NO_ENV).await;
            assert!(matches!(made, Err(StoreError::Unprotected { .. })), "{made:?}");
        }
        let store = server.open(&bucket, LockPolicy::None);
        create_target(&url, &server.options(LockPolicy::None), NO_ENV).await.unwrap();
        let stored =
            store.put(&key("vault.json"), Bytes::from_static(b"{}"), in_hours(1)).await.unwrap();
        assert_eq!((stored.version, stored.lock), (None, None));
        assert_eq!(
            versions(store.as_ref(), &Prefix::all()).await.len(),
            1,
            "nothing was written before"
        );
    }
}

#[tokio::test]
async fn a_default_retention_is_told() {
    for server in both() {
        let bucket = server.bucket(true).await;
        let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>GOVERNANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        let md5 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, md5_of(rule));
        let (status, body) = server
            .call("PUT", &format!("{bucket}?object-lock="), &[("content-md5", &md5)], rule)
            .await;
        assert_eq!(status, 200, "{body}");
        let store = server.open(&bucket, LockPolicy::Compliance);
        let protection = store.protection().await.unwrap();
        assert_eq!(protection.default_retention.as_deref(), Some("GOVERNANCE 3 days"));
        let k = key("packs/ab/own");
        let stored = store.put(&k, Bytes::from_static(b"x"), in_hours(1)).await.unwrap();
        let lock = store.retention(&k, stored.version.as_ref()).await.unwrap();
        assert_eq!(lock, stored.lock, "the write's own lock wins");
    }
}

fn md5_of(text: &str) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(text).into()
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named() {
    for server in both() {
        let store = open("store-no-such-bucket", &server.options(LockPolicy::Compliance)).unwrap();
        for error in [
            store.put(&key("vault.json"), Bytes::new(), in_hours(1)).await.unwrap_err(),
            store.get(&key("vault.json"), None, 9).await.unwrap_err(),
            store.protection().await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::NoTarget { .. }), "{error:?}");
        }
    }
    let server = ceph();
    let bucket = server.bucket(true).await;
    let mut options = server.options(LockPolicy::Compliance);
    options.secret_access_key = Some(Secret::new("hunter2hunter2"));
    let wrong_secret = open(&bucket, &options).unwrap();
    options.access_key_id = Some("AKIDNOTTHERE".into());
    let wrong_id = open(&bucket, &options).unwrap();
    for (store, word) in [(wrong_secret, "SignatureDoesNotMatch"), (wrong_id, "InvalidAccessKeyId")]
    {
        for error in [
            store.put(&key("vault.json"), Bytes::new(), in_hours(1)).await.unwrap_err(),
            store.get(&key("vault.json"), None, 9).await.unwrap_err(),
            store.protection().await.unwrap_err(),
        ] {
            let text = format!("{error} {error:?}");
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
            assert!(text.contains(word) && !text.contains("hunter2"), "{text}");
        }
    }
}

/// A credential that may put and nothing else: it writes, and says what it couldn't learn.
#[tokio::test]
async fn a_credential_that_may_only_add_still_works() {
    let server = ceph();
    let bucket = server.bucket(true).await;
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":["s3:GetObject",
        "s3:GetObjectVersion","s3:GetObjectRetention","s3:GetBucketObjectLockConfiguration","s3:GetBucketVersioning",
        "s3:ListBucket","s3:ListBucketVersions","s3:DeleteObject","s3:DeleteObjectVersion"],
        "Resource":["arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*"]}}]}}"#
    );
    let (status, body) = server.call("PUT", &format!("{bucket}?policy="), &[], &policy).await;
    assert!(status < 300, "{body}");
    let store = server.open(&bucket, LockPolicy::Compliance);
    let before = ensure_lockable(store.as_ref(), LockPolicy::Compliance).await.unwrap();
    assert_eq!(before.strength, Strength::Advisory, "{before:?}");
    assert!(before.notes.iter().any(|n| n.contains("none was read back yet")), "{before:?}");
    let k = key("packs/ab/x");
    let stored = store.put(&k, Bytes::from_static(b"x"), in_hours(1)).await.unwrap();
    assert!(stored.version.is_some());
    let longer = store.extend(&k, stored.version.as_ref(), in_hours(2)).await.unwrap().unwrap();
    assert!(longer.until > stored.lock.unwrap().until);
    let after = store.protection().await.unwrap();
    // What can't be read back is never called immutable.
    assert_eq!(after.strength, Strength::Advisory, "{after:?}");
    assert_eq!(after.asked, Some(LockMode::Compliance));
    assert!(after.notes.iter().any(|n| n.contains("may not read locks")), "{after:?}");
    for error in [
        store.get(&k, None, 9).await.unwrap_err(),
        store.retention(&k, stored.version.as_ref()).await.unwrap_err(),
        store.delete(&k, stored.version.as_ref()).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_told_soon() {
    let server = localstack();
    // Takes connections, and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    for (endpoint, seconds) in
        [("http://127.0.0.1:1", 10), ("http://no-such-host.invalid", 15), (silent.as_str(), 30)]
    {
        let mut options = server.at(endpoint.into()).options(LockPolicy::Compliance);
        options.connect_timeout_s = 1;
        options.retry_s = 3;
        let begun = Instant::now();
        let error = open("some-bucket", &options).unwrap().protection().await.unwrap_err();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient());
        assert!(
            begun.elapsed() < Duration::from_secs(seconds),
            "{endpoint}: {:?}",
            begun.elapsed()
        );
    }
    // By default, in half a minute.
    let mut options = server.at("http://127.0.0.1:1".into()).options(LockPolicy::Compliance);
    (options.connect_timeout_s, options.retry_s) = (5, 180);
    let begun = Instant::now();
    let store = open("some-bucket", &options).unwrap();
    let error = store.put(&key("vault.json"), Bytes::new(), in_hours(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
