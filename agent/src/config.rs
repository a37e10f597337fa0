//! The agent's configuration: one TOML file, `/etc/keephold/keephold.toml` unless named otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use keephold_cli::exit::usage;
use keephold_cli::target::VaultTable;
use keephold_files::walk::Options;
use keephold_postgres::discover::Databases;
use keephold_vault::ids::Fingerprint;
use keephold_vault::record::JobKind;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::performance::PerformanceTable;
use crate::prices::Prices;
use crate::retention::{Lengths, Settings};
use crate::source::directory::Directory;
use crate::source::postgres::Postgres;

/// The file's name in the usual places.
pub(crate) const FILE: &str = "keephold.toml";

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What this host is called in the vault; its host name by default.
    pub(crate) host: Option<String>,
    /// Where the cache lies.
    pub(crate) cache: Option<PathBuf>,
    pub(crate) vault: VaultTable,
    pub(crate) retention: RetentionTable,
    pub(crate) prices: Prices,
    pub(crate) performance: PerformanceTable,
    pub(crate) directory: Vec<DirectoryTable>,
    pub(crate) postgres: Vec<PostgresTable>,
    pub(crate) replica: Vec<ReplicaTable>,
}

/// A copy of the vault at another target, which `keephold replicate` makes, and runs write to if `also` names it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaTable {
    pub(crate) name: String,
    /// For how long from each replication, or run, all that it needs is locked at least.
    pub(crate) keep: Option<String>,
    /// How much is kept on this host for it while it is down.
    pub(crate) spool: Option<String>,
    /// The vault that is copied, and no other.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// What its provider charges.
    #[serde(default)]
    pub(crate) prices: Prices,
    /// Where it is, as the table `[vault]` says it.
    #[serde(flatten)]
    pub(crate) vault: VaultTable,
    /// What is written wrong: a flattened table takes what it knows and can't refuse the rest.
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// How long runs are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionTable {
    /// For how long every run is kept and locked, for example `35d` or `8 weeks`.
    pub(crate) keep: Option<String>,
    /// Or for how long the runs of each class are.
    pub(crate) daily: Option<String>,
    pub(crate) weekly: Option<String>,
    pub(crate) monthly: Option<String>,
    pub(crate) yearly: Option<String>,
    /// For how long its record is, as evidence.
    pub(crate) evidence: String,
}

