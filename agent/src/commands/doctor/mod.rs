//! `keephold doctor`: is this host set up as it should be, and can its credential do what it needs and nothing more?

mod check;
mod cloud;
mod copies;
mod host;
mod mend;
mod rights;
mod target;

use anyhow::Result;
use clap::Args;
use keephold_cli::exit::Exit;

use self::check::Examination;
use super::host_args::HostArgs;
use crate::retention::needs::Needs;

/// Examine this host's set-up, its credential and its vault, and say how to mend what is wrong.
///
/// What the credential may do is tried on the server, in ways that change nothing. (With lock = "governance" the lock
/// of vault.json gets longer by a second or two. A credential that may hide objects, and may not delete versions, leaves a
/// delete marker over nothing below packs/, and is told so.)
///
/// Exit codes: 0 nothing to mend; 3 something should be mended; 1 something could not be checked; 2 the command line or the
/// configuration is wrong.
#[derive(Debug, Clone, Args)]
// What losing the cache costs only matters to who makes backups.
#[command(mut_arg("cache", |arg| arg.help("Folder for the cache")), after_help = "Examples:\n  \
    keephold doctor                                     with /etc/keephold/keephold.toml\n  \
    keephold doctor --vault s3://acme-backups/db1       without a configuration file\n  \
    keephold doctor --json | jq '.checks[] | select(.state != \"ok\")'")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    of: HostArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: &DoctorArgs) -> Result<Exit> {
    let config = args.of.config(args.of.target.vault.is_some())?;
    let target = args.of.target.resolve(&config.vault)?;
    let host = config.host()?;
    let needs = Needs::of(&config)?;
    let mut found =
        Examination { vault: target.url.to_string(), host: host.clone(), checks: Vec::new() };
    let folder = args.of.key_folder(&config);
    let keys = host::keys(&folder, &host, &mut found);
    host::cache(&args.of.cache(&config), &mut found);
    let with_folder = keys.as_ref().map(|keys| (keys, folder.as_path()));
    target::examine(&target, with_folder, needs, &mut found).await?;
    for also in crate::copies::configured(&config, &target)? {
        copies::examine(&also, keys.as_ref(), &mut found).await?;
    }
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
