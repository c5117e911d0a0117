//! What the agent counts about itself: every drop has a name and a reason.
//!
//! One [`Telemetry`] is shared by all threads. Counting is one relaxed atomic add; reading takes a [`Snapshot`].

pub mod admin;
mod event;
mod health;
mod metric;
mod process;
mod snapshot;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokentap_abi::{COUNTERS, Counter};
use tokentap_export::{ExporterCounters, ExporterReport, config::Signal};
use tokentap_tape::RecorderCounters;

pub use event::Event;
pub use health::Health;
pub use metric::{Labels, Metric};
pub use snapshot::{Row, Snapshot};

use metric::{bytes, count};

/// What is counted by a reason that only the parsers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ByReason {
    /// Bytes of streams that belong to no exchange: what was under way when the agent came, protocols that it does not
    /// know, messages that cannot be paired. The reason is a [`tokentap_wire::Reason`].
    PassedOverBytes,
    /// Calls that are marked incomplete. The reason is a [`tokentap_genai::IncompleteReason`].
    IncompleteCalls,
}

impl ByReason {
    /// What it is called outside; the label `reason` is added.
    #[must_use]
    pub const fn metric(self) -> Metric {
        match self {
            Self::PassedOverBytes => bytes("tokentap.bytes.passed_over", &[]),
            Self::IncompleteCalls => count("tokentap.calls.incomplete", &[]),
        }
    }
}

/// Numbers that neither [`Event`] nor the kernel side has: of the recorder, and of each exporter (labels `exporter` and
/// `reason`).
pub const OTHERS: [Metric; 9] = [
    TAPE_FRAMES,
    TAPE_FRAMES_LOST,
    TAPE_WITHHELD,
    SPANS[0],
    SPANS[1],
    LOG_RECORDS[0],
    LOG_RECORDS[1],
    METRIC_POINTS[0],
    METRIC_POINTS[1],
];
const TAPE_FRAMES: Metric = count("tokentap.tape.frames.written", &[]);
const TAPE_FRAMES_LOST: Metric = count("tokentap.tape.frames.lost", &[("reason", "write_failed")]).loss();
const TAPE_WITHHELD: Metric = bytes("tokentap.tape.bytes.withheld", &[]);
/// Of each exporter, what was delivered and what was lost.
const SPANS: [Metric; 2] = [count("tokentap.spans.exported", &[]), count("tokentap.spans.lost", &[]).loss()];
const LOG_RECORDS: [Metric; 2] =
    [count("tokentap.log_records.exported", &[]), count("tokentap.log_records.lost", &[]).loss()];
const METRIC_POINTS: [Metric; 2] =
    [count("tokentap.metric_points.exported", &[]), count("tokentap.metric_points.lost", &[]).loss()];

/// States of now: of the queue of each exporter, and of the process.
pub const STATES: [Metric; 6] = [SPANS_WAITING, SINCE_DELIVERY, MEMORY, DESCRIPTORS, UPTIME, BUILD];
const SPANS_WAITING: Metric = Metric::state("tokentap.spans.waiting", "1");
const SINCE_DELIVERY: Metric = Metric::state("tokentap.exporter.since_delivery", "s");
const MEMORY: Metric = Metric::state("tokentap.process.memory.resident", "By");
const DESCRIPTORS: Metric = Metric::state("tokentap.process.open_descriptors", "1");
const UPTIME: Metric = Metric::state("tokentap.uptime", "s");
const BUILD: Metric = Metric::state("tokentap.build.info", "1");

/// Every counter of the agent.
#[derive(Debug, Default)]
pub struct Telemetry {
    health: Health,
    events: [AtomicU64; Event::ALL.len()],
    kernel: [AtomicU64; COUNTERS as usize],
    exporters: Mutex<Vec<Arc<ExporterCounters>>>,
    recorder: Arc<RecorderCounters>,
    /// Locked where something went wrong only.
    by_reason: Mutex<BTreeMap<(ByReason, &'static str), u64>>,
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

    /// Adds to what is counted by a reason, which has a name for machines.
    pub fn add_by_reason(&self, what: ByReason, reason: &'static str, n: u64) {
        *self.by_reason().entry((what, reason)).or_default() += n;
    }

    /// The value of a counter, over all reasons.
    #[must_use]
    pub fn count_by_reason(&self, what: ByReason) -> u64 {
        self.by_reason().iter().filter(|((counted, _), _)| *counted == what).map(|(_, n)| n).sum()
    }

    fn by_reason(&self) -> MutexGuard<'_, BTreeMap<(ByReason, &'static str), u64>> {
        self.by_reason.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether the agent does its work.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Each exporter's account.
    #[must_use]
    pub fn exporters(&self) -> Vec<ExporterReport> {
        let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        exporters.iter().map(|counters| counters.report()).collect()
    }

    /// Every counter as it is now, but for those that are zero.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.counters().into_iter())
    }

