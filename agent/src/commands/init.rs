//! `keephold init`: makes a vault and its keys.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use keephold_cli::exit::{Exit, usage};
use keephold_cli::identity::PassphraseArgs;
use keephold_cli::keys::{CARRY_OFF, default_folder, private_folder, write_new};
use keephold_cli::target::{TargetArgs, VaultTable};
use keephold_vault::config::VaultConfig;
use keephold_vault::envelope::{Identities, Recipients};
use keephold_vault::keys::VaultSecret;
use keephold_vault::limits::CONFIG_LEN_MAX;
use keephold_vault::sign::SigningKey;
use keephold_vault::store::{
    LockPolicy, ObjectKey, Protection, StoreError, Strength, create_target, open_store,
};
use zeroize::Zeroizing;

use super::keys::protect::sealed;

/// How long `vault.json` is locked at first. Each run locks it for as long as its own record.
const FIRST_LOCK: SignedDuration = SignedDuration::from_hours(24 * 35);

/// Make a vault, and the keys of this host.
///
/// The host gets what it needs to add backups, and nothing that reads them: data is sealed to recipients, whose secret
/// identities belong elsewhere. Unless recipients are given, two identities are made, for restoring and for the
/// verifier, and written to a folder from which they must be carried off this host.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    keephold init --vault s3://acme-backups/db1\n  \
    keephold init --vault file:///srv/vault --identities /media/usb\n  \
    keephold init --vault s3://acme-backups/db1 --passphrase\n  \
    keephold init --vault s3://acme-backups/db1 --recipient age1… --recipient age1…\n\n\
    A second host joins an existing vault with the vault's secret (from the first host's key folder):\n  \
    keephold init --vault s3://acme-backups/db1 --join vault.secret --recipient age1…")]
pub(crate) struct InitArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Folder for this host's keys.
    #[arg(long, env = "KEEPHOLD_KEYS", hide_env_values = true, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Seal to this age recipient (age1…); may be given several times. No secret identity is then made here.
    #[arg(long = "recipient", value_name = "AGE1…")]
    recipients: Vec<String>,
    /// Folder for the identities that are made; below the key folder by default.
    #[arg(long, value_name = "DIR", conflicts_with = "recipients")]
    identities: Option<PathBuf>,
    /// Protect the restore identity by a passphrase, as `age -p` does: asked for twice, or from --passphrase-file, which
    /// asks for it too. The verifier's is left open, for a service has nobody to ask.
    #[arg(long, conflicts_with = "recipients")]
    passphrase: bool,
    #[command(flatten)]
    passphrase_from: PassphraseArgs,
    /// Join a vault that exists, with its secret in this file.
    #[arg(long, value_name = "FILE", requires = "recipients")]
    join: Option<PathBuf>,
    /// What this host is called in the vault; its host name by default. Its records are believed under this name only.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Refuse jobs that keep their runs for fewer days than this.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    floor: u32,
}

/// The identity that a person holds, and that a passphrase may protect.
const RESTORE: &str = "restore";

/// What is made for whom.
const IDENTITIES: [(&str, &str); 2] = [
    (RESTORE, "opens every backup of this vault: keep it offline, in two places"),
    ("verifier", "for keephold-verify, on its own host"),
];

/// An identity that is made here.
struct Made {
    path: PathBuf,
    purpose: &'static str,
    /// The line for the list of recipients, with its label above.
    recipient: String,
    protected: bool,
    /// What is written to its file.
    text: Zeroizing<String>,
}

pub(crate) async fn run(args: InitArgs) -> Result<Exit> {
    let target = args.target.resolve(&VaultTable::default())?;
    let keys = args.keys.clone().unwrap_or_else(default_folder);
    if keys.join("vault.secret").exists() {
        return Err(usage(format!(
            "{} holds the keys of a vault already; name another folder with --keys",
            keys.display()
        )));
    }
    let carry = args.identities.clone().unwrap_or_else(|| keys.join(CARRY_OFF));
    if args.recipients.is_empty() {
        for (name, _) in IDENTITIES {
            let path = carry.join(format!("{name}.agekey"));
            if path.exists() {
                return Err(usage(format!(
                    "{} exists already; name another folder with --identities",
                    path.display()
                )));
            }
        }
    }
    // What can be wrong with what was given is found before anything is made.
    let made = if args.recipients.is_empty() {
        draw_identities(&carry, &args)?
    } else {
        Recipients::parse(&args.recipients.join("\n"))?;
        Vec::new()
    };
    let secret = match &args.join {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("{} can't be read", path.display()))?;
            VaultSecret::from_text(&text)?
        }
        None => VaultSecret::generate()?,
    };
    let host = crate::config::host_name(args.host.as_deref())?;
    let signing = SigningKey::generate(&format!("keephold@{host}"))?;
    let env = |name: &str| std::env::var(name).ok();

    let protection = create_target(&target.url, &target.options, &env).await?;
    let store = open_store(&target.url, &target.options, &env)?;
    let key = ObjectKey::vault_config();
    let existing = match store.get(&key, None, CONFIG_LEN_MAX).await {
        Ok(bytes) => Some(bytes),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let (bytes, joined) = match (existing, &args.join) {
        (Some(_), None) => bail!(
            "there is a vault at {} already; to let this host join it, give --join with the vault's secret",
            target.url
        ),
        (None, Some(_)) => bail!("there is no vault at {} to join", target.url),
        (Some(bytes), Some(_)) => (bytes, true),
        (None, None) => (
            Bytes::from(
                VaultConfig::generate(Timestamp::now(), &secret, args.floor)?.to_bytes()?.0,
            ),
            false,
        ),
    };
    let config = VaultConfig::read(&bytes, None)?;
    config.check_secret(&secret)?;
    let fingerprint = VaultConfig::fingerprint(&bytes);

    // Keys first: a vault whose keys could not be written would be lost, keys without a vault are only litter.
    private_folder(&keys)?;
    let mut recipients = args.recipients.clone();
    if !made.is_empty() {
        private_folder(&carry)?;
    }
    for identity in &made {
        write_new(&identity.path, &identity.text, 0o600)?;
        recipients.push(identity.recipient.clone());
    }
    let recipients = recipients.join("\n");
    write_new(&keys.join("recipients"), &format!("{recipients}\n"), 0o644)?;
    write_new(&keys.join("signing_key"), &signing.to_openssh()?, 0o600)?;
    write_new(
        &keys.join("signing_key.pub"),
        &format!("{}\n", signing.public().to_openssh()),
        0o644,
    )?;
    write_new(&keys.join("vault.fingerprint"), &format!("{fingerprint}\n"), 0o644)?;
    write_new(&keys.join("vault.secret"), &format!("{}\n", secret.to_text()), 0o600)?;
    if !joined {
        let put = store.put(&key, bytes, Timestamp::now().checked_add(FIRST_LOCK)?).await;
        if let Err(error) = put {
            remove_litter(&keys, &made);
            return Err(anyhow::Error::from(error).context("making the vault; no keys were kept"));
        }
    }
    let protection = store.protection().await.unwrap_or(protection);
    tell(
        &target.url.to_string(),
        &config,
        &fingerprint.to_string(),
        &keys,
        &made,
        &protection,
        target.options.lock,
        joined,
    );
    Ok(Exit::Done)
}

