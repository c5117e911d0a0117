//! What it costs to observe many processes.

use std::{
    io::{PipeWriter, pipe},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    figure::{Compared, Figure, Limit},
    stage::{Agents, beside, cpu_seconds, last_line, peak_mib, rule},
};

pub(crate) const METHOD: &str = "so many processes that wait and use OpenSSL, selected by --exe; from the start of the agent until it \
                                 is ready, and from SIGTERM until it has ended";

const COUNTS: [usize; 4] = [1, 200, 1000, 5000];

struct Measured {
    ready: f64,
    cpu: f64,
    peak: f64,
    exit: f64,
}

/// Start, memory and end with few and many observed processes.
pub(crate) fn processes(agents: &Agents) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut first: Option<(usize, Compared<f64>)> = None;
    for count in COUNTS {
        eprintln!("processes: starting {count}");
        let crowd = Crowd::start(count)?;
        let measured = agents.each(|candidate| {
            eprintln!("processes: {count}, {}", candidate.name);
            let start = Instant::now();
            let agent = candidate.run(&["--exe", &rule("bench-calls")?]);
            let ready = start.elapsed().as_secs_f64();
            let cpu = cpu_seconds(agent.process().id())?;
            let peak = peak_mib(agent.process().id())?;
            let start = Instant::now();
            let ended = agent.stop();
            let exit = start.elapsed().as_secs_f64();
            if !ended.status.success() {
                // What was lost is other processes', which the agent looks at for a moment when they start.
                eprintln!("processes: {}: {}", ended.status, last_line(&ended.log));
            }
            Ok(Measured { ready, cpu, peak, exit })
        })?;
        drop(crowd);
        let few = count <= 200;
        let limited =
            |figure: Figure, most: f64| if few { figure.limited(Limit::AtMost(most)) } else { figure };
        let name = |what: &str| format!("{count} processes, {what}");
        figures.push(Figure::of(name("start to ready"), &measured.map(|m| m.ready), "s"));
        figures.push(limited(Figure::of(name("CPU until ready"), &measured.map(|m| m.cpu), "s"), 1.0));
        if let Some((other, cpu)) = &first {
            let per = |now: f64, one: f64| 1e6 * (now - one) / (count - other) as f64;
            let mut figure =
                Figure::new(name("CPU of each further one"), per(measured.now.cpu, cpu.now), "µs");
            figure.before = measured.before.as_ref().zip(cpu.before).map(|(m, one)| per(m.cpu, one));
            figures.push(figure);
        }
        figures.push(Figure::of(name("peak memory"), &measured.map(|m| m.peak), "MiB"));
        figures.push(limited(Figure::of(name("SIGTERM to exit"), &measured.map(|m| m.exit), "s"), 1.0));
        first.get_or_insert_with(|| (count, measured.map(|m| m.cpu)));
    }
    Ok(figures)
}

/// Processes that wait until this is dropped.
struct Crowd {
    children: Vec<Child>,
    end: Option<PipeWriter>,
}

impl Crowd {
    fn start(count: usize) -> anyhow::Result<Self> {
        let (wait, end) = pipe()?;
        let mut crowd = Self { children: Vec::with_capacity(count), end: Some(end) };
        let program = beside("bench-calls")?;
        for at in 0..count {
            let child =
                Command::new(&program).stdin(Stdio::from(wait.try_clone()?)).stdout(Stdio::null()).spawn();
            crowd.children.push(child.with_context(|| format!("cannot start process {at}"))?);
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end = None;
        for child in &mut self.children {
            if let Err(error) = child.wait() {
                eprintln!("processes: {error}");
            }
        }
    }
}