    /// Every number as it is now, states of now as well.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let state = |metric: Metric, labels: &[(&'static str, &str)], value: u64| Row {
            metric,
            labels: labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            value,
        };
        let mut rows = self.counters();
        for report in self.exporters() {
            let name = [("exporter", report.name.as_str())];
            if report.signal != Signal::Metrics {
                rows.push(state(SPANS_WAITING, &name, report.waiting));
            }
            let since = report.since_delivery.map(|time| state(SINCE_DELIVERY, &name, time.as_secs()));
            rows.extend(since);
        }
        rows.extend(process::resident_bytes().map(|bytes| state(MEMORY, &[], bytes)));
        rows.extend(process::open_descriptors().map(|count| state(DESCRIPTORS, &[], count)));
        rows.push(state(UPTIME, &[], self.health.uptime().as_secs()));
        rows.push(state(BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1));
        rows
    }

    fn counters(&self) -> Vec<Row> {
        let row = |metric: Metric, value: u64| Row { metric, labels: Vec::new(), value };
        let kernel = Counter::ALL
            .into_iter()
            .map(|counter| row(Metric::of_kernel(counter), self.kernel[counter as usize].load(Relaxed)));
        let events = Event::ALL.into_iter().map(|event| row(event.metric(), self.count(event)));
        let recorder = [
            (TAPE_FRAMES, &self.recorder.frames),
            (TAPE_FRAMES_LOST, &self.recorder.unwritten_frames),
            (TAPE_WITHHELD, &self.recorder.withheld_bytes),
        ]
        .map(|(metric, value)| row(metric, value.load(Relaxed)));
        let exporters = self.exporters.lock().unwrap_or_else(PoisonError::into_inner);
        let exporters = exporters.iter().flat_map(|counters| of_exporter(counters));
        let by_reason: Vec<Row> = self
            .by_reason()
            .iter()
            .map(|((what, reason), value)| Row {
                metric: what.metric(),
                labels: vec![("reason", (*reason).to_owned())],
                value: *value,
            })
            .collect();
        kernel.chain(events).chain(by_reason).chain(recorder).chain(exporters).collect()
    }
}

/// The account of one exporter.
fn of_exporter(counters: &ExporterCounters) -> Vec<Row> {
    let report = counters.report();
    let exporter = || ("exporter", report.name.clone());
    let [exported, lost] = match report.signal {
        Signal::Traces => SPANS,
        Signal::Logs => LOG_RECORDS,
        Signal::Metrics => METRIC_POINTS,
    };
    let exported = Row { metric: exported, labels: vec![exporter()], value: report.exported };
    let lost = report.lost.iter().map(|(reason, value)| Row {
        metric: lost,
        labels: vec![exporter(), ("reason", (*reason).to_owned())],
        value: *value,
    });
    [exported].into_iter().chain(lost).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokentap_export::Loss;

    use super::*;

    #[test]
    fn every_number_has_its_own_place_and_name() {
        assert!(Event::ALL.into_iter().enumerate().all(|(i, event)| event as usize == i));
        assert!(Counter::ALL.into_iter().enumerate().all(|(i, counter)| counter as usize == i));
        let events = Event::ALL.into_iter().map(Event::metric);
        let metrics: Vec<Metric> = Counter::ALL.into_iter().map(Metric::of_kernel).chain(events).collect();
        let names: HashSet<_> = metrics.iter().map(|metric| (metric.name, metric.labels)).collect();
        assert_eq!(names.len(), metrics.len());
        for metric in metrics {
            let right = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b));
            assert!(metric.name.starts_with("tokentap.") && right(metric.name), "{metric:?}");
            assert!(metric.labels.iter().all(|(key, value)| right(key) && right(value)), "{metric:?}");
        }
    }

    fn counted() -> Snapshot {
        let telemetry = Telemetry::new();
        telemetry.add(Event::Calls, 7);
        telemetry.add(Event::WorkerFullBytes, 9);
        telemetry.add_by_reason(ByReason::IncompleteCalls, "gap", 1);
        telemetry.add_by_reason(ByReason::IncompleteCalls, "gap", 1);
        let mut kernel = [0; COUNTERS as usize];
        kernel[Counter::Seen as usize] = 100;
        kernel[Counter::LostRingFull as usize] = 40;
        telemetry.set_kernel(&kernel);
        let exporter = ExporterCounters::of("otlp/grpc http://c:4317".into(), Signal::Traces);
        telemetry.add_exporter(&exporter);
        exporter.exported(5);
        exporter.lost(Loss::QueueFull, 2);
        telemetry.snapshot()
    }

    #[test]
    fn losses_are_what_was_lost_and_nothing_else() {
        let losses: Vec<String> = counted().losses().map(|row| format!("{row}={}", row.value)).collect();
        assert_eq!(
            losses,
            [
                "tokentap.bytes.lost{stage=kernel,reason=ring_full}=40",
                "tokentap.bytes.lost{stage=worker,reason=queue_full}=9",
                "tokentap.spans.lost{exporter=otlp/grpc http://c:4317,reason=queue_full}=2",
            ]
        );
    }

    #[test]
    fn machines_and_people_are_shown_what_is_not_zero() {
        let snapshot = counted();
        let json: serde_json::Value = serde_json::from_str(&snapshot.to_json()).unwrap();
        let want = serde_json::json!({
            "tokentap.bytes.seen": 100,
            "tokentap.bytes.lost{stage=kernel,reason=ring_full}": 40,
            "tokentap.bytes.lost{stage=worker,reason=queue_full}": 9,
            "tokentap.calls": 7,
            "tokentap.calls.incomplete{reason=gap}": 2,
            "tokentap.spans.exported{exporter=otlp/grpc http://c:4317}": 5,
            "tokentap.spans.lost{exporter=otlp/grpc http://c:4317,reason=queue_full}": 2,
        });
        assert_eq!(json, want);
        let table = snapshot.to_string();
        let row = table.lines().find(|line| line.contains("stage=worker")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["lost", "tokentap.bytes.lost", "stage=worker", "reason=queue_full", "9"]);
        assert_eq!(table.lines().count(), 8, "{table}");
    }
}
