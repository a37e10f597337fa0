//! Which snapshot is meant: `latest`, `host/job`, `host/job@number`, or the beginning of a record's id.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use keephold_cli::exit::usage;
use keephold_vault::Error;
use keephold_vault::read::{FoundRecord, RecordScope, RunRecord};

use super::ReadVault;

/// Fewest hexadecimal digits that name a record.
const ID_LEN_MIN: usize = 6;

/// A snapshot as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// `latest`: the newest good one, of the only job there is.
    Latest,
    /// `host/job`: its newest good one; `host/job@7`: that of run 7.
    Job { host: String, job: String, seq: Option<u64> },
    /// The beginning of a record's id.
    Id(String),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some((host, job)) = text.split_once('/') {
            let (job, seq) = match job.split_once('@') {
                None => (job, None),
                Some((job, "latest")) => (job, None),
                Some((job, seq)) => {
                    (job, Some(seq.parse().map_err(|_| format!("'{seq}' is no number of a run"))?))
                }
            };
            if !host.is_empty() && !job.is_empty() && !job.contains('/') {
                return Ok(Self::Job { host: host.into(), job: job.into(), seq });
            }
        }
        let id = text.to_ascii_lowercase();
        if (ID_LEN_MIN..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::Id(id));
        }
        Err(format!(
            "a snapshot is named by 'latest', HOST/JOB, HOST/JOB@NUMBER, or at least {ID_LEN_MIN} digits of its id"
        ))
    }
}

impl ReadVault {
    /// Finds the run that is meant, and checks its signature where signers are given.
    pub(crate) async fn choose(&self, choice: &Choice) -> Result<RunRecord> {
        let scope = match choice {
            Choice::Job { host, job, .. } => {
                RecordScope { host: Some(host.clone()), job: Some(job.clone()) }
            }
            _ => RecordScope::default(),
        };
        let found = self.vault.find_records(&scope).await?;
        if found.is_empty() && *choice == Choice::Latest {
            bail!("there are no runs in {}", self.vault.store().url());
        }
        match choice {
            Choice::Latest => {
                let jobs: BTreeSet<_> =
                    found.iter().map(|f| format!("{}/{}", f.key.host, f.key.job)).collect();
                if jobs.len() > 1 {
                    let jobs: Vec<_> = jobs.into_iter().collect();
                    return Err(usage(format!(
                        "'latest' could be of any of {} jobs; name one: {}",
                        jobs.len(),
                        jobs.join(", ")
                    )));
                }
                self.newest(&found, "latest").await
            }
            Choice::Job { host, job, seq: None } => {
                self.newest(&found, &format!("{host}/{job}")).await
            }
            Choice::Job { host, job, seq: Some(seq) } => {
                let matching: Vec<_> = found.iter().filter(|f| f.key.seq == *seq).collect();
                self.only(&matching, &format!("{host}/{job}@{seq}")).await
            }
            Choice::Id(id) => {
                let matching: Vec<_> = found.iter().filter(|f| f.key.id.starts_with(id)).collect();
                self.only(&matching, id).await
            }
        }
    }

