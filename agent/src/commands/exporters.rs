//! The exporters, on a thread of their own.

use tokentap_export::{ExportHandle, StartError, config::ExportConfig, prepare};

use crate::{privileges::Thread, telemetry::Telemetry};

/// Starts the exporters that the configuration names.
pub(super) fn start(config: &ExportConfig, telemetry: &Telemetry) -> Result<ExportHandle, StartError> {
    let (handle, work) = prepare(config)?;
    for counters in handle.counters() {
        telemetry.add_exporter(counters);
    }
    Thread::named("export").spawn(work)?;
    Ok(handle)
}
