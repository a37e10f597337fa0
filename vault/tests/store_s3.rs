//! Buckets on real servers, Ceph's gateway and LocalStack, against the suite that every store must pass, and
//! what only a bucket can meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(unreachable_pub)]
mod store_servers;
#[allow(unreachable_pub)]
mod store_suite;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::store::{
    LockMode, LockPolicy, Prefix, Secret, StoreError, Strength, TargetOptions, TargetUrl,
    create_target, ensure_lockable, open_prune,
};
use store_servers::{Mischief, NO_ENV, Server, answer, both, ceph, localstack, open, proxy};
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
    let target = Target { lock: mode, strength, versions: locked, exclusive, many };
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
    assert!(before.notes.iter().any(|n| n.contains("not confirmed")), "{before:?}");
    let k = key("packs/ab/x");
    let stored = store.put(&k, Bytes::from_static(b"x"), in_hours(1)).await.unwrap();
    assert!(stored.version.is_some());
    let longer = store.extend(&k, stored.version.as_ref(), in_hours(2)).await.unwrap().unwrap();
    assert!(longer.until > stored.lock.unwrap().until);
    let after = store.protection().await.unwrap();
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

/// Loses the answer to the first PUT of an object, after the server has taken it.
struct LoseFirstPut(AtomicUsize);

