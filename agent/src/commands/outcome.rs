//! How a command ends.

use std::time::{Duration, Instant};

use tokentap_export::DrainReport;

use crate::telemetry::{Event, Telemetry};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
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
pub(super) fn conclude(telemetry: &Telemetry, report: Option<&DrainReport>) -> Outcome {
    let snapshot = telemetry.snapshot();
    let losses = snapshot.losses();
    let lost_spans = report.map_or(0, DrainReport::lost);
    tracing::info!(
        calls = telemetry.count(Event::Calls),
        incomplete = telemetry.count(Event::CallsIncomplete),
        counters = %snapshot.to_json(),
        "done"
    );
    if losses.is_empty() && lost_spans == 0 {
        return Outcome::Complete;
    }
    let list: Vec<String> = losses.iter().map(|(name, n)| format!("{name}={n}")).collect();
    tracing::warn!("not everything was delivered: {}", list.join(", "));
    Outcome::Lossy
}
