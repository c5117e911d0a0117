//! How often each call of a TLS library traps into the kernel.

use std::collections::BTreeMap;

use tokentap_tests::programs::{self, Statistics};

use crate::{
    figure::{Figure, Limit},
    stage::{Agents, Caller, wait_for_quiet},
};

pub(crate) const METHOD: &str = "runs of uprobe programs by the kernel's own statistics over 20,000 calls of an observed process; \
                                 and what such a call takes then, median of batches of 100";

/// Function, and how often it may trap.
const FUNCTIONS: [(&str, f64); 4] =
    [("SSL_write", 1.0), ("SSL_write_ex", 1.0), ("SSL_read", 2.0), ("SSL_read_ex", 2.0)];
const BATCHES: usize = 200;

/// Traps per call, and the time of a call.
pub(crate) fn traps(agents: &Agents) -> anyhow::Result<Vec<Figure>> {
    wait_for_quiet()?;
    let mut alone = Caller::start()?;
    let mut unobserved = BTreeMap::new();
    for (function, _) in FUNCTIONS {
        unobserved.insert(function, alone.nanoseconds(function, BATCHES)?);
    }
    let mut figures = Vec::new();
    for (function, most) in FUNCTIONS {
        let measured = agents.each(|candidate| {
            eprintln!("traps: {function}, {}", candidate.name);
            wait_for_quiet()?;
            let mut caller = Caller::start()?;
            let agent = candidate.watch(caller.id());
            let took = caller.nanoseconds(function, BATCHES)?;
            let statistics = Statistics::start()?;
            let before = runs()?;
            caller.nanoseconds(function, BATCHES)?;
            let after = runs()?;
            drop(statistics);
            drop(agent.stop());
            Ok((after - before, took))
        })?;
        // What 100 reads find was written with one more call.
        let calls = (100 * BATCHES) as f64;
        let traps = measured.map(|(runs, _)| (*runs as f64 / calls * 10.0).round() / 10.0);
        figures
            .push(Figure::of(format!("{function}, traps per call"), &traps, "").limited(Limit::AtMost(most)));
        figures.push(
            Figure::of(format!("{function}, observed"), &measured.map(|(_, took)| *took), "ns")
                .against("not observed", unobserved[function]),
        );
    }
    Ok(figures)
}

/// Of all programs on functions of TLS libraries.
fn runs() -> anyhow::Result<u64> {
    let programs = programs::all()?;
    let tls = |name: &str| name.starts_with("ssl_") || name.starts_with("tls_");
    Ok(programs.iter().filter(|program| tls(&program.name)).map(|program| program.runs).sum())
}
