//! What is measured.

use std::{thread, time::Duration};

use anyhow::ensure;
use tokentap_tests::agent::Agent;

use crate::{
    figure::{Figure, Limit, median},
    stage::{Done, Load, Plan, Server, agent, cpu_seconds, empty_probes, resident_mib},
};

const CHUNKS: usize = 200;
const STREAMED: Plan = Plan { model: "mock-chunks200", plain: false, download: None, connections: 1 };
/// Chunks come one by one, as models make them, on several connections at once.
const PACED: Plan = Plan { model: "mock-chunks200-slow5", connections: 16, ..STREAMED };
const PLAIN: Plan = Plan { model: "mock-size2048", plain: true, ..STREAMED };
/// Answers and files of the same size: those are copied whole, of these only the heads are.
const LARGE: usize = 256 << 10;
const LARGE_CALLS: Plan = Plan { model: "mock-size262144", ..PLAIN };
const FILES: Plan = Plan { download: Some(LARGE), ..STREAMED };
const OPEN_STREAMS: usize = 1000;

/// What is attached to the application.
#[derive(Clone, Copy)]
enum Variant {
    Nothing,
    Empty,
    Tokentap,
}

impl Variant {
    const ALL: [Self; 3] = [Self::Nothing, Self::Empty, Self::Tokentap];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no probes",
            Self::Empty => "empty probes",
            Self::Tokentap => "tokentap",
        }
    }
}

/// A closed loop over TLS, streaming; the variants take turns.
pub(crate) fn overhead(seconds: f64, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut runs = [const { Vec::new() }; 3];
    for round in 1..=rounds {
        for (variant, runs) in Variant::ALL.into_iter().zip(&mut runs) {
            eprintln!("overhead: {}, round {round} of {rounds}", variant.name());
            let load = Load::start(&server, STREAMED, seconds)?;
            let done = match variant {
                Variant::Nothing => load.run()?.0,
                Variant::Empty => {
                    let probes = empty_probes(load.id())?;
                    let done = load.run()?.0;
                    drop(probes);
                    done
                }
                Variant::Tokentap => {
                    let agent = agent(load.id());
                    let done = load.run()?.0;
                    all_seen(agent, done.calls)?;
                    done
                }
            };
            runs.push(done);
        }
    }
    let mut figures = Vec::new();
    for (what, unit, value) in [
        ("throughput", "calls/s", (|done| done.calls_per_second) as fn(&Done) -> f64),
        ("latency p50", "ms", |done| done.p50_us / 1e3),
        ("latency p99", "ms", |done| done.p99_us / 1e3),
    ] {
        let [nothing, empty, tokentap] = runs.each_ref().map(|runs| median(runs.iter().map(value).collect()));
        figures.push(Figure::new(format!("{what}, no probes"), nothing, unit));
        figures.push(Figure::new(format!("{what}, empty probes"), empty, unit).against("no probes", nothing));
        let figure = Figure::new(format!("{what}, tokentap"), tokentap, unit).against("empty probes", empty);
        figures.push(if what == "throughput" { figure.limited(Limit::RatioAtLeast(0.9)) } else { figure });
    }
    Ok(figures)
}

/// What the agent spends for each unit of work, beside what the application spends for it.
pub(crate) fn cpu(seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut figures = Vec::new();
    for (name, plan, units, most) in [
        ("agent CPU per streamed chunk, full speed", STREAMED, CHUNKS, 15.0),
        ("agent CPU per streamed chunk, 3,000 a second", PACED, CHUNKS, 15.0),
        ("agent CPU per plain 2 KiB call", PLAIN, 1, 150.0),
    ] {
        eprintln!("cpu: {name}");
        let load = Load::start(&server, plan, 2.0 * seconds)?;
        let agent = agent(load.id());
        let before = cpu_seconds(agent.process().id())?;
        let (done, application) = load.run()?;
        // It has a second to hand a finished call to its exporter.
        thread::sleep(Duration::from_secs(1));
        let spent = cpu_seconds(agent.process().id())? - before;
        all_seen(agent, done.calls)?;
        let micros = 1e6 / (done.calls * units) as f64;
        figures.push(
            Figure::new(name, spent * micros, "µs")
                .against("the application's own", application * micros)
                .limited(Limit::AtMost(most)),
        );
    }
    Ok(figures)
}

