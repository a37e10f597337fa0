//! `keephold backup`: runs jobs.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use keephold_cli::exit::{Exit, usage};
use keephold_cli::human;
use keephold_cli::keys::{CARRY_OFF, HostKeys, identities_left};
use keephold_vault::record::{Record, SourceReport, Status, Totals};
use serde::Serialize;

use super::host_args::HostArgs;
use crate::config::{self, Config, DirectoryTable, Job, PostgresTable, RetentionTable};
use crate::copies;
use crate::open::OpenVault;
use crate::run::{Outcome, Runner, Watch};
use crate::source::Stop;

/// Back up jobs of the configuration file, or paths and databases named here.
///
/// Exit codes: 0 all done; 1 a run failed; 2 the command line or the configuration is wrong; 3 done, with warnings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    keephold backup                                          all jobs of /etc/keephold/keephold.toml\n  \
    keephold backup etc main                                 two of them\n  \
    keephold backup --vault file:///srv/vault /etc /home     paths, without a configuration file\n  \
    keephold backup --vault s3://b/p --postgres 'service=main'")]
pub(crate) struct BackupArgs {
    /// Jobs of the configuration file; or paths, if --vault is given without --config.
    #[arg(value_name = "JOB|PATH")]
    what: Vec<PathBuf>,
    /// Back up this PostgreSQL server: a libpq connection string or URI; '' for libpq's own defaults.
    #[arg(long, value_name = "DSN", env = "KEEPHOLD_POSTGRES", hide_env_values = true)]
    postgres: Option<String>,
    /// Name of the job for paths or a server given here.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Keep the run for so long, for example 35d.
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
    /// Leave out what this pattern matches, as a .gitignore would; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Stay on the file systems of the paths given.
    #[arg(long)]
    one_file_system: bool,
    #[command(flatten)]
    of: HostArgs,
    /// Print one JSON object for each run.
    #[arg(long)]
    json: bool,
}

impl BackupArgs {
    /// The configuration: the file, or one made of what the command line names.
    fn configuration(&self) -> Result<(Config, Vec<Job>)> {
        let named_here = self.of.target.vault.is_some() || self.postgres.is_some();
        let mut config = self.of.config(named_here)?;
        if let Some(keep) = &self.keep {
            // One length for every run, whatever classes the file has.
            config.retention = RetentionTable {
                keep: Some(keep.clone()),
                evidence: config.retention.evidence.clone(),
                ..RetentionTable::default()
            };
        }
        if named_here && self.of.config.is_none() {
            self.name_jobs(&mut config)?;
            let jobs = config.jobs()?;
            return Ok((config, jobs));
        }
        let all = config.jobs()?;
        if all.is_empty() {
            return Err(usage(
                "there is nothing to back up: name paths with --vault URL PATH…, or write jobs into \
                 /etc/keephold/keephold.toml",
            ));
        }
        let mut jobs = Vec::new();
        for name in &self.what {
            let name = name.to_string_lossy();
            let Some(job) = all.iter().find(|j| j.name == name) else {
                let names: Vec<_> = all.iter().map(|j| j.name.as_str()).collect();
                return Err(usage(format!(
                    "there is no job '{name}'; there are: {}",
                    names.join(", ")
                )));
            };
            jobs.push(job.clone());
        }
        Ok((config, if self.what.is_empty() { all } else { jobs }))
    }

    /// Jobs for what the command line names.
    fn name_jobs(&self, config: &mut Config) -> Result<()> {
        if self.what.is_empty() && self.postgres.is_none() {
            return Err(usage("name at least one path to back up, or a server with --postgres"));
        }
        if !self.what.is_empty() {
            let mut paths = Vec::new();
            for path in &self.what {
                paths.push(
                    std::path::absolute(path).with_context(|| format!("{}", path.display()))?,
                );
            }
            config.directory.push(DirectoryTable {
                name: self.job.clone().unwrap_or_else(|| "files".into()),
                paths,
                exclude: self.exclude.clone(),
                one_file_system: self.one_file_system,
                ..DirectoryTable::default()
            });
        }
        if let Some(dsn) = &self.postgres {
            let taken = self.job.is_some() && !self.what.is_empty();
            let name = self.job.clone().filter(|_| !taken).unwrap_or_else(|| "postgres".into());
            config.postgres.push(PostgresTable {
                name,
                dsn: dsn.clone(),
                ..PostgresTable::default()
            });
        }
        Ok(())
    }
}

