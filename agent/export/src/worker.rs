//! One exporter's task: gather a batch, deliver it, account for it.

use std::sync::Arc;

use crate::{
    console::Console,
    counters::{ExporterCounters, Loss},
    drain::Drain,
    file::FileExporter,
    otlp::Otlp,
    outcome::DeliveryOutcome,
    queue::Receiver,
    record::Record,
};

/// Where a worker's batches go.
#[derive(Debug)]
pub(super) enum Exporter {
    Otlp(Box<Otlp>),
    Console(Console),
    File(FileExporter),
}

impl Exporter {
    async fn deliver(&mut self, batch: &[Arc<Record>], drain: &mut Drain) -> DeliveryOutcome {
        match self {
            Self::Otlp(otlp) => otlp.deliver(batch, drain).await,
            Self::Console(console) => console.deliver(batch).await,
            Self::File(file) => file.deliver(batch).await,
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
                    for (why, n) in outcome.lost {
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
