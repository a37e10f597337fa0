//! The escrow drill: does the identity that lies in the safe still open the newest snapshot of each job?
//!
//! For each job the newest record that is believed and left a snapshot is taken, its own envelope is opened with the
//! identity, and with what that gives the top of the tree and one piece of data are read, whose ids are recomputed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use keephold_vault::Error;
use keephold_vault::content::Extent;
use keephold_vault::read::{
    FoundRecord, Opener, ReadSettings, RecordScope, RunRecord, SnapshotReader, Vault,
};
use keephold_vault::record::{SealedRecord, Status};
use keephold_vault::tree::EntryKind;
use serde::{Deserialize, Serialize};

use crate::settings::{Believed, Settings};
use crate::stop::Stop;

/// What its evidence is called.
pub const KIND: &str = "escrow-drill";
/// The value of [`Drill::schema`].
pub const SCHEMA: &str = "keephold.escrow-drill/1";

/// What came of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// The form of this document.
    pub schema: String,
    /// When it began, by the verifier's clock.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Where the vault is.
    pub url: String,
    /// BLAKE3 of its `vault.json`.
    pub fingerprint: String,
    /// The recipient that the identity belongs to; `null` for a plugin's.
    pub recipient: Option<String>,
    /// Each job, by host and name.
    pub jobs: Vec<Tried>,
    /// Fingerprint of the key that signs this document.
    pub signer: String,
}

/// One job of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The host.
    pub host: String,
    /// The job.
    pub job: String,
    /// The newest run with a snapshot; `null` if there is none.
    pub seq: Option<u64>,
    /// BLAKE3 of its record.
    pub record_blake3: Option<String>,
    /// When the run ended.
    pub finished: Option<Timestamp>,
    /// The top of the tree that was read and recomputed.
    pub tree_root: Option<String>,
    /// A piece of data that was read and recomputed; `null` if the snapshot holds none.
    pub blob: Option<String>,
    /// What came of it.
    pub result: Opened,
    /// Why it wasn't opened.
    pub why: Option<String>,
}

/// What came of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    /// The identity opens its newest snapshot.
    Opened,
    /// It doesn't.
    NotOpened,
    /// It isn't known: something couldn't be read.
    CouldNotCheck,
}

impl Drill {
    /// How many jobs were opened.
    pub fn opened(&self) -> usize {
        self.jobs.iter().filter(|job| job.result == Opened::Opened).count()
    }

    /// 0: it opens every job; 3: not every one; 1: it isn't known.
    pub fn exit_code(&self) -> u8 {
        let any = |result| self.jobs.iter().any(|job| job.result == result);
        match (any(Opened::CouldNotCheck), any(Opened::NotOpened)) {
            (true, _) => 1,
            (_, true) => 3,
            _ => 0,
        }
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let who = self.recipient.as_deref().unwrap_or("the identity of a plugin");
        let mut text = format!("Escrow drill of {who}\n  with {}\n\n", self.url);
        for job in &self.jobs {
            let run = job.seq.map(|seq| format!(" #{seq}")).unwrap_or_default();
            let word = match job.result {
                Opened::Opened => "opened",
                Opened::NotOpened => "NOT OPENED",
                Opened::CouldNotCheck => "could not be checked",
            };
            text.push_str(&format!("  {}/{}{run}: {word}", job.host, job.job));
            if let Some(why) = &job.why {
                text.push_str(&format!(" ({why})"));
            }
            text.push('\n');
        }
        let (opened, all) = (self.opened(), self.jobs.len());
        let verdict = if opened == all {
            format!("This identity opens the newest snapshot of all {all} jobs.")
        } else {
            format!("This identity opens the newest snapshot of {opened} of {all} jobs ONLY.")
        };
        text.push_str(&format!("\n{verdict}\n"));
        text
    }
}

