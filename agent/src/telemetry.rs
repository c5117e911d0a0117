//! Self-metrics: every drop has a name.
//!
//! One [`Telemetry`] is shared by all threads. Counting is one relaxed atomic add; reading takes a
//! [`Snapshot`], which renders as a table or as JSON.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokentap_abi::{COUNTERS, Counter};
use tokentap_export::{ExporterCounters, ExporterReport};
use tokentap_tape::RecorderCounters;

/// What user space counts, apart from the exporters ([`Loss`]) and the kernel side ([`Counter`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Event {
    /// Frames taken off the ring or read from a tape.
    FramesRead,
    /// Frames that are not of this build's ABI.
    FramesMalformed,
    /// Payload bytes given up because a worker's queue was full.
    WorkerFullBytes,
    /// Frames without payload given up because a worker's queue was full.
    WorkerFullEvents,
    /// Streams seen.
    Streams,
    /// Streams not followed because the table of streams was full.
    StreamTableFull,
    /// Bytes of streams that belong to no exchange: what was under way when the agent came, protocols that it
    /// does not know, messages that cannot be paired. The log says why, at debug level.
    PassedOverBytes,
    /// Calls that became a span.
    Calls,
    /// Those of them that are marked incomplete.
    CallsIncomplete,
    /// Targets (a library of a process) in which probes were placed.
    Attached,
    /// Targets in which no probe could be placed.
    AttachFailed,
    /// Files that were not searched for TLS code: too large, or on a file system that cannot be probed safely.
    FilesRefused,
    /// Looks at a process or file that were given up because the kernel or a file system did not answer.
    FilesUnanswered,
    /// Probed files that changed, so that their probes were taken away.
    FilesChanged,
    /// Probed files on which no lease could be had, so that a process that maps one in the moment after it was changed
    /// can get breakpoints in wrong places.
    FilesUnleased,
    /// Observed processes that ended after they had loaded a TLS library and before it was probed.
    ProcessesMissed,
    /// Observed processes that ended before it could be seen what they had loaded.
    ProcessesUnread,
    /// TLS libraries that an observed process had mapped before they were probed: calls in between are not seen.
    ProbesLate,
    /// The longest time between such a mapping and its probes, in microseconds.
    ProbeDelayMaxMicros,
    /// Bytes at the end of a tape that are not a whole frame: its writer was killed.
    TapeTruncatedBytes,
    /// Requests to the targets thread given up because its queue was full: all processes are looked through
    /// again.
    TargetsQueueFull,
    /// Bytes of processes that no rule selected, captured before that was known.
    RefusedBytes,
    /// Bytes given up because it was not decided in time whether their process is observed.
    UndecidedBytes,
    /// Frames of processes for which the table of processes had no room.
    ProcessTableFull,
    /// Addresses of peers that the table of peers had no room for.
    PeerTableFull,
    /// Bytes of processes that had ended, or that nothing is known of.
    UnknownProcessBytes,
    /// Reads of a process's memory or descriptors that did not return in time.
    StuckReads,
    /// Spans exported before it was known what their process is.
    UndescribedSpans,
    /// Threads that did not end by the drain deadline.
    AbandonedThreads,
}

impl Event {
    /// All, in order, with the name each is shown under and whether it means that something was lost.
    pub const ALL: [(Self, &'static str, bool); 29] = [
        (Self::FramesRead, "frames.read", false),
        (Self::FramesMalformed, "frames.malformed", true),
        (Self::WorkerFullBytes, "lost.worker_full", true),
        (Self::WorkerFullEvents, "events_lost.worker_full", true),
        (Self::Streams, "streams", false),
        (Self::StreamTableFull, "lost.stream_table_full", true),
        (Self::PassedOverBytes, "passed_over", false),
        (Self::Calls, "calls", false),
        (Self::CallsIncomplete, "calls.incomplete", false),
        (Self::Attached, "attached", false),
        (Self::AttachFailed, "attach_failed", false),
        (Self::FilesRefused, "files_refused", false),
        (Self::FilesUnanswered, "files_unanswered", false),
        (Self::FilesChanged, "files_changed", false),
        (Self::FilesUnleased, "files_unleased", false),
        (Self::ProcessesMissed, "processes_missed", false),
        (Self::ProcessesUnread, "processes_unread", false),
        (Self::ProbesLate, "probes_late", false),
        (Self::ProbeDelayMaxMicros, "probe_delay_max_us", false),
        (Self::TapeTruncatedBytes, "tape.truncated_bytes", true),
        (Self::TargetsQueueFull, "events_lost.targets_full", true),
        (Self::RefusedBytes, "refused", false),
        (Self::UndecidedBytes, "lost.undecided", true),
        (Self::ProcessTableFull, "events_lost.process_table_full", true),
        (Self::PeerTableFull, "peers.table_full", false),
        (Self::UnknownProcessBytes, "lost.unknown_process", true),
        (Self::StuckReads, "reads.stuck", false),
        (Self::UndescribedSpans, "spans.undescribed", false),
        (Self::AbandonedThreads, "threads.abandoned", true),
    ];
}

/// Every counter of the agent.
#[derive(Debug, Default)]
pub struct Telemetry {
    events: [AtomicU64; Event::ALL.len()],
    kernel: [AtomicU64; COUNTERS as usize],
    exporters: Mutex<Vec<Arc<ExporterCounters>>>,
    recorder: Arc<RecorderCounters>,
}

impl Telemetry {
    /// All zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds to a counter.
    pub fn add(&self, event: Event, n: u64) {
        self.events[event as usize].fetch_add(n, Relaxed);
    }

