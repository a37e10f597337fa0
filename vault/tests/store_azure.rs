//! Containers of Azure: against Azurite, which checks signatures but keeps no locks, and against our own model of
//! what the service's reference documents. Neither is the real thing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(unreachable_pub)]
mod azure_model;
#[allow(unreachable_pub)]
mod model_server;
#[allow(unreachable_pub)]
mod store_suite;

use std::sync::Arc;

use azure_model::Quirks;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::store::{
    Answer, Attack, Lock, LockMode, LockPolicy, Prefix, Probe, Secret, StoreError, Strength,
    TargetOptions, TargetUrl, create_target, open_probe,
};
use model_server::Server;
use object_store::ClientOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequest, ReqwestConnector};
use store_suite::{Target, in_hours, in_seconds, key, versions};

const NO_ENV: &(dyn Fn(&str) -> Option<String> + Send + Sync) = &|_| None;

fn options(endpoint: &str, secret: &str, lock: LockPolicy) -> TargetOptions {
    TargetOptions {
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        lock,
        secret_access_key: Some(Secret::new(secret)),
        retry_s: 5,
        ..Default::default()
    }
}

fn open(url: &str, options: &TargetOptions) -> Arc<dyn Probe> {
    open_probe(&TargetUrl::parse(url).unwrap(), options, NO_ENV).unwrap()
}

fn model(quirks: Quirks, lock: LockPolicy) -> (Server, Arc<dyn Probe>) {
    let model = azure_model::start(quirks);
    let store = open("az://acct1/backups/vault", &options(&model.endpoint, "a2V5", lock));
    (model, store)
}

struct Azurite {
    endpoint: String,
    account: String,
    key: String,
}

impl Azurite {
    fn new() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set: run tests/run, or start the servers with tests/servers/up and set what it prints")
            })
        };
        Self {
            endpoint: variable("KEEPHOLD_TEST_AZURITE_ENDPOINT"),
            account: variable("KEEPHOLD_TEST_AZURITE_ACCOUNT"),
            key: variable("KEEPHOLD_TEST_AZURITE_KEY"),
        }
    }

    /// The URL of a vault in a fresh container.
    async fn container(&self) -> String {
        let name = format!("store-{:016x}", rand::random::<u64>());
        let http = ReqwestConnector::default()
            .connect(&ClientOptions::new().with_allow_http(true))
            .unwrap();
        let mut request = HttpRequest::new(Bytes::new().into());
        *request.method_mut() = "PUT".parse().unwrap();
        *request.uri_mut() = format!("{}/{name}?restype=container", self.endpoint).parse().unwrap();
        request.headers_mut().insert("content-length", "0".parse().unwrap());
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(&self.key).unwrap());
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request).unwrap();
        let response = http.execute(request).await.unwrap();
        assert_eq!(response.status().as_u16(), 201, "the container could not be made");
        format!("az://{}/{name}/vault", self.account)
    }

    fn options(&self, lock: LockPolicy) -> TargetOptions {
        options(&self.endpoint, &self.key, lock)
    }
}

#[tokio::test]
async fn azurite_without_locks_conforms() {
    let azurite = Azurite::new();
    let store = open(&azurite.container().await, &azurite.options(LockPolicy::None));
    let target = Target {
        lock: None,
        strength: Strength::None,
        versions: false,
        keeps: false,
        exclusive: true,
        many: 40,
    };
    store_suite::run(store.as_ref(), target).await;
}

/// It takes the headers, answers 201, and keeps no lock.
#[tokio::test]
async fn azurite_keeps_no_locks_and_is_found_out() {
    let azurite = Azurite::new();
    for lock in [LockPolicy::Compliance, LockPolicy::Governance] {
        let store = open(&azurite.container().await, &azurite.options(lock));
        assert!(store.protection().await.unwrap().strength <= Strength::Advisory);
        let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Unprotected { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("version-level immutability"));
        let protection = store.protection().await.unwrap();
        assert!(protection.strength <= Strength::Advisory, "{protection:?}");
    }
}

