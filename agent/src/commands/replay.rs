//! `tokentap replay`: a tape through the same path as live traffic.

use std::sync::Arc;

use anyhow::Context as _;
use tokentap_tape::TapeReader;
use tokentap_wire::Nanos;

use super::{
    exporters,
    outcome::{ExitOutcome, conclude, drain_deadline},
};
use crate::{
    config::ReplayConfig,
    pipeline::{
        FrameSink as _, OverflowPolicy, Pipeline,
        clock::Clock,
        replay::play,
        worker::{Context, Worker},
    },
    privileges,
    telemetry::Telemetry,
};

pub(super) fn replay(config: ReplayConfig) -> anyhow::Result<ExitOutcome> {
    let ReplayConfig { tape, calls, stale_after, export, drain_timeout } = config;
    let telemetry = Telemetry::new();
    let mut reader = TapeReader::open(&tape).with_context(|| format!("cannot read {}", tape.display()))?;
    privileges::harden().context("cannot give up privileges")?;
    let handle = exporters::start(&export, &telemetry)?;
    privileges::give_up().context("cannot give up capabilities")?;
    let context = Context {
        options: Arc::new(calls),
        stale_after: Nanos::from(stale_after),
        export: handle.clone(),
        telemetry: Arc::clone(&telemetry),
        links: Arc::default(),
        clock: Clock::recorded(reader.boot_unix_nanos()),
        describer: Arc::default(),
        requests: None,
    };
    // One worker, so that equal tapes give equal output.
    let mut pipeline = Pipeline::start(1, OverflowPolicy::Wait, &telemetry, || Worker::new(context.clone()))?;
    play(&mut reader, &mut pipeline, &telemetry)?;
    pipeline.flush();
    let deadline = drain_deadline(drain_timeout);
    pipeline.stop(deadline);
    let report = handle.drain(deadline);
    Ok(conclude(&telemetry, Some(&report)))
}
