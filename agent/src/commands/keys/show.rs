//! `keephold keys show`.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use keephold_cli::keys::HostKeys;

/// Show which vault this host writes to, who signs, and who can read; nothing secret.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ShowArgs, folder: &Path) -> Result<String> {
    let keys = HostKeys::load(folder)?;
    let public = keys.signing.public();
    if args.json {
        let json = serde_json::json!({
            "folder": folder,
            "fingerprint": keys.fingerprint.to_string(),
            "signing_key": { "fingerprint": public.fingerprint(), "public": public.to_openssh() },
            "recipients": keys.recipients.names(),
        });
        return Ok(format!("{json}\n"));
    }
    let mut text = format!(
        "Vault (vault.fingerprint)\n  {}\nSigning key (signing_key.pub)\n  {}\n  {}\nRecipients (recipients)\n",
        keys.fingerprint,
        public.fingerprint(),
        public.to_openssh()
    );
    for name in keys.recipients.names() {
        text.push_str(&format!("  {name}\n"));
    }
    text.push_str(&format!("all in {}\n", folder.display()));
    Ok(text)
}
