//! `keephold replicate`: copies a vault's sealed objects to another target.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use jiff::SignedDuration;
use keephold_cli::exit::{Exit, exit_of, render, usage};
use keephold_cli::human;
use keephold_cli::target::{LockArg, Target, TargetArgs};
use keephold_vault::ids::Fingerprint;
use keephold_vault::replicate::{Done, Settings, Tally, Totals, replicate};
use serde::Serialize;

use crate::config::{self, Config, ReplicaTable};
use crate::watching::Watching;

/// Objects copied at once where nothing else is said: some 100 MB of memory.
const PARALLEL: usize = 4;

/// Copy a vault to another target, with locks of its own. Takes no key that decrypts: run it anywhere.
///
/// Copies only what is missing, so it can be ended and run again at any time; a snapshot appears in the copy once
/// everything that it needs is there. The copy is a whole vault: restore from it with --vault.
///
/// Exit codes: 0 the copy has all that the source has; 1 failed; 2 the command line or the configuration is wrong; 3 done, but
/// objects are damaged in the source and not in the copy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    keephold replicate                          every [[replica]] of the configuration file\n  \
    keephold replicate second-region            one of them\n  \
    keephold replicate --from s3://b/p --to s3://copy/p --to-profile other-account --to-region eu-west-1\n  \
    keephold snapshots --vault s3://copy/p      what the copy has\n\n\
    The source's credential must be allowed to read everything, packs too, and to list versions and read locks: it is not \
    the one of a host that backs up.")]
pub(crate) struct ReplicateArgs {
    /// Replicas of the configuration file; all of them by default.
    #[arg(value_name = "NAME", conflicts_with = "to")]
    names: Vec<String>,
    /// The vault to copy; by default that of the configuration file.
    #[arg(
        long,
        value_name = "URL",
        env = "KEEPHOLD_VAULT",
        hide_env_values = true,
        help_heading = "Source"
    )]
    from: Option<String>,
    /// Address of an S3-compatible server.
    #[arg(long, value_name = "URL", help_heading = "Source")]
    from_endpoint: Option<String>,
    /// Region to sign requests for.
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    from_region: Option<String>,
    /// Profile in the AWS configuration files.
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    from_profile: Option<String>,
    /// Where the copy is: a URL, as a vault has.
    #[arg(long, value_name = "URL", help_heading = "Copy")]
    to: Option<String>,
    /// Address of an S3-compatible server.
    #[arg(long, value_name = "URL", help_heading = "Copy")]
    to_endpoint: Option<String>,
    /// Region to sign requests for.
    #[arg(long, value_name = "NAME", help_heading = "Copy")]
    to_region: Option<String>,
    /// Profile in the AWS configuration files.
    #[arg(long, value_name = "NAME", help_heading = "Copy")]
    to_profile: Option<String>,
    /// How the copy is locked.
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Copy")]
    to_lock: Option<LockArg>,
    /// Lock all of it for at least so long from now, for example 35d; needed where the source has no locks.
    #[arg(long, value_name = "TIME", help_heading = "Copy")]
    keep: Option<String>,
    /// The vault's fingerprint, as `keephold init` printed it: no other vault is then copied.
    #[arg(long, env = "KEEPHOLD_FINGERPRINT", value_name = "HEX")]
    fingerprint: Option<Fingerprint>,
    /// Objects that are copied at once; each may take 64 MiB of memory.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: Option<u16>,
    /// Give up on a server after so many seconds of failing requests.
    #[arg(long, value_name = "SECONDS")]
    retry: Option<u64>,
    /// Configuration file.
    #[arg(short, long, env = "KEEPHOLD_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object for each copy.
    #[arg(long)]
    json: bool,
}

/// One copy to make.
struct Plan {
    name: Option<String>,
    target: Target,
    settings: Settings,
}

impl ReplicateArgs {
    fn plans(&self) -> Result<(Target, Vec<Plan>)> {
        // Who names both sides means just what stands there.
        let named_here = self.from.is_some() && self.to.is_some();
        let config = Config::chosen(self.config.as_deref(), named_here)?;
        let source = TargetArgs {
            vault: self.from.clone(),
            endpoint: self.from_endpoint.clone(),
            region: self.from_region.clone(),
            profile: self.from_profile.clone(),
            lock: None,
            retry: self.retry,
        };
        if source.vault.is_none() && config.vault.url.is_none() {
            return Err(usage(
                "nothing says which vault to copy: give --from URL, or a configuration file with a [vault] table",
            ));
        }
        let source = source.resolve(&config.vault)?;
        let tables = if self.to.is_some() {
            vec![ReplicaTable::default()]
        } else {
            self.choose(&config.replica)?
        };
        let mut plans = Vec::new();
        for table in tables {
            let plan = self.plan(&table)?;
            if plan.target.is_at(&source) {
                return Err(usage(format!("{} can't be a copy of itself", source.url)));
            }
            plans.push(plan);
        }
        Ok((source, plans))
    }

    fn choose(&self, all: &[ReplicaTable]) -> Result<Vec<ReplicaTable>> {
        if all.is_empty() {
            return Err(usage(
                "nothing says where the copy is to be: give --to URL, or a configuration file with a [[replica]]",
            ));
        }
        if self.names.is_empty() {
            return Ok(all.to_vec());
        }
        let one = |name: &String| {
            all.iter().find(|table| table.name == *name).cloned().ok_or_else(|| {
                let names: Vec<_> = all.iter().map(|table| table.name.as_str()).collect();
                usage(format!("there is no replica '{name}'; there are: {}", names.join(", ")))
            })
        };
        self.names.iter().map(one).collect()
    }

