//! What became of every span that an exporter was given.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::Signal;

/// Why an exporter did not deliver a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Loss {
    /// The queue held its most items: the newest span was dropped.
    QueueFull,
    /// The queue was nearly full, and the process had its share of it: the newest span was dropped.
    QueueShare,
    /// The queue held its most bytes: the newest span was dropped.
    QueueBytes,
    /// The receiver refused it for good, alone or with its batch.
    Rejected,
    /// A receiver that answers asked to try again for longer than a batch is kept.
    RetryExpired,
    /// It was still waiting when the drain deadline passed.
    DrainTimeout,
    /// It was finished after the exporters had been told to drain.
    Late,
    /// The local output (console, file) could not be written.
    WriteFailed,
}

impl Loss {
    /// All, in order, with the name each is shown under.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::QueueFull, "queue_full"),
        (Self::QueueShare, "queue_share"),
        (Self::QueueBytes, "queue_bytes_full"),
        (Self::Rejected, "rejected"),
        (Self::RetryExpired, "retry_expired"),
        (Self::DrainTimeout, "drain_timeout"),
        (Self::Late, "late"),
        (Self::WriteFailed, "write_failed"),
    ];

    /// What happened, for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::QueueFull => "The queue held its most spans: the newest was dropped",
            Self::QueueShare => {
                "The queue was nearly full, and the process had its share of it: the newest span was dropped"
            }
            Self::QueueBytes => "The queue held its most bytes: the newest span was dropped",
            Self::Rejected => "The receiver rejected the span for good, alone or with its batch",
            Self::RetryExpired => "The receiver asked to try again for longer than a batch is kept",
            Self::DrainTimeout => "The span was still waiting when the drain timeout was over",
            Self::Late => "The call ended after the exporters had been told to drain",
            Self::WriteFailed => "The local output could not be written",
        }
    }
}

/// What happened to the spans given to one exporter.
#[derive(Debug)]
pub struct ExporterCounters {
    name: String,
    signal: Signal,
    exported: AtomicU64,
    lost: [AtomicU64; Loss::ALL.len()],
    waiting: AtomicU64,
    delivered: Mutex<Option<Instant>>,
}

impl ExporterCounters {
    /// All zero, of the exporter with this name, which counts spans, events or points of metrics.
    #[must_use]
    pub fn of(name: String, signal: Signal) -> Arc<Self> {
        Arc::new(Self {
            name,
            signal,
            exported: AtomicU64::default(),
            lost: Default::default(),
            waiting: AtomicU64::default(),
            delivered: Mutex::default(),
        })
    }

    /// Spans that the receiver has confirmed.
    pub fn exported(&self, n: u64) {
        self.exported.fetch_add(n, Relaxed);
        if n > 0 {
            *self.delivered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// One more waits in the queue.
    pub(crate) fn queued(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// One less does.
    pub(crate) fn taken(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Spans that will never arrive.
    pub fn lost(&self, why: Loss, n: u64) {
        self.lost[why as usize].fetch_add(n, Relaxed);
    }

    /// The counters as they are now.
    #[must_use]
    pub fn report(&self) -> ExporterReport {
        ExporterReport {
            name: self.name.clone(),
            signal: self.signal,
            exported: self.exported.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            since_delivery: self
                .delivered
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .map(|delivered| delivered.elapsed()),
            lost: Loss::ALL
                .iter()
                .map(|(why, name)| (*name, self.lost[*why as usize].load(Relaxed)))
                .filter(|(_, n)| *n > 0)
                .collect(),
        }
    }
}

/// What happened to the spans given to one exporter, up to some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterReport {
    /// Kind and destination, as `otlp/grpc http://collector:4317`.
    pub name: String,
    /// What is counted: spans, events, or points of metrics.
    pub signal: Signal,
    /// Spans delivered.
    pub exported: u64,
    /// Spans in its queue.
    pub waiting: u64,
    /// Time since the last delivery, if there was one.
    pub since_delivery: Option<Duration>,
    /// Spans lost, by [`Loss`] name; reasons that never happened are left out.
    pub lost: Vec<(&'static str, u64)>,
}

impl ExporterReport {
    /// Spans lost for any reason.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Loss;

    #[test]
    fn the_table_lists_every_reason_at_its_own_index() {
        assert!(Loss::ALL.iter().enumerate().all(|(i, (why, _))| *why as usize == i));
    }
}
