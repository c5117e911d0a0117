//! The benchmark behind `cargo xtask bench`: what the agent costs the application, and what it needs itself.
//!
//! Every figure stands beside a baseline from the same run, as machines differ. An agent that loses calls is no
//! faster for it: each run also checks that every call became a span.

mod bystanders;
mod figure;
mod memory;
mod processes;
mod scenario;
mod stage;
mod start;
mod traps;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use crate::{figure::table, stage::Agents};

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
    /// Another build of the agent, to be measured in the same run: as it was before.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Throughput and latency of an application without probes, with empty ones, with the agent.
    Overhead,
    /// Processor time of the agent for each streamed chunk and each plain call.
    Cpu,
    /// What is spared on traffic that is no LLM call.
    Verdicts,
    /// Calls of a process that is not observed, beside one that is.
    Bystanders,
    /// Traps of each call of a TLS library.
    Traps,
    /// Processor time of the agent when nothing happens.
    Idle,
    /// Start, memory and end of the agent with up to 5,000 observed processes.
    Processes,
    /// From the start of the agent to the first call that it sees, and what a new process costs.
    Start,
    /// Memory of the agent by what is open.
    Memory,
}

impl Scenario {
    /// How it is measured.
    const fn method(self) -> &'static str {
        match self {
            Self::Overhead => {
                "one TLS connection that streams in a closed loop; median of the rounds, in turns"
            }
            Self::Cpu => "processor time by /proc/PID/stat, over a closed loop of calls",
            Self::Verdicts => {
                "processor time by /proc/PID/stat, over downloads and over calls of the same size"
            }
            Self::Bystanders => bystanders::METHOD,
            Self::Traps => traps::METHOD,
            Self::Idle => "processor time by /proc/PID/stat, with a process attached that does nothing",
            Self::Processes => processes::METHOD,
            Self::Start => start::METHOD,
            Self::Memory => memory::METHOD,
        }
    }
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
    let Args { mut scenarios, json, seconds, rounds, against } = args;
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let agents = Agents::new(against)?;
    let rounds = rounds.max(1);
    for scenario in scenarios {
        let figures = match scenario {
            Scenario::Overhead => scenario::overhead(&agents, seconds, rounds),
            Scenario::Cpu => scenario::cpu(&agents, seconds),
            Scenario::Verdicts => scenario::verdicts(&agents, seconds),
            Scenario::Bystanders => bystanders::bystanders(&agents, rounds),
            Scenario::Traps => traps::traps(&agents),
            Scenario::Idle => scenario::idle(&agents, seconds),
            Scenario::Processes => processes::processes(&agents),
            Scenario::Start => start::start(&agents, rounds),
            Scenario::Memory => memory::memory(&agents, seconds),
        }?;
        let name = scenario.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        if json {
            figures.iter().for_each(|figure| println!("{}", figure.json(&name)));
        } else {
            println!("{name}: {}\n{}", scenario.method(), table(&figures));
        }
    }
    Ok(())
}
