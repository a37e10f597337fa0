//! `keephold-verify init`: makes the verifier's own key, and templates of the files that a person fills in.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::usage;
use keephold_cli::keys::{private_folder, write_new};
use keephold_vault::sign::SigningKey;

use crate::settings::TEMPLATE;

/// Make the key that signs reports, and templates of the files that say whom to believe and what to verify.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Folder for the files.
    #[arg(long, value_name = "DIR", default_value = "/etc/keephold")]
    dir: PathBuf,
}

const SIGNERS: &str = "\
# Whose run records this verifier believes: one line for each host, with the public key that `keephold init` made there
# (signing_key.pub in the host's key folder). Carry it over by a way that you trust.
#
# A name in front binds the key to that host, as the records name it:
#     db1 ssh-ed25519 AAAAC3Nza… keephold@db1
# Several hosts are written as db1,db2. A plain line of a .pub file stands for the host that its comment names (keephold@db1).
";

pub(super) fn run(args: &InitArgs) -> Result<u8> {
    let dir = std::path::absolute(&args.dir).with_context(|| format!("{}", args.dir.display()))?;
    let key_path = dir.join("report_key");
    if key_path.exists() {
        return Err(usage(format!(
            "{} exists already; reports are signed with it, so it is never replaced. Name another folder with --dir",
            key_path.display()
        )));
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let key = SigningKey::generate(&format!("keephold-verify@{host}"))?;
    private_folder(&dir)?;
    write_new(&key_path, &key.to_openssh()?, 0o600)?;
    write_new(&dir.join("report_key.pub"), &format!("{}\n", key.public().to_openssh()), 0o644)?;
    let mut made = vec![
        ("report_key", "secret; signs the reports of this verifier"),
        ("report_key.pub", "for auditors: they check reports with it, so give it to them now"),
    ];
    let here = dir.display();
    let config = TEMPLATE.replace("/etc/keephold/", &format!("{here}/"));
    for (name, text, purpose) in [
        (
            "allowed_signers",
            SIGNERS,
            "whose records are believed: put each host's signing_key.pub in it",
        ),
        ("verify.toml", &config, "what is verified: fill it in"),
    ] {
        if !dir.join(name).exists() {
            write_new(&dir.join(name), text, 0o644)?;
            made.push((name, purpose));
        }
    }
    let mut out = format!("Made in {here}:\n");
    for (name, purpose) in made {
        out.push_str(&format!("  {name:<16} {purpose}\n"));
    }
    out.push_str(&format!(
        "\nFingerprint of the key: {}\n\nNext:\n  1. Carry the verifier's identity (verifier.agekey) here, and each host's \
         signing_key.pub into allowed_signers.\n  2. keephold-verify check-config {here}/verify.toml\n  3. keephold-verify \
         run --config {here}/verify.toml\n",
        key.public().fingerprint()
    ));
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        print!("{out}");
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let args = InitArgs { dir: dir.path().join("keys") };
        assert_eq!(run(&args).unwrap(), 0);
        let key = std::fs::read_to_string(args.dir.join("report_key")).unwrap();
        assert!(SigningKey::from_openssh(&key).is_ok());
        let config = std::fs::read_to_string(args.dir.join("verify.toml")).unwrap();
        assert!(config.contains(&format!("{}/report_key", args.dir.display())), "{config}");
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("never replaced"), "{error}");
        assert_eq!(std::fs::read_to_string(args.dir.join("report_key")).unwrap(), key);
    }
}
