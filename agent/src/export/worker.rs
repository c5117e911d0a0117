//! One exporter's task: gather a batch, deliver it, account for it.

use std::sync::Arc;

use super::{Record, console::Console, drain::Drain, otlp::Otlp, queue::Receiver};
use crate::telemetry::{ExporterCounters, Loss};

/// How a batch ended: every span of it is in one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Spans that the receiver has.
    pub(super) delivered: u64,
    /// Spans that it will never have, and why.
    pub(super) lost: Option<(Loss, u64)>,
}

impl Outcome {
    pub(super) const fn delivered(n: u64) -> Self {
        Self { delivered: n, lost: None }
    }

    pub(super) const fn lost(why: Loss, n: u64) -> Self {
        Self { delivered: 0, lost: Some((why, n)) }
    }
}

/// Where a worker's batches go.
#[derive(Debug)]
pub(super) enum Exporter {
    Otlp(Box<Otlp>),
    Console(Console),
}

impl Exporter {
    async fn deliver(&mut self, batch: &[Arc<Record>], drain: &mut Drain) -> Outcome {
        match self {
            Self::Otlp(otlp) => otlp.deliver(batch, drain).await,
            Self::Console(console) => console.deliver(batch).await,
        }
    }
}

/// One exporter with its queue.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) exporter: Exporter,
    pub(super) receiver: Receiver,
    pub(super) counters: Arc<ExporterCounters>,
    pub(super) drain: Drain,
}

impl Worker {
    /// Works until the queue is closed and empty, or the drain deadline has passed.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut deadline = self.drain.clone();
        while self.receiver.gather(&mut batch).await {
            tokio::select! {
                outcome = self.exporter.deliver(&batch, &mut self.drain) => {
                    self.counters.exported(outcome.delivered);
                    if let Some((why, n)) = outcome.lost {
                        self.counters.lost(why, n);
                    }
                }
                () = deadline.expired() => {
                    let left = batch.len() + self.receiver.close();
                    self.counters.lost(Loss::DrainTimeout, left as u64);
                    return;
                }
            }
        }
    }
}