/// Does the drill.
///
/// # Errors
/// What keeps it from being done at all: a vault that can't be opened, or has no records; more than one identity.
pub async fn drill(settings: &Settings, stop: &Stop) -> Result<Drill> {
    if settings.identities.len() != 1 {
        bail!(
            "a drill tries one identity, and {} are given: do one drill for each",
            settings.identities.len()
        );
    }
    let started = Timestamp::now();
    let pinned = settings.fingerprint.as_ref();
    let vault = Vault::open(settings.target.open()?, pinned).await.context("opening the vault")?;
    let found = vault.find_records(&RecordScope::default()).await;
    let mut jobs: BTreeMap<(String, String), Vec<FoundRecord>> = BTreeMap::new();
    for record in found.context("the records can't be listed")? {
        let key = &record.key;
        if settings.wants(&key.host, &key.job) {
            jobs.entry((key.host.clone(), key.job.clone())).or_default().push(record);
        }
    }
    for expected in settings.jobs.iter().filter(|job| settings.wants(&job.host, &job.name)) {
        jobs.entry((expected.host.clone(), expected.name.clone())).or_default();
    }
    if jobs.is_empty() {
        bail!("there are no records of any job in {}", vault.store().url());
    }
    for records in jobs.values_mut() {
        records.sort_by_key(|record| std::cmp::Reverse((record.key.seq, record.key.started)));
    }
    let opener = Opener::with_identities(vault.id(), settings.identities.clone());
    let opener = seeded(&vault, opener, &jobs, settings).await;
    let mut tried = Vec::new();
    for ((host, job), records) in jobs {
        stop.check()?;
        let mut one = Tried {
            host,
            job,
            seq: None,
            record_blake3: None,
            finished: None,
            tree_root: None,
            blob: None,
            result: Opened::NotOpened,
            why: Some("it has no record with a snapshot that can be believed".to_owned()),
        };
        newest(&vault, &opener, settings, &records, &mut one).await;
        tried.push(one);
    }
    Ok(Drill {
        schema: SCHEMA.to_owned(),
        started,
        finished: Timestamp::now(),
        url: vault.store().url(),
        fingerprint: vault.fingerprint().to_string(),
        recipient: settings.identities.public().first().cloned(),
        jobs: tried,
        signer: settings.report_key.public().fingerprint(),
    })
}

/// An opener that knows the vault's secret, if the identity opens any job's newest record: then what other records say
/// is known too, also of those that it doesn't open.
async fn seeded(
    vault: &Vault,
    opener: Opener,
    jobs: &BTreeMap<(String, String), Vec<FoundRecord>>,
    settings: &Settings,
) -> Opener {
    for record in jobs.values().filter_map(|records| records.first()) {
        let Ok(sealed) = vault.read_record(&record.key).await else { continue };
        if !matches!(settings.signers.check(&sealed, record.modified), Believed::Yes(_)) {
            continue;
        }
        if let Ok(keys) = keys(&opener, &sealed).await
            && vault.config().check_secret(&keys.secret).is_ok()
        {
            return opener.and_secret(keys.secret);
        }
    }
    opener
}

async fn keys(
    opener: &Opener,
    sealed: &SealedRecord,
) -> Result<keephold_vault::envelope::RunKeys, Error> {
    let (opener, envelope, what) =
        (opener.clone(), sealed.envelope().to_vec(), format!("record {}", sealed.key));
    tokio::task::spawn_blocking(move || opener.keys(&envelope, &what)).await.map_err(|e| {
        Error::Local { what: "a thread of the drill".into(), source: std::io::Error::other(e) }
    })?
}

/// Tries the newest record of a job that is believed and left a snapshot.
async fn newest(
    vault: &Vault,
    opener: &Opener,
    settings: &Settings,
    records: &[FoundRecord],
    one: &mut Tried,
) {
    for record in records {
        let sealed = match vault.read_record(&record.key).await {
            Ok(sealed) => sealed,
            Err(error) => return fail(one, record, &error),
        };
        match settings.signers.check(&sealed, record.modified) {
            Believed::Yes(_) => {}
            // Whoever may not sign here can't make the drill look at something else.
            _ => continue,
        }
        let own = keys(opener, &sealed).await;
        // With the vault's secret a record opens without its own envelope.
        let run = match vault.open_record(sealed, opener).await {
            Ok(run) => run,
            Err(error) => return fail(one, record, &error),
        };
        if run.record.snapshot.is_none() || run.record.status == Status::Failed {
            continue;
        }
        one.record_blake3 = Some(run.hash.to_string());
        one.finished = Some(run.record.finished);
        if let Err(error) = own {
            return fail(one, record, &error);
        }
        match read(vault, opener, &run).await {
            Ok((root, blob)) => {
                one.seq = Some(record.key.seq);
                (one.tree_root, one.blob) = (Some(root), blob);
                (one.result, one.why) = (Opened::Opened, None);
            }
            Err(error) => fail(one, record, &error),
        }
        return;
    }
}

