//! The command line: one module a command.

mod check_config;
mod escrow_drill;
mod evidence;
mod init;
mod prove_lock;
mod run;
mod vault_args;
mod verify_report;

use anyhow::Result;
use clap::{Parser, Subcommand};
use keephold_cli::logging::LogArgs;

/// Checks that backups can be relied on: downloads, recomputes and restores them, and signs a report of it.
///
/// It belongs on a machine of its own, with an identity and a credential of its own that can read and nothing else.
///
/// Exit codes: 0 all that was asked for was checked, and nothing was found; 3 checked, and there are findings; 1 the
/// verification itself failed, or something could not be checked; 2 the command line or the configuration is wrong.
#[derive(Debug, Parser)]
#[command(name = "keephold-verify", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Run(Box<run::RunArgs>),
    ProveLock(Box<prove_lock::ProveLockArgs>),
    EscrowDrill(Box<escrow_drill::EscrowDrillArgs>),
    CheckConfig(check_config::CheckConfigArgs),
    VerifyReport(verify_report::VerifyReportArgs),
}

impl Cli {
    /// How to log.
    pub fn log(&self) -> &LogArgs {
        &self.log
    }
}

/// Runs a command; answers the exit status.
///
/// # Errors
/// What keeps the command from being done at all.
pub async fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Run(args) => run::run(&args, cli.log.quiet).await,
        Command::ProveLock(args) => prove_lock::run(&args).await,
        Command::EscrowDrill(args) => escrow_drill::run(&args).await,
        Command::CheckConfig(args) => check_config::run(&args),
        Command::VerifyReport(args) => verify_report::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    fn help(name: &str) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        command.find_subcommand_mut(name).unwrap().render_long_help().to_string()
    }

    #[test]
    fn the_help_of_every_command() {
        Cli::command().debug_assert();
        let top = Cli::command().term_width(100).render_long_help().to_string();
        insta::assert_snapshot!("help", top);
        for name in ["init", "run", "prove-lock", "escrow-drill", "check-config", "verify-report"] {
            insta::assert_snapshot!(format!("help_{name}"), help(name));
        }
    }
}
