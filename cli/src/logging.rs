//! Logs: to standard error, or to the journal. Nothing secret is ever logged: secrets have no `Debug`.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Where logs go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard error, one JSON object a line.
    Json,
    /// The systemd journal.
    Journald,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct LogArgs {
    /// Say more: -v for each step, -vv for each request.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = "Output")]
    pub verbose: u8,
    /// Say nothing but warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// Where log lines go.
    #[arg(
        long,
        value_enum,
        default_value_t,
        global = true,
        value_name = "WHERE",
        help_heading = "Output"
    )]
    pub log: LogTarget,
}

/// Starts logging. `RUST_LOG` wins over the options where it is set.
pub fn init(args: &LogArgs) {
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,keephold={level},keephold_vault={level},keephold_verify={level},keephold_files={level},keephold_postgres={level},keephold_cli={level}")));
    let plain = || {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .without_time()
    };
    let layer: Box<dyn Layer<_> + Send + Sync> = match args.log {
        LogTarget::Stderr => plain().boxed(),
        LogTarget::Json => {
            tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed()
        }
        LogTarget::Journald => match tracing_journald::layer() {
            Ok(layer) => layer.boxed(),
            // A log line that nobody sees is worse than one in an unexpected place.
            Err(_) => plain().boxed(),
        },
    };
    // Only a second call can fail, and the first one's settings then hold.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
