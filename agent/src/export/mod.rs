//! Spans leave the process here: OTLP and console, several at once, none waiting for another.
//!
//! [`start`] spawns one thread, named `export`, with its own current-thread runtime. Every exporter has its
//! own bounded queue and its own task there, so that one that hangs costs the others nothing. Nothing in
//! here blocks the threads that make spans: a full queue drops the newest span and counts it.

mod console;
mod drain;
mod otlp;
mod queue;
mod worker;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use tokentap_genai::{Attribute, Span, SpanStatus, Value};
use tokio::sync::watch;

use crate::{
    config::{ExportConfig, ExporterConfig},
    privileges::Thread,
    targets::attributes::Resource,
    telemetry::{ExporterCounters, ExporterReport, Telemetry},
};
use console::Console;
use drain::Drain;
use otlp::Otlp;
use worker::{Exporter, Worker};

/// The scope of every span.
pub(crate) const SCOPE_NAME: &str = "tokentap";
/// Its version.
pub(crate) const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The conventions that span attributes follow: the GenAI ones have a registry of their own.
pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev";
/// The conventions that resource attributes follow.
pub(crate) const RESOURCE_SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// What the end of the thread may take beyond the deadline that its workers keep themselves.
const GRACE: Duration = Duration::from_millis(500);

/// A finished span with what it takes to export it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The process that made or served the call.
    pub resource: Arc<Resource>,
    /// Of the parent when there is one, else random; never zero.
    pub trace_id: [u8; 16],
    /// Random, never zero.
    pub span_id: [u8; 8],
    /// `span.start` on the wall clock.
    pub start_unix_nanos: u64,
    /// `span.end` on the wall clock.
    pub end_unix_nanos: u64,
    /// The call.
    pub span: Span,
    /// The process, for people.
    pub pid: u32,
}

impl Record {
    /// An upper bound of its bytes on the wire when it is sent alone, resource included; about what it takes
    /// in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        // Ids, times, tags and lengths of an OTLP span, and its share of the scope when it comes alone.
        const SPAN: usize = 256;
        let parent = self.span.parent.as_ref().map_or(0, |parent| parent.state.len());
        let attributes: usize = self.span.attributes.iter().map(attribute_size).sum();
        let status = match &self.span.status {
            SpanStatus::Unset => 0,
            SpanStatus::Error(description) => description.len(),
        };
        let resource: usize = self.resource.attributes().iter().map(attribute_size).sum();
        SPAN + self.span.name.len() + parent + status + attributes + resource
    }
}

fn attribute_size(attribute: &Attribute) -> usize {
    // Tags and lengths: of the pair, its key, its value, the value's variant, an element of a list.
    const PAIR: usize = 24;
    const ELEMENT: usize = 12;
    let value = match &attribute.value {
        Value::Str(text) => text.len(),
        Value::StrList(list) => list.iter().map(|text| text.len() + ELEMENT).sum(),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => 10,
    };
    PAIR + attribute.key.len() + value
}

/// Why exporting could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate or key file cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// No thread or no runtime.
    #[error("cannot start the export thread: {0}")]
    Thread(#[from] io::Error),
}

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

/// Starts the exporters. Needs no receiver to be there yet, and does not look.
///
/// # Errors
/// [`StartError`] when a TLS file cannot be used or no thread can be had.
pub fn start(config: &ExportConfig, telemetry: &Telemetry) -> Result<ExportHandle, StartError> {
    let (order, drain) = Drain::new();
    let mut queues = Vec::new();
    let mut workers = Vec::new();
    let mut counters = Vec::new();
    for destination in &config.exporters {
        let exporter = match destination {
            ExporterConfig::Otlp(otlp) => Exporter::Otlp(Box::new(Otlp::new(otlp)?)),
            ExporterConfig::Console { format, color } => Exporter::Console(Console::stdout(*format, *color)),
        };
        let account = telemetry.exporter(destination.name());
        let (sender, receiver) = queue::bounded(&config.batch, Arc::clone(&account), drain.clone());
        tracing::info!("spans go to {destination}");
        queues.push(sender);
        workers.push(Worker { exporter, receiver, counters: Arc::clone(&account), drain: drain.clone() });
        counters.push(account);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (finished, done) = mpsc::channel();
    Thread::named("export").spawn(move || {
        let tasks: Vec<_> = workers.into_iter().map(|worker| runtime.spawn(worker.run())).collect();
        for task in tasks {
            if let Err(panic) = runtime.block_on(task) {
                tracing::error!("an exporter ended early: {panic}");
            }
        }
        // A write to a terminal that nobody reads may still be stuck; it must not keep the process.
        runtime.shutdown_background();
        drop(finished);
    })?;
    Ok(ExportHandle { shared: Arc::new(Shared { queues, counters, order, done: Mutex::new(done) }) })
}

/// Takes spans from any thread; clones share the same exporters.
#[derive(Clone, Debug)]
pub struct ExportHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queues: Vec<queue::Sender>,
    counters: Vec<Arc<ExporterCounters>>,
    order: watch::Sender<Option<tokio::time::Instant>>,
    /// Closed when the export thread is done.
    done: Mutex<mpsc::Receiver<()>>,
}

impl ExportHandle {
    /// Hands a span to every exporter. Never waits: where a queue is full, the span is dropped and counted.
    pub fn push(&self, record: Record) {
        let record = Arc::new(record);
        for queue in &self.shared.queues {
            queue.push(&record);
        }
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

#[cfg(test)]
mod tests;
