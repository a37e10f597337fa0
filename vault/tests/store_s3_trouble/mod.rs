//! Servers that lose answers, know little, refuse, or have a wrong clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::store::{LockPolicy, Prefix, StoreError, Strength, ensure_lockable};

use crate::store_servers::{Mischief, Server, answer, both, ceph, localstack, open, proxy};
use crate::store_suite::{in_hours, key, versions};

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

/// Notes for each upload of a pack whether it came with MD5, and changes checksums or refuses as it is told.
#[derive(Default, Clone)]
struct WatchMd5 {
    /// One letter each: `m` with MD5, `-` without.
    seen: Arc<Mutex<String>>,
    demands: bool,
    alters: bool,
}

impl WatchMd5 {
    fn is_pack(head: &str) -> bool {
        head.starts_with("PUT") && head.contains("packs/")
    }
}

impl Mischief for WatchMd5 {
    fn request(&self, head: String) -> String {
        if !Self::is_pack(&head) {
            return head;
        }
        let md5 = head.contains("\r\ncontent-md5: ");
        self.seen.lock().unwrap().push(if md5 { 'm' } else { '-' });
        if !self.alters || md5 {
            return head;
        }
        // As if the bytes had been changed, for the server that compares.
        let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
            Some((name @ "x-amz-checksum-sha256", _)) => {
                format!("{name}: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
            }
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\r\n")
    }

    fn answer(&self, request: &str, received: Vec<u8>) -> Option<Vec<u8>> {
        if self.demands && Self::is_pack(request) && !request.contains("content-md5") {
            let text = "<Error><Code>InvalidRequest</Code><Message>Content-MD5 is required</Message></Error>";
            return Some(answer("400 Bad Request", "", text));
        }
        Some(received)
    }
}

/// MD5 costs three times what SHA-256 does: packs go without it to a server that shows that it compared the SHA-256.
#[tokio::test]
async fn packs_carry_md5_to_servers_that_need_it() {
    let stored = async |server: &Server, watch: &WatchMd5, lens: &[usize]| {
        let bucket = server.bucket(true).await;
        let endpoint = proxy(Some(&server.endpoint), watch.clone()).await;
        let store = server.at(endpoint).open(&bucket, LockPolicy::Compliance);
        for (n, len) in lens.iter().enumerate() {
            let (k, body) = (key(&format!("packs/ab/{n}")), Bytes::from(vec![7; *len]));
            let stored = store.put(&k, body.clone(), in_hours(1)).await.unwrap();
            assert!(stored.lock.is_some());
            let read = store.get(&k, stored.version.as_ref(), *len as u64).await.unwrap();
            assert!(read == body);
        }
        std::mem::take(&mut *watch.seen.lock().unwrap())
    };
    let large = 100_000;
    // LocalStack tells the SHA-256 back, and refuses a wrong one. What is small always has both.
    let honest = WatchMd5::default();
    assert_eq!(stored(&localstack(), &honest, &[large, large, 10, large]).await, "m-m-");
    // Ceph compares what was signed, but doesn't say so.
    assert_eq!(stored(&ceph(), &honest, &[large, large, large]).await, "mmm");
    // A server that takes nothing without it is asked once.
    let demands = WatchMd5 { demands: true, ..Default::default() };
    assert_eq!(stored(&localstack(), &demands, &[large, large, large]).await, "m-mm");
    // What is changed on its way is refused, and sent again.
    let alters = WatchMd5 { alters: true, ..Default::default() };
    assert_eq!(stored(&localstack(), &alters, &[large, large, large]).await, "m-mm");
}
