//! `tokentap`: parse arguments, build the configuration, run, exit code.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use tokentap::{
    cli::{Cli, Command},
    commands,
    config::{Config, layers::Layers},
};

/// Nothing was lost.
const COMPLETE: u8 = 0;
/// It could not be done.
const FAILED: u8 = 1;
/// Wrong usage (as clap's).
const USAGE: u8 = 2;
/// Something was lost.
const LOSSY: u8 = 3;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    give_memory_back();
    let variable = |name: &str| std::env::var(name).ok();
    let layers = match Layers::new(std::env::args_os().collect(), &variable) {
        Ok(layers) => layers,
        Err(faults) => {
            print_error(&faults);
            return ExitCode::from(USAGE);
        }
    };
    let cli = Cli::parse_from(&layers.words);
    if let Command::Config(command) = &cli.command {
        return match commands::configure(command, &variable) {
            Ok(true) => ExitCode::from(COMPLETE),
            Ok(false) => ExitCode::from(USAGE),
            Err(error) => {
                print_error(&format!("{error:#}"));
                ExitCode::from(FAILED)
            }
        };
    }
    let terminal = std::io::stdout().is_terminal();
    let config = match Config::resolve(cli, &|name| layers.variable(name, &variable), terminal) {
        Ok(config) => config,
        Err(error) => {
            print_error(&error);
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
    match commands::execute(config) {
        Ok(commands::ExitOutcome::Complete) => ExitCode::from(COMPLETE),
        Ok(commands::ExitOutcome::Lossy) => ExitCode::from(LOSSY),
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Symbol tables of large executables are read once and freed: their memory goes back to the system, instead
/// of staying with the allocator, which raises its threshold for that with every large block it frees. Few
/// arenas, for the same reason.
#[cfg(target_env = "gnu")]
fn give_memory_back() {
    const LARGE: libc::c_int = 128 << 10;
    const ARENAS: libc::c_int = 2;
    // SAFETY: before any other thread; a refused value changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

#[expect(clippy::print_stderr, reason = "errors go to standard error also when logging is off")]
fn print_error(error: &dyn std::fmt::Display) {
    eprintln!("error: {error}");
}
