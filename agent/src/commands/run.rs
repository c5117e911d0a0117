//! `tokentap run`: observe processes and export their calls.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use tokentap_wire::Nanos;

use super::{
    exporters,
    observe::{Observation, wait_for_probes},
    outcome::{ExitOutcome, conclude},
};
use crate::{
    config::RunConfig,
    kernel,
    pipeline::{
        OverflowPolicy, Pipeline,
        worker::{Context, Worker},
    },
    privileges::{self, Thread},
    telemetry::{Telemetry, admin},
};

/// More workers than this would wait for each other's memory.
const MAX_WORKERS: usize = 4;

pub(super) fn run(config: RunConfig) -> anyhow::Result<ExitOutcome> {
    let RunConfig { select, calls, stale_after, export, admin, drain_timeout } = config;
    // Before the first thread: what these change belongs to a thread.
    privileges::harden().context("cannot give up privileges")?;
    kernel::check()?;
    let telemetry = Telemetry::new();
    let handle = exporters::start(&export, &telemetry)?;
    if let Some(address) = admin {
        serve_admin(address, &telemetry)?;
    }
    let observation = Observation::new(&select, &telemetry);
    let context = Context {
        options: Arc::new(calls),
        stale_after: Nanos::from(stale_after),
        export: handle.clone(),
        telemetry: Arc::clone(&telemetry),
        links: Arc::default(),
        clock: observation.clock.clone(),
        describer: Arc::clone(&observation.describer),
        requests: Some(observation.requests.clone()),
    };
    let pipeline =
        Pipeline::start(workers(), OverflowPolicy::Drop, &telemetry, || Worker::new(context.clone()))?;
    let drained = observation.until_signal(pipeline, drain_timeout)?;
    if let Some(pipeline) = drained.sink {
        pipeline.stop(drained.deadline);
    }
    let report = handle.drain(drained.deadline);
    wait_for_probes(drained.probes, drained.deadline, &telemetry);
    Ok(conclude(&telemetry, Some(&report)))
}

/// Another agent on this machine, which has the address, is no reason not to observe.
fn serve_admin(address: SocketAddr, telemetry: &Arc<Telemetry>) -> anyhow::Result<()> {
    match admin::prepare(address, telemetry) {
        Ok((address, work)) => {
            Thread::named("admin").spawn(work)?;
            tracing::info!("/metrics, /healthz and /readyz are served on http://{address}");
        }
        Err(error) => tracing::warn!(
            "cannot serve /metrics, /healthz and /readyz on {address}: {error}; pass another --admin-address, or none"
        ),
    }
    Ok(())
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2).min(MAX_WORKERS))
}
