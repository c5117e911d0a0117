//! The benchmark behind `cargo xtask bench`: what the agent costs the application, and what it needs itself.
//!
//! Every figure stands beside a baseline from the same run, as machines differ. An agent that loses calls is no
//! faster for it: each run also checks that every call became a span.

mod figure;
mod scenario;
mod stage;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::figure::{Figure, table};

/// Measures the running agent, on this machine, as root.
#[derive(Parser)]
struct Args {
    /// What to measure; everything when none is given.
    scenarios: Vec<Scenario>,
    /// One line of JSON for each figure instead of a table.
    #[arg(long)]
    json: bool,
    /// Seconds of one run.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Runs of each variant; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Throughput and latency of an application without probes, with empty ones, with the agent.
    Overhead,
    /// Processor time of the agent for each streamed chunk and each plain call.
    Cpu,
    /// What is spared on traffic that is no LLM call.
    Verdicts,
    /// Throughput of a process that is not watched.
    Bystanders,
    /// Processor time of the agent when nothing happens, and its memory with 1,000 open streams.
    Idle,
}

fn main() -> ExitCode {
    match measure(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: Args) -> anyhow::Result<()> {
    let Args { mut scenarios, json, seconds, rounds } = args;
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let mut figures: Vec<Figure> = Vec::new();
    for scenario in scenarios {
        figures.extend(match scenario {
            Scenario::Overhead => scenario::overhead(seconds, rounds.max(1))?,
            Scenario::Cpu => scenario::cpu(seconds)?,
            Scenario::Verdicts => scenario::verdicts(seconds)?,
            Scenario::Bystanders => scenario::bystanders(seconds, rounds.max(1))?,
            Scenario::Idle => scenario::idle(seconds)?,
        });
    }
    if json {
        for figure in &figures {
            println!("{}", figure.json());
        }
    } else {
        print!("{}", table(&figures));
    }
    Ok(())
}
