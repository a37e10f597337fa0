//! The target: how long it takes to answer, and how much it takes and gives with so many requests at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use keephold_cli::keys::HostKeys;
use keephold_cli::target::Target;
use keephold_vault::config::VaultConfig;
use keephold_vault::limits::CONFIG_LEN_MAX;
use keephold_vault::store::{
    LockPolicy, ObjectKey, Prefix, Store, StoreError, TargetUrl, ensure_lockable, open_prune,
};
use keephold_vault::write::RunContext;
use keephold_vault::write::measure::SamplePack;

use super::figures::Figures;
use crate::performance::Performance;

/// How many small reads tell the latency.
const SMALL_READS: usize = 10;
/// How long one number of requests at once is tried: nothing new begins after that.
const ROUND_TIME: Duration = Duration::from_millis(1500);
/// The length of a pack that is written; half of a usual one.
const PACK_LEN: usize = 8 << 20;
/// How much is read with one request, and in one round at most.
const READ_LEN: u64 = 4 << 20;
const ROUND_READ_MAX: u64 = 256 << 20;
/// Less than this in the index is too little to measure with.
const READ_MIN: u64 = 1 << 20;
/// For how long what is written is locked: some servers refuse a lock that ends at once.
pub(super) const LOCK: SignedDuration = SignedDuration::from_mins(15);

/// One stretch of an object that is read.
type Stretch = (ObjectKey, std::ops::Range<u64>);

/// Who writes.
pub(super) struct Writing<'a> {
    pub(super) keys: &'a HostKeys,
    pub(super) config: &'a VaultConfig,
}

/// How many requests at once are tried.
fn rounds(setting: usize) -> Vec<usize> {
    let mut rounds = vec![1, 3, 8, setting.min(8)];
    rounds.sort_unstable();
    rounds.dedup();
    rounds
}

/// Measures a vault's target; writes only if it is told who writes.
pub(super) async fn measure(
    target: &Target,
    store: &Arc<dyn Store>,
    settings: Performance,
    writing: Option<Writing<'_>>,
    figures: &mut Figures,
) -> Result<()> {
    latency(&**store, figures).await?;
    let mut written = Vec::new();
    if let Some(writing) = writing
        && let Err(error) = write(target, writing, settings, figures, &mut written).await
    {
        figures.missing.push(format!("writing to the target: {error:#}"));
    }
    let read = read_rounds(&**store, settings, figures, &written).await;
    // Whatever came of the rest.
    clean_up(target, &written, figures).await?;
    read
}

async fn read_rounds(
    store: &dyn Store,
    settings: Performance,
    figures: &mut Figures,
    written: &[(ObjectKey, u64)],
) -> Result<()> {
    let stretches = match readable(store, written).await {
        Ok(stretches) => stretches,
        Err(error) => {
            figures.missing.push(format!("reading from the target: {error:#}"));
            return Ok(());
        }
    };
    for n in rounds(settings.downloads) {
        let rate = read(store, &stretches, n).await?;
        figures.target.reads.push((n, rate));
    }
    Ok(())
}

async fn latency(store: &dyn Store, figures: &mut Figures) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..SMALL_READS {
        let began = Instant::now();
        store
            .get(&ObjectKey::vault_config(), None, CONFIG_LEN_MAX)
            .await
            .context("reading vault.json")?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    // The first also connects.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    figures.target.latency_ms = times.get(times.len() / 2).copied().zip(times.last().copied());
    Ok(())
}

