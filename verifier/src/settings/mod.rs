//! What to verify, and how: the command line over one TOML file.

mod config;
mod evidence;
mod level;
pub mod prober;
mod signers;

pub use config::{Config, CopyTable, ExpectedJob, FILE, TEMPLATE};
pub use evidence::{EvidenceTable, EvidenceTarget};
pub use level::Depth;
pub use signers::{Believed, Signers};

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::SignedDuration;
use keephold_cli::exit::usage;
use keephold_cli::identity::IdentityArgs;
use keephold_cli::target::{Target, TargetArgs};
use keephold_vault::envelope::Identities;
use keephold_vault::ids::Fingerprint;
use keephold_vault::sign::SigningKey;

/// What the command line says; it wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Pinned fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// Identity files.
    pub identities: IdentityArgs,
    /// Allowed signers.
    pub signers: Option<PathBuf>,
    /// The key that signs reports.
    pub report_key: Option<PathBuf>,
    /// Where reports go.
    pub out: Option<PathBuf>,
    /// Where evidence is kept under lock.
    pub evidence: Option<String>,
    /// How deep to verify.
    pub level: Option<Depth>,
    /// Where things are restored to.
    pub scratch: Option<PathBuf>,
    /// Where PostgreSQL's programs are.
    pub pg_bin_dir: Option<PathBuf>,
    /// Objects read at once.
    pub concurrency: Option<usize>,
    /// Only these jobs: host and name.
    pub only: Vec<(String, String)>,
}

/// How long a snapshot may be missing in a copy where nothing else is said.
const LAG_S: u64 = 24 * 3600;
/// In how many days daily runs read a copy once, where nothing else is said.
const READ_DAYS: u32 = 30;

/// A copy of the vault at another target.
#[derive(Debug, Clone)]
pub struct CopyTarget {
    /// What reports call it.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// In how many days daily runs read all of it once.
    pub read_days: u32,
    /// For how long after it was made a snapshot may be missing there.
    pub lag: SignedDuration,
}

/// Everything that a verification needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Where the vault is.
    pub target: Target,
    /// Whether the lock mode was named, and not only left at its default.
    pub lock_named: bool,
    /// The pinned vault.
    pub fingerprint: Option<Fingerprint>,
    /// Who opens what was sealed.
    pub identities: Identities,
    /// Whose records are believed.
    pub signers: Signers,
    /// Signs the report.
    pub report_key: SigningKey,
    /// Where reports go.
    pub out: PathBuf,
    /// Where they are kept under lock as well, if anywhere.
    pub evidence: Option<EvidenceTarget>,
    /// How deep to verify.
    pub depth: Depth,
    /// Where things are restored to.
    pub scratch: PathBuf,
    /// Where PostgreSQL's programs are.
    pub pg_bin_dir: Option<PathBuf>,
    /// Objects read at once.
    pub concurrency: usize,
    /// Jobs that must have good backups.
    pub jobs: Vec<ExpectedJob>,
    /// Copies of the vault at other targets.
    pub copies: Vec<CopyTarget>,
    /// By how much in percent a snapshot may be smaller than the one before it.
    pub max_shrink_percent: u8,
    /// Only these jobs; all if there are none.
    pub only: Vec<(String, String)>,
    /// How long in seconds before its end a lock that should last longer is warned about.
    pub lock_lead_s: u64,
    /// The greatest age in seconds that the newest proof of locks may have.
    pub proof_max_age_s: Option<u64>,
    /// How old in seconds the last escrow drill may be, if one is expected.
    pub escrow_drill_every_s: Option<u64>,
    /// BLAKE3 of the configuration file, or of what the command line says in its place.
    pub config_blake3: String,
}

