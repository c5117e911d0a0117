//! The storm as a program, for longer than a test takes: `storm --seconds 300`, as root.

use std::process::ExitCode;

use clap::Parser;

/// Everything that is hard on an observer, all at once, beside a client whose calls must come out exact.
#[derive(Parser)]
struct Args {
    /// How long, about
    #[arg(long, default_value_t = 300)]
    seconds: usize,
}

fn main() -> ExitCode {
    let report = tokentap_tests::storm::run(Args::parse().seconds);
    print!("{report}");
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