impl Mischief for LoseFirstPut {
    fn answer(&self, request: &str, answer: Vec<u8>) -> Option<Vec<u8>> {
        let lost = request.starts_with("PUT") && self.0.fetch_add(1, Ordering::SeqCst) == 0;
        (!lost).then_some(answer)
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_write_fails_nothing() {
    for server in both() {
        let bucket = server.bucket(true).await;
        let endpoint = proxy(Some(&server.endpoint), LoseFirstPut(AtomicUsize::new(0))).await;
        let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
        let k = key("packs/ab/lost");
        let body = Bytes::from(vec![5; 3_000_000]);
        let until = in_hours(1);
        let stored = store.put(&k, body.clone(), until).await.unwrap();
        let direct = server.open(&bucket, LockPolicy::Compliance);
        assert!(direct.get(&k, stored.version.as_ref(), 3_000_000).await.unwrap() == body);
        let all = versions(direct.as_ref(), &Prefix::packs()).await;
        // Ceph doesn't heed If-None-Match: there the retry leaves a second version, as locked as the first.
        assert_eq!(all.len(), if server.is_ceph { 2 } else { 1 });
        for version in &all {
            let held = direct.retention(&k, version.version.as_ref()).await.unwrap().unwrap();
            assert!(held.until >= until);
        }
    }
}

/// Loses the answer to the first PUT, and lets nobody look at objects.
struct LoseFirstPutAndHide(LoseFirstPut);

impl Mischief for LoseFirstPutAndHide {
    fn answer(&self, request: &str, received: Vec<u8>) -> Option<Vec<u8>> {
        if request.starts_with("HEAD") {
            return Some(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n".to_vec());
        }
        self.0.answer(request, received)
    }
}

/// An agent may have no right to look at packs: then the listing of versions shows that the first try was stored. Were
/// it written once more, a policy that demands `If-None-Match` would refuse that.
#[tokio::test]
async fn a_lost_answer_fails_nothing_without_the_right_to_read() {
    let server = localstack();
    let bucket = server.bucket(true).await;
    let mischief = LoseFirstPutAndHide(LoseFirstPut(AtomicUsize::new(0)));
    let endpoint = proxy(Some(&server.endpoint), mischief).await;
    let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
    let k = key("packs/ab/lost");
    let stored = store.put(&k, Bytes::from_static(b"x"), in_hours(1)).await.unwrap();
    let direct = server.open(&bucket, LockPolicy::Compliance);
    let held = direct.retention(&k, stored.version.as_ref()).await.unwrap();
    assert!(stored.version.is_some() && held == stored.lock);
    assert_eq!(versions(direct.as_ref(), &Prefix::packs()).await.len(), 1);
}

/// Knows no conditional writes; its first read fails, its second is cut off in the middle.
struct OldAndShaky(AtomicUsize);

impl Mischief for OldAndShaky {
    fn answer(&self, request: &str, mut received: Vec<u8>) -> Option<Vec<u8>> {
        let error = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        if request.contains("if-none-match") {
            return Some(answer("501 Not Implemented", "", &error("NotImplemented")));
        }
        if request.starts_with("GET")
            && request.contains("packs/ab/x")
            && !request.contains("retention")
        {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => return Some(answer("500 Internal Server Error", "", &error("InternalError"))),
                1 => received.truncate(received.len() - 5_000),
                _ => {}
            }
        }
        Some(received)
    }
}

#[tokio::test]
async fn an_old_and_shaky_server_is_coped_with() {
    for server in both() {
        let bucket = server.bucket(true).await;
        let endpoint = proxy(Some(&server.endpoint), OldAndShaky(AtomicUsize::new(0))).await;
        let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
        let body = Bytes::from(vec![9; 100_000]);
        // LocalStack stored it before the answer was changed: the write without the condition is a second version.
        let stored = store.put(&key("packs/ab/x"), body.clone(), in_hours(1)).await.unwrap();
        assert!(stored.version.is_some() && stored.lock.is_some());
        assert!(store.get(&key("packs/ab/x"), None, 100_000).await.unwrap() == body);
        let before = versions(store.as_ref(), &Prefix::packs()).await.len();
        store.put(&key("packs/ab/y"), body, in_hours(1)).await.unwrap();
        let after = versions(store.as_ref(), &Prefix::packs()).await.len();
        assert_eq!(after, before + 1, "the condition isn't sent again");
    }
}

/// Moves the server's clock.
struct MoveClock(SignedDuration);

impl Mischief for MoveClock {
    fn answer(&self, _request: &str, answer: Vec<u8>) -> Option<Vec<u8>> {
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let moved = (Timestamp::now() + self.0).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut changed: Vec<String> = head
            .split("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("date:"))
            .map(str::to_owned)
            .collect();
        changed.push(format!("Date: {moved}"));
        let mut out = changed.join("\r\n").into_bytes();
        out.extend_from_slice(&answer[end..]);
        Some(out)
    }
}

#[tokio::test]
async fn a_wrong_clock_sets_no_locks() {
    for server in both() {
        let bucket = server.bucket(true).await;
        for (moved, word) in [(3600, "behind"), (-3600, "ahead of")] {
            let endpoint =
                proxy(Some(&server.endpoint), MoveClock(SignedDuration::from_secs(moved))).await;
            let store = server.at(endpoint.clone()).open(&bucket, LockPolicy::Compliance);
            let error = store
                .put(&key("packs/ab/x"), Bytes::from_static(b"x"), in_hours(1))
                .await
                .unwrap_err();
            assert!(matches!(error, StoreError::ClockSkew { .. }), "{error:?}");
            assert!(error.to_string().contains(word), "{error}");
            assert!((store.clock_offset_ms().unwrap() - moved * 1000).abs() < 3_000);
            let asked = ensure_lockable(store.as_ref(), LockPolicy::Compliance).await;
            assert!(matches!(asked, Err(StoreError::ClockSkew { .. })), "{asked:?}");
            // Reading needs no clock, and neither does asking what the bucket promises.
            assert_eq!(store.protection().await.unwrap().strength, Strength::Compliance);
            assert!(versions(store.as_ref(), &Prefix::all()).await.is_empty());
        }
        let endpoint =
            proxy(Some(&server.endpoint), MoveClock(SignedDuration::from_secs(200))).await;
        let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
        store.put(&key("packs/ab/x"), Bytes::from_static(b"x"), in_hours(1)).await.unwrap();
    }
}

/// A server that takes the lock headers and forgets them.
struct ForgetLock;

impl Mischief for ForgetLock {
    fn request(&self, head: String) -> String {
        head.split("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("x-amz-object-lock"))
            .collect::<Vec<_>>()
            .join("\r\n")
    }
    fn answer(&self, _request: &str, answer: Vec<u8>) -> Option<Vec<u8>> {
        Some(answer)
    }
}

#[tokio::test]
async fn a_lock_that_is_not_kept_is_found_at_the_first_write() {
    // LocalStack checks no signatures, so the headers can be taken away on their way.
    let server = localstack();
    let bucket = server.bucket(true).await;
    let endpoint = proxy(Some(&server.endpoint), ForgetLock).await;
    let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
    let error =
        store.put(&key("packs/ab/x"), Bytes::from_static(b"x"), in_hours(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unprotected { .. }), "{error:?}");
    assert!(error.to_string().contains("read back"), "{error}");

    // Ceph checks them, and the lock headers are among what is signed.
    let server = ceph();
    let bucket = server.bucket(true).await;
    let endpoint = proxy(Some(&server.endpoint), ForgetLock).await;
    let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
    let error =
        store.put(&key("packs/ab/x"), Bytes::from_static(b"x"), in_hours(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
}

/// A server that always answers the same, but for a number of first requests.
struct Always {
    first: AtomicUsize,
    then: Vec<u8>,
}

impl Mischief for Always {
    fn answer(&self, _request: &str, answer: Vec<u8>) -> Option<Vec<u8>> {
        let before = self
            .first
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok();
        Some(if before { answer } else { self.then.clone() })
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let error =
        |code: &str| format!("<Error><Code>{code}</Code><Message>so it is</Message></Error>");
    for (status, code, wanted) in [
        ("403 Forbidden", "RequestTimeTooSkewed", "ClockSkew"),
        ("403 Forbidden", "QuotaExceeded", "Full"),
        ("507 Insufficient Storage", "", "Full"),
        ("400 Bad Request", "BadDigest", "Altered"),
        ("403 Forbidden", "ExpiredToken", "Denied"),
        ("503 Slow Down", "SlowDown", "Unreachable"),
        ("301 Moved", "PermanentRedirect", "Config"),
        ("404 Not Found", "", "Other"),
        ("418 Teapot", "Teapot", "Other"),
    ] {
        let then = answer(status, "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n", &error(code));
        let endpoint = proxy(None, Always { first: AtomicUsize::new(0), then }).await;
        let mut options = localstack().at(endpoint).options(LockPolicy::None);
        options.retry_s = 2;
        let store = open("some-bucket", &options).unwrap();
        let error =
            store.put(&key("packs/ab/x"), Bytes::from_static(b"x"), in_hours(1)).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn having_no_credential_is_told_soon() {
    let begun = Instant::now();
    let url = TargetUrl::parse("s3://some-bucket").unwrap();
    let store = open_prune(&url, &TargetOptions::default(), NO_ENV).unwrap();
    let error = store.protection().await.unwrap_err();
    assert!(matches!(error, StoreError::NoCredential { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let env = |name: &str| (name == "AWS_EC2_METADATA_DISABLED").then(|| "true".to_owned());
    let error = open_prune(&url, &TargetOptions::default(), &env).unwrap_err();
    assert!(matches!(error, StoreError::NoCredential { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_come_from_everywhere() {
    let server = ceph();
    let bucket = server.bucket(true).await;
    let url = TargetUrl::parse(&format!("s3://{bucket}/vault")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (id, secret, endpoint) = (&server.id, &server.secret, &server.endpoint);
    let keys = file(
        "keys",
        &format!("[backup]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
    );
    let config = file(
        "config",
        &format!("[profile backup]\nendpoint_url = {endpoint}\nregion = us-east-1\n"),
    );
    let json = format!(r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"{secret}"}}"#);
    let json = file("json", &json);
    let process = file(
        "process",
        &format!("[default]\nendpoint_url = {endpoint}\ncredential_process = cat {json}\n"),
    );
    let secret_file = file("secret", &format!("{secret}\n"));
    let plain = TargetOptions { allow_http: true, ..Default::default() };
    let cases: Vec<(TargetOptions, Vec<(&str, String)>)> = vec![
        (
            plain.clone(),
            vec![
                ("AWS_ACCESS_KEY_ID", id.clone()),
                ("AWS_SECRET_ACCESS_KEY", secret.clone()),
                ("AWS_ENDPOINT_URL_S3", endpoint.clone()),
            ],
        ),
        (
            plain.clone(),
            vec![
                ("AWS_PROFILE", "backup".into()),
                ("AWS_CONFIG_FILE", config),
                ("AWS_SHARED_CREDENTIALS_FILE", keys),
            ],
        ),
        (plain.clone(), vec![("AWS_CONFIG_FILE", process)]),
        (
            TargetOptions {
                endpoint: Some(endpoint.clone()),
                access_key_id: Some(id.clone()),
                secret_file: Some(secret_file.into()),
                ..plain.clone()
            },
            vec![("AWS_ACCESS_KEY_ID", "other".into()), ("AWS_SECRET_ACCESS_KEY", "other".into())],
        ),
    ];
    for (options, variables) in cases {
        let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        let store = open_prune(&url, &options, &env).unwrap();
        assert_eq!(
            store.protection().await.unwrap().strength,
            Strength::Compliance,
            "{variables:?}"
        );
    }
    let failing =
        file("failing", "[default]\ncredential_process = echo hunter2; echo no card >&2; exit 3\n");
    let env = |name: &str| (name == "AWS_CONFIG_FILE").then(|| failing.clone());
    let options = TargetOptions { endpoint: Some(endpoint.clone()), ..plain.clone() };
    let error = open_prune(&url, &options, &env).unwrap().protection().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::NoCredential { .. }) && text.contains("no card"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// An instance metadata service, and a container's.
struct Metadata;

impl Mischief for Metadata {
    fn answer(&self, request: &str, _answer: Vec<u8>) -> Option<Vec<u8>> {
        let credential = r#"{"AccessKeyId":"test","SecretAccessKey":"test","Token":"t","Code":"Success",
            "Expiration":"2099-01-01T00:00:00Z"}"#;
        let body = match request.split(' ').nth(1).unwrap() {
            "/latest/api/token" => "token",
            "/latest/meta-data/iam/security-credentials/" => "role",
            _ => credential,
        };
        Some(answer("200 OK", "", body))
    }
}

#[tokio::test]
async fn roles_of_machines_and_containers_work() {
    let server = localstack();
    let bucket = server.bucket(true).await;
    let url = TargetUrl::parse(&format!("s3://{bucket}/vault")).unwrap();
    let metadata = proxy(None, Metadata).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let token = token.display().to_string();
    let options = TargetOptions {
        endpoint: Some(server.endpoint.clone()),
        allow_http: true,
        ..Default::default()
    };
    for variables in [
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.clone())],
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{metadata}/creds")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.clone()),
        ],
    ] {
        let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        let store = open_prune(&url, &options, &env).unwrap();
        assert_eq!(
            store.protection().await.unwrap().strength,
            Strength::Compliance,
            "{variables:?}"
        );
    }
}