    /// Raises a counter that holds a maximum.
    pub fn raise(&self, event: Event, to: u64) {
        self.events[event as usize].fetch_max(to, Relaxed);
    }

    /// The value of a counter.
    #[must_use]
    pub fn count(&self, event: Event) -> u64 {
        self.events[event as usize].load(Relaxed)
    }

    /// Takes over the kernel side's totals, in [`Counter`] order, summed over all CPUs.
    pub fn set_kernel(&self, totals: &[u64; COUNTERS as usize]) {
        for (slot, total) in self.kernel.iter().zip(totals) {
            slot.store(*total, Relaxed);
        }
    }

    /// The counters of the recorder.
    #[must_use]
    pub const fn recorder(&self) -> &Arc<RecorderCounters> {
        &self.recorder
    }

    /// Takes in an exporter's counters, which are shown under its name.
    pub fn add_exporter(&self, counters: &Arc<ExporterCounters>) {
        let mut all = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(counters));
    }

    /// Every counter as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            events: std::array::from_fn(|i| self.events[i].load(Relaxed)),
            kernel: std::array::from_fn(|i| self.kernel[i].load(Relaxed)),
            exporters: exporters.iter().map(|counters| counters.report()).collect(),
            recorder: [
                ("tape.frames", self.recorder.frames.load(Relaxed), false),
                ("tape.unwritten_frames", self.recorder.unwritten_frames.load(Relaxed), true),
                ("tape.withheld_bytes", self.recorder.withheld_bytes.load(Relaxed), false),
            ],
        }
    }
}

/// Every counter, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    events: [u64; Event::ALL.len()],
    kernel: [u64; COUNTERS as usize],
    exporters: Vec<ExporterReport>,
    /// Name, value, and whether it says that something was lost.
    recorder: [(&'static str, u64, bool); 3],
}

impl Snapshot {
    /// Every counter that is not zero and says that something was lost, with its full name.
    #[must_use]
    pub fn losses(&self) -> Vec<(String, u64)> {
        self.rows()
            .into_iter()
            .filter(|row| row.loss && row.value > 0)
            .map(|row| (row.name, row.value))
            .collect()
    }

    /// One JSON object: full counter name -> value, zeros included.
    #[must_use]
    pub fn to_json(&self) -> String {
        let map: serde_json::Map<_, _> =
            self.rows().into_iter().map(|row| (row.name, row.value.into())).collect();
        serde_json::Value::Object(map).to_string()
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name: String, value: u64, loss: bool| Row { name, value, loss };
        let kernel = Counter::ALL.iter().map(|(counter, name, loss)| {
            row(format!("kernel.{name}"), self.kernel[*counter as usize], *loss)
        });
        let events = Event::ALL
            .iter()
            .map(|(event, name, loss)| row(format!("agent.{name}"), self.events[*event as usize], *loss));
        let exporters = self.exporters.iter().flat_map(|e| {
            let exported = row(format!("export[{}].exported", e.name), e.exported, false);
            let lost = e.lost.iter().map(|(why, n)| row(format!("export[{}].lost.{why}", e.name), *n, true));
            std::iter::once(exported).chain(lost)
        });
        let recorder =
            self.recorder.iter().map(|(name, value, loss)| row(format!("agent.{name}"), *value, *loss));
        kernel.chain(events).chain(recorder).chain(exporters).collect()
    }
}

/// A table of the counters that are not zero; losses are marked with `!`.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows().into_iter().filter(|row| row.value > 0).collect();
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        for row in rows {
            let mark = if row.loss { '!' } else { ' ' };
            writeln!(f, "{mark} {:<width$}  {}", row.name, row.value)?;
        }
        Ok(())
    }
}

struct Row {
    name: String,
    value: u64,
    loss: bool,
}

#[cfg(test)]
mod tests {
    use tokentap_export::Loss;

    use super::*;

    #[test]
    fn tables_list_every_counter_at_its_own_index() {
        assert!(Event::ALL.iter().enumerate().all(|(i, (event, ..))| *event as usize == i));
        assert!(Counter::ALL.iter().enumerate().all(|(i, (counter, ..))| *counter as usize == i));
    }

    #[test]
    fn losses_name_what_was_lost_and_nothing_else() {
        let telemetry = Telemetry::new();
        telemetry.add(Event::Calls, 7);
        telemetry.add(Event::FramesMalformed, 2);
        let mut kernel = [0; COUNTERS as usize];
        kernel[Counter::Seen as usize] = 100;
        kernel[Counter::LostRingFull as usize] = 40;
        telemetry.set_kernel(&kernel);
        let exporter = ExporterCounters::named("otlp/grpc http://c:4317".into());
        telemetry.add_exporter(&exporter);
        exporter.exported(5);
        exporter.lost(Loss::QueueFull, 2);

        let snapshot = telemetry.snapshot();
        assert_eq!(
            snapshot.losses(),
            [
                ("kernel.lost.ring_full".into(), 40),
                ("agent.frames.malformed".into(), 2),
                ("export[otlp/grpc http://c:4317].lost.queue_full".into(), 2),
            ]
        );
        let json: serde_json::Value = serde_json::from_str(&snapshot.to_json()).unwrap();
        assert_eq!(json["agent.calls"], 7);
        assert_eq!(json["kernel.skipped.verdict"], 0);
        assert_eq!(json["export[otlp/grpc http://c:4317].exported"], 5);
    }

    #[test]
    fn the_table_shows_only_what_happened() {
        let telemetry = Telemetry::new();
        telemetry.add(Event::Calls, 7);
        telemetry.add(Event::WorkerFullBytes, 9);
        assert_eq!(
            telemetry.snapshot().to_string(),
            "! agent.lost.worker_full  9\n  agent.calls             7\n"
        );
    }
}
