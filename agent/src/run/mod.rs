//! One run of one job: from the lock that keeps runs of a job apart to the signed record.
//!
//! ```text
//! chain: number, previous ─▶ source ─▶ vault writer ─▶ locks reach the run's expiry ─▶ record, last of all
//! ```
//! Whatever happens, a record is left: where the target can't be reached, in the spool, for the next run to deliver.

mod chain;
mod leave;
mod progress;
mod spool;
mod unopened;

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use keephold_vault::Error as VaultError;
use keephold_vault::record::{
    Level, Record, RecordKey, Retention, Snapshot, SourceReport, Status, Totals,
};
use keephold_vault::store::ObjectKey;
use keephold_vault::tree::TreeRoot;
use keephold_vault::write::{AtCopy, Copy, Known, Places, RunContext, Settings, Writer, Written};
use rustix::fs::{FlockOperation, flock};

use crate::config::{Job, Source};
use crate::copies;
use crate::notes::Notes;
use crate::open::OpenVault;
use crate::prices::Prices;
use crate::source::directory::Lists;
use crate::source::dumps::PieceLists;
use crate::source::{Counters, Stop, directory, postgres};
use crate::unchanged;

pub(crate) use chain::note_cache;
pub(crate) use progress::Watch;
pub(crate) use unopened::keep_unopened;

/// How often a run begins anew when something that it meant to use again turns out to be gone from the vault.
const ATTEMPTS: u32 = 2;

/// Who runs a job, and for how long evidence is kept.
pub(crate) struct Runner<'a> {
    pub(crate) vault: &'a OpenVault,
    pub(crate) copies: &'a [Arc<Copy>],
    /// What each of them costs.
    pub(crate) copy_prices: &'a [Prices],
    pub(crate) host: String,
    pub(crate) evidence: SignedDuration,
    pub(crate) prices: Prices,
    pub(crate) settings: Settings,
    pub(crate) stop: Stop,
    pub(crate) watch: Watch,
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) record: Record,
    /// Where the record lies; `None` if it could only be spooled.
    pub(crate) key: Option<RecordKey>,
}

/// What a run stored.
struct Stored {
    root: TreeRoot,
    written: Written,
    source: SourceReport,
}

/// What a run leaves in the cache for the next one of its job, once it has succeeded.
enum Leaves {
    Files(unchanged::Writer),
    Dumps(PieceLists),
}

impl Leaves {
    /// Keeps it. What fails costs the next run time or room, nothing else.
    fn keep(self, places: Option<Places>, known: &Known) {
        match (self, places) {
            (Self::Files(list), Some(places)) => {
                if let Err(error) = list.finish(places, known) {
                    tracing::warn!("the list of unchanged files could not be kept: {error:#}");
                }
            }
            // Why they aren't known was told.
            (Self::Files(_), None) => {}
            (Self::Dumps(lists), _) => lists.keep(),
        }
    }
}

