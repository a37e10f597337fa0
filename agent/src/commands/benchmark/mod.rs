//! `keephold benchmark`: what limits backups and restores on this host, and which settings would move the limit.

mod advice;
mod cpu;
mod disk;
mod figures;
mod target;
mod text;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use keephold_cli::exit::Exit;
use keephold_cli::keys::HostKeys;
use keephold_vault::chunk::ChunkBounds;
use keephold_vault::store::TargetUrl;
use serde::Serialize;

use self::advice::Advice;
use self::figures::Figures;
use super::host_args::HostArgs;
use crate::config::{Config, Source};
use crate::open::true_config;
use crate::performance::Performance;

/// Measure what limits backups and restores on this host, and say which settings to change.
///
/// About 20 seconds: the files below the given paths (those of the configuration by default) are walked and read for a few
/// seconds, past the page cache where the system allows it; each step of a backup runs alone over some of that data, in
/// memory; and the vault's target answers small and large reads.
///
/// Nothing is written unless --write is given. Then at most 250 MiB of random bytes are, as packs that no index names.
/// This host can't delete them: they are locked for 15 minutes, and lie in the vault until `keephold prune` takes them
/// (from a week on, unless its --grace is shorter). From a folder (file:///path) they are deleted at once.
///
/// Exit codes: 0 all was measured; 1 failed; 2 the command line or the configuration is wrong; 3 something could not be
/// measured.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("cache", |arg| arg.hide(true)), after_help = "Examples:\n  \
    keephold benchmark                                        with /etc/keephold/keephold.toml\n  \
    keephold benchmark --vault s3://acme-backups/db1 --write /srv\n  \
    keephold benchmark --json | jq .advice.changes")]
pub(crate) struct BenchmarkArgs {
    /// Files and folders to read.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write to the vault too: the only way to know how fast backups can be sent.
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    of: HostArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    vault: String,
    host: String,
    settings: Performance,
    figures: Figures,
    advice: Advice,
}

pub(crate) async fn run(args: &BenchmarkArgs) -> Result<Exit> {
    let config = args.of.config(args.of.target.vault.is_some())?;
    let target = args.of.target.resolve(&config.vault)?;
    let (host, settings) = (config.host()?, config.performance.resolve());
    let paths = paths(args, &config)?;
    let keys = HostKeys::load(&args.of.key_folder(&config))?;
    let store = target.open()?;
    // First what may fail at once: nobody waits ten seconds for a typing error.
    let (vault, _) = true_config(&*store, &keys).await.context("opening the vault")?;
    let checksums = !matches!(target.url, TargetUrl::Local { .. });
    let bounds = vault.chunker;
    let mut figures =
        tokio::task::spawn_blocking(move || of_host(&paths, settings, bounds, checksums)).await??;
    let writing = args.write.then_some(target::Writing { keys: &keys, config: &vault });
    target::measure(&target, &store, settings, writing, &mut figures).await?;
    let advice = Advice::of(&figures, settings);
    let report = Report { vault: target.url.to_string(), host, settings, figures, advice };
    print(&report, args.json)?;
    Ok(if report.figures.missing.is_empty() { Exit::Done } else { Exit::Findings })
}

/// The paths to read: those named here, or those of the configuration's directories.
fn paths(args: &BenchmarkArgs, config: &Config) -> Result<Vec<PathBuf>> {
    if args.paths.is_empty() {
        let jobs = config.jobs()?;
        let of = jobs.into_iter().filter_map(|job| match job.source {
            Source::Directory(directory) => Some(directory.paths),
            Source::Postgres(_) => None,
        });
        return Ok(of.flatten().collect());
    }
    let absolute =
        |path: &PathBuf| std::path::absolute(path).with_context(|| format!("{}", path.display()));
    args.paths.iter().map(absolute).collect()
}

/// Everything that needs no target.
fn of_host(
    paths: &[PathBuf],
    settings: Performance,
    bounds: ChunkBounds,
    checksums: bool,
) -> Result<Figures> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (disk, sample, from) = if paths.is_empty() {
        (None, disk::built_in(), "built in: half text, a quarter numbers, a quarter random")
    } else {
        let (disk, sample) = disk::measure(paths, cores)?;
        (Some(disk), sample, "from the files that were read")
    };
    let (cpu, levels) = cpu::measure(&sample, settings, bounds, checksums)?;
    Ok(Figures { cores, sample: from.into(), disk, cpu, levels, ..Figures::default() })
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{}", text::of(report));
    }
    Ok(())
}
