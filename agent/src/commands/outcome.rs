//! How a command ends.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use tokentap_export::DrainReport;

use crate::telemetry::{ByReason, Event, Telemetry};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitOutcome {
    /// Everything that was seen was delivered.
    Complete,
    /// Something was lost; it was said how much.
    Lossy,
}

/// What the end may take at least, whatever the drain timeout: no thread ends in no time.
pub(super) const LAST_MOMENT: Duration = Duration::from_millis(200);

/// The moment by which all must be over, when draining begins now.
pub(super) fn drain_deadline(drain_timeout: Duration) -> Instant {
    Instant::now() + drain_timeout.max(LAST_MOMENT)
}

/// Says what was delivered and what was lost.
pub(super) fn conclude(telemetry: &Telemetry, report: Option<&DrainReport>) -> ExitOutcome {
    let snapshot = telemetry.snapshot();
    let (calls, incomplete) =
        (telemetry.count(Event::Calls), telemetry.count_by_reason(ByReason::IncompleteCalls));
    if std::io::stderr().is_terminal() {
        tracing::info!(calls, incomplete, "done\n{snapshot}");
    } else {
        tracing::info!(calls, incomplete, counters = %snapshot.to_json(), "done");
    }
    let losses: Vec<String> = snapshot.losses().map(|row| format!("{row}={}", row.value)).collect();
    if losses.is_empty() && report.is_none_or(|report| report.lost() == 0) {
        return ExitOutcome::Complete;
    }
    tracing::warn!("not everything was delivered: {}", losses.join(", "));
    ExitOutcome::Lossy
}