impl Runner<'_> {
    /// Runs a job, and leaves a record of it.
    ///
    /// # Errors
    /// Only if another run of the job is going on, or the host itself fails before the run begins. Anything later
    /// is told in the record.
    pub(crate) async fn run(&self, job: &Job) -> Result<Outcome> {
        let _lock = self.lock(&job.name)?;
        let started = Timestamp::now();
        let mut notes = Notes::default();
        let counters = Arc::new(Counters::default());
        let mut totals = Totals::default();
        let calls_before = self.vault.store.calls();
        self.copies.iter().for_each(|copy| copy.begin());
        let (retention, keep, decided) = self.retention(job, started).await?;
        let result = match decided {
            Ok(()) => self.store(job, &retention, keep, &mut notes, &counters, &mut totals).await,
            Err(error) => Err(error),
        };
        let (stored, error) = match result {
            // A source that is missing or a dump that is cut short fails the run, however well the rest was stored.
            Ok(stored) if notes.status() != Status::Failed => (Some(stored), None),
            Ok(_) => (None, None),
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &error {
            let text = keephold_cli::exit::render(error);
            notes.add(Level::Error, "run_failed", text.trim_start_matches("error: ").trim_end());
        }
        let at_copies: &[AtCopy] = stored.as_ref().map_or(&[], |stored| &stored.written.copies);
        let copies = copies::report(self.copies, at_copies, self.copy_prices, &mut notes);
        fill_totals(&mut totals, &counters, &notes, stored.as_ref());
        totals.calls =
            self.vault.store.calls().zip(calls_before).map(|(now, before)| now.since(&before));
        totals.cost = self.prices.cost(totals.calls.as_ref(), totals.bytes_stored);
        let status = if stored.is_some() { notes.status() } else { Status::Failed };
        let (source, snapshot) = match stored {
            Some(Stored { root, written, source }) => {
                let Written { segments, locked_until, .. } = written;
                (Some(source), Some(Snapshot { root, segments, locked_until }))
            }
            None => (None, None),
        };
        let record = Record {
            clock_offset_ms: self.vault.store.clock_offset_ms(),
            status,
            messages: notes.list,
            source,
            totals,
            snapshot,
            copies,
            ..leave::failed(&self.vault.keys, &self.host, job, started, retention)
        };
        self.leave(record).await
    }

    /// One run of a job at a time, on this host.
    fn lock(&self, job: &str) -> Result<File> {
        let folder = self.vault.cache.join("jobs");
        keephold_cli::keys::private_folder(&folder)?;
        let path = folder.join(format!("{job}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("{} can't be opened", path.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow!("another run of job '{job}' is still going on; this one was not started")
        })?;
        Ok(file)
    }

    /// For how long a run that starts now is kept; also how long that is from its start, and why its class could not
    /// be decided, if so: such a run is failed, and recorded with the shortest class.
    async fn retention(
        &self,
        job: &Job,
        started: Timestamp,
    ) -> Result<(Retention, SignedDuration, Result<()>)> {
        let vault = self.vault;
        let floor =
            SignedDuration::from_hours(24 * i64::from(self.vault.config.retention_floor_days));
        let base = job.keep.base();
        if base.1 < floor {
            return Err(keephold_cli::exit::usage(format!(
                "job '{}' keeps its runs for less than the {} days that this vault asks for at least",
                job.name, self.vault.config.retention_floor_days
            )));
        }
        let decided = async {
            if job.keep.earned().next().is_none() {
                return Ok(base);
            }
            let (store, secret) = (&*vault.store, &vault.keys.secret);
            chain::Chain::list(store, &self.host, &job.name, vault.config.id, secret)
                .await?
                .class(&job.keep, started)
                .await
        };
        let decided = decided.await.context("looking for the retention classes of earlier runs");
        let (class, keep) = *decided.as_ref().unwrap_or(&base);
        let expires = started.checked_add(keep)?;
        let evidence_until = started.checked_add(self.evidence)?.max(expires);
        let mode = self.vault.protection.asked;
        let retention = Retention { class: class.into(), expires, evidence_until, mode };
        Ok((retention, keep, decided.map(drop)))
    }

    /// Stores a snapshot; begins anew if what it meant to use again is gone.
    async fn store(
        &self,
        job: &Job,
        retention: &Retention,
        keep: SignedDuration,
        notes: &mut Notes,
        counters: &Arc<Counters>,
        totals: &mut Totals,
    ) -> Result<Stored> {
        let mut attempt = 1;
        loop {
            let result = self.attempt(job, retention, keep, notes, counters, totals).await;
            let gone = result.as_ref().is_err_and(|e: &anyhow::Error| {
                e.chain().any(|c| matches!(c.downcast_ref(), Some(VaultError::Gone { .. })))
            });
            if !gone || attempt == ATTEMPTS {
                return result;
            }
            attempt += 1;
            notes.add(
                Level::Warning,
                "stored_again",
                "objects that the vault should hold are gone from it; what they held is stored again",
            );
            counters.reset();
        }
    }

    async fn attempt(
        &self,
        job: &Job,
        retention: &Retention,
        keep: SignedDuration,
        notes: &mut Notes,
        counters: &Arc<Counters>,
        totals: &mut Totals,
    ) -> Result<Stored> {
        let vault = self.vault;
        let until = lock_until(retention, keep)?;
        let mut known = Known::open(
            &vault.cache,
            vault.store.clone(),
            vault.config.id,
            vault.keys.secret.clone(),
            vault.keys.recipients.digest(),
            vault.locks(),
        )
        .await
        .context("reading the vault's index")?;
        known.join(self.copies).await;
        known.plan_draining(&job.name, retention.expires, until)?;
        let context = RunContext::new(
            vault.store.clone(),
            vault.config.id,
            vault.keys.secret.clone(),
            &vault.keys.recipients,
            until,
            vault.cache.clone(),
        )?;
        let writer = Writer::start(context, &self.settings, vault.config.chunker, known).await?;
        let progress = writer.progress();
        let watching = self.watch.start(&job.name, counters.clone(), progress.clone());
        let done = self.source(job, writer, notes, counters).await;
        drop(watching);
        let load = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
        let count = |totals: &mut Totals| {
            totals.bytes_new = load(&progress.bytes_new);
            totals.bytes_stored = load(&progress.bytes_stored);
            totals.blobs_new = load(&progress.blobs_new);
            totals.packs_new = load(&progress.packs_new);
            totals.bytes_again = load(&progress.bytes_again);
            totals.bytes_matched = load(&progress.bytes_matched);
        };
        count(totals);
        let (root, writer, leaves, source) = done?;
        let finished = writer.finish(retention.expires, until).await;
        count(totals);
        let (mut written, known) = finished.context("storing the snapshot")?;
        totals.packs_reused = written.packs_reused;
        totals.packs_drained = written.packs_drained;
        totals.locks_extended = written.locks_extended;
        if let Err(error) = known.note_usage(&job.name, retention.expires) {
            // The next run drains nothing then.
            tracing::warn!("how well packs are used could not be noted: {error}");
        }
        if vault.locks() {
            let key = ObjectKey::vault_config();
            let until = retention.evidence_until.max(until);
            vault
                .store
                .extend(&key, vault.config_version.as_ref(), until)
                .await
                .context("locking vault.json")?;
        }
        for copy in self.copies {
            copy.lock_config(retention.evidence_until.max(until)).await;
        }
        let places = written.places.take();
        tokio::task::spawn_blocking(move || leaves.keep(places, &known)).await?;
        Ok(Stored { root, written, source })
    }

    /// Runs the source on a thread of its own, which feeds the writer.
    async fn source(
        &self,
        job: &Job,
        mut writer: Writer,
        notes: &mut Notes,
        counters: &Arc<Counters>,
    ) -> Result<(TreeRoot, Writer, Leaves, SourceReport)> {
        let (counters, stop) = (counters.clone(), self.stop.clone());
        let mut own = std::mem::take(notes);
        let (result, writer, own) = match &job.source {
            Source::Directory(source) => {
                let path = self.cached(&job.name, "seen");
                let source = source.clone();
                tokio::task::spawn_blocking(move || {
                    let result = (|| {
                        let before = unchanged::Reader::open(&path);
                        let after = unchanged::Writer::create(&path)?;
                        writer.note_places(&after.places_path())?;
                        let lists = Lists { before, after };
                        let (root, list) = directory::backup(
                            &source,
                            &mut writer,
                            lists,
                            &mut own,
                            &counters,
                            &stop,
                        )?;
                        Ok::<_, anyhow::Error>((root, Leaves::Files(list), source.report()))
                    })();
                    (result, writer, own)
                })
                .await?
            }
            Source::Postgres(source) => match source.plan(&mut own).await {
                Err(error) => (Err(error), writer, own),
                Ok(mut plan) => {
                    let source = source.clone();
                    let secret = self.vault.keys.secret.clone();
                    let mut lists = PieceLists::of(self.cached(&job.name, "dumps"), secret);
                    tokio::task::spawn_blocking(move || {
                        let result = postgres::backup(
                            &source,
                            &mut plan,
                            &mut lists,
                            &mut writer,
                            &mut own,
                            &counters,
                            &stop,
                        );
                        let result = result.map(|root| {
                            (
                                root,
                                Leaves::Dumps(lists),
                                SourceReport::Postgres(Box::new(std::mem::take(&mut plan.report))),
                            )
                        });
                        (result, writer, own)
                    })
                    .await?
                }
            },
        };
        *notes = own;
        match result {
            Ok((root, leaves, report)) if notes.status() != Status::Failed => {
                Ok((root, writer, leaves, report))
            }
            Ok(_) => {
                writer.abandon().await?;
                Err(anyhow!("the source could not be backed up; see the messages before this one"))
            }
            Err(error) => match writer.abandon().await {
                // What stopped the pipeline is the cause of what the source met.
                Err(first) if !matches!(first, VaultError::Stopped(_)) => Err(first.into()),
                _ => Err(error),
            },
        }
    }

    /// Where the cache keeps something of a job.
    fn cached(&self, job: &str, what: &str) -> PathBuf {
        // Hosts' names don't come into it: the cache is this host's.
        self.vault.cache.join("jobs").join(format!("{job}.{what}"))
    }
}

/// Until when new objects are locked, and old ones whose lock must be moved: beyond the run's expiry.
fn lock_until(retention: &Retention, keep: SignedDuration) -> Result<Timestamp> {
    Ok(retention.expires.checked_add(crate::retention::needs::slack(keep))?)
}

fn fill_totals(totals: &mut Totals, counters: &Counters, notes: &Notes, stored: Option<&Stored>) {
    let load = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
    totals.entries = stored.map_or(load(&counters.entries), |s| s.root.entries);
    totals.files = load(&counters.files);
    totals.bytes = load(&counters.bytes);
    totals.files_unchanged = load(&counters.unchanged);
    totals.bytes_read = load(&counters.bytes_read);
    totals.excluded = load(&counters.excluded);
    totals.messages = notes.total;
}
