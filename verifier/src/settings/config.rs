//! The configuration file: `/etc/keephold/verify.toml` unless named otherwise.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::{Span, SpanRelativeTo};
use keephold_cli::exit::usage;
use keephold_cli::target::VaultTable;
use keephold_vault::ids::Fingerprint;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, de};

use super::Depth;
use super::evidence::EvidenceTable;
use super::prober::ProberTable;

/// The file's name in the usual places.
pub const FILE: &str = "verify.toml";

/// Where reports go when a configuration file is used and names no place.
const OUT: &str = "/var/lib/keephold/reports";

/// A commented file to begin with.
pub const TEMPLATE: &str = include_str!("verify.toml");

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the vault is.
    pub vault: VaultTable,
    /// The pinned vault.
    pub fingerprint: Option<Fingerprint>,
    /// Identity files.
    pub identity: Vec<PathBuf>,
    /// Allowed signers of the hosts.
    pub signers: Option<PathBuf>,
    /// The key that signs reports.
    pub report_key: Option<PathBuf>,
    /// Where reports go.
    pub out: Option<PathBuf>,
    /// How deep to verify.
    pub level: Option<Depth>,
    /// Where things are restored to.
    pub scratch: Option<PathBuf>,
    /// Where PostgreSQL's programs are.
    pub pg_bin_dir: Option<PathBuf>,
    /// By how much in percent a snapshot may be smaller than the one before it.
    #[serde(deserialize_with = "percent")]
    pub max_shrink_percent: u8,
    /// Objects read at once.
    pub concurrency: Option<usize>,
    /// How long in seconds before its end a lock that should last longer is warned about.
    #[serde(rename = "lock_lead", deserialize_with = "seconds")]
    pub lock_lead_s: u64,
    /// The credential of `prove-lock`.
    pub prober: ProberTable,
    /// Where evidence is kept under lock.
    pub evidence: EvidenceTable,
    /// How old in seconds the last escrow drill may be.
    #[serde(rename = "escrow_drill_every", deserialize_with = "length")]
    pub escrow_drill_every_s: Option<u64>,
    /// Jobs that must have good backups.
    pub job: Vec<ExpectedJob>,
    /// Copies of the vault at other targets.
    pub copy: Vec<CopyTable>,
    /// Where the file was read.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// Its text.
    #[serde(skip)]
    pub text: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vault: VaultTable::default(),
            fingerprint: None,
            identity: Vec::new(),
            signers: None,
            report_key: None,
            out: None,
            level: None,
            scratch: None,
            pg_bin_dir: None,
            max_shrink_percent: 50,
            concurrency: None,
            lock_lead_s: 7 * 24 * 3600,
            prober: ProberTable::default(),
            evidence: EvidenceTable::default(),
            escrow_drill_every_s: None,
            job: Vec::new(),
            copy: Vec::new(),
            path: None,
            text: None,
        }
    }
}

/// A copy of the vault at another target.
#[derive(Debug, Clone, Deserialize)]
pub struct CopyTable {
    /// What reports call it; its URL if nothing is said.
    pub name: Option<String>,
    /// In how many days daily runs read all of it once.
    pub read_days: Option<NonZeroU32>,
    /// For how many seconds after it was made a snapshot may be missing there.
    #[serde(default, rename = "max_lag", deserialize_with = "length")]
    pub lag_s: Option<u64>,
    /// Where it is, and how to reach it, as the table `[vault]` says it.
    #[serde(flatten)]
    pub vault: VaultTable,
    /// What is written wrong: a flattened table takes what it knows and can't refuse the rest.
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// A job that must have good backups.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedJob {
    /// The host, as its records name it.
    pub host: String,
    /// The job.
    pub name: String,
    /// The greatest age in seconds that its newest good snapshot may have.
    #[serde(default, rename = "rpo", deserialize_with = "length")]
    pub rpo_s: Option<u64>,
    /// How long in seconds a restore of it may take.
    #[serde(default, rename = "rto", deserialize_with = "length")]
    pub rto_s: Option<u64>,
    /// How old in seconds its last test restore that passed may be.
    #[serde(default, rename = "restore_test_every", deserialize_with = "length")]
    pub restore_test_every_s: Option<u64>,
}