/// Draws the identities; none is written yet.
fn draw_identities(folder: &Path, args: &InitArgs) -> Result<Vec<Made>> {
    let passphrase = (args.passphrase || args.passphrase_from.passphrase_file.is_some())
        .then(|| args.passphrase_from.get_new("New passphrase of the restore identity"))
        .transpose()?;
    let mut made = Vec::new();
    for (name, purpose) in IDENTITIES {
        let (public, secret) = Identities::generate();
        let mut text = Zeroizing::new(format!(
            "# Keephold {name} identity: {purpose}\n# public key: {public}\n{}\n",
            *secret
        ));
        let passphrase = passphrase.as_ref().filter(|_| name == RESTORE);
        if let Some(passphrase) = passphrase {
            text = Zeroizing::new(sealed(&text, passphrase)?);
        }
        made.push(Made {
            path: folder.join(format!("{name}.agekey")),
            purpose,
            recipient: format!("# {name}\n{public}"),
            protected: passphrase.is_some(),
            text,
        });
    }
    Ok(made)
}

fn remove_litter(keys: &Path, made: &[Made]) {
    for name in
        ["recipients", "signing_key", "signing_key.pub", "vault.fingerprint", "vault.secret"]
    {
        let _ = fs::remove_file(keys.join(name));
    }
    for identity in made {
        let _ = fs::remove_file(&identity.path);
    }
}

#[expect(clippy::too_many_arguments, reason = "everything that a person is told, in one place")]
fn tell(
    url: &str,
    config: &VaultConfig,
    fingerprint: &str,
    keys: &Path,
    made: &[Made],
    protection: &Protection,
    policy: LockPolicy,
    joined: bool,
) {
    let mut out = String::new();
    let mut say = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    say(format!("{} {url}", if joined { "This host joined the vault" } else { "Made the vault" }));
    say(format!("  id           {}", config.id));
    say(format!("  fingerprint  {fingerprint}"));
    say(format!("  protection   {}", describe(protection, policy)));
    say(String::new());
    say(format!("Keys of this host, in {}:", keys.display()));
    say("  vault.secret, signing_key   secret; they add backups, and read none".into());
    say("  signing_key.pub             for the verifier's list of allowed signers".into());
    say("  recipients                  whom backups are sealed to".into());
    if !made.is_empty() {
        say(String::new());
        say("CARRY THESE OFF THIS HOST, then delete them here. Whoever has one can read the backups;".into());
        say("without the restore identity nobody can, ever:".into());
        for Made { path, purpose, protected, .. } in made {
            say(format!("  {}", path.display()));
            say(format!("      {purpose}"));
            if *protected {
                say("      protected: it opens with its passphrase only, which belongs in another place".into());
            }
        }
    }
    say(String::new());
    say("Next:".into());
    say(format!("  keephold backup --vault {url} --keys {} PATH…", keys.display()));
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        print!("{out}");
    }
}

/// What a target promises, in a sentence.
pub(crate) fn describe(protection: &Protection, policy: LockPolicy) -> &'static str {
    match (protection.strength, policy) {
        (Strength::Compliance, _) => {
            "Object Lock, compliance: nobody can delete or shorten before a lock ends"
        }
        (Strength::Governance, _) => "Object Lock, governance: a special right can remove locks",
        (Strength::ImmutableFile, _) => {
            "immutable file attribute: only root on that machine can undo it"
        }
        (Strength::Advisory, _) => {
            "ADVISORY ONLY: retention is kept by Keephold alone; this target is not immutable"
        }
        (Strength::None, LockPolicy::None) => {
            "NONE, as configured: anyone with the credential can delete backups"
        }
        (Strength::None, _) => "NONE",
    }
}
