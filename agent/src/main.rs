//! `keephold`: backs up PostgreSQL and directories into a locked vault, and restores from it.
//!
//! ```text
//! commands ─▶ run: lock, chain ─▶ source ─▶ keephold-vault: chunk … store ─▶ record
//! ```

mod commands;
mod config;
mod copies;
mod notes;
mod open;
mod performance;
mod prices;
mod reading;
mod retention;
mod run;
mod source;
mod unchanged;
mod watching;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keephold_cli::exit::{Exit, exit_of, render};
use keephold_cli::logging::{self, LogArgs};
use keephold_cli::memory::{self, GiveBack};

/// Backs up PostgreSQL and directories into a vault that this host can only add to.
#[derive(Debug, Parser)]
#[command(name = "keephold", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(commands::init::InitArgs),
    Backup(commands::backup::BackupArgs),
    Snapshots(Box<commands::snapshots::SnapshotsArgs>),
    Ls(Box<commands::ls::LsArgs>),
    Restore(Box<commands::restore::RestoreArgs>),
    Dump(Box<commands::dump::DumpArgs>),
    Diff(Box<commands::diff::DiffArgs>),
    Replicate(Box<commands::replicate::ReplicateArgs>),
    Prune(Box<commands::prune::PruneArgs>),
    Keys(Box<commands::keys::KeysArgs>),
    CheckConfig(commands::check_config::CheckConfigArgs),
    Doctor(Box<commands::doctor::DoctorArgs>),
    Benchmark(Box<commands::benchmark::BenchmarkArgs>),
    Policy(commands::policy::PolicyArgs),
}

fn main() -> ExitCode {
    memory::share_heaps();
    let cli = Cli::parse();
    if matches!(cli.command, Command::Backup(_)) {
        memory::give_back(GiveBack::Frames);
    }
    logging::init(&cli.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&anyhow::Error::from(error).context("the program could not start"));
        }
    };
    let quiet = cli.log.quiet;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Init(args) => commands::init::run(args).await,
            Command::Backup(args) => commands::backup::run(args, quiet).await,
            Command::Snapshots(args) => {
                commands::snapshots::run(&args, &args.read.open(false).await?, &mut stdout()).await
            }
            Command::Ls(args) => {
                commands::ls::run(&args, &args.read.open(true).await?, &mut stdout()).await
            }
            Command::Restore(args) => {
                commands::restore::run(&args, &args.read.open(true).await?, quiet, &mut stdout())
                    .await
            }
            Command::Dump(args) => {
                commands::dump::run(&args, &args.read.open(true).await?, &mut stdout()).await
            }
            Command::Diff(args) => {
                commands::diff::run(&args, &args.read.open(true).await?, &mut stdout()).await
            }
            Command::Replicate(args) => commands::replicate::run(&args, quiet).await,
            Command::Prune(args) => commands::prune::run(&args, &mut stdout()).await,
            Command::Keys(args) => commands::keys::run(&args),
            Command::CheckConfig(args) => commands::check_config::run(&args),
            Command::Doctor(args) => commands::doctor::run(&args).await,
            Command::Benchmark(args) => commands::benchmark::run(&args).await,
            Command::Policy(args) => commands::policy::run(&args),
        }
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error),
    }
}

/// Buffered: a listing of a million lines is not a million writes.
fn stdout() -> std::io::BufWriter<std::io::Stdout> {
    std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout())
}

#[expect(clippy::print_stderr, reason = "the one place where errors are told")]
fn fail(error: &anyhow::Error) -> ExitCode {
    // Who reads our output may have had enough: that is no failure of ours.
    let closed = error.chain().any(|c| {
        c.downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    });
    if closed {
        return Exit::Done.into();
    }
    eprint!("{}", render(error));
    exit_of(error).into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// Every help page, as a terminal shows it: a change of any word is seen in review.
    #[test]
    fn help_is_as_agreed() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut pages = command.render_long_help().to_string();
        let names: Vec<String> =
            command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
        for name in names.iter().filter(|n| *n != "help") {
            if let Some(page) = command.find_subcommand_mut(name) {
                pages.push_str(&format!("\n{:=<100}\n{}", "", page.render_long_help()));
                for below in page.get_subcommands_mut().filter(|c| c.get_name() != "help") {
                    pages.push_str(&format!("\n{:=<100}\n{}", "", below.render_long_help()));
                }
            }
        }
        insta::assert_snapshot!("help", pages);
    }
}