impl Config {
    /// The configuration that counts, as [`keephold_cli::config::chosen`] says.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn chosen(file: Option<&Path>, named_here: bool) -> Result<Self> {
        keephold_cli::config::chosen(file, FILE, named_here, Self::read)
    }

    /// Where reports go: to the folder that is named, or the file's, or the usual one.
    pub(super) fn reports(&self, named: Option<&Path>) -> PathBuf {
        let usual = if self.path.is_some() { OUT } else { "reports" };
        named.or(self.out.as_deref()).unwrap_or_else(|| Path::new(usual)).to_owned()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A usage error that shows the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            usage(format!("the configuration file {} can't be read", path.display()))
        })?;
        let config: Self = keephold_cli::config::parse(&text, path)?;
        config.vault.refuse_also(&format!("{}: [vault]", path.display()))?;
        let evidence = &config.evidence;
        evidence.vault.refuse_also(&format!("{}: [evidence]", path.display()))?;
        if let Some(unknown) = evidence.unknown.keys().next() {
            return Err(usage(format!(
                "{}: [evidence] has an unknown setting '{unknown}'",
                path.display()
            )));
        }
        for (n, job) in config.job.iter().enumerate() {
            if config.job[..n]
                .iter()
                .any(|other| (&other.host, &other.name) == (&job.host, &job.name))
            {
                return Err(usage(format!(
                    "{}: job {}/{} is expected twice",
                    path.display(),
                    job.host,
                    job.name
                )));
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for copy in &config.copy {
            let Some(url) = &copy.vault.url else {
                return Err(usage(format!("{}: a [[copy]] has no url", path.display())));
            };
            copy.vault.refuse_also(&format!("{}: the [[copy]] {url}", path.display()))?;
            if let Some(unknown) = copy.unknown.keys().next() {
                return Err(usage(format!(
                    "{}: the [[copy]] {url} has an unknown setting '{unknown}'",
                    path.display()
                )));
            }
            let name = copy.name.as_ref().unwrap_or(url);
            if !names.insert(name) {
                return Err(usage(format!(
                    "{}: the [[copy]] {name} is there twice",
                    path.display()
                )));
            }
        }
        Ok(Self { path: Some(path.to_owned()), text: Some(text), ..config })
    }
}

/// A length of time such as `26h` or `7d`, in seconds.
pub(super) fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    seconds(deserializer).map(Some)
}

/// The same where there always is one.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let span: Span = text.parse().map_err(|e| {
        de::Error::custom(format!("\"{text}\" is no length of time, for example \"26h\": {e}"))
    })?;
    let length =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(de::Error::custom)?;
    u64::try_from(length.as_secs())
        .ok()
        .filter(|&s| s > 0)
        .ok_or_else(|| de::Error::custom(format!("\"{text}\" must be more than nothing")))
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let percent = u8::deserialize(deserializer)?;
    if (1..=100).contains(&percent) {
        Ok(percent)
    } else {
        Err(de::Error::custom("a percentage from 1 to 100 is expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn the_template_is_sound() {
        let config = read(TEMPLATE).unwrap();
        assert_eq!(config.job[0].rpo_s, Some(26 * 3600));
        assert_eq!((config.max_shrink_percent, config.level), (50, Some(Depth::Restore)));
        // What is commented out is right as well.
        let all = TEMPLATE
            .lines()
            .map(|line| {
                let is_setting = |l: &&str| l.contains(" = ") || l.starts_with("[[");
                line.strip_prefix("# ").filter(is_setting).unwrap_or(line)
            })
            .collect::<Vec<_>>()
            .join("\n");
        let all = read(&all).unwrap();
        assert_eq!((all.copy[0].lag_s, all.copy.len()), (Some(24 * 3600), 1));
        assert_eq!(all.evidence.keep_s, Some(400 * 24 * 3600));
        assert!(config.evidence.vault.url.is_none() && all.evidence.vault.url.is_some());
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (text, words) in [
            ("out = 'x'\nsingers = 'y'\n", "line 2"),
            ("out = 'x'\nsingers = 'y'\n", "singers"),
            ("[[job]]\nhost = 'a'\nname = 'b'\nrpo = 'daily'\n", "line 4"),
            ("[[job]]\nhost = 'a'\nname = 'b'\nrpo = 'daily'\n", "26h"),
            ("[[job]]\nhost = 'a'\n", "name"),
            ("[[job]]\nhost='a'\nname='b'\n[[job]]\nhost='a'\nname='b'\n", "twice"),
            ("[[copy]]\nmax_lag = '2d'\n", "no url"),
            ("[[copy]]\nurl = '/x'\n[[copy]]\nurl = '/x'\n", "twice"),
            ("[[copy]]\nurl='/x'\nname='a'\n[[copy]]\nurl='/y'\nname='a'\n", "twice"),
            ("[[copy]]\nurl = '/x'\nregoin = 'y'\n", "unknown setting 'regoin'"),
            ("[evidence]\nurl = '/x'\nregoin = 'y'\n", "unknown setting 'regoin'"),
            ("[evidence]\nurl = '/x'\nkeep = 'ever'\n", "26h"),
            ("fingerprint = 'abc'\n", "64 hexadecimal digits"),
            ("level = 'everything'\n", "unknown variant"),
            ("max_shrink_percent = 0\n", "1 to 100"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
            assert_eq!(
                keephold_cli::exit::exit_of(&read(text).unwrap_err()),
                keephold_cli::exit::Exit::Usage
            );
        }
    }
}
