//! The bounded queue in front of each exporter, and the batches taken from it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, timeout_at},
};

use crate::{
    config::BatchConfig,
    counters::{ExporterCounters, Loss},
    drain::Drain,
    record::Record,
};

/// Most bytes of a batch, as [`Record::size`] counts them: below the 4 MiB that gRPC receivers accept.
pub(super) const MAX_BATCH_BYTES: usize = 3_500 << 10;

/// A queue bounded in items and in bytes. What does not fit is dropped and counted: the newest, so that what
/// was already promised is kept. Of its last quarter a process may fill a sixteenth of the whole only: one that makes
/// spans without end loses its own.
pub(super) fn bounded(
    config: &BatchConfig,
    counters: Arc<ExporterCounters>,
    drain: Drain,
) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(config.max_queue_size);
    let bytes = Arc::new(AtomicUsize::new(0));
    let waiting = Arc::<Waiting>::default();
    (
        Sender {
            sender,
            bytes: Arc::clone(&bytes),
            waiting: Arc::clone(&waiting),
            max_bytes: config.max_queue_bytes,
            counters: Arc::clone(&counters),
        },
        Receiver {
            receiver,
            bytes,
            waiting,
            counters,
            drain,
            held: None,
            max_items: config.max_export_batch_size,
            delay: config.schedule_delay,
        },
    )
}

/// How many spans of each process wait.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u32, usize>>);

impl Waiting {
    fn of(&self, pid: u32) -> usize {
        self.lock().get(&pid).copied().unwrap_or_default()
    }

    fn add(&self, pid: u32) {
        *self.lock().entry(pid).or_default() += 1;
    }

    fn remove(&self, pid: u32) {
        if let Entry::Occupied(mut entry) = self.lock().entry(pid) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Sender {
    sender: mpsc::Sender<Arc<Record>>,
    bytes: Arc<AtomicUsize>,
    waiting: Arc<Waiting>,
    max_bytes: usize,
    counters: Arc<ExporterCounters>,
}

impl Sender {
    /// Enqueues, or drops and counts. Never waits.
    pub(super) fn push(&self, record: &Arc<Record>) {
        let most = self.sender.max_capacity();
        let nearly_full = (1..most / 4).contains(&self.sender.capacity());
        if nearly_full && self.waiting.of(record.pid) >= most.div_ceil(16) {
            self.counters.lost(Loss::QueueShare, 1);
            return;
        }
        let size = record.size();
        if self.bytes.fetch_add(size, Relaxed) + size > self.max_bytes {
            self.bytes.fetch_sub(size, Relaxed);
            self.counters.lost(Loss::QueueBytes, 1);
            return;
        }
        self.waiting.add(record.pid);
        self.counters.queued();
        if let Err(refused) = self.sender.try_send(Arc::clone(record)) {
            self.bytes.fetch_sub(size, Relaxed);
            self.waiting.remove(record.pid);
            self.counters.taken();
            let why = match refused {
                TrySendError::Full(_) => Loss::QueueFull,
                TrySendError::Closed(_) => Loss::Late,
            };
            self.counters.lost(why, 1);
        }
    }
}

#[derive(Debug)]
pub(super) struct Receiver {
    receiver: mpsc::Receiver<Arc<Record>>,
    bytes: Arc<AtomicUsize>,
    waiting: Arc<Waiting>,
    counters: Arc<ExporterCounters>,
    drain: Drain,
    /// Taken from the queue, but too large for the batch that was being gathered.
    held: Option<Arc<Record>>,
    max_items: usize,
    delay: Duration,
}

impl Receiver {
    /// Fills `batch` with the next spans, in order: as soon as it is full, or the first of them has waited
    /// for the schedule delay, or draining began. False when nothing is left and nothing can come.
    pub(super) async fn gather(&mut self, batch: &mut Vec<Arc<Record>>) -> bool {
        batch.clear();
        let Some(first) = self.next().await else { return false };
        let mut size = first.size();
        batch.push(first);
        let until = Instant::now() + self.delay;
        while batch.len() < self.max_items {
            let Ok(Some(record)) = timeout_at(until, self.next()).await else { break };
            size += record.size();
            if size > MAX_BATCH_BYTES {
                self.held = Some(record);
                break;
            }
            batch.push(record);
        }
        true
    }

    /// Refuses new spans and says how many still wait.
    pub(super) fn close(&mut self) -> usize {
        self.receiver.close();
        self.receiver.len() + usize::from(self.held.is_some())
    }

    async fn next(&mut self) -> Option<Arc<Record>> {
        if let Some(record) = self.held.take() {
            return Some(record);
        }
        let record = tokio::select! {
            biased;
            record = self.receiver.recv() => record?,
            () = self.drain.started() => {
                self.receiver.close();
                self.receiver.recv().await?
            }
        };
        self.bytes.fetch_sub(record.size(), Relaxed);
        self.waiting.remove(record.pid);
        self.counters.taken();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, collections::BTreeMap};

    use tokentap_genai::{Attribute, Value};

    use super::*;
    use crate::{config::Signal, tests::record};

    #[test]
    fn a_process_that_floods_the_queue_loses_its_own_spans() {
        let config = BatchConfig {
            schedule_delay: Duration::ZERO,
            max_queue_size: 64,
            max_queue_bytes: usize::MAX,
            max_export_batch_size: 64,
        };
        let counters = ExporterCounters::of("x".into(), Signal::Traces);
        let (order, drain) = Drain::new();
        let (sender, mut receiver) = bounded(&config, Arc::clone(&counters), drain);
        let of = |pid| Arc::new(Record { pid, ..(*record(1)).clone() });
        (0..200).for_each(|_| sender.push(&of(7)));
        (0..4).for_each(|_| sender.push(&of(8)));
        assert_eq!(counters.report().lost, [("queue_share", 151)]);
        order.send_replace(Some(Instant::now()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut batch = Vec::new();
        assert!(runtime.block_on(receiver.gather(&mut batch)));
        let mut counts = BTreeMap::new();
        batch.iter().for_each(|record| *counts.entry(record.pid).or_insert(0) += 1);
        assert_eq!(counts, BTreeMap::from([(7, 49), (8, 4)]));
    }

    #[test]
    fn batches_end_before_they_are_too_large_to_send() {
        let config = BatchConfig {
            schedule_delay: Duration::ZERO,
            max_queue_size: 10,
            max_queue_bytes: usize::MAX,
            max_export_batch_size: 10,
        };
        let (order, drain) = Drain::new();
        let (sender, mut receiver) =
            bounded(&config, ExporterCounters::of("x".into(), Signal::Traces), drain);
        let large = |megabytes: usize| {
            let mut record = (*record(1)).clone();
            let value = Value::Str(Cow::Owned("x".repeat(megabytes << 20)));
            record.span.attributes.push(Attribute { key: "large".into(), value });
            Arc::new(record)
        };
        for megabytes in [1, 2, 1, 1, 5, 1] {
            sender.push(&large(megabytes));
        }
        order.send_replace(Some(Instant::now()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let sizes = runtime.block_on(async {
            let (mut batch, mut sizes) = (Vec::new(), Vec::new());
            while receiver.gather(&mut batch).await {
                sizes.push(batch.len());
            }
            sizes
        });
        // One that is too large by itself is the receiver's to refuse.
        assert_eq!(sizes, [2, 2, 1, 1]);
    }
}