impl Settings {
    /// Puts the command line over the file, and reads the keys that they name.
    ///
    /// # Errors
    /// Usage errors that name the setting; errors that name the file.
    pub fn resolve(config: &Config, target: &TargetArgs, over: &Overrides) -> Result<Self> {
        let lock_named = target.lock.is_some() || config.vault.lock.is_some();
        let target = target.resolve(&config.vault)?;
        let copies: Result<Vec<CopyTarget>> = config
            .copy
            .iter()
            .map(|copy| {
                let lag = i64::try_from(copy.lag_s.unwrap_or(LAG_S)).unwrap_or(i64::MAX);
                let target = TargetArgs::default().resolve(&copy.vault)?;
                Ok(CopyTarget {
                    name: copy.name.clone().unwrap_or_else(|| target.url.to_string()),
                    target,
                    read_days: copy.read_days.map_or(READ_DAYS, NonZeroU32::get),
                    lag: SignedDuration::from_secs(lag),
                })
            })
            .collect();
        let identities = match over.identities.identities.as_slice() {
            [] => IdentityArgs {
                identities: config.identity.clone(),
                passphrase: over.identities.passphrase.clone(),
            },
            _ => over.identities.clone(),
        };
        if identities.identities.is_empty() {
            return Err(usage(
                "verifying takes an identity of its own: give --identity FILE (the verifier.agekey that `keephold init` made)",
            ));
        }
        let signers = over.signers.as_ref().or(config.signers.as_ref());
        let Some(signers) = signers else {
            return Err(usage(
                "nobody's records can be believed: give --signers FILE (each host's signing_key.pub, or an allowed_signers file)",
            ));
        };
        let report_key = over.report_key.as_ref().or(config.report_key.as_ref());
        let Some(report_key) = report_key else {
            return Err(usage(
                "a report is worth nothing unsigned: run `keephold-verify init` once, then give --report-key FILE",
            ));
        };
        let scratch =
            over.scratch.clone().or_else(|| config.scratch.clone()).unwrap_or_else(default_scratch);
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let concurrency = over.concurrency.or(config.concurrency).unwrap_or(threads).clamp(1, 64);
        Ok(Self {
            lock_named,
            fingerprint: over.fingerprint.or(config.fingerprint),
            identities: identities.load()?,
            signers: Signers::read(signers)?,
            report_key: read_key(report_key)?,
            out: config.reports(over.out.as_deref()),
            evidence: EvidenceTarget::resolve(config, over.evidence.as_deref(), &target)?,
            depth: over.level.or(config.level).unwrap_or_default(),
            scratch: std::path::absolute(&scratch)
                .with_context(|| format!("{}", scratch.display()))?,
            pg_bin_dir: over.pg_bin_dir.clone().or_else(|| config.pg_bin_dir.clone()),
            concurrency,
            jobs: config.job.clone(),
            copies: copies?,
            max_shrink_percent: config.max_shrink_percent,
            only: over.only.clone(),
            lock_lead_s: config.lock_lead_s,
            proof_max_age_s: config.prober.max_age_s,
            escrow_drill_every_s: config.escrow_drill_every_s,
            config_blake3: match &config.text {
                Some(text) => blake3::hash(text.as_bytes()).to_hex().to_string(),
                None => {
                    blake3::hash(format!("{} {over:?}", target.url).as_bytes()).to_hex().to_string()
                }
            },
            target,
        })
    }

    /// What is expected of a job.
    pub fn expected(&self, host: &str, name: &str) -> Option<&ExpectedJob> {
        self.jobs.iter().find(|job| job.host == host && job.name == name)
    }

    /// Whether a job is to be looked at.
    pub fn wants(&self, host: &str, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|(h, n)| h == host && n == name)
    }
}

/// Restored databases may be large, and /tmp is often in memory.
fn default_scratch() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(folder) => folder.into(),
        None if Path::new("/var/tmp").is_dir() => "/var/tmp".into(),
        None => std::env::temp_dir(),
    }
}

fn read_key(path: &Path) -> Result<SigningKey> {
    use std::os::unix::fs::PermissionsExt;
    let unread = || {
        format!(
            "the report key {} can't be read: run `keephold-verify init` once to make one",
            path.display()
        )
    };
    let mode = std::fs::metadata(path).with_context(unread)?.permissions().mode();
    if mode & 0o077 != 0 {
        anyhow::bail!(
            "{} can be read by others (mode {:o}): run `chmod 600 {}`",
            path.display(),
            mode & 0o777,
            path.display()
        );
    }
    let text = std::fs::read_to_string(path).with_context(unread)?;
    SigningKey::from_openssh(&text).with_context(|| format!("in {}", path.display()))
}
