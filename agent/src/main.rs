//! `tokentap`: parse arguments, build the configuration, run, exit code.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use tokentap::{agent, cli::Cli, config::Config};

/// Nothing was lost.
const COMPLETE: u8 = 0;
/// It could not be done.
const FAILED: u8 = 1;
/// Wrong usage (as clap's).
const USAGE: u8 = 2;
/// Something was lost.
const LOSSY: u8 = 3;

fn main() -> ExitCode {
    let config = match Config::resolve(
        Cli::parse(),
        &|name| std::env::var(name).ok(),
        std::io::stdout().is_terminal(),
    ) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(config.log_level)
        .with_target(false)
        .init();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if config.disabled {
        tracing::info!("OTEL_SDK_DISABLED is set: nothing to do");
        return ExitCode::from(COMPLETE);
    }
    match agent::run(config) {
        Ok(agent::Outcome::Complete) => ExitCode::from(COMPLETE),
        Ok(agent::Outcome::Lossy) => ExitCode::from(LOSSY),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

#[expect(clippy::print_stderr, reason = "errors go to standard error also when logging is off")]
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("error: {error}");
}
