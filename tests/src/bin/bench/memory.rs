//! What the agent holds in memory for what is open.

use std::{thread, time::Duration};

use anyhow::ensure;

use crate::{
    figure::{Compared, Figure, Limit},
    scenario::{STREAMED, all_seen},
    stage::{Agents, Candidate, Load, Plan, Server, counter, last_line, peak_mib, resident_mib, rule},
};

pub(crate) const METHOD: &str = "the most resident memory of the agent; 16 TLS connections at full speed; streams that have begun; \
                                 connections at rest after one call each; all of one process";

const SATURATED: Plan = Plan { connections: 16, ..STREAMED };
/// Streams that are under way.
const STREAMS: Plan = Plan { model: "mock-chunks100-slow1000", ..STREAMED };
/// Connections at rest, after a call each.
const AT_REST: Plan = Plan { model: "mock-size100", plain: true, tls: false, ..STREAMED };
/// What is open, its name, how many, and the most memory in MiB.
const HELD: [(Plan, &str, usize, Option<f64>); 6] = [
    (STREAMS, "streams over TLS", 1, None),
    (STREAMS, "streams over TLS", 1_000, Some(40.0)),
    (AT_REST, "connections", 1, None),
    (AT_REST, "connections", 1_000, None),
    (AT_REST, "connections", 5_000, None),
    (AT_REST, "connections", 15_000, Some(80.0)),
];

/// Memory by what is open, and of each further connection.
pub(crate) fn memory(agents: &Agents, seconds: f64) -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let saturated = agents.each(|candidate| {
        eprintln!("memory: full speed, {}", candidate.name);
        let load = Load::start(&server, SATURATED, seconds)?;
        let agent = candidate.watch(load.id());
        let (done, _) = load.run()?;
        let peak = peak_mib(agent.process().id())?;
        all_seen(agent, done.calls)?;
        Ok(peak)
    })?;
    let mut figures =
        vec![Figure::of("peak memory, saturated TLS load", &saturated, "MiB").limited(Limit::AtMost(56.0))];
    let mut last: Option<(usize, Compared<f64>)> = None;
    for (plan, what, count, most) in HELD {
        let memory = agents.each(|candidate| {
            eprintln!("memory: {count} open {what}, {}", candidate.name);
            held(&server, Plan { connections: count, ..plan }, candidate)
        })?;
        let peak = Figure::of(format!("peak memory, {count} open {what}"), &memory.map(|m| m.peak), "MiB");
        figures.push(match most {
            Some(most) => peak.limited(Limit::AtMost(most)),
            None => peak,
        });
        let resident = memory.map(|m| m.resident);
        figures.push(Figure::of("  resident then", &resident, "MiB"));
        if let Some((fewer, less)) = last.take().filter(|(fewer, _)| *fewer < count) {
            let each = |more: f64, less: f64| 1024.0 * (more - less) / (count - fewer) as f64;
            let mut figure =
                Figure::new(format!("  each from {fewer} to {count}"), each(resident.now, less.now), "KiB");
            figure.before = resident.before.zip(less.before).map(|(more, less)| each(more, less));
            figures.push(figure);
        }
        last = Some((count, resident));
    }
    Ok(figures)
}

/// Memory of an agent, in MiB.
struct Memory {
    /// The most since its start; its start takes memory of its own for a moment.
    peak: f64,
    resident: f64,
}

/// Memory with so much open, each of which is a call that is seen.
fn held(server: &Server, plan: Plan, candidate: &Candidate<'_>) -> anyhow::Result<Memory> {
    let agent = candidate.run(&["--exe", &rule("bench-load")?]);
    let mut holding = Load::hold(server, plan)?;
    // Until what was read of them is parsed.
    thread::sleep(Duration::from_secs(2));
    let id = agent.process().id();
    let memory = Memory { peak: peak_mib(id)?, resident: resident_mib(id)? };
    eprintln!("memory: {:.1} MiB, {:.1} MiB at most", memory.resident, memory.peak);
    holding.close_stdin();
    let ended = agent.stop();
    // By the counter: what is printed has a queue that thousands of calls at once may fill.
    let calls = counter(&ended, "tokentap.calls", "agent.calls");
    ensure!(
        calls >= plan.connections as u64,
        "{calls} of {} calls were seen\n{}",
        plan.connections,
        last_line(&ended.log)
    );
    Ok(memory)
}
