//! What the kernel side has to say, in the agent's log.

/// Passes `aya-log` records on to `tracing`. Hot probes do not log, so there are few.
pub(super) struct KernelLog;

impl log::Log for KernelLog {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: "tokentap::kernel", "{text}"),
            log::Level::Warn => tracing::warn!(target: "tokentap::kernel", "{text}"),
            log::Level::Info => tracing::info!(target: "tokentap::kernel", "{text}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "tokentap::kernel", "{text}"),
        }
    }

    fn flush(&self) {}
}
