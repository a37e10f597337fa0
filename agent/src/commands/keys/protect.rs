//! `keephold keys protect`: a passphrase on an identity file.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::usage;
use keephold_cli::identity::{PassphraseArgs, read_identity};
use keephold_cli::keys::replace;
use keephold_vault::identity::{Identities, is_protected, protect, unprotect};

/// Protect an identity file by a passphrase, as `age -p` does; it is asked for at each use.
#[derive(Debug, Args)]
pub(super) struct ProtectArgs {
    /// The identity file; it is replaced.
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) fn run(args: &ProtectArgs) -> Result<String> {
    let path = &args.file;
    let file = read_identity(path)?;
    if is_protected(&file) {
        return Err(usage(format!("{} is protected already", path.display())));
    }
    let text = std::str::from_utf8(&file)
        .map_err(|_| usage(format!("{} is no identity file", path.display())))?;
    Identities::parse(text).with_context(|| format!("in {}", path.display()))?;
    let passphrase = args.passphrase.get_new("New passphrase")?;
    let protected = sealed(text, &passphrase)?;
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o600;
    replace(path, &protected, mode)?;
    Ok(format!(
        "{} is protected. Without the passphrase it opens nothing: keep that in another place.\n\
         Copies without a passphrase, and this disk's free space, may still hold it.\n",
        path.display()
    ))
}

/// An identity file's text under a passphrase, seen to open again: what can't be must not take the place of what can.
///
/// # Errors
/// If the passphrase is too short to protect anything.
pub(crate) fn sealed(text: &str, passphrase: &str) -> Result<String> {
    let protected = protect(text, passphrase)?;
    anyhow::ensure!(
        *unprotect(protected.as_bytes(), passphrase)? == *text,
        "the protected file can't be opened"
    );
    Ok(protected)
}
