//! What someone with the writer's credential, or a dying disk, can do to stored objects.

use super::*;
use crate::envelope::Identities;
use crate::read::{NoteKind, Opener, ReadSettings, RecordScope, Selection, Vault};
use crate::store::{ObjectKey, Store, StoreError};
use crate::testing::{Request, noise};

/// Two files in a pack of their own, the tree in another.
async fn two_files() -> (VaultMaker, crate::record::RecordKey, Vec<u8>, ObjectKey) {
    let mut maker = VaultMaker::new().await.unwrap();
    let bytes = noise(3, 3 << 20);
    let content = maker.content(&bytes).await.unwrap();
    let small = maker.content(b"small").await.unwrap();
    maker.next_run().await.unwrap();
    let data = maker.packs().remove(0);
    let entries = vec![dir("d"), file("d/big", content), file("d/small", small)];
    let key = maker.snapshot(entries, "2026-11-20T01:00:00Z").await.unwrap();
    (maker, key, bytes, data)
}

async fn read_big(maker: &VaultMaker, key: &crate::record::RecordKey) -> Result<Vec<u8>, Error> {
    let reader = maker.reader(key).await?;
    let EntryKind::File(content) = reader.entry(&path("d/big")).await?.kind else {
        panic!("it is a file");
    };
    bytes_of(&reader, &content).await
}

#[tokio::test]
async fn whatever_is_put_over_the_objects_the_true_bytes_are_read() {
    let (maker, key, bytes, _) = two_files().await;
    for (n, object) in maker.store.keys().iter().enumerate() {
        if n % 2 == 0 {
            maker.store.hide(object);
        } else {
            maker.store.overwrite(object, noise(9, 4 << 20));
            maker.store.overwrite(object, b"short".as_slice());
        }
    }
    let (vault, opener) = maker.open().await.unwrap();
    let found = vault.find_records(&RecordScope::default()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].key == key && (found[0].hidden || found[0].versions == 3), "{found:?}");
    let run = vault.run(&key, &opener).await.unwrap();
    let reader = SnapshotReader::new(&vault, &opener, &run, ReadSettings::default()).unwrap();
    assert_eq!(collect(reader.entries(Selection::all())).await.unwrap().len(), 3);
    let EntryKind::File(content) = reader.entry(&path("d/big")).await.unwrap().kind else {
        panic!("it is a file");
    };
    assert!(bytes_of(&reader, &content).await.unwrap() == bytes);
    let notes = vault.notes();
    assert_eq!(notes.len(), maker.store.keys().len(), "{notes:#?}");
    assert!(notes.iter().any(|n| n.kind == NoteKind::Hidden));
    assert!(notes.iter().any(|n| n.kind == NoteKind::Replaced));

    // Once a true version is known it is asked for by name.
    maker.store.take_log();
    assert!(bytes_of(&reader, &content).await.unwrap() == bytes);
    let log = maker.store.take_log();
    assert!(log.iter().all(|r| matches!(r, Request::GetRange(_, Some(_), _))), "{log:#?}");
}

#[tokio::test]
async fn rot_is_named_precisely_and_spares_the_rest() {
    let (maker, key, _, data) = two_files().await;
    maker.store.rot(&data, |bytes| bytes[700_000] ^= 1);
    let error = read_big(&maker, &key).await.unwrap_err();
    let (text, name) = (error.to_string(), data.as_str().rsplit('/').next().unwrap());
    assert!(text.contains(name) && text.contains("the sealed message at byte"), "{text}");
    assert!(text.contains("not those that its name is the hash of"), "{text}");
    let reader = maker.reader(&key).await.unwrap();
    let EntryKind::File(small) = reader.entry(&path("d/small")).await.unwrap().kind else {
        panic!("it is a file");
    };
    assert_eq!(bytes_of(&reader, &small).await.unwrap(), b"small");
}

#[tokio::test]
async fn lost_objects_are_named() {
    let (maker, key, _, data) = two_files().await;
    maker.store.lose(&data);
    let error = read_big(&maker, &key).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::NotFound { .. })), "{error}");
    assert!(error.to_string().contains(data.as_str()), "{error}");

    let (maker, key, ..) = two_files().await;
    let reader = maker.reader(&key).await.unwrap();
    for segment in maker.store.keys().into_iter().filter(|k| k.as_segment().is_some()) {
        maker.store.lose(&segment);
    }
    let error = reader.entry(&path("d/small")).await.unwrap_err();
    assert!(error.to_string().contains("index/"), "{error}");
    let record = maker.store.keys().into_iter().find(|k| k.as_str().starts_with("runs/")).unwrap();
    maker.store.rot(&record, |bytes| bytes[100] ^= 1);
    let error = maker.reader(&key).await.unwrap_err();
    assert!(error.to_string().contains("its name is the hash of"), "{error}");
}

