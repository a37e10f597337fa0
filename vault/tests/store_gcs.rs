//! Buckets of Google Cloud Storage: against our own model of what the service's reference documents, and against
//! fake-gcs-server, which names generations but holds no locks. Neither is the real thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(unreachable_pub)]
mod gcs_model;
#[allow(unreachable_pub)]
mod model_server;
#[allow(unreachable_pub)]
mod store_suite;

use std::sync::Arc;

use gcs_model::{Quirks, TOKEN};
use jiff::{SignedDuration, Timestamp};
use keephold_vault::store::{
    Answer, Attack, Lock, LockMode, LockPolicy, Prefix, Probe, Secret, SettingState, StoreError,
    Strength, TargetOptions, TargetUrl, create_target, open_probe,
};
use model_server::Server;
use serde_json::json;
use store_suite::{Target, in_hours, in_seconds, key, versions};

const NO_ENV: &(dyn Fn(&str) -> Option<String> + Send + Sync) = &|_| None;

fn options(endpoint: &str, token: &str, lock: LockPolicy) -> TargetOptions {
    TargetOptions {
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        lock,
        secret_access_key: Some(Secret::new(token)),
        retry_s: 5,
        ..Default::default()
    }
}

fn open(url: &str, options: &TargetOptions) -> Arc<dyn Probe> {
    open_probe(&TargetUrl::parse(url).unwrap(), options, NO_ENV).unwrap()
}

fn model(quirks: Quirks, lock: LockPolicy) -> (Server, Arc<dyn Probe>) {
    let model = gcs_model::start(quirks);
    let store = open("gs://backups/vault", &options(&model.endpoint, TOKEN, lock));
    (model, store)
}

/// The address of fake-gcs-server, and a vault of its own there.
fn emulated(lock: LockPolicy) -> Arc<dyn Probe> {
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| {
            panic!("{name} is not set: run tests/run, or start the servers with tests/servers/up and set what it prints")
        })
    };
    let bucket = variable("KEEPHOLD_TEST_FAKEGCS_BUCKET");
    let url = format!("gs://{bucket}/store-{:016x}", rand::random::<u64>());
    open(&url, &options(&variable("KEEPHOLD_TEST_FAKEGCS_ENDPOINT"), "any", lock))
}

#[tokio::test]
async fn fake_gcs_server_without_locks_conforms() {
    let target = Target {
        lock: None,
        strength: Strength::None,
        versions: true,
        keeps: false,
        exclusive: true,
        many: 40,
    };
    store_suite::run(emulated(LockPolicy::None).as_ref(), target).await;
}

/// It says nothing of object retention, and takes locks that it doesn't hold.
#[tokio::test]
async fn fake_gcs_server_holds_no_locks_and_is_found_out() {
    for lock in [LockPolicy::Compliance, LockPolicy::Governance] {
        let store = emulated(lock);
        assert_eq!(store.protection().await.unwrap().strength, Strength::None);
        let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Unprotected { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_documented_service_conforms() {
    store_suite::run_with_each_lock(|policy| model(Quirks::default(), policy).1).await;
}

#[tokio::test]
async fn requests_are_as_the_reference_has_them() {
    let (model, store) = model(Quirks::default(), LockPolicy::Compliance);
    let until: Timestamp = "2100-01-02T03:04:05Z".parse().unwrap();
    let k = key("packs/ab/x");
    let stored = store.put(&k, "some bytes".into(), until).await.unwrap();
    let v = stored.version.as_ref();
    store.extend(&k, v, until + SignedDuration::from_hours(24)).await.unwrap();
    store.get_range(&k, v, 2..5).await.unwrap();
    versions(store.as_ref(), &Prefix::packs()).await;
    store.delete(&k, v).await.unwrap_err();
    insta::assert_snapshot!("gcs_requests", model.requests());
}

#[tokio::test]
async fn a_bucket_without_object_retention_is_refused() {
    let quirks = Quirks { without: true, ..Default::default() };
    let (model, store) = model(quirks.clone(), LockPolicy::Compliance);
    let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unprotected { .. }), "{error:?}");
    assert!(error.to_string().contains("object retention is not enabled"), "{error}");
    assert!(error.hint().unwrap().contains("object retention"));
    assert_eq!(store.protection().await.unwrap().strength, Strength::None);
    assert!(!model.requests().contains("POST"), "nothing was written");
    let url = TargetUrl::parse("gs://backups/vault").unwrap();
    let asked = options(&model.endpoint, TOKEN, LockPolicy::Compliance);
    let error = create_target(&url, &asked, NO_ENV).await.unwrap_err();
    assert!(error.to_string().contains("object retention is not enabled"), "{error}");
    // To a credential that may not read the bucket's settings it says so when it is written to.
    let (_model, store) = self::model(Quirks { silent: true, ..quirks }, LockPolicy::Compliance);
    let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unprotected { .. }), "{error:?}");
}