    /// The newest good one. What isn't good is passed over, and said unless it just failed.
    async fn newest(&self, found: &[FoundRecord], name: &str) -> Result<RunRecord> {
        for record in found.iter().rev() {
            match self.open_record(record).await {
                Ok(run) if run.record.snapshot.is_some() => return Ok(run),
                Ok(_) => tracing::info!("{} failed; looking for an earlier run", record.key),
                // Said loudly: what follows is older than what was asked for.
                Err(
                    error @ (Error::Signature { .. }
                    | Error::SignedOutOfTime { .. }
                    | Error::Damaged { .. }
                    | Error::OtherVault { .. }),
                ) => {
                    tracing::warn!("passed over, and an earlier run is taken: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("no run of {name} has a snapshot (see `keephold snapshots --all`)")
    }

    async fn only(&self, matching: &[&FoundRecord], name: &str) -> Result<RunRecord> {
        match matching {
            [] => bail!("there is no run {name} (see `keephold snapshots --all`)"),
            [one] => {
                let run = self.open_record(one).await?;
                if run.record.snapshot.is_none() {
                    return Err(Error::NoSnapshot { what: format!("record {}", run.key) }.into());
                }
                Ok(run)
            }
            several => {
                let keys: Vec<_> = several.iter().take(10).map(|f| f.key.to_string()).collect();
                Err(usage(format!(
                    "{name} names several runs; give more digits:\n  {}",
                    keys.join("\n  ")
                )))
            }
        }
    }

    /// Reads and opens a record; its signature is checked where signers are given.
    pub(crate) async fn open_record(&self, found: &FoundRecord) -> Result<RunRecord, Error> {
        let sealed = self.vault.read_record(&found.key).await?;
        if let Some(signers) = &self.signers {
            sealed.check_signature(signers, Some(found.modified))?;
        }
        self.vault.open_record(sealed, &self.opener).await
    }

    /// Finds the snapshot that data is read from.
    pub(crate) async fn choose_for_data(&self, choice: &Choice) -> Result<RunRecord> {
        if self.signers.is_none() {
            tracing::warn!(
                "the record's signature isn't checked; with --signers FILE a forged snapshot would be refused"
            );
        }
        self.choose(choice)
            .await
            .with_context(|| format!("looking for the snapshot in {}", self.vault.store().url()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::testing::opened;
    use keephold_vault::record::Status;
    use keephold_vault::sign::{AllowedSigners, SigningKey};
    use keephold_vault::testing::{VaultMaker, entry};
    use keephold_vault::tree::EntryKind;

    #[test]
    fn names_of_snapshots_are_told_apart() {
        let job = |seq| Choice::Job { host: "db1".into(), job: "etc".into(), seq };
        assert_eq!("latest".parse(), Ok(Choice::Latest));
        assert_eq!("db1/etc".parse(), Ok(job(None)));
        assert_eq!("db1/etc@12".parse(), Ok(job(Some(12))));
        assert_eq!("AB12CD".parse(), Ok(Choice::Id("ab12cd".into())));
        for bad in ["ab12", "db1/", "/etc", "a/b/c", "db1/etc@x", "yesterday"] {
            assert!(bad.parse::<Choice>().is_err(), "{bad}");
        }
    }

    /// Three runs of one job, the last of them failed.
    async fn three() -> VaultMaker {
        let mut maker = VaultMaker::new().await.unwrap();
        for day in 1..=3 {
            let root = maker.tree(&mut [entry("a", EntryKind::Directory).unwrap()]).await.unwrap();
            let mut record =
                maker.record(root, &format!("2026-11-0{day}T01:00:00Z")).await.unwrap();
            if day == 3 {
                record.status = Status::Failed;
                record.snapshot = None;
            }
            maker.store_record(&record).await.unwrap();
        }
        maker
    }

    #[tokio::test]
    async fn the_newest_good_one_is_taken_and_hidden_ones_are_found() {
        let maker = three().await;
        let vault = opened(&maker).await;
        assert_eq!(vault.choose(&Choice::Latest).await.unwrap().record.seq, 2);
        let exactly = "db1/files@1".parse().unwrap();
        let first = vault.choose(&exactly).await.unwrap();
        assert_eq!(first.record.seq, 1);
        let by_id = first.key.id[..8].parse().unwrap();
        assert_eq!(vault.choose(&by_id).await.unwrap().record.seq, 1);
        let failed = vault.choose(&"db1/files@3".parse().unwrap()).await.unwrap_err();
        assert!(format!("{failed:#}").contains("its run failed"), "{failed:#}");
        assert!(vault.choose(&"db1/files@9".parse().unwrap()).await.is_err());
        assert!(vault.choose(&"db2/files".parse().unwrap()).await.is_err());

        for key in maker.store.keys().into_iter().filter(|k| k.as_str().starts_with("runs/")) {
            maker.store.hide(&key);
        }
        assert_eq!(vault.choose(&Choice::Latest).await.unwrap().record.seq, 2);
        assert!(!vault.vault.notes().is_empty());
    }

    #[tokio::test]
    async fn records_of_strangers_are_passed_over_where_signers_are_known() {
        let mut maker = three().await;
        let honest = maker.signing.public().to_openssh();
        maker.signing = SigningKey::generate("stranger").unwrap();
        let root = maker.tree(&mut [entry("b", EntryKind::Directory).unwrap()]).await.unwrap();
        let record = maker.record(root, "2026-11-09T01:00:00Z").await.unwrap();
        maker.store_record(&record).await.unwrap();
        let mut vault = opened(&maker).await;
        assert_eq!(vault.choose(&Choice::Latest).await.unwrap().record.seq, 4);
        vault.signers = Some(AllowedSigners::parse(&honest).unwrap());
        assert_eq!(vault.choose(&Choice::Latest).await.unwrap().record.seq, 2);
    }

    #[tokio::test]
    async fn latest_of_several_jobs_must_be_named() {
        let mut maker = three().await;
        let root = maker.tree(&mut []).await.unwrap();
        let mut record = maker.record(root, "2026-11-09T01:00:00Z").await.unwrap();
        record.job = "other".into();
        maker.store_record(&record).await.unwrap();
        let error = opened(&maker).await.choose(&Choice::Latest).await.unwrap_err();
        assert!(error.to_string().contains("db1/files, db1/other"), "{error}");
    }
}