#[tokio::test]
async fn a_blob_that_no_segment_knows_is_named() {
    let mut maker = VaultMaker::new().await.unwrap();
    let content = maker.content(b"not in the first segment").await.unwrap();
    maker.next_run().await.unwrap();
    let mut entries = [file("a", content)];
    let root = maker.tree(&mut entries).await.unwrap();
    let mut record = maker.record(root, "2026-11-20T01:00:00Z").await.unwrap();
    record.snapshot.as_mut().unwrap().segments.truncate(1);
    let key = maker.store_record(&record).await.unwrap();
    let reader = maker.reader(&key).await.unwrap();
    let EntryKind::File(content) = reader.entry(&path("a")).await.unwrap().kind else {
        panic!("it is a file");
    };
    let error = bytes_of(&reader, &content).await.unwrap_err();
    assert!(matches!(error, Error::BlobUnknown { .. }), "{error}");
}

#[tokio::test]
async fn strangers_read_nothing_and_hosts_only_records() {
    let (maker, key, ..) = two_files().await;
    let (vault, _) = maker.open().await.unwrap();
    let (_, stranger) = Identities::generate();
    let stranger = Opener::with_identities(vault.id(), Identities::parse(&stranger).unwrap());
    let error = vault.run(&key, &stranger).await.unwrap_err();
    assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
    assert!(error.hint().is_some());

    let host = Opener::with_secret(vault.id(), maker.secret.clone());
    let run = vault.run(&key, &host).await.unwrap();
    assert_eq!(run.record.host, "db1");
    let reader = SnapshotReader::new(&vault, &host, &run, ReadSettings::default()).unwrap();
    let error = reader.entry(&path("d/small")).await.unwrap_err();
    assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
    assert!(error.to_string().contains("only an identity reads it"), "{error}");
}

#[tokio::test]
async fn another_vault_is_refused() {
    let (maker, ..) = two_files().await;
    let (other, key, ..) = two_files().await;
    let store = Arc::clone(&maker.store) as Arc<dyn Store>;
    let error = Vault::open(store, Some(&other.fingerprint)).await.unwrap_err();
    assert!(matches!(error, Error::OtherVault { .. }), "{error}");
    // A record of another vault under this one's names.
    let bytes = other.store.get(&key.object().unwrap(), None, 1 << 20).await.unwrap();
    maker.store.overwrite(&key.object().unwrap(), bytes);
    let error = maker.reader(&key).await.unwrap_err();
    assert!(matches!(error, Error::OtherVault { .. } | Error::WrongIdentity { .. }), "{error}");
}

#[tokio::test]
async fn an_unreachable_target_is_not_mistaken_for_damage() {
    let (maker, key, ..) = two_files().await;
    let reader = maker.reader(&key).await.unwrap();
    maker.store.cut_off_after(3);
    let error = collect(reader.entries(Selection::all())).await;
    let error = match error {
        Err(error) => error,
        Ok(_) => read_big(&maker, &key).await.unwrap_err(),
    };
    assert!(matches!(error, Error::Store(StoreError::Unreachable { .. })), "{error}");
}

#[tokio::test]
async fn a_record_sealed_by_who_knows_only_the_recipients_is_refused() {
    let (mut maker, key, ..) = two_files().await;
    maker.forge_secret().await.unwrap();
    let root = maker.tree(&mut [dir("forged")]).await.unwrap();
    let record = maker.record(root, "2026-11-21T01:00:00Z").await.unwrap();
    let forged = maker.store_record(&record).await.unwrap();
    // Whichever is read first: a forgery must not be what later records are opened by.
    for order in [[&forged, &key], [&key, &forged]] {
        let (vault, opener) = maker.open().await.unwrap();
        for read in order {
            match vault.run(read, &opener).await {
                Ok(run) => assert_eq!(run.key, key),
                Err(error) => {
                    assert_eq!(read, &forged);
                    assert!(matches!(error, Error::OtherVault { .. }), "{error}");
                }
            }
        }
    }
}