pub(crate) async fn run(args: BackupArgs, quiet: bool) -> Result<Exit> {
    let (config, jobs) = args.configuration()?;
    let host = config.host()?;
    let evidence = config::keep(&config.retention.evidence, "retention.evidence")?;
    let target = args.of.target.resolve(&config.vault)?;
    let also = copies::configured(&config, &target)?;
    let folder = args.of.key_folder(&config);
    let keys = HostKeys::load(&folder)?;
    if let Some(name) = keys.other_host(&host) {
        tracing::warn!(
            "the signing key is that of host '{name}', so the verifier won't believe records of host '{host}': set host = \
             \"{name}\", or write '{host}' in front of the key in the verifier's allowed_signers"
        );
    }
    if !identities_left(&folder).is_empty() {
        tracing::warn!(
            "secret identities are still on this host: carry {} off it, then delete it here",
            folder.join(CARRY_OFF).display()
        );
    }
    let cache = args.of.cache(&config);
    let stop = Stop::default();
    watch_signals(stop.clone())?;
    let vault = OpenVault::open(&target, keys, &cache).await;
    let vault = match vault {
        Ok(vault) => vault,
        Err(error) => {
            crate::run::keep_unopened(&error, &jobs, &host, evidence, &folder, &cache, &target);
            return Err(error);
        }
    };
    let until = Timestamp::now().checked_add(evidence)?;
    let copies = copies::open(&also, &vault, until).await;
    let copy_prices: Vec<_> = also.iter().map(|also| also.prices.clone()).collect();
    let shown = !args.json && !quiet && std::io::stderr().is_terminal();
    let runner = Runner {
        vault: &vault,
        copies: &copies,
        copy_prices: &copy_prices,
        host,
        evidence,
        prices: config.prices.clone(),
        settings: config.performance.resolve().writing(),
        stop,
        watch: Watch { shown },
    };
    let mut exit = Exit::Done;
    for job in &jobs {
        let outcome = match runner.run(job).await {
            Ok(outcome) => outcome,
            Err(error) if jobs.len() == 1 => return Err(error),
            // One job that can't even begin keeps no other from running.
            Err(error) => {
                tracing::error!("{}", keephold_cli::exit::render(&error).trim_end());
                exit = exit.max(Exit::Failed);
                continue;
            }
        };
        let worst = match outcome.record.status {
            Status::Success => Exit::Done,
            Status::Warning => Exit::Findings,
            Status::Failed => Exit::Failed,
        };
        exit = exit.max(worst);
        report(&outcome, args.json, quiet)?;
        if runner.stop.is_set() {
            break;
        }
    }
    Ok(exit)
}

/// The first signal ends the run in order: what was stored is indexed, and the record says so. The second ends the
/// program at once; even then the next run carries on from what is stored.
fn watch_signals(stop: Stop) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be watched")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be watched")?;
    let mut hangup = signal(SignalKind::hangup()).context("signals can't be watched")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if stop.is_set() {
                #[expect(clippy::exit, reason = "a second signal means at once")]
                std::process::exit(130);
            }
            tracing::warn!(
                "interrupted: storing what is on its way; interrupt again to end at once"
            );
            stop.set();
        }
    });
    Ok(())
}

/// What is printed of a run.
#[derive(Serialize)]
struct Line<'a> {
    record: Option<String>,
    #[serde(flatten)]
    body: &'a Record,
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn report(outcome: &Outcome, json: bool, quiet: bool) -> Result<()> {
    if json {
        let record = outcome.key.as_ref().map(ToString::to_string);
        println!("{}", serde_json::to_string(&Line { record, body: &outcome.record })?);
    } else if !quiet || outcome.record.status != Status::Success {
        print!("{}", text(outcome));
    }
    Ok(())
}

