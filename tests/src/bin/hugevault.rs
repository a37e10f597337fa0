//! For benchmarks: makes a vault huge by its index alone. To the newest run of a job it adds a run that also needs packs
//! which are in the index only, with random names; `s3line … PACKS` lists packs of these names.
//!
//! usage: hugevault KEYS URL ENDPOINT HOST JOB PACKS BLOBS

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use keephold_cli::keys::HostKeys;
use keephold_tests::sink::{PACK_LEN, pack_id};
use keephold_vault::config::VaultConfig;
use keephold_vault::envelope::{self, RunKeys};
use keephold_vault::ids::{BlobId, PackId};
use keephold_vault::index::{PackRow, SegmentBuilder};
use keephold_vault::limits::{CONFIG_LEN_MAX, RECORD_LEN_MAX};
use keephold_vault::pack::{BlobKind, FrameInfo};
use keephold_vault::record::{PackSet, RecordKey, SealedRecord, SegmentRef, seal};
use keephold_vault::store::{
    LockPolicy, ObjectKey, Prefix, TargetOptions, TargetUrl, VersionId, open_store,
};

/// As many packs as the agent describes together: 128 at first, an eighth of all later, 2,048 where each holds 128 blobs.
fn packs_together(so_far: u64) -> u64 {
    (so_far / 8).clamp(128, 2048)
}

/// Frames of a full pack.
const FRAMES: u32 = 8;

fn frames(pack: u64, blobs: u32) -> Vec<FrameInfo> {
    let mut random =
        blake3::Hasher::new().update(&pack.to_le_bytes()).update(b"blobs").finalize_xof();
    let stored = PACK_LEN / (FRAMES + 1);
    let blobs = blobs.div_ceil(FRAMES);
    let blob = |_| {
        let mut id = [0; BlobId::LEN];
        random.fill(&mut id);
        (BlobId::from_bytes(id), stored / blobs)
    };
    let ids: Vec<_> = (0..FRAMES * blobs).map(blob).collect();
    let frame = |(n, blobs): (u32, &[(BlobId, u32)])| FrameInfo {
        kind: BlobKind::Data,
        offset: 4096 + n * stored,
        stored,
        blobs: blobs.to_vec(),
    };
    (0..).zip(ids.chunks(blobs as usize)).map(frame).collect()
}

async fn make(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [keys, url, endpoint, host, job, packs, blobs] = arguments else {
        return Err("usage: hugevault KEYS URL ENDPOINT HOST JOB PACKS BLOBS".into());
    };
    let (packs, blobs): (u64, u32) = (packs.parse()?, blobs.parse()?);
    let keys = HostKeys::load(Path::new(keys))?;
    let options = TargetOptions {
        endpoint: Some(endpoint.clone()),
        allow_http: true,
        lock: LockPolicy::Compliance,
        ..TargetOptions::default()
    };
    let store = open_store(&TargetUrl::parse(url)?, &options, &|name| std::env::var(name).ok())?;
    let config = store.get(&ObjectKey::vault_config(), None, CONFIG_LEN_MAX).await?;
    let config = VaultConfig::read(&config, Some(&keys.fingerprint))?;
    let folder = Prefix::folder(&["runs", host, job]).ok_or("no such job")?;
    let listed: Vec<_> = store.list(&folder).try_collect().await?;
    let newest = listed.last().ok_or("the job has no run")?;
    let key: RecordKey = newest.key.as_str().parse()?;
    let bytes = store.get(&newest.key, None, RECORD_LEN_MAX).await?;
    let sealed = SealedRecord::read(key, bytes.to_vec())?;
    let mut record = sealed.open(config.id, &keys.secret)?;
    let until = record.retention.expires;
    let run = RunKeys::for_record(config.id, keys.secret.clone())?;
    let envelope = envelope::seal(&run, &keys.recipients)?;
    let snapshot = record.snapshot.as_mut().ok_or("the newest run has failed")?;
    let mut at = 0;
    while at < packs {
        let count = packs_together(at).min(packs - at);
        let (mut segment, mut used) = (SegmentBuilder::default(), PackSet::default());
        for n in at..at + count {
            let row = PackRow {
                id: PackId::from_bytes(pack_id(n)),
                size: PACK_LEN,
                salt: [0; 16],
                envelope: 0,
                version: Some(VersionId("v1".into())),
                locked_until_s: Some(until.as_second() + 3600),
            };
            used.insert(u32::try_from(n - at)?);
            segment.add(row, &envelope, keys.recipients.digest(), &frames(n, blobs));
        }
        let built = segment.finish(config.id, &keys.secret, &envelope)?;
        let (id, salt, size) = (built.id, built.salt, built.bytes.len() as u64);
        let stored = store
            .put(&ObjectKey::segment(&id), built.bytes, until + Duration::from_secs(7200))
            .await?;
        let named =
            SegmentRef { id, size, blobs: None, nodes: None, salt, version: stored.version, used };
        // Behind the newest ones, which have the tree.
        snapshot.segments.push(named);
        at += count;
    }
    record.seq += 1;
    record.previous = Some(sealed.hash);
    record.started += Duration::from_secs(1);
    record.finished = record.started;
    let sealed = seal(&record, config.id, &keys.secret, &envelope, &keys.signing)?;
    store.put(&sealed.key.object()?, sealed.bytes.into(), until).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    make(&arguments).await
}
