//! What somebody does without Keephold's programs: who has all that a host has (its keys, its credential), and who has a
//! credential alone.

use std::sync::Arc;

use bytes::Bytes;
use jiff::SignedDuration;
use keephold_vault::config::VaultConfig;
use keephold_vault::envelope::{self, Identities, Recipients, RunKeys};
use keephold_vault::ids::{RecordHash, VaultId};
use keephold_vault::keys::VaultSecret;
use keephold_vault::record::{Record, RecordKey, seal};
use keephold_vault::sign::SigningKey;
use keephold_vault::store::{LockPolicy, ObjectKey, Secret, TargetOptions, TargetUrl, open_store};
use serde_json::Value;

use super::Site;

/// Keys that records are made with.
struct Keys {
    secret: VaultSecret,
    signing: SigningKey,
    recipients: Recipients,
}

/// Whom forged records are sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealedTo {
    /// Whoever forged them, alone.
    Thief,
    /// The vault's recipients, who are no secret.
    Everyone,
}

fn recipients(site: &Site) -> Recipients {
    Recipients::parse(&std::fs::read_to_string(site.path("keys/recipients")).unwrap()).unwrap()
}

/// Signs `count` more runs that show the same snapshot as the last one, of which `backup --json` printed `last`, and
/// stores their records, numbered, chained and locked as the host's own are.
pub(crate) fn repeats(site: &Site, last: &Value, count: u64) {
    let key = |name: &str| std::fs::read_to_string(site.path("keys").join(name)).unwrap();
    let keys = Keys {
        secret: VaultSecret::from_text(&key("vault.secret")).unwrap(),
        signing: SigningKey::from_openssh(&key("signing_key")).unwrap(),
        recipients: recipients(site),
    };
    store_records(site, last, count, &keys);
}

/// The same by somebody who has none of the host's keys: under a secret of his own, signed in the host's name.
pub(crate) fn forges(site: &Site, last: &Value, to: SealedTo, count: u64) {
    let keys = Keys {
        secret: VaultSecret::generate().unwrap(),
        signing: SigningKey::generate("web1").unwrap(),
        recipients: match to {
            SealedTo::Thief => Recipients::parse(&Identities::generate().0).unwrap(),
            SealedTo::Everyone => recipients(site),
        },
    };
    store_records(site, last, count, &keys);
}

fn store_records(site: &Site, last: &Value, count: u64, keys: &Keys) {
    let [id, secret] = site.credential.clone().expect("a site on a server");
    let options = TargetOptions {
        endpoint: site.endpoint.clone(),
        allow_http: true,
        region: Some("us-east-1".into()),
        access_key_id: Some(id),
        secret_access_key: Some(Secret::new(secret)),
        lock: LockPolicy::Compliance,
        ..TargetOptions::default()
    };
    let url = TargetUrl::parse(&site.url).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open_store(&url, &options, &|_| None).unwrap();
        let config = store.get(&ObjectKey::vault_config(), None, 1 << 16).await.unwrap();
        let vault = VaultConfig::read(&config, None).unwrap().id;
        let mut record: Record = serde_json::from_value(last.clone()).unwrap();
        let stored: RecordKey = last["record"].as_str().unwrap().parse().unwrap();
        let bytes = store.get(&stored.object().unwrap(), None, 1 << 20).await.unwrap();
        let mut before = RecordHash::from_bytes(*blake3::hash(&bytes).as_bytes());
        let mut puts = tokio::task::JoinSet::new();
        for _ in 0..count {
            record.seq += 1;
            record.previous = Some(before);
            record.started += SignedDuration::from_millis(1);
            record.finished += SignedDuration::from_millis(1);
            let (key, bytes) = sealed(&record, vault, keys, &mut before);
            let (store, until) = (Arc::clone(&store), record.retention.evidence_until);
            if puts.len() == 16 {
                puts.join_next().await.unwrap().unwrap();
            }
            puts.spawn(async move {
                store.put(&key, bytes, until).await.unwrap();
            });
        }
        while let Some(put) = puts.join_next().await {
            put.unwrap();
        }
    });
}

fn sealed(
    record: &Record,
    vault: VaultId,
    keys: &Keys,
    before: &mut RecordHash,
) -> (ObjectKey, Bytes) {
    let run = RunKeys::for_record(vault, keys.secret.clone()).unwrap();
    let envelope = envelope::seal(&run, &keys.recipients).unwrap();
    let sealed = seal(record, vault, &keys.secret, &envelope, &keys.signing).unwrap();
    *before = sealed.hash;
    (sealed.key.object().unwrap(), Bytes::from(sealed.bytes))
}
