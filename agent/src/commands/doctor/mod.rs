//! `keephold doctor`: is this host set up as it should be, and can its credential do what it needs and nothing more?

mod check;
mod host;
mod mend;
mod rights;
mod target;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use keephold_cli::config::find;
use keephold_cli::exit::Exit;
use keephold_cli::keys::{default_cache, default_folder};
use keephold_cli::target::TargetArgs;

use self::check::Examination;
use crate::config::{self, Config, FILE};
use crate::retention::needs::Needs;

/// Examine this host's set-up, its credential and its vault, and say how to mend what is wrong.
///
/// What the credential may do is tried on the server, in ways that change nothing. (With lock = "governance" the lock
/// of vault.json gets longer by a second or two.)
///
/// Exit codes: 0 all fine; 3 something should be mended; 1 something could not be checked; 2 the command line or the
/// configuration is wrong.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    keephold doctor                                     with /etc/keephold/keephold.toml\n  \
    keephold doctor --vault s3://acme-backups/db1       without a configuration file\n  \
    keephold doctor --json | jq '.checks[] | select(.state != \"ok\")'")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Configuration file.
    #[arg(short, long, env = "KEEPHOLD_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder with this host's keys.
    #[arg(long, env = "KEEPHOLD_KEYS", hide_env_values = true, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Folder for the cache.
    #[arg(long, env = "KEEPHOLD_CACHE", hide_env_values = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// What this host is called in the vault.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &DoctorArgs) -> Result<Exit> {
    // A vault that is named here is reached without whatever this host's configuration says of another.
    let config = match find(args.config.as_deref(), FILE) {
        Some(path) if args.config.is_some() || args.target.vault.is_none() => Config::read(&path)?,
        _ => Config::default(),
    };
    let target = args.target.resolve(&config.vault)?;
    let host = match &args.host {
        Some(name) => config::host_name(Some(name))?,
        None => config.host()?,
    };
    let needs = Needs::of(&config)?;
    let folder =
        args.keys.clone().or_else(|| config.vault.keys.clone()).unwrap_or_else(default_folder);
    let cache = args.cache.clone().or_else(|| config.cache.clone()).unwrap_or_else(default_cache);
    let mut found =
        Examination { vault: target.url.to_string(), host: host.clone(), checks: Vec::new() };
    let keys = host::keys(&folder, &host, &mut found);
    host::cache(&cache, &mut found);
    target::examine(&target, keys.as_ref(), needs, &mut found).await?;
    print(&found, args.json)?;
    Ok(found.exit())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print(found: &Examination, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(found)?);
    } else {
        print!("{}", found.text());
    }
    Ok(())
}