#[tokio::test]
async fn azurite_refuses_another_key_and_a_missing_container() {
    let azurite = Azurite::new();
    let url = azurite.container().await;
    let wrong = open(&url, &options(&azurite.endpoint, "a2V5", LockPolicy::None));
    let error = wrong.get(&key("vault.json"), None, 9).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    let missing = format!("az://{}/nowhere-at-all", azurite.account);
    let missing = TargetUrl::parse(&missing).unwrap();
    let error =
        create_target(&missing, &azurite.options(LockPolicy::None), NO_ENV).await.unwrap_err();
    assert!(matches!(error, StoreError::NoTarget { .. }), "{error:?}");
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
    insta::assert_snapshot!("azure_requests", model.requests());
}

#[tokio::test]
async fn a_container_without_locks_is_refused() {
    let (model, store) =
        model(Quirks { without: true, ..Default::default() }, LockPolicy::Compliance);
    let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unprotected { .. }), "{error:?}");
    assert!(error.to_string().contains("version-level immutability"), "{error}");
    assert_eq!(store.protection().await.unwrap().strength, Strength::None);
    assert!(!model.requests().contains("PUT"), "nothing was written");
    let url = TargetUrl::parse("az://acct1/backups/vault").unwrap();
    let options = options(&model.endpoint, "a2V5", LockPolicy::Compliance);
    let error = create_target(&url, &options, NO_ENV).await.unwrap_err();
    assert!(error.to_string().contains("version-level immutability"), "{error}");
}

/// Whatever a container says of itself: a lock that can't be read back is none.
#[tokio::test]
async fn a_lock_that_cannot_be_read_back_is_none() {
    let forgets = Quirks { forgets: true, ..Default::default() };
    let blind = Quirks { unreadable: true, unlistable: true, silent: true, ..Default::default() };
    for quirks in [forgets, blind] {
        let (_model, store) = model(quirks, LockPolicy::Compliance);
        for _ in 0..2 {
            let error = store.put(&key("packs/ab/x"), "x".into(), in_hours(1)).await.unwrap_err();
            assert!(matches!(&error, StoreError::Unprotected { .. }), "{error:?}");
        }
        let protection = store.protection().await.unwrap();
        assert!(protection.strength <= Strength::Advisory, "{quirks:?}: {protection:?}");
    }
}

/// A credential that may not read packs may still list them, and then it reads locks.
#[tokio::test]
async fn locks_are_read_from_listings_too() {
    let quirks = Quirks { unreadable: true, silent: true, ..Default::default() };
    let (_model, store) = model(quirks, LockPolicy::Compliance);
    assert_eq!(store.protection().await.unwrap().strength, Strength::Advisory);
    let k = key("packs/ab/x");
    let stored = store.put(&k, "x".into(), in_hours(1)).await.unwrap();
    assert_eq!(store.retention(&k, stored.version.as_ref()).await.unwrap(), stored.lock);
    let protection = store.protection().await.unwrap();
    assert_eq!((protection.strength, protection.versioning), (Strength::Compliance, Some(true)));
    // What it may not read it writes once more, as a version of its own.
    let again = store.put(&k, "x".into(), in_hours(2)).await.unwrap();
    assert_ne!(again.version, stored.version);
}

#[tokio::test]
async fn what_is_hidden_or_overwritten_is_still_there() {
    let (_model, store) = model(Quirks::default(), LockPolicy::Compliance);
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
    store.delete(&k, all[1].version.as_ref()).await.unwrap();
    assert_eq!(store.get(&k, v, 9).await.unwrap(), "true");
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
        Attack::Delete { bypass: true },
    ] {
        let answer = store.attack(attack, &k, v.as_ref()).await.unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{attack:?}: {answer:?}");
    }
    assert_eq!(store.get(&k, v.as_ref(), 9).await.unwrap(), "canary");
    // A policy that isn't locked goes at a word: that is what governance means here.
    let v = store.put_canary(&k, "canary".into(), Some(weaker)).await.unwrap();
    let delete = Attack::Delete { bypass: false };
    let answer = store.attack(delete, &k, v.as_ref()).await.unwrap();
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    let delete = Attack::Delete { bypass: true };
    assert_eq!(store.attack(delete, &k, v.as_ref()).await.unwrap(), Answer::Accepted);
}
