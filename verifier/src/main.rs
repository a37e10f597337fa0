//! `keephold-verify`: downloads, checks and restores what `keephold` stored, and signs a report of it.

use std::process::ExitCode;

use clap::Parser;
use keephold_cli::exit::{exit_of, render};
use keephold_cli::logging;
use keephold_verify::commands::{Cli, run};

fn main() -> ExitCode {
    keephold_cli::memory::share_heaps();
    keephold_cli::memory::give_back(keephold_cli::memory::GiveBack::Packs);
    let cli = Cli::parse();
    logging::init(cli.log());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&anyhow::Error::from(error).context("the program could not start"));
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

#[expect(clippy::print_stderr, reason = "the one place where errors are told")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprint!("{}", render(error));
    exit_of(error).into()
}
