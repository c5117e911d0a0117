//! `tokentap record`: observe processes and write a tape.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokentap_tape::Recorder;

use super::{
    observe::{Observation, wait_for_probes},
    outcome::{ExitOutcome, conclude},
};
use crate::{config::RecordConfig, kernel, privileges, telemetry::Telemetry};

/// How long the end of a recording may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn record(config: &RecordConfig) -> anyhow::Result<ExitOutcome> {
    let RecordConfig { select, out, with_content } = config;
    privileges::harden().context("cannot give up privileges")?;
    kernel::check()?;
    let telemetry = Telemetry::new();
    let observation = Observation::new(select, &telemetry);
    let recorder =
        Recorder::create(out, *with_content, observation.clock.boot_unix_nanos(), telemetry.recorder())
            .with_context(|| format!("cannot write {}", out.display()))?;
    let drained = observation.until_signal(recorder, DRAIN_TIMEOUT)?;
    let Some(recorder) = drained.sink else { bail!("{} was not written to its end", out.display()) };
    recorder.finish().with_context(|| format!("cannot write {}", out.display()))?;
    wait_for_probes(drained.probes, drained.deadline, &telemetry);
    Ok(conclude(&telemetry, None))
}