    fn plan(&self, table: &ReplicaTable) -> Result<Plan> {
        let target = TargetArgs {
            vault: self.to.clone(),
            endpoint: self.to_endpoint.clone(),
            region: self.to_region.clone(),
            profile: self.to_profile.clone(),
            lock: self.to_lock,
            retry: self.retry,
        };
        let target = target.resolve(&table.vault)?;
        let keep = self.keep.as_ref().or(table.keep.as_ref());
        let keep: Option<SignedDuration> =
            keep.map(|text| config::keep(text, "keep of the copy")).transpose()?;
        let settings = Settings {
            policy: target.options.lock,
            keep,
            parallel: self.parallel.map_or(PARALLEL, usize::from),
            fingerprint: self.fingerprint.or(table.fingerprint),
        };
        let name = (!table.name.is_empty()).then(|| table.name.clone());
        Ok(Plan { name, target, settings })
    }
}

pub(crate) async fn run(args: &ReplicateArgs, quiet: bool) -> Result<Exit> {
    let (source, plans) = args.plans()?;
    let shown = !args.json && !quiet && std::io::stderr().is_terminal();
    let mut exit = Exit::Done;
    for plan in &plans {
        let tally = Arc::new(Tally::default());
        let began = Instant::now();
        let told = Arc::clone(&tally);
        let watching =
            Watching::start(shown, None, move |bar| bar.set_message(progress(&told.totals())));
        let done = copy(&source, plan, &tally).await;
        drop(watching);
        let summary = Summary {
            replica: plan.name.clone(),
            from: source.url.to_string(),
            to: plan.target.url.to_string(),
            error: done.as_ref().err().map(|error| render(error).trim_end().to_owned()),
            done: done.as_ref().ok().cloned(),
            totals: tally.totals(),
            seconds: began.elapsed().as_secs(),
        };
        let state = summary.exit();
        report(&summary, state, args.json, quiet)?;
        match done {
            Err(error) if plans.len() == 1 => return Err(error),
            // A target that is down keeps no other from being written to.
            Err(error) => {
                tracing::error!("{}", render(&error).trim_end());
                exit = exit.max(exit_of(&error)).max(Exit::Failed);
            }
            Ok(_) => exit = exit.max(state),
        }
    }
    Ok(exit)
}

async fn copy(source: &Target, plan: &Plan, tally: &Tally) -> Result<Done> {
    let failed = || format!("{} could not be copied to {}", source.url, plan.target.url);
    let (from, to) = (source.open()?, plan.target.open()?);
    replicate(&from, &to, &plan.settings, tally).await.with_context(failed)
}

/// What is printed of a copy.
#[derive(Debug, Serialize)]
struct Summary {
    replica: Option<String>,
    from: String,
    to: String,
    error: Option<String>,
    #[serde(flatten)]
    done: Option<Done>,
    #[serde(flatten)]
    totals: Totals,
    seconds: u64,
}

impl Summary {
    fn exit(&self) -> Exit {
        match &self.done {
            None => Exit::Failed,
            Some(_) if self.totals.objects_failed > 0 => Exit::Failed,
            Some(_) if self.totals.objects_damaged > 0 => Exit::Findings,
            Some(_) => Exit::Done,
        }
    }

    fn text(&self, state: Exit) -> String {
        let totals = &self.totals;
        let word = match state {
            Exit::Done => "done",
            Exit::Findings => "done, but objects are damaged in the source",
            Exit::Failed | Exit::Usage => "FAILED",
        };
        let took = human::duration(Duration::from_secs(self.seconds));
        let mut out = format!("{}: {word} in {took}\n", self.to);
        let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<9} {text}\n"));
        line(
            "source",
            format!(
                "{}: {} in {}",
                self.from,
                human::count(totals.records_found, "record"),
                human::count(totals.packs_found, "pack")
            ),
        );
        line(
            "copied",
            format!(
                "{} in {}; {}",
                human::bytes(totals.bytes_copied),
                human::count(totals.packs_copied, "pack"),
                human::count(totals.records_copied, "record")
            ),
        );
        if let Some(done) = &self.done {
            let locks = if done.locks_compared {
                format!("{} made longer", human::number(totals.locks_extended))
            } else {
                "not compared: no new records".to_owned()
            };
            line("locks", locks);
        }
        line(
            "requests",
            format!(
                "{} read, {} written, {} locks asked for, {} locks set anew",
                human::number(totals.objects_read),
                human::number(totals.objects_written),
                human::number(totals.locks_read),
                human::number(totals.locks_extended)
            ),
        );
        if let Some(done) = self.done.as_ref().filter(|done| done.held_back > 0) {
            line(
                "held back",
                format!(
                    "{}: what could not be copied may be needed by them; run it again",
                    human::count(done.held_back, "record")
                ),
            );
        }
        for (what, number, first) in [
            ("damaged", totals.objects_damaged, &totals.damaged),
            ("failed", totals.objects_failed, &totals.failed),
        ] {
            for problem in first.iter().take(20) {
                out.push_str(&format!("  {what}: {}: {}\n", problem.key, problem.why));
            }
            if number > 20 {
                out.push_str(&format!(
                    "  {what}: … {} in all; --json names more\n",
                    human::number(number)
                ));
            }
        }
        if totals.objects_damaged > 0 {
            out.push_str("  run `keephold-verify run` on the source: it names the snapshots that need what is damaged\n");
        }
        out
    }
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn report(summary: &Summary, state: Exit, json: bool, quiet: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(summary)?);
    } else if summary.error.is_none() && (!quiet || state != Exit::Done) {
        print!("{}", summary.text(state));
    }
    Ok(())
}

fn progress(totals: &Totals) -> String {
    format!(
        "{} looked at, {} copied, {} locks asked for",
        human::count(totals.packs_found, "pack"),
        human::bytes(totals.bytes_copied),
        human::number(totals.locks_read)
    )
}
