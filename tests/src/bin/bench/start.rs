//! How soon the agent sees something, and what a new process costs it.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use tokentap_tests::{agent::Agent, process::wait_until};

use crate::{
    figure::{Compared, Figure, Limit, median},
    scenario::STREAMED,
    stage::{Agents, Load, Plan, Server, cpu_seconds, peak_mib},
};

pub(crate) const METHOD: &str = "a process calls without a pause while the agent starts: until the start of the first call that \
                                 became a span, median of the rounds; with --all: 1,000 runs of /bin/true one after the other";

const SHORT: Plan = Plan { model: "mock-size100", plain: true, ..STREAMED };
const PROCESSES: usize = 1000;

/// From nothing to the first call.
pub(crate) fn start(agents: &Agents, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let rounds = agents.rounds(rounds, |candidate, round| {
        eprintln!("start: {}, round {round} of {rounds}", candidate.name);
        let mut load = Load::start(&server, SHORT, 600.0)?;
        load.go();
        let (clock, wall) = (Instant::now(), SystemTime::now());
        let agent = candidate.watch(load.id());
        let ready = clock.elapsed().as_secs_f64();
        drop(agent.wait_for_spans(1));
        let printed = clock.elapsed().as_secs_f64();
        // Spans are not printed in the order of their starts.
        thread::sleep(Duration::from_millis(100));
        let begun = wall.duration_since(UNIX_EPOCH)?.as_nanos();
        let first =
            agent.wait_for_spans(1).iter().map(|span| u128::from(span.start)).min().context("no span")?;
        let stop = Instant::now();
        let ended = agent.stop();
        ensure!(!ended.spans.is_empty(), "nothing was seen\n{}", ended.log);
        Ok([ready, first.saturating_sub(begun) as f64 / 1e9, printed, stop.elapsed().as_secs_f64()])
    })?;
    let middle = |at: usize| rounds.map(|rounds| median(rounds.iter().map(|round| round[at]).collect()));
    let mut figures = vec![
        Figure::of("start to ready", &middle(0), "s"),
        Figure::of("start to the first call that is seen", &middle(1), "s").limited(Limit::AtMost(0.15)),
        Figure::of("start to the first span", &middle(2), "s"),
        Figure::of("SIGTERM to exit, under load", &middle(3), "s").limited(Limit::AtMost(1.0)),
    ];
    figures.extend(new_processes(agents)?);
    Ok(figures)
}

/// What each process that comes and goes costs an agent that observes all.
fn new_processes(agents: &Agents) -> anyhow::Result<Vec<Figure>> {
    let measured: Compared<(f64, f64)> = agents.each(|candidate| {
        eprintln!("start: {PROCESSES} new processes with --all, {}", candidate.name);
        let agent = candidate.run(&["--all"]);
        let id = agent.process().id();
        let before = settled(&agent)?;
        for _ in 0..PROCESSES {
            let status = Command::new("/bin/true").status()?;
            ensure!(status.success(), "/bin/true failed");
        }
        let spent = settled(&agent)? - before;
        let peak = peak_mib(id)?;
        drop(agent.stop());
        Ok((1e3 * spent / PROCESSES as f64, peak))
    })?;
    Ok(vec![
        Figure::of("CPU per new process, --all", &measured.map(|(cpu, _)| *cpu), "ms")
            .limited(Limit::AtMost(0.1)),
        Figure::of("peak memory, --all", &measured.map(|(_, peak)| *peak), "MiB")
            .limited(Limit::AtMost(50.0)),
    ])
}

/// The agent's processor time once it has nothing left to do.
fn settled(agent: &Agent) -> anyhow::Result<f64> {
    let id = agent.process().id();
    let mut last = cpu_seconds(id)?;
    wait_until("the agent comes to rest", || {
        thread::sleep(Duration::from_millis(500));
        let now = cpu_seconds(id).unwrap_or(last);
        let rests = now - last < 0.02;
        last = now;
        rests
    });
    Ok(last)
}
