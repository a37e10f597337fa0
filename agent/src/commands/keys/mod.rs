//! `keephold keys`: the life of keys: who can read, who signs, what lies in the safe.

pub(crate) mod protect;
mod recipients;
mod rotate;
mod sheet;
mod show;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use keephold_cli::exit::Exit;

use crate::config::Config;

/// Look after keys: who can read, who signs, what lies in the safe.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: Command,
    /// Folder with this host's keys.
    #[arg(long, env = "KEEPHOLD_KEYS", hide_env_values = true, value_name = "DIR", global = true)]
    keys: Option<PathBuf>,
    /// Configuration file; only `[vault]` is used.
    #[arg(
        long,
        env = "KEEPHOLD_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::ShowArgs),
    AddRecipient(recipients::AddArgs),
    RetireRecipient(recipients::RetireArgs),
    Rotate(rotate::RotateArgs),
    Protect(protect::ProtectArgs),
    Sheet(Box<sheet::SheetArgs>),
}

pub(crate) fn run(args: &KeysArgs) -> Result<Exit> {
    let config = Config::chosen(args.config.as_deref(), args.keys.is_some())?;
    let folder = config.vault.key_folder(args.keys.as_deref());
    let text = match &args.command {
        Command::Show(args) => show::run(args, &folder)?,
        Command::AddRecipient(args) => recipients::add(args, &folder)?,
        Command::RetireRecipient(args) => recipients::retire(args, &folder)?,
        Command::Rotate(args) => rotate::run(args, &folder)?,
        Command::Protect(args) => protect::run(args)?,
        Command::Sheet(args) => sheet::run(args, &folder, &config)?,
    };
    #[expect(clippy::print_stdout, reason = "what the command is for")]
    {
        print!("{text}");
    }
    Ok(Exit::Done)
}
