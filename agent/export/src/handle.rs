//! The exporters as the rest of the agent has them.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    config::{ExportConfig, ExporterConfig, Signal, Temporality},
    console::Console,
    counters::{ExporterCounters, ExporterReport},
    drain::Drain,
    error::StartError,
    file::FileExporter,
    metrics::{Collector, MOST_ENDED, Metrics, MetricsWorker},
    otlp::Otlp,
    queue,
    record::Record,
    sampling::Decider,
    worker::{Exporter, Worker},
};

/// What the end of the thread may take beyond the deadline that its workers keep themselves.
const GRACE: Duration = Duration::from_millis(500);

/// What became of all spans, at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Each exporter's account since the start.
    pub exporters: Vec<ExporterReport>,
}

impl DrainReport {
    /// Deliveries that succeeded, over all exporters.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exporters.iter().map(|e| e.exported).sum()
    }

    /// Deliveries that will never happen, over all exporters.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.exporters.iter().map(ExporterReport::lost_total).sum()
    }
}

/// Makes the exporters, and the work that they do: to be run on a thread of its own, until [`ExportHandle::drain`] ends it.
/// Needs no receiver to be there yet, and does not look.
///
/// # Errors
/// [`StartError`] when a TLS file cannot be used or there can be no runtime.
pub fn prepare(
    config: &ExportConfig,
) -> Result<(ExportHandle, impl FnOnce() + Send + 'static + use<>), StartError> {
    let (order, drain) = Drain::new();
    let mut queues = Vec::new();
    let mut workers = Vec::new();
    let mut counters = Vec::new();
    let mut metrics_workers = Vec::new();
    for destination in &config.exporters {
        if let ExporterConfig::Otlp(otlp) = destination
            && otlp.signal == Signal::Metrics
        {
            let account = ExporterCounters::of(destination.name(), destination.signal());
            let patience = (config.metrics.temporality == Temporality::Cumulative).then_some(otlp.timeout);
            tracing::info!("exporting metrics to {destination}");
            metrics_workers.push(MetricsWorker::new(
                Otlp::new(otlp)?,
                Arc::clone(&account),
                drain.clone(),
                patience,
            ));
            counters.push(account);
            continue;
        }
        let exporter = match destination {
            ExporterConfig::Otlp(otlp) => Exporter::Otlp(Box::new(Otlp::new(otlp)?)),
            ExporterConfig::Console { format, color } => Exporter::Console(Console::stdout(*format, *color)),
            ExporterConfig::File(file) => {
                let opened = FileExporter::open(file)
                    .map_err(|why| StartError::File { path: file.path.clone(), why: why.to_string() })?;
                Exporter::File(opened)
            }
        };
        let account = ExporterCounters::of(destination.name(), destination.signal());
        let (sender, receiver) = queue::bounded(&config.batch, Arc::clone(&account), drain.clone());
        tracing::info!("exporting spans to {destination}");
        queues.push((destination.takes_all(), sender));
        workers.push(Worker { exporter, receiver, counters: Arc::clone(&account), drain: drain.clone() });
        counters.push(account);
    }
    let metrics = (!metrics_workers.is_empty()).then(|| Arc::new(Metrics::new(config.metrics)));
    let collector = metrics.clone().map(|metrics| Collector {
        metrics,
        receivers: metrics_workers.iter().map(MetricsWorker::outbox).collect(),
        drain,
        most_ended: MOST_ENDED,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (finished, done) = mpsc::channel();
    let work = move || {
        let mut tasks: Vec<_> = workers.into_iter().map(|worker| runtime.spawn(worker.run())).collect();
        tasks.extend(metrics_workers.into_iter().map(|worker| runtime.spawn(worker.run())));
        tasks.extend(collector.map(|collector| runtime.spawn(collector.run())));
        for task in tasks {
            if let Err(panic) = runtime.block_on(task) {
                tracing::error!("an exporter ended early: {panic}");
            }
        }
        // A write to a terminal that nobody reads may still be stuck; it must not keep the process.
        runtime.shutdown_background();
        drop(finished);
    };
    let decider = Decider::new(&config.sampling);
    let shared = Shared { metrics, decider, queues, counters, order, done: Mutex::new(done) };
    Ok((ExportHandle { shared: Arc::new(shared) }, work))
}

/// Takes spans from any thread; clones share the same exporters.
#[derive(Clone, Debug)]
pub struct ExportHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Absent where no receiver takes metrics.
    metrics: Option<Arc<Metrics>>,
    decider: Decider,
    /// Each with whether it takes every call, or only those with an event.
    queues: Vec<(bool, queue::Sender)>,
    counters: Vec<Arc<ExporterCounters>>,
    order: watch::Sender<Option<tokio::time::Instant>>,
    /// Closed when the export thread is done.
    done: Mutex<mpsc::Receiver<()>>,
}

impl ExportHandle {
    /// Each exporter's account.
    #[must_use]
    pub fn counters(&self) -> &[Arc<ExporterCounters>] {
        &self.shared.counters
    }

    /// Counts a call in the metrics, and hands its span, if it is sampled, to every exporter that takes it. Never waits:
    /// where a queue is full, the span is dropped and counted. Whether the span is sampled.
    pub fn push(&self, record: Record) -> bool {
        let sampled = self.shared.decider.keeps(&record);
        if let Some(metrics) = &self.shared.metrics {
            metrics.record(&record, sampled);
        }
        if !sampled {
            return false;
        }
        let record = Arc::new(record);
        for (takes_all, queue) in &self.shared.queues {
            if *takes_all || record.has_event() {
                queue.push(&record);
            }
        }
        true
    }

    /// Delivers what waits, until the deadline; what is left then is lost. Spans pushed from now on are
    /// refused and counted. Blocks the calling thread; must not be called from an async task.
    #[must_use]
    pub fn drain(&self, deadline: Instant) -> DrainReport {
        self.shared.order.send_replace(Some(deadline.into()));
        let done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = deadline.saturating_duration_since(Instant::now()) + GRACE;
        if done.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the export thread did not end in time");
        }
        DrainReport { exporters: self.shared.counters.iter().map(|c| c.report()).collect() }
    }
}
