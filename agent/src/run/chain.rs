//! The chain of a job's records: which came last, and which class the next run gets.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use keephold_vault::ids::{Fingerprint, RecordHash, VaultId};
use keephold_vault::keys::VaultSecret;
use keephold_vault::limits::RECORD_LEN_MAX;
use keephold_vault::read::versions_or_newest;
use keephold_vault::record::{RecordKey, SealedRecord};
use keephold_vault::store::{Prefix, Store, StoreError, VersionId};

use crate::retention::{Class, Lengths};

/// How far a clock may seem to have gone back between two runs without anyone being told.
pub(crate) const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// The folder in the cache of the vault with this fingerprint, as the last run that could open it left it.
pub(crate) fn caches_of(cache: &Path, fingerprint: &Fingerprint) -> Result<PathBuf> {
    let note = cache.join(format!("{fingerprint}.vault"));
    let id = std::fs::read_to_string(&note)
        .with_context(|| format!("no run has reached this vault yet ({})", note.display()))?;
    Ok(cache.join(id.trim()))
}

/// Notes which folder of the cache belongs to a vault.
pub(crate) fn note_cache(cache: &Path, fingerprint: &Fingerprint, id: &VaultId) -> Result<()> {
    let note = cache.join(format!("{fingerprint}.vault"));
    std::fs::write(&note, format!("{id}\n"))
        .with_context(|| format!("{} can't be written", note.display()))
}

/// The end of a chain.
#[derive(Debug, Default)]
pub(crate) struct Last {
    pub(crate) seq: u64,
    pub(crate) hash: Option<RecordHash>,
    pub(crate) finished: Option<Timestamp>,
}

/// The chain of one job's records, as its keys tell; records are read only where they are needed.
pub(crate) struct Chain<'a> {
    store: &'a dyn Store,
    vault: VaultId,
    secret: &'a VaultSecret,
    /// Newest first, those too that delete markers or newer versions hide.
    keys: Vec<(RecordKey, Option<VersionId>)>,
}

impl<'a> Chain<'a> {
    /// Lists the records of a job.
    pub(crate) async fn list(
        store: &'a dyn Store,
        host: &str,
        job: &str,
        vault: VaultId,
        secret: &'a VaultSecret,
    ) -> Result<Self> {
        let mut keys: Vec<(RecordKey, Option<VersionId>)> = Vec::new();
        let Some(prefix) = Prefix::folder(&["runs", host, job]) else {
            return Ok(Self { store, vault, secret, keys });
        };
        let mut versions = versions_or_newest(store, &prefix);
        while let Some(found) = versions.try_next().await? {
            if let (false, Ok(key)) = (found.delete_marker, found.key.as_str().parse()) {
                keys.push((key, found.version));
            }
        }
        keys.sort_by(|(a, _), (b, _)| (b.seq, b.started, &b.id).cmp(&(a.seq, a.started, &a.id)));
        Ok(Self { store, vault, secret, keys })
    }

    /// Reads a record; `None` if it is gone, or is none.
    async fn read(
        &self,
        key: &RecordKey,
        version: Option<&VersionId>,
    ) -> Result<Option<SealedRecord>> {
        let bytes = match self.store.get(&key.object()?, version, RECORD_LEN_MAX).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match SealedRecord::read(key.clone(), bytes.to_vec()) {
            Ok(sealed) => Ok(Some(sealed)),
            Err(error) => {
                tracing::warn!("passed over: {error}");
                Ok(None)
            }
        }
    }

    /// The last record.
    pub(crate) async fn last(&self) -> Result<Last> {
        for (key, version) in &self.keys {
            if let Some(sealed) = self.read(key, version.as_ref()).await? {
                let finished =
                    sealed.open(self.vault, self.secret).ok().map(|record| record.finished);
                return Ok(Last { seq: key.seq, hash: Some(sealed.hash), finished });
            }
        }
        Ok(Last::default())
    }

    /// The class of a run that starts now, and its length: the longest one of whose period no snapshot has it, or a
    /// longer one, yet.
    pub(crate) async fn class(
        &self,
        lengths: &Lengths,
        started: Timestamp,
    ) -> Result<(&'static str, SignedDuration)> {
        // A record may be looked at for several classes; it is read once.
        let mut read: HashMap<usize, Option<Class>> = HashMap::new();
        for (class, length) in lengths.earned() {
            if !self.taken(class, started, &mut read).await? {
                return Ok((class.word(), length));
            }
        }
        Ok(lengths.base())
    }