/// Writes packs of random bytes, 1, 3 … at once.
async fn write(
    target: &Target,
    Writing { keys, config }: Writing<'_>,
    settings: Performance,
    figures: &mut Figures,
    written: &mut Vec<(ObjectKey, u64)>,
) -> Result<()> {
    let mut options = target.options.clone();
    if matches!(target.url, TargetUrl::Local { .. }) {
        // A folder is cleaned up again, so nothing in it gets a lock.
        options.lock = LockPolicy::None;
    }
    let store = Target { url: target.url.clone(), options }.open()?;
    if target.options.lock != LockPolicy::None {
        ensure_lockable(&*store, target.options.lock).await?;
    }
    let until = Timestamp::now().checked_add(LOCK)?;
    let context = RunContext::new(
        store,
        config.id,
        keys.secret.clone(),
        &keys.recipients,
        until,
        std::path::PathBuf::new(),
    )?;
    let mut failed = None;
    for n in rounds(settings.uploads) {
        // Made beforehand: it is the target that is measured.
        let making = context.clone();
        let packs = tokio::task::spawn_blocking(move || {
            (0..n + n.min(4))
                .map(|_| SamplePack::make(&making, PACK_LEN))
                .collect::<Result<Vec<_>, _>>()
        })
        .await??;
        let began = Instant::now();
        let context = &context;
        let send = |pack: SamplePack| async move {
            if began.elapsed() > ROUND_TIME {
                return Ok(None);
            }
            let (key, size) = (pack.key().clone(), pack.size());
            let stored = pack.store(context).await?;
            Ok::<_, anyhow::Error>(Some((key, size, stored.lock)))
        };
        let mut sent = stream::iter(packs).map(send).buffer_unordered(n);
        let mut bytes = 0;
        // To the end also after a failure: what is on its way arrives, and must be told.
        while let Some(done) = sent.next().await {
            match done {
                Ok(Some((key, size, lock))) => {
                    bytes += size;
                    let told = figures.target.written.get_or_insert_default();
                    told.packs += 1;
                    told.bytes += size;
                    told.locked_until = told.locked_until.max(lock.map(|lock| lock.until));
                    written.push((key, size));
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        figures.target.writes.push((n, per_second(bytes, began)));
    }
    Ok(())
}

/// What may be read: the packs that were just written, or else what the index is made of.
async fn readable(store: &dyn Store, written: &[(ObjectKey, u64)]) -> Result<Vec<Stretch>> {
    let mut objects = written.to_vec();
    if let Some((key, _)) = objects.first() {
        match store.get_range(key, None, 0..1024).await {
            // As it should be for a host that backs up.
            Err(StoreError::Denied { .. }) => objects.clear(),
            other => drop(other?),
        }
    }
    if objects.is_empty() {
        let listed: Vec<_> = store.list(&Prefix::index()).take(1000).collect().await;
        for listed in listed {
            let listed = listed?;
            objects.push((listed.key, listed.size));
        }
        let total: u64 = objects.iter().map(|(_, size)| size).sum();
        if total < READ_MIN {
            return Err(anyhow!(
                "packs may not be read with this credential, and the index is too small to measure with; with \
                 --write, a credential that reads packs reads what was written"
            ));
        }
    }
    objects.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let stretches = objects.into_iter().flat_map(|(key, size)| {
        let starts = (0..size).step_by(usize::try_from(READ_LEN).unwrap_or(usize::MAX));
        starts.map(move |start| (key.clone(), start..(start + READ_LEN).min(size)))
    });
    Ok(stretches.take(256).collect())
}

/// Bytes a second with `n` requests at once.
async fn read(store: &dyn Store, stretches: &[Stretch], n: usize) -> Result<f64> {
    let began = Instant::now();
    let most = usize::try_from(ROUND_READ_MAX / READ_LEN).unwrap_or(usize::MAX);
    let fetch = |(key, range): &Stretch| {
        let (key, range) = (key.clone(), range.clone());
        async move {
            if began.elapsed() > ROUND_TIME {
                return Ok(0);
            }
            store.get_range(&key, None, range).await.map(|bytes| bytes.len() as u64)
        }
    };
    let mut reads =
        stream::iter(stretches.iter().cycle().take(most)).map(fetch).buffer_unordered(n);
    let mut bytes = 0;
    while let Some(read) = reads.next().await {
        bytes += read.context("reading back")?;
    }
    Ok(per_second(bytes, began))
}

#[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
fn per_second(bytes: u64, began: Instant) -> f64 {
    bytes as f64 / began.elapsed().as_secs_f64().max(1e-9)
}

/// Takes what was written out of a folder again. In a bucket it stays: whoever backs up can't delete.
async fn clean_up(
    target: &Target,
    written: &[(ObjectKey, u64)],
    figures: &mut Figures,
) -> Result<()> {
    if written.is_empty() || !matches!(target.url, TargetUrl::Local { .. }) {
        return Ok(());
    }
    let store = open_prune(&target.url, &target.options, &|name| std::env::var(name).ok())?;
    for (key, _) in written {
        store.delete(key, None).await.context("deleting what was written")?;
    }
    if let Some(written) = &mut figures.target.written {
        written.deleted = true;
    }
    Ok(())
}