fn fail(one: &mut Tried, record: &FoundRecord, error: &Error) {
    one.seq = Some(record.key.seq);
    one.result = match error {
        Error::Store(_) | Error::Local { .. } | Error::BadKey { .. } => Opened::CouldNotCheck,
        _ => Opened::NotOpened,
    };
    one.why = Some(error.to_string());
}

/// Reads the top of the tree and one piece of data; answers their ids, which reading recomputes.
async fn read(
    vault: &Vault,
    opener: &Opener,
    run: &RunRecord,
) -> Result<(String, Option<String>), Error> {
    let reader = SnapshotReader::new(vault, opener, run, ReadSettings::default())?;
    let root = reader.root().clone();
    reader.nodes(&[(root.id, root.length)], root.depth).await?;
    let mut entries = reader.entries(keephold_vault::read::Selection::all());
    while let Some(entry) = entries.next().await {
        let EntryKind::File(content) = entry?.kind else { continue };
        let mut extents = reader.extents(&content);
        while let Some(extent) = extents.next().await {
            let extent = extent?;
            if let Extent::Blob { id, .. } | Extent::Part { id, .. } = extent {
                reader.fetch(&[extent]).await?.blob(&id)?;
                return Ok((root.id.to_string(), Some(id.to_string())));
            }
        }
    }
    Ok((root.id.to_string(), None))
}

/// A drill of so many jobs, with these results.
#[cfg(test)]
pub(crate) fn sample(results: &[Opened]) -> Drill {
    let at = Timestamp::UNIX_EPOCH;
    let job = |(number, result): (usize, &Opened)| Tried {
        host: "db1".into(),
        job: format!("job{number}"),
        seq: (*result != Opened::CouldNotCheck).then_some(7),
        record_blake3: None,
        finished: None,
        tree_root: None,
        blob: None,
        result: *result,
        why: (*result != Opened::Opened).then(|| "so".to_owned()),
    };
    Drill {
        schema: SCHEMA.into(),
        started: at,
        finished: at,
        url: "s3://acme/db1".into(),
        fingerprint: "f".into(),
        recipient: Some("age1escrow".into()),
        jobs: results.iter().enumerate().map(job).collect(),
        signer: "SHA256:key".into(),
    }
}

#[cfg(test)]
mod tests {
    use keephold_vault::record::RecordKey;

    use super::Opened::{CouldNotCheck, NotOpened, Opened as Yes};
    use super::*;

    #[test]
    fn what_is_not_known_is_never_fine_and_the_worst_decides() {
        for (results, code) in [
            (&[Yes, Yes][..], 0),
            (&[Yes, NotOpened], 3),
            (&[Yes, CouldNotCheck], 1),
            (&[NotOpened, CouldNotCheck], 1),
        ] {
            let drill = sample(results);
            assert_eq!(drill.exit_code(), code, "{results:?}");
            assert_eq!(drill.opened(), results.iter().filter(|r| **r == Yes).count());
            assert_eq!(drill.text().contains("ONLY"), code != 0, "{}", drill.text());
        }
    }

    #[test]
    fn an_error_of_the_store_or_of_a_key_is_not_taken_for_a_closed_snapshot() {
        let record = FoundRecord {
            key: RecordKey {
                host: "db1".into(),
                job: "etc".into(),
                started: Timestamp::UNIX_EPOCH,
                seq: 7,
                id: "0".repeat(32),
            },
            size: 1,
            modified: Timestamp::UNIX_EPOCH,
            hidden: false,
            versions: 1,
        };
        let result = |error: &Error| {
            let mut one = sample(&[Yes]).jobs.remove(0);
            fail(&mut one, &record, error);
            assert!(one.why.is_some());
            one.result
        };
        let bad = Error::BadKey { what: "x".into(), why: "no plugin".into() };
        assert_eq!(result(&bad), CouldNotCheck);
        assert_eq!(result(&Error::Damaged { what: "x".into(), why: "cut".into() }), NotOpened);
    }

    #[test]
    fn the_words_of_a_drill_are_as_agreed() {
        insta::assert_snapshot!(sample(&[Yes, NotOpened, CouldNotCheck]).text());
    }
}
