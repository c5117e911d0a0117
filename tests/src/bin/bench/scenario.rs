//! What is measured.

use std::{thread, time::Duration};

use anyhow::ensure;
use tokentap_tests::agent::Agent;

use crate::{
    figure::{Figure, Limit, median},
    stage::{Agents, Done, Load, Plan, Server, counter, cpu_seconds, empty_probes, wait_for_quiet},
};

const CHUNKS: usize = 200;
pub(crate) const STREAMED: Plan =
    Plan { model: "mock-chunks200", plain: false, download: None, connections: 1, tls: true };
/// Chunks come one by one, as models make them, on several connections at once.
const PACED: Plan = Plan { model: "mock-chunks200-slow5", connections: 16, ..STREAMED };
const PLAIN: Plan = Plan { model: "mock-size2048", plain: true, ..STREAMED };
/// Answers and files of the same size: those are copied whole, of these only the heads are.
const LARGE: usize = 256 << 10;
const LARGE_CALLS: Plan = Plan { model: "mock-size262144", ..PLAIN };
const FILES: Plan = Plan { download: Some(LARGE), ..STREAMED };

/// A closed loop over TLS, streaming; the variants take turns.
pub(crate) fn overhead(agents: &Agents, seconds: f64, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let (mut nothing, mut empty) = (Vec::new(), Vec::new());
    let mut turn = 0;
    let tokentap = agents.rounds(rounds, |candidate, round| {
        // The baselines once a round, however many agents there are.
        if round > turn {
            turn = round;
            wait_for_quiet()?;
            eprintln!("overhead: no probes, round {round} of {rounds}");
            nothing.push(Load::start(&server, STREAMED, seconds)?.run()?.0);
            eprintln!("overhead: empty probes, round {round} of {rounds}");
            let load = Load::start(&server, STREAMED, seconds)?;
            let probes = empty_probes(load.id())?;
            empty.push(load.run()?.0);
            drop(probes);
        }
        eprintln!("overhead: tokentap {}, round {round} of {rounds}", candidate.name);
        let load = Load::start(&server, STREAMED, seconds)?;
        let agent = candidate.watch(load.id());
        let done = load.run()?.0;
        all_seen(agent, done.calls)?;
        Ok(done)
    })?;
    let mut figures = Vec::new();
    for (what, unit, value) in [
        ("throughput", "calls/s", (|done| done.calls_per_second) as fn(&Done) -> f64),
        ("latency p50", "ms", |done| done.p50_us / 1e3),
        ("latency p99", "ms", |done| done.p99_us / 1e3),
    ] {
        let middle = |runs: &Vec<Done>| median(runs.iter().map(value).collect());
        let (nothing, empty) = (middle(&nothing), middle(&empty));
        figures.push(Figure::new(format!("{what}, no probes"), nothing, unit));
        figures.push(Figure::new(format!("{what}, empty probes"), empty, unit).against("no probes", nothing));
        let figure = Figure::of(format!("{what}, tokentap"), &tokentap.map(middle), unit)
            .against("empty probes", empty);
        figures.push(if what == "throughput" { figure.limited(Limit::RatioAtLeast(0.9)) } else { figure });
    }
    Ok(figures)
}

/// What the agent spends for each unit of work, beside what the application spends for it.
pub(crate) fn cpu(agents: &Agents, seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut figures = Vec::new();
    for (name, plan, units, most) in [
        ("agent CPU per streamed chunk, full speed", STREAMED, CHUNKS, 15.0),
        ("agent CPU per streamed chunk, 3,000 a second", PACED, CHUNKS, 15.0),
        ("agent CPU per plain 2 KiB call", PLAIN, 1, 150.0),
    ] {
        let spent = agents.each(|candidate| {
            eprintln!("cpu: {name}, {}", candidate.name);
            let load = Load::start(&server, plan, 2.0 * seconds)?;
            let agent = candidate.watch(load.id());
            let before = cpu_seconds(agent.process().id())?;
            let (done, application) = load.run()?;
            // It has a second to hand a finished call to its exporter.
            thread::sleep(Duration::from_secs(1));
            let spent = cpu_seconds(agent.process().id())? - before;
            all_seen(agent, done.calls)?;
            let micros = 1e6 / (done.calls * units) as f64;
            Ok((spent * micros, application * micros))
        })?;
        figures.push(
            Figure::of(name, &spent.map(|(agent, _)| *agent), "µs")
                .against("the application's own", spent.now.1)
                .limited(Limit::AtMost(most)),
        );
    }
    Ok(figures)
}

/// What the agent spends on traffic that is none of its business.
pub(crate) fn verdicts(agents: &Agents, seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let spent = agents.each(|candidate| {
        let mut spent = Vec::new();
        let mut copied = 0.0;
        for plan in [LARGE_CALLS, FILES] {
            let what = if plan.download.is_some() { "files" } else { "answers" };
            eprintln!("verdicts: {what} of 256 KiB, {}", candidate.name);
            let load = Load::start(&server, plan, 2.0 * seconds)?;
            let agent = candidate.watch(load.id());
            let before = cpu_seconds(agent.process().id())?;
            let (done, _) = load.run()?;
            thread::sleep(Duration::from_secs(1));
            spent.push(1e6 * (cpu_seconds(agent.process().id())? - before) / done.calls as f64);
            if plan.download.is_none() {
                all_seen(agent, done.calls)?;
            } else {
                let ended = agent.stop();
                ensure!(ended.spans.is_empty(), "a file became a call");
                let delivered = counter(&ended, "tokentap.bytes.delivered", "kernel.delivered");
                copied =
                    100.0 * delivered as f64 / counter(&ended, "tokentap.bytes.seen", "kernel.seen") as f64;
            }
        }
        Ok((spent[0], spent[1], copied))
    })?;
    Ok(vec![
        Figure::of("agent CPU per 256 KiB file", &spent.map(|(_, file, _)| *file), "µs")
            .against("an answer of that size", spent.now.0),
        Figure::of("copied of 256 KiB files", &spent.map(|(_, _, copied)| *copied), "% of bytes"),
    ])
}

/// What the agent needs to wait.
pub(crate) fn idle(agents: &Agents, seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let seconds = 5.0 * seconds;
    let spent = agents.each(|candidate| {
        eprintln!("idle: nothing happens, {}", candidate.name);
        let load = Load::start(&server, STREAMED, 1.0)?;
        let agent = candidate.watch(load.id());
        let before = cpu_seconds(agent.process().id())?;
        thread::sleep(Duration::from_secs_f64(seconds));
        let spent = cpu_seconds(agent.process().id())? - before;
        let (done, _) = load.run()?;
        all_seen(agent, done.calls)?;
        Ok(100.0 * spent / seconds)
    })?;
    Ok(vec![Figure::of("agent CPU, idle", &spent, "% of a core").limited(Limit::AtMost(0.2))])
}

/// Every call became a span, and the agent says that it lost nothing.
pub(crate) fn all_seen(agent: Agent, calls: usize) -> anyhow::Result<()> {
    let ended = agent.stop();
    ensure!(
        ended.status.success() && ended.spans.len() == calls,
        "{} of {calls} calls became spans, {}\n{}",
        ended.spans.len(),
        ended.status,
        ended.log
    );
    Ok(())
}