/// What the agent spends on traffic that is none of its business.
pub(crate) fn verdicts(seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let mut spent = Vec::new();
    let mut copied = 0.0;
    for plan in [LARGE_CALLS, FILES] {
        eprintln!("verdicts: {} of 256 KiB", if plan.download.is_some() { "files" } else { "answers" });
        let load = Load::start(&server, plan, 2.0 * seconds)?;
        let agent = agent(load.id());
        let before = cpu_seconds(agent.process().id())?;
        let (done, _) = load.run()?;
        thread::sleep(Duration::from_secs(1));
        spent.push(1e6 * (cpu_seconds(agent.process().id())? - before) / done.calls as f64);
        if plan.download.is_none() {
            all_seen(agent, done.calls)?;
        } else {
            let ended = agent.stop();
            ensure!(ended.spans.is_empty(), "a file became a call");
            copied = 100.0 * ended.counter("kernel.delivered") as f64 / ended.counter("kernel.seen") as f64;
        }
    }
    Ok(vec![
        Figure::new("agent CPU per 256 KiB file", spent[1], "µs").against("an answer of that size", spent[0]),
        Figure::new("copied of 256 KiB files", copied, "% of bytes"),
    ])
}

/// What a process that nobody watches pays when another one that uses the same library is watched.
pub(crate) fn bystanders(seconds: f64, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    const VARIANTS: [(&str, Option<&[&str]>); 3] = [
        ("nobody watched", None),
        ("by pid", Some(&["--pid"])),
        ("by rule", Some(&["--exe=nothing-is-called-so", "--pid"])),
    ];
    let server = Server::start()?;
    let mut runs = [const { Vec::new() }; 3];
    for round in 1..=rounds {
        for ((name, flags), runs) in VARIANTS.into_iter().zip(&mut runs) {
            eprintln!("bystanders: {name}, round {round} of {rounds}");
            let watched = Load::start(&server, STREAMED, 0.1)?;
            let id = watched.id().to_string();
            let agent = flags.map(|flags| Agent::run(&[flags, &[id.as_str()]].concat()));
            runs.push(Load::start(&server, STREAMED, seconds)?.run()?.0.calls_per_second);
            watched.run()?;
            drop(agent.map(Agent::stop));
        }
    }
    let [nobody, by_pid, by_rule] = runs.map(median);
    Ok(vec![
        Figure::new("bystander's throughput, nobody watched", nobody, "calls/s"),
        Figure::new("bystander's throughput, --pid", by_pid, "calls/s").against("nobody watched", nobody),
        Figure::new("bystander's throughput, --exe", by_rule, "calls/s").against("nobody watched", nobody),
    ])
}

/// What the agent needs to wait, and to hold many open streams.
pub(crate) fn idle(seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    eprintln!("idle: nothing happens");
    let load = Load::start(&server, STREAMED, 1.0)?;
    let waiting = agent(load.id());
    let seconds = 5.0 * seconds;
    let before = cpu_seconds(waiting.process().id())?;
    thread::sleep(Duration::from_secs_f64(seconds));
    let spent = cpu_seconds(waiting.process().id())? - before;
    let alone = resident_mib(waiting.process().id())?;
    let (done, _) = load.run()?;
    all_seen(waiting, done.calls)?;

    eprintln!("idle: {OPEN_STREAMS} open streams");
    let watching = Agent::run(&["--exe", "bench-load"]);
    let plan = Plan { model: "mock-chunks100-slow1000", connections: OPEN_STREAMS, ..STREAMED };
    let mut holding = Load::hold(&server, plan)?;
    // Until what was read of them is parsed.
    thread::sleep(Duration::from_secs(2));
    let held = resident_mib(watching.process().id())?;
    holding.close_stdin();
    let ended = watching.stop();
    ensure!(
        ended.spans.len() == OPEN_STREAMS,
        "{} of {OPEN_STREAMS} streams became spans",
        ended.spans.len()
    );
    Ok(vec![
        Figure::new("agent CPU, idle", 100.0 * spent / seconds, "% of a core").limited(Limit::AtMost(0.2)),
        Figure::new("agent memory, 1,000 open streams", held, "MiB")
            .against("none open", alone)
            .limited(Limit::AtMost(40.0)),
    ])
}

/// Every call became a span, and the agent says that it lost nothing.
fn all_seen(agent: Agent, calls: usize) -> anyhow::Result<()> {
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