impl Default for RetentionTable {
    fn default() -> Self {
        Self {
            keep: None,
            daily: None,
            weekly: None,
            monthly: None,
            yearly: None,
            evidence: "400d".into(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DirectoryTable {
    pub(crate) name: String,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) exclude: Vec<String>,
    pub(crate) exclude_files: Vec<PathBuf>,
    pub(crate) exclude_caches: bool,
    pub(crate) exclude_if_present: Vec<String>,
    pub(crate) one_file_system: bool,
    pub(crate) keep: Option<String>,
    pub(crate) daily: Option<String>,
    pub(crate) weekly: Option<String>,
    pub(crate) monthly: Option<String>,
    pub(crate) yearly: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PostgresTable {
    pub(crate) name: String,
    /// libpq's connection string; may be empty, then the environment and libpq's defaults decide.
    pub(crate) dsn: String,
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) exclude_table_data: Vec<String>,
    pub(crate) bin_dir: Option<PathBuf>,
    /// How long to wait for a table's lock.
    pub(crate) lock_wait: Option<String>,
    /// Leave password hashes out of the roles, for a role that may not read them.
    pub(crate) no_role_passwords: bool,
    pub(crate) keep: Option<String>,
    pub(crate) daily: Option<String>,
    pub(crate) weekly: Option<String>,
    pub(crate) monthly: Option<String>,
    pub(crate) yearly: Option<String>,
}

/// A job, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) source: Source,
    /// For how long its runs are kept.
    pub(crate) keep: Lengths,
}

/// What a job backs up.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Directory(Directory),
    Postgres(Postgres),
}

impl Source {
    pub(crate) fn kind(&self) -> JobKind {
        match self {
            Self::Directory(_) => JobKind::Directory,
            Self::Postgres(_) => JobKind::Postgres,
        }
    }
}

/// For how long runs are kept where nothing else is said.
pub(crate) const KEEP_DEFAULT: &str = "35d";

/// How much is kept on this host for a copy that is down, where nothing else is said.
const SPOOL_DEFAULT: &str = "10GiB";

/// Longest that anything is locked: a typing error must not fill a vault for a century.
const KEEP_MAX: SignedDuration = SignedDuration::from_hours(24 * 366 * 20);

/// Reads a duration such as `35d`, `8 weeks`, `1 year`; days are of 24 hours, months and years as from today.
pub(crate) fn keep(text: &str, setting: &str) -> Result<SignedDuration> {
    let span: Span = text.parse().map_err(|e| {
        usage(format!("{setting} = \"{text}\" is no length of time, for example \"35d\": {e}"))
    })?;
    let today = jiff::ZonedDateTime::now();
    let length = span
        .to_duration(SpanRelativeTo::from(&today))
        .map_err(|e| usage(format!("{setting} = \"{text}\": {e}")))?;
    if length <= SignedDuration::ZERO || length > KEEP_MAX {
        return Err(usage(format!(
            "{setting} = \"{text}\" must be more than nothing and at most 20 years"
        )));
    }
    Ok(length)
}

/// Checks a name that becomes part of keys in the vault.
pub(crate) fn sound_name(name: &str, what: &str) -> Result<()> {
    let sound = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    if sound {
        Ok(())
    } else {
        Err(usage(format!(
            "'{name}' can't be the name of {what}: use letters, digits, '.', '_' and '-', no dot in front, at most 100"
        )))
    }
}

/// This host's name in the vault: the one that is given, or its host name.
pub(crate) fn host_name(given: Option<&str>) -> Result<String> {
    let host = match given {
        Some(host) => host.to_owned(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    sound_name(&host, "this host (set `host` in the configuration, or --host)")?;
    Ok(host)
}

/// The retention settings of a table: serde can't share fields between tables that refuse unknown ones.
macro_rules! retention_of {
    ($table:expr) => {
        Settings {
            keep: $table.keep.as_deref(),
            classes: [&$table.daily, &$table.weekly, &$table.monthly, &$table.yearly]
                .map(Option::as_deref),
        }
    };
}

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let config: Self = keephold_cli::config::read(path)?;
        config.jobs().map_err(|e| e.context(usage(format!("{}", path.display()))))?;
        Ok(config)
    }

    /// The configuration that counts, as [`keephold_cli::config::chosen`] says.
    pub(crate) fn chosen(file: Option<&Path>, named_here: bool) -> Result<Self> {
        keephold_cli::config::chosen(file, FILE, named_here, Self::read)
    }

    /// This host's name in the vault.
    pub(crate) fn host(&self) -> Result<String> {
        host_name(self.host.as_deref())
    }

    /// The jobs, in the file's order: directories first.
    pub(crate) fn jobs(&self) -> Result<Vec<Job>> {
        let mut jobs: Vec<Job> = Vec::new();
        for table in &self.directory {
            jobs.push(self.job(&table.name, &retention_of!(table), table.source()?)?);
        }
        for table in &self.postgres {
            jobs.push(self.job(&table.name, &retention_of!(table), table.source()?)?);
        }
        for (at, job) in jobs.iter().enumerate() {
            if jobs[..at].iter().any(|other| other.name == job.name) {
                return Err(usage(format!("two jobs are called '{}'", job.name)));
            }
        }
        self.lengths()?;
        keep(&self.retention.evidence, "retention.evidence")?;
        self.prices.check("prices")?;
        self.performance.check()?;
        self.check_replicas()?;
        Ok(jobs)
    }

    /// For how long runs are kept whose job says nothing else.
    pub(crate) fn lengths(&self) -> Result<Lengths> {
        retention_of!(self.retention).read("[retention]")
    }

    fn check_replicas(&self) -> Result<()> {
        for (at, replica) in self.replica.iter().enumerate() {
            let name = &replica.name;
            sound_name(name, "a replica")?;
            if self.replica[..at].iter().any(|other| other.name == *name) {
                return Err(usage(format!("two replicas are called '{name}'")));
            }
            if let Some(unknown) = replica.unknown.keys().next() {
                return Err(usage(format!("replica '{name}' has an unknown setting '{unknown}'")));
            }
            if replica.vault.url.is_none() {
                return Err(usage(format!("replica '{name}' has no url")));
            }
            replica.vault.refuse_also(&format!("replica '{name}'"))?;
            replica.spool_max()?;
            replica.prices.check(&format!("replica '{name}': prices"))?;
            if let Some(text) = &replica.keep {
                keep(text, &format!("keep of replica '{name}'"))?;
            }
        }
        for (at, name) in self.vault.also.iter().enumerate() {
            if self.vault.also[..at].contains(name) {
                return Err(usage(format!("[vault] also names '{name}' twice: take one away")));
            }
            if !self.replica.iter().any(|replica| replica.name == *name) {
                let names: Vec<_> = self.replica.iter().map(|r| r.name.as_str()).collect();
                let there = match names.is_empty() {
                    true => "there are none".to_owned(),
                    false => format!("there are: {}", names.join(", ")),
                };
                return Err(usage(format!(
                    "[vault] also names '{name}', but no [[replica]] has this name ({there}): add one with name = \"{name}\" \
                     and its url, or take it out of also"
                )));
            }
        }
        Ok(())
    }

    /// The copies that runs write to as well, in the order of `also`.
    pub(crate) fn also(&self) -> Vec<&ReplicaTable> {
        let named = |name: &String| self.replica.iter().find(|replica| replica.name == *name);
        self.vault.also.iter().filter_map(named).collect()
    }

    fn job(&self, name: &str, own: &Settings<'_>, source: Source) -> Result<Job> {
        sound_name(name, "a job")?;
        let keep =
            if own.is_empty() { self.lengths()? } else { own.read(&format!("job '{name}'"))? };
        Ok(Job { name: name.into(), source, keep })
    }
}

impl ReplicaTable {
    /// How many bytes are kept on this host for it while it is down.
    pub(crate) fn spool_max(&self) -> Result<u64> {
        let text = self.spool.as_deref().unwrap_or(SPOOL_DEFAULT);
        keephold_cli::human::read_bytes(text).ok_or_else(|| {
            usage(format!(
                "spool of replica '{}' = \"{text}\" is no size, for example \"10GiB\", or 0 for none",
                self.name
            ))
        })
    }
}

impl DirectoryTable {
    fn source(&self) -> Result<Source> {
        if self.paths.is_empty() {
            return Err(usage(format!("job '{}' names no paths", self.name)));
        }
        if let Some(relative) = self.paths.iter().find(|p| !p.is_absolute()) {
            return Err(usage(format!(
                "job '{}': '{}' is no absolute path",
                self.name,
                relative.display()
            )));
        }
        let options = Options {
            exclude: self.exclude.clone(),
            exclude_files: self.exclude_files.clone(),
            exclude_caches: self.exclude_caches,
            exclude_if_present: self.exclude_if_present.iter().map(Into::into).collect(),
            one_file_system: self.one_file_system,
            ..Options::default()
        };
        Ok(Source::Directory(Directory { paths: self.paths.clone(), options }))
    }
}

impl PostgresTable {
    fn source(&self) -> Result<Source> {
        let lock_wait = match &self.lock_wait {
            Some(text) => keep(text, "lock_wait")?,
            None => SignedDuration::from_secs(30),
        };
        Ok(Source::Postgres(Postgres {
            dsn: self.dsn.clone(),
            databases: Databases { include: self.include.clone(), exclude: self.exclude.clone() },
            exclude_table_data: self.exclude_table_data.clone(),
            bin_dir: self.bin_dir.clone(),
            lock_wait: Duration::try_from(lock_wait).unwrap_or(Duration::from_secs(30)),
            no_role_passwords: self.no_role_passwords,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Job>> {
        keephold_cli::config::parse::<Config>(text, Path::new("keephold.toml"))?.jobs()
    }

    #[test]
    fn a_whole_file_is_understood() {
        let jobs = read(
            "host = 'db1'\n[vault]\nurl = 's3://b/p'\nlock = 'governance'\n[retention]\nkeep = '90d'\n\
             [[directory]]\nname = 'etc'\npaths = ['/etc']\n[[postgres]]\nname = 'main'\nexclude = ['scratch_*']\nkeep = '1 year'\n",
        )
        .unwrap();
        assert_eq!(jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>(), ["etc", "main"]);
        assert_eq!(jobs[0].keep, Lengths::All(SignedDuration::from_hours(90 * 24)));
        assert!(jobs[1].keep.base().1 >= SignedDuration::from_hours(365 * 24));
    }

    #[test]
    fn a_jobs_own_retention_goes_before_the_common_one() {
        let jobs = read(
            "[retention]\ndaily = '14d'\nmonthly = '13mo'\n[[directory]]\nname = 'a'\npaths = ['/etc']\n\
             [[directory]]\nname = 'b'\npaths = ['/etc']\nkeep = '8w'\n\
             [[postgres]]\nname = 'c'\nweekly = '8w'\nyearly = '7y'\n",
        )
        .unwrap();
        let words: Vec<_> = jobs.iter().map(|job| job.keep.in_words()).collect();
        assert!(words[0].starts_with("daily 14d, monthly "), "{words:?}");
        assert_eq!(words[1], "56d");
        assert!(words[2].starts_with("weekly 56d, yearly "), "{words:?}");
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (text, words) in [
            ("[[directory]]\nname = 'a'\npahts = ['/etc']\n", "line 3"),
            ("[[directory]]\nname = 'a'\npahts = ['/etc']\n", "pahts"),
            ("[[directory]]\nname = 'a'\n", "no paths"),
            ("[[directory]]\nname = 'a'\npaths = ['etc']\n", "no absolute path"),
            ("[[directory]]\nname = 'a b'\npaths = ['/etc']\n", "letters, digits"),
            ("[[postgres]]\nname = 'a'\n[[postgres]]\nname = 'a'\n", "two jobs"),
            ("[retention]\nkeep = 'forever'\n[[postgres]]\nname = 'a'\n", "no length of time"),
            ("[retention]\nkeep = '100 years'\n[[postgres]]\nname = 'a'\n", "at most 20 years"),
            ("[vault]\nlock = 'strong'\n", "unknown variant"),
            (
                "[retention]\ndaily = '9d'\nweekly = '8d'\n",
                "weekly = \"8d\" is shorter than `daily`",
            ),
            (
                "[[postgres]]\nname = 'a'\nkeep = '9d'\nyearly = '7y'\n",
                "job 'a': `keep` and `yearly`",
            ),
            ("[prices]\nput = -1\n", "prices.put"),
            ("[[replica]]\nname='a'\nurl='/x'\nprices = {get = -1}\n", "'a': prices.get"),
            ("[performance]\nuploads = 0\n", "performance.uploads = 0 must be 1 to 64"),
            ("[performance]\ncompression = 20\n", "performance.compression"),
            ("[performance]\nthreads = -1\n", "line 2"),
            ("[performance]\nlevel = 3\n", "unknown field"),
            ("[[replica]]\nname = 'a'\n", "has no url"),
            ("[vault]\nalso = ['b']\n[[replica]]\nname = 'a'\nurl = '/x'\n", "also names 'b'"),
            ("[vault]\nalso = ['b']\n", "add one with name = \"b\""),
            ("[vault]\nalso = ['a', 'a']\n[[replica]]\nname = 'a'\nurl = '/x'\n", "'a' twice"),
            ("[[replica]]\nname = 'a'\nurl = '/x'\nspool = '10 parsecs'\n", "is no size"),
            ("[[replica]]\nname = 'a'\nurl = '/x'\nalso = ['a']\n", "belongs in [vault]"),
            ("[[replica]]\nname = 'a'\nurl = '/x'\nregoin = 'y'\n", "unknown setting 'regoin'"),
            ("[[replica]]\nname = 'a'\nurl = '/x'\nlock = 'strong'\n", "unknown variant"),
            ("[[replica]]\nname = 'a'\nurl = '/x'\nkeep = 'ever'\n", "no length of time"),
            ("[[replica]]\nname='a'\nurl='/x'\n[[replica]]\nname='a'\nurl='/y'\n", "two replicas"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