    /// Whether a snapshot of this period has the class, or a longer one.
    ///
    /// Usually it is the period's first run that has it, or, since the class was configured only lately, one of the
    /// last: so the search goes from both ends, and reads a record or two where it would else read those of a year.
    async fn taken(
        &self,
        class: Class,
        started: Timestamp,
        read: &mut HashMap<usize, Option<Class>>,
    ) -> Result<bool> {
        let mut rest: VecDeque<_> = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, (key, _))| class.same_period(key.started, started))
            .collect();
        let mut oldest = true;
        while let Some((at, (key, version))) =
            if oldest { rest.pop_back() } else { rest.pop_front() }
        {
            oldest = !oldest;
            let found = match read.get(&at) {
                Some(found) => *found,
                None => {
                    let sealed = self.read(key, version.as_ref()).await?;
                    let record = sealed.and_then(|s| s.open(self.vault, self.secret).ok());
                    let stored = record.filter(|record| record.snapshot.is_some());
                    let found = stored.and_then(|record| Class::of(&record.retention.class));
                    read.insert(at, found);
                    found
                }
            };
            if found.is_some_and(|found| found >= class) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use keephold_vault::record::{Record, Status};
    use keephold_vault::store::memory::Request;
    use keephold_vault::testing::{VaultMaker, entry};
    use keephold_vault::tree::EntryKind;

    use super::*;
    use crate::retention::Settings;

    /// A job with all four classes, whose records a test writes as a run would.
    struct Job {
        maker: VaultMaker,
        lengths: Lengths,
        pattern: Record,
    }

    impl Job {
        async fn new() -> Self {
            let mut maker = VaultMaker::new().await.unwrap();
            let root =
                maker.tree(&mut [entry("etc", EntryKind::Directory).unwrap()]).await.unwrap();
            let pattern = maker.record(root, "2020-01-01T00:00:00Z").await.unwrap();
            let classes = [Some("14d"), Some("8w"), Some("13mo"), Some("7y")];
            let lengths = Settings { keep: None, classes }.read("test").unwrap();
            Self { maker, lengths, pattern }
        }

        /// The class that a run at this time is given.
        async fn class(&self, at: &str) -> &'static str {
            let (store, secret) = (&*self.maker.store, &self.maker.secret);
            let (host, job) = (&self.pattern.host, &self.pattern.job);
            let chain = Chain::list(store, host, job, self.maker.config.id, secret).await.unwrap();
            chain.class(&self.lengths, at.parse().unwrap()).await.unwrap().0
        }

        async fn leave(&mut self, at: &str, class: &str, status: Status) {
            let mut record = self.pattern.clone();
            record.started = at.parse().unwrap();
            record.finished = record.started;
            record.retention.class = class.into();
            record.status = status;
            record.snapshot = record.snapshot.filter(|_| status != Status::Failed);
            self.pattern.seq += 1;
            record.seq = self.pattern.seq;
            self.maker.store_record(&record).await.unwrap();
        }

        /// A run that goes well; gives its class.
        async fn runs(&mut self, at: &str) -> &'static str {
            let class = self.class(at).await;
            self.leave(at, class, Status::Success).await;
            class
        }
    }

    #[tokio::test]
    async fn the_first_run_of_a_period_gets_its_class() {
        let mut job = Job::new().await;
        for (at, class) in [
            // A Wednesday in the middle of a year: the first of all is the first of its year.
            ("2026-11-25T02:00:00Z", "yearly"),
            ("2026-11-25T14:00:00Z", "daily"),
            ("2026-11-29T02:00:00Z", "daily"),
            ("2026-11-30T02:00:00Z", "weekly"),
            ("2026-12-01T02:00:00Z", "monthly"),
            ("2026-12-02T02:00:00Z", "daily"),
            ("2026-12-28T02:00:00Z", "weekly"),
            ("2026-12-31T23:59:59Z", "daily"),
            // In the week that began in December, but the first of the year.
            ("2027-01-01T00:00:00Z", "yearly"),
            ("2027-01-02T02:00:00Z", "daily"),
            ("2027-01-04T02:00:00Z", "weekly"),
            ("2027-02-01T02:00:00Z", "monthly"),
            ("2027-02-02T02:00:00Z", "daily"),
        ] {
            assert_eq!(job.runs(at).await, class, "{at}");
        }
    }

    #[tokio::test]
    async fn a_failed_run_uses_no_class_up_and_one_with_warnings_does() {
        let mut job = Job::new().await;
        job.leave("2027-01-01T02:00:00Z", "yearly", Status::Failed).await;
        assert_eq!(job.class("2027-01-02T02:00:00Z").await, "yearly");
        job.leave("2027-01-02T02:00:00Z", "yearly", Status::Warning).await;
        assert_eq!(job.runs("2027-01-03T02:00:00Z").await, "daily");
        job.leave("2027-01-04T02:00:00Z", "weekly", Status::Failed).await;
        assert_eq!(job.runs("2027-01-05T02:00:00Z").await, "weekly");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_uses_no_class_up_and_gets_none_twice() {
        let mut job = Job::new().await;
        assert_eq!(job.runs("2026-12-15T02:00:00Z").await, "yearly");
        assert_eq!(job.runs("2027-01-01T02:00:00Z").await, "yearly");
        // Back in December, whose classes are taken.
        assert_eq!(job.runs("2026-12-16T02:00:00Z").await, "daily");
        // Right again.
        assert_eq!(job.runs("2027-01-02T02:00:00Z").await, "daily");
        assert_eq!(job.runs("2027-02-01T02:00:00Z").await, "monthly");
        assert_eq!(job.runs("2027-01-31T02:00:00Z").await, "weekly");
        assert_eq!(job.runs("2027-02-02T02:00:00Z").await, "daily");
    }

    #[tokio::test]
    async fn classes_that_are_new_are_due_at_once_and_hidden_records_count() {
        let mut job = Job::new().await;
        job.leave("2026-11-02T02:00:00Z", "keep", Status::Success).await;
        assert_eq!(job.runs("2026-11-03T02:00:00Z").await, "yearly");
        for key in job.maker.store.keys() {
            job.maker.store.hide(&key);
        }
        assert_eq!(job.runs("2026-11-03T03:00:00Z").await, "daily");
    }

    #[tokio::test]
    async fn few_records_of_a_long_chain_are_read() {
        let mut job = Job::new().await;
        let first: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        for day in 0..200 {
            job.runs(&(first + SignedDuration::from_hours(24 * day)).to_string()).await;
        }
        job.maker.store.take_log();
        assert_eq!(job.class("2026-07-19T12:00:00Z").await, "daily");
        let log = job.maker.store.take_log();
        let reads = log.iter().filter(|r| matches!(r, Request::Get(..))).count();
        assert!(reads <= 3, "{reads} records were read");
    }
}