/// What the run did about packs of earlier runs; nothing if it did nothing.
fn upkeep(totals: &Totals) -> String {
    let mut did = Vec::new();
    if totals.locks_extended > 0 {
        did.push(format!("{} extended", human::count(totals.locks_extended, "lock")));
    }
    if totals.packs_drained > 0 || totals.bytes_again > 0 {
        did.push(format!(
            "{} of {} stored again, to let old packs go",
            human::bytes(totals.bytes_again),
            human::count(totals.packs_drained, "poorly used pack")
        ));
    }
    if did.is_empty() { String::new() } else { format!("  kept up   {}\n", did.join("; ")) }
}

fn text(outcome: &Outcome) -> String {
    let record = &outcome.record;
    let totals = &record.totals;
    let word = match record.status {
        Status::Success => "done",
        Status::Warning => "done, with warnings",
        Status::Failed => "FAILED",
    };
    let took = std::time::Duration::try_from(record.finished.duration_since(record.started))
        .unwrap_or_default();
    let mut out = format!("{}/{}: {word} in {}\n", record.host, record.job, human::duration(took));
    if record.snapshot.is_some() {
        out.push_str(&format!(
            "  snapshot  {}, {}",
            human::count(totals.entries, "entry"),
            human::bytes(totals.bytes)
        ));
        if totals.files_unchanged > 0 {
            out.push_str(&format!(" ({} unchanged)", human::count(totals.files_unchanged, "file")));
        }
        out.push('\n');
        if let Some(SourceReport::Postgres(pg)) = &record.source {
            for database in &pg.databases {
                out.push_str(&format!(
                    "            {}: {} in {}, dump of {}\n",
                    database.name,
                    human::count(database.rows, "row"),
                    human::count(database.tables, "table"),
                    human::bytes(database.dump_bytes)
                ));
            }
        }
        out.push_str(&format!(
            "  added     {} new, {} stored in {}\n",
            human::bytes(totals.bytes_new),
            human::bytes(totals.bytes_stored),
            human::count(totals.packs_new, "pack")
        ));
        if totals.bytes_matched > 0 {
            out.push_str(&format!(
                "  matched   {} row by row with the dump before\n",
                human::bytes(totals.bytes_matched)
            ));
        }
        out.push_str(&upkeep(totals));
        let expires = record.retention.expires.strftime("%Y-%m-%d");
        let class = &record.retention.class;
        let expires = match class.as_str() {
            "keep" => expires.to_string(),
            _ => format!("{expires}, {class}"),
        };
        let locked = record.snapshot.as_ref().and_then(|s| s.locked_until);
        match locked {
            Some(until) => {
                out.push_str(&format!(
                    "  locked    until {} (kept until {expires})\n",
                    until.strftime("%Y-%m-%d")
                ));
            }
            None => out.push_str(&format!("  locked    NOT AT ALL (kept until {expires})\n")),
        }
    }
    out.push_str(&copies::lines(&record.copies));
    if let Some(calls) = &totals.calls {
        let requests = crate::prices::requests(calls, totals.cost.as_ref());
        out.push_str(&format!("  requests  {requests}\n"));
    }
    if totals.messages > 0 {
        out.push_str(&format!("  {}:\n", human::count(totals.messages, "message")));
        for message in record.messages.iter().take(20) {
            out.push_str(&format!(
                "    {}: {}\n",
                message.code,
                message.text.replace('\n', "\n      ")
            ));
        }
        if totals.messages > 20 {
            out.push_str("    … the record has more: keephold backup --json\n");
        }
    }
    match &outcome.key {
        Some(key) => out.push_str(&format!("  record    {key}\n")),
        None => out.push_str("  record    kept on this host until the vault can be reached\n"),
    }
    out
}
