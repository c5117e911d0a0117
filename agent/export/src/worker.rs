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
    /// When this is cancelled, `done` says what has become of parts of the batch.
    async fn deliver(&mut self, batch: &[Arc<Record>], drain: &mut Drain, done: &mut DeliveryOutcome) {
        match self {
            Self::Otlp(otlp) => otlp.deliver(batch, drain, done).await,
            Self::Console(console) => done.add(console.deliver(batch).await),
            Self::File(file) => done.add(file.deliver(batch).await),
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
            let mut done = DeliveryOutcome::delivered(0);
            let in_time = tokio::select! {
                () = self.exporter.deliver(&batch, &mut self.drain, &mut done) => true,
                () = deadline.expired() => false,
            };
            let left = batch.len() as u64 - done.items();
            self.counters.exported(done.delivered);
            for (why, n) in done.lost {
                self.counters.lost(why, n);
            }
            if !in_time {
                self.counters.lost(Loss::DrainTimeout, left + self.receiver.close() as u64);
                return;
            }
        }
    }
}