/// Whatever a bucket says of itself: a lock that can't be read back is none.
#[tokio::test]
async fn a_lock_that_cannot_be_read_back_is_none() {
    let forgets = Quirks { forgets: true, ..Default::default() };
    let blind = Quirks { unreadable: true, unlistable: true, silent: true, ..Default::default() };
    for quirks in [forgets, blind] {
        let (_model, store) = model(quirks.clone(), LockPolicy::Compliance);
        for name in ["packs/ab/x", "packs/ab/y"] {
            let error = store.put(&key(name), "x".into(), in_hours(1)).await.unwrap_err();
            assert!(matches!(&error, StoreError::Unprotected { .. }), "{error:?}");
        }
        let protection = store.protection().await.unwrap();
        assert!(protection.strength <= Strength::Advisory, "{quirks:?}: {protection:?}");
    }
}

/// The writer's own rights: to list, but not to read packs, and never to delete.
#[tokio::test]
async fn a_writer_that_reads_no_packs_sees_locks_in_listings_and_uses_what_is_there() {
    let quirks = Quirks { unreadable: true, silent: true, undeletable: true, ..Default::default() };
    let (_model, store) = model(quirks, LockPolicy::Compliance);
    assert_eq!(store.protection().await.unwrap().strength, Strength::Advisory);
    let k = key("packs/ab/x");
    let stored = store.put(&k, "x".into(), in_hours(1)).await.unwrap();
    // A name that only begins with this one is another object's.
    store.put(&key("packs/ab/x-other"), "y".into(), in_hours(1)).await.unwrap();
    let v = stored.version.as_ref();
    assert_eq!(store.retention(&k, v).await.unwrap(), stored.lock);
    let protection = store.protection().await.unwrap();
    assert_eq!(protection.strength, Strength::Compliance);
    let again = store.put(&k, "x".into(), in_hours(2)).await.unwrap();
    assert_eq!(again.version, stored.version);
    assert!(again.lock.unwrap().until > stored.lock.unwrap().until, "{again:?}");
    let error = store.put(&k, "z".into(), in_hours(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    let error = store.delete(&k, v).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    for attack in [Attack::Overwrite, Attack::Hide] {
        let canary = key("canary/x");
        store.put(&canary, "c".into(), in_hours(1)).await.unwrap();
        let answer = store.attack(attack, &canary, None).await.unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{attack:?}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_hidden_or_overwritten_is_still_there() {
    let (model, store) = model(Quirks::default(), LockPolicy::Compliance);
    let k = key("canary/x");
    let stored = store.put(&k, "true".into(), in_hours(1)).await.unwrap();
    let v = stored.version.as_ref();
    assert_eq!(store.attack(Attack::Overwrite, &k, v).await.unwrap(), Answer::Accepted);
    assert_eq!(store.attack(Attack::Hide, &k, v).await.unwrap(), Answer::Accepted);
    let all = versions(store.as_ref(), &Prefix::all()).await;
    let seen: Vec<_> = all.iter().map(|v| (v.delete_marker, v.latest, v.size)).collect();
    assert_eq!(seen, [(true, true, 0), (false, false, 24), (false, false, 4)]);
    assert!(matches!(store.get(&k, None, 9).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.get(&k, v, 9).await.unwrap(), "true");
    // There is no marker that could be deleted: that it is one is not refused.
    store.delete(&k, all[0].version.as_ref()).await.unwrap();
    model.requests();
    store.delete(&k, all[1].version.as_ref()).await.unwrap();
    let sent = model.requests();
    assert!(sent.contains("DELETE") && sent.contains("?generation="), "{sent}");
    let error = store.delete(&k, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Config { .. }), "{error:?}");
    assert_eq!(model.requests(), "", "nothing is deleted without a generation");
    assert_eq!(store.get(&k, v, 9).await.unwrap(), "true");
}

/// Without versions a locked object can't be replaced or hidden at all.
#[tokio::test]
async fn a_bucket_without_versions_holds_what_is_locked() {
    let quirks = Quirks { unversioned: true, ..Default::default() };
    let (_model, store) = model(quirks, LockPolicy::Compliance);
    assert_eq!(store.protection().await.unwrap().versioning, Some(false));
    let k = key("canary/x");
    let stored = store.put(&k, "true".into(), in_hours(1)).await.unwrap();
    for attack in [Attack::Overwrite, Attack::Hide] {
        let answer = store.attack(attack, &k, stored.version.as_ref()).await.unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{attack:?}: {answer:?}");
    }
    assert_eq!(store.get(&k, None, 9).await.unwrap(), "true");
}

#[tokio::test]
async fn attacks_on_locks_are_refused() {
    let (_model, store) = model(Quirks::default(), LockPolicy::Compliance);
    let k = key("canary/x");
    let lock = Lock { mode: LockMode::Compliance, until: in_hours(1) };
    let sooner = Lock { until: in_seconds(90), ..lock };
    let weaker = Lock { mode: LockMode::Governance, until: in_hours(2) };
    let v = store.put_canary(&k, "canary".into(), Some(lock)).await.unwrap();
    for attack in [
        Attack::Relock { lock: Some(sooner), bypass: false },
        Attack::Relock { lock: Some(weaker), bypass: true },
        Attack::Relock { lock: None, bypass: true },
        Attack::Delete { bypass: false },
        Attack::Delete { bypass: true },
    ] {
        let answer = store.attack(attack, &k, v.as_ref()).await.unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{attack:?}: {answer:?}");
    }
    assert_eq!(store.get(&k, v.as_ref(), 9).await.unwrap(), "canary");
    // One that isn't locked for good holds without the right to override, and goes with it.
    let v = store.put_canary(&k, "canary".into(), Some(weaker)).await.unwrap();
    for attack in [
        Attack::Relock { lock: None, bypass: false },
        Attack::Relock { lock: Some(Lock { until: in_seconds(90), ..weaker }), bypass: false },
        Attack::Delete { bypass: false },
    ] {
        let answer = store.attack(attack, &k, v.as_ref()).await.unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{attack:?}: {answer:?}");
    }
    let delete = Attack::Delete { bypass: true };
    assert_eq!(store.attack(delete, &k, v.as_ref()).await.unwrap(), Answer::Accepted);
}

/// A vault that goes from governance to compliance: what could be lifted is locked for good.
#[tokio::test]
async fn an_extension_never_weakens_and_makes_stricter_where_asked() {
    let (model, governed) = model(Quirks::default(), LockPolicy::Governance);
    let k = key("packs/ab/x");
    let v = governed.put(&k, "x".into(), in_hours(3)).await.unwrap().version;
    let strict =
        open("gs://backups/vault", &options(&model.endpoint, TOKEN, LockPolicy::Compliance));
    model.requests();
    let lock = strict.extend(&k, v.as_ref(), in_hours(1)).await.unwrap().unwrap();
    assert_eq!(lock.mode, LockMode::Compliance);
    assert!(lock.until > in_hours(2), "{lock:?}");
    assert!(model.requests().contains("overrideUnlockedRetention=true"));
    // And not back.
    assert_eq!(
        governed.extend(&k, v.as_ref(), in_hours(4)).await.unwrap().unwrap().mode,
        lock.mode
    );
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_stands_is_named() {
    let passing = Quirks {
        fails: vec![
            (503, "backendError"),
            (429, "rateLimitExceeded"),
            (403, "userRateLimitExceeded"),
        ],
        ..Default::default()
    };
    let (_model, store) = model(passing, LockPolicy::Compliance);
    store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap();

    let (model, store) = model(Quirks { silent: true, ..Default::default() }, LockPolicy::None);
    let error = store.get(&key("vault.json"), None, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let nowhere = open("gs://nowhere", &options(&model.endpoint, TOKEN, LockPolicy::None));
    for error in [
        nowhere.protection().await.unwrap_err(),
        nowhere.put(&key("vault.json"), "x".into(), in_hours(1)).await.unwrap_err(),
        nowhere.get(&key("vault.json"), None, 9).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NoTarget { .. }), "{error:?}");
    }
    let wrong = open("gs://backups", &options(&model.endpoint, "expired", LockPolicy::None));
    let error = wrong.get(&key("vault.json"), None, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("token"), "{error:?}");
    assert!(!format!("{error}{wrong:?}").contains("expired"), "the token is shown");
}

#[tokio::test]
async fn damage_on_the_way_is_refused() {
    let quirks = Quirks { damages: true, ..Default::default() };
    let (_model, store) = model(quirks, LockPolicy::Compliance);
    let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Altered { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_clock_sets_no_locks() {
    let quirks = Quirks { ahead: SignedDuration::from_hours(2), ..Default::default() };
    let (model, store) = model(quirks, LockPolicy::Compliance);
    let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::ClockSkew { .. }), "{error:?}");
    assert!(!model.requests().contains("POST"), "nothing was written");
    // A token that such a clock signed is refused, and the clock is to blame.
    let wrong = open("gs://backups", &options(&model.endpoint, "expired", LockPolicy::None));
    let error = wrong.get(&key("vault.json"), None, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::ClockSkew { .. }), "{error:?}");
}

#[tokio::test]
async fn a_bucket_tells_its_settings() {
    let settings = json!({
        "retentionPolicy": { "retentionPeriod": "86400", "isLocked": false },
        "lifecycle": { "rule": [{ "action": { "type": "Delete" }, "condition": { "age": 9 } }] },
        "defaultEventBasedHold": true,
    });
    let (_model, store) = model(Quirks { settings, ..Default::default() }, LockPolicy::Compliance);
    let protection = store.protection().await.unwrap();
    assert_eq!(protection.default_retention.as_deref(), Some("GOVERNANCE 1 days"));
    assert!(protection.notes[0].contains("event-based hold"), "{protection:?}");
    let found = store.settings().await.unwrap();
    assert_eq!(found.expiring, ["rule 1: objects are deleted by age 9"]);
    let lock = found.settings.iter().find(|s| s.name == "object_lock").unwrap();
    assert_eq!(lock.state, SettingState::Set(r#"{"mode":"Enabled"}"#.into()));
    let (_model, store) = model(Quirks { silent: true, ..Default::default() }, LockPolicy::None);
    let found = store.settings().await.unwrap();
    assert!(
        found.settings.iter().all(|s| matches!(s.state, SettingState::NotReadable(_))),
        "{found:?}"
    );
}

#[test]
fn settings_that_mean_nothing_here_are_named() {
    let url = TargetUrl::parse("gs://backups/vault").unwrap();
    for (options, name) in [
        (TargetOptions { region: Some("eu".into()), ..Default::default() }, "region"),
        (TargetOptions { profile: Some("x".into()), ..Default::default() }, "profile"),
        (TargetOptions { access_key_id: Some("x".into()), ..Default::default() }, "access_key_id"),
        (TargetOptions { path_style: Some(true), ..Default::default() }, "path_style"),
    ] {
        let error = open_probe(&url, &options, NO_ENV).unwrap_err().to_string();
        assert_eq!(error, format!("`{name}` means nothing for gs://: remove it"));
    }
}
