//! `cargo xtask bench`: what tokentap costs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::build::{self, cargo};
use crate::instructions;
use crate::setup::{Part, apt};
use crate::shell::{run, say};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Everything when none is given
    scenarios: Vec<Scenario>,
    /// One line of JSON for each figure
    #[arg(long)]
    json: bool,
    /// How long the storm lasts; as long again without the agent
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    storm: usize,
    /// Another build of the agent, to be measured in the same run: as it was before
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Fail where instructions differ from those in the repository, instead of writing them there
    #[arg(long)]
    check: bool,
    /// Runs of each variant, where it is run more than once
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// An application without probes, with empty ones, with tokentap
    Overhead,
    /// Processor time of the agent for each chunk and call
    Cpu,
    /// What is spared on traffic that is no LLM call
    Verdicts,
    /// Calls of a process that is not observed, beside one that is
    Bystanders,
    /// Traps of each call of a TLS library
    Traps,
    /// Processor time of the agent at rest
    Idle,
    /// Start, memory and end of the agent with up to 5,000 observed processes
    Processes,
    /// From the start of the agent to the first call that it sees, and what a new process costs
    Start,
    /// Memory of the agent by what is open, up to 15,000 connections
    Memory,
    /// Each protocol's parser alone: speed and allocations; needs no root
    Wire,
    /// All parsers together, of captured bytes to a span; needs no root
    Parser,
    /// The same for each family of APIs, and what an exchange costs that is no call; needs no root
    Genai,
    /// Spans encoded and sent, metrics of 300 processes: processor time and memory; needs no root
    Export,
    /// Instructions of each row of `wire` and `parser`, by valgrind: the same on every run; needs no root
    Instructions,
    /// Everything that is hard on an observer at once: what comes out, and what is left
    Storm,
}

impl Scenario {
    /// Its name on the command line of the tests' `bench`; `None` for what needs no running agent.
    const fn live(self) -> Option<&'static str> {
        match self {
            Self::Overhead => Some("overhead"),
            Self::Cpu => Some("cpu"),
            Self::Verdicts => Some("verdicts"),
            Self::Bystanders => Some("bystanders"),
            Self::Traps => Some("traps"),
            Self::Idle => Some("idle"),
            Self::Processes => Some("processes"),
            Self::Start => Some("start"),
            Self::Memory => Some("memory"),
            Self::Wire | Self::Parser | Self::Genai | Self::Export | Self::Instructions | Self::Storm => None,
        }
    }
}

/// Builds what is measured, and measures it.
pub(crate) fn measure(options: Options) -> Result<()> {
    let Options { mut scenarios, json, storm, against, check, rounds } = options;
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let format = json.then_some("--json");
    let live: Vec<&str> = scenarios.iter().filter_map(|scenario| scenario.live()).collect();
    if !live.is_empty() {
        ensure!(apt::is_root(), "attaching to processes needs root: run it as `sudo -E cargo xtask bench`");
        Part::Packages.install()?;
        let agent = build::agent()?;
        let programs = build::test_programs(&["bench", "bench-calls", "bench-load", "mock-llm"])?;
        say("measuring; the machine should have nothing else to do");
        let mut bench = Command::new(programs.join("bench"));
        bench.args(live).args(format).env("TOKENTAP_BIN", agent);
        if let Some(against) = against {
            bench.arg("--against").arg(against);
        }
        if let Some(rounds) = rounds {
            bench.args(["--rounds", &rounds.to_string()]);
        }
        run(&mut bench)?;
    }
    if scenarios.contains(&Scenario::Storm) {
        self::storm(storm)?;
    }
    for (scenario, package, name) in [
        (Scenario::Wire, "tokentap-wire", "protocols"),
        (Scenario::Parser, "tokentap-genai", "chat_stream"),
        (Scenario::Genai, "tokentap-genai", "apis"),
        (Scenario::Export, "tokentap-export", "export"),
    ] {
        // What LLM calls cost belongs to both.
        if scenarios.contains(&scenario)
            || (scenario == Scenario::Parser && scenarios.contains(&Scenario::Wire))
        {
            say(format_args!("measuring {name}, on one core"));
            run(cargo("bench").args(["--quiet", "--package", package, "--bench", name, "--"]).args(format))?;
        }
    }
    if scenarios.contains(&Scenario::Instructions) {
        instructions::measure(check)?;
    }
    Ok(())
}

/// Everything that is hard on an observer at once, for so long, and as long again without the agent.
pub(crate) fn storm(seconds: usize) -> Result<()> {
    ensure!(apt::is_root(), "attaching to processes needs root: run it as `sudo -E cargo xtask bench storm`");
    Part::Packages.install()?;
    let agent = build::agent()?;
    let programs = build::test_programs(&["storm", "storm-actor"])?;
    say("a storm; it fails when a call is not exact, or something is changed or left");
    let mut command = Command::new(programs.join("storm"));
    run(command.args(["--seconds", &seconds.to_string()]).env("TOKENTAP_BIN", agent))
}
