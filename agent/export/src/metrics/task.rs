//! Collects at each interval, and delivers what was collected.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{Collection, Metrics};
use crate::{
    config::Temporality,
    counters::{ExporterCounters, Loss},
    drain::Drain,
    otlp::Otlp,
};

/// Collections that wait for a receiver, where each is different from the one before.
const MOST_WAITING: usize = 64;
/// Most processes that have ended and are kept because a receiver does not have their last numbers: some 10 KiB each.
pub(crate) const MOST_ENDED: usize = 2048;

/// Collections on their way to one receiver.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<VecDeque<(u64, Arc<Collection>)>>,
    news: Notify,
    /// No more will come.
    closed: AtomicBool,
    /// The number of the last collection that the receiver has, or has refused.
    delivered: AtomicU64,
    counters: Arc<ExporterCounters>,
}

impl Outbox {
    pub(super) fn new(counters: Arc<ExporterCounters>) -> Self {
        Self {
            waiting: Mutex::default(),
            news: Notify::new(),
            closed: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            counters,
        }
    }

    fn offer(&self, number: u64, collection: &Arc<Collection>, replaces: bool) {
        let mut waiting = self.waiting();
        if replaces {
            waiting.clear();
        } else if waiting.len() >= MOST_WAITING
            && let Some((_, lost)) = waiting.pop_front()
        {
            self.counters.lost(Loss::QueueFull, lost.points());
        }
        waiting.push_back((number, Arc::clone(collection)));
        drop(waiting);
        self.news.notify_one();
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
        self.news.notify_one();
    }

    fn next(&self) -> Option<(u64, Arc<Collection>)> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<Collection>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when something waits.
    async fn is_waiting(&self) {
        while self.waiting().is_empty() {
            self.news.notified().await;
        }
    }
}

/// Collects at each interval, and once more at the end.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) receivers: Vec<Arc<Outbox>>,
    pub(crate) drain: Drain,
    /// Most processes that have ended and are kept.
    pub(crate) most_ended: usize,
}

impl Collector {
    /// Works until the order to drain.
    pub(crate) async fn run(mut self) {
        let period = self.metrics.config.interval.max(Duration::from_millis(10));
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = HashMap::new();
        for number in 1.. {
            let last = tokio::select! {
                _ = ticks.tick() => false,
                () = self.drain.started() => true,
            };
            self.collect(number, &mut ended);
            if last {
                break;
            }
        }
        self.receivers.iter().for_each(|receiver| receiver.close());
    }

    /// `ended`: processes that have ended, with the number of the first collection that says so.
    pub(super) fn collect(&self, number: u64, ended: &mut HashMap<u64, u64>) {
        let delivered = self.receivers.iter().map(|receiver| receiver.delivered.load(Relaxed)).min();
        let gone: Vec<u64> = ended
            .iter()
            .filter(|(_, last)| delivered.is_none_or(|delivered| **last <= delivered))
            .map(|(process, _)| *process)
            .collect();
        self.metrics.retire(&gone);
        self.forget_oldest(ended, gone.len());
        let collection = Arc::new(self.metrics.collect());
        let replaces = self.metrics.config.temporality == Temporality::Cumulative;
        if replaces {
            // One that has been described anew lives.
            ended.retain(|process, _| collection.ended.contains(process));
            collection.ended.iter().for_each(|process| {
                ended.entry(*process).or_insert(number);
            });
        } else {
            // Each number is in one collection only.
            self.metrics.retire(&collection.ended);
        }
        for receiver in &self.receivers {
            receiver.offer(number, &collection, replaces);
        }
    }
}

impl Collector {
    /// Forgets the processes that ended first, where too many wait for a receiver. `gone`: how many of them do not any more.
    fn forget_oldest(&self, ended: &HashMap<u64, u64>, gone: usize) {
        let excess = ended.len().saturating_sub(gone + self.most_ended);
        if excess == 0 {
            return;
        }
        let mut oldest: Vec<(u64, u64)> = ended.iter().map(|(process, number)| (*number, *process)).collect();
        oldest.sort_unstable();
        let oldest: Vec<u64> = oldest.into_iter().take(excess).map(|(_, process)| process).collect();
        let points = self.metrics.retire(&oldest);
        self.receivers.iter().for_each(|receiver| receiver.counters.lost(Loss::QueueFull, points));
    }
}

/// Delivers collections to one receiver.
#[derive(Debug)]
pub(crate) struct MetricsWorker {
    otlp: Otlp,
    outbox: Arc<Outbox>,
    drain: Drain,
    /// How long a request is offered before a newer collection may take its place; `None`: none may.
    patience: Option<Duration>,
}

impl MetricsWorker {
    pub(crate) fn new(
        otlp: Otlp,
        counters: Arc<ExporterCounters>,
        drain: Drain,
        patience: Option<Duration>,
    ) -> Self {
        Self { otlp, outbox: Arc::new(Outbox::new(counters)), drain, patience }
    }

    /// What the collector fills.
    pub(crate) fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    /// Works until what was collected at the end is delivered, or the drain deadline has passed.
    pub(crate) async fn run(mut self) {
        let outbox = self.outbox();
        let mut deadline = self.drain.clone();
        loop {
            let Some((number, collection)) = outbox.next() else {
                if outbox.closed.load(Relaxed) {
                    return;
                }
                outbox.news.notified().await;
                continue;
            };
            tokio::select! {
                done = self.deliver(&collection) => {
                    if self.otlp.is_unsupported() {
                        // Nothing is kept for it.
                        outbox.delivered.store(u64::MAX, Relaxed);
                        return;
                    }
                    if done {
                        outbox.delivered.store(number, Relaxed);
                    }
                }
                () = deadline.expired() => {
                    let left = outbox.waiting().iter().map(|(_, waiting)| waiting.points()).sum::<u64>();
                    outbox.counters.lost(Loss::DrainTimeout, collection.points() + left);
                    return;
                }
            }
        }
    }

    /// Offers a collection until the receiver has it, or has refused it for good. False: a newer one takes its place.
    async fn deliver(&mut self, collection: &Collection) -> bool {
        for (request, points) in &collection.requests {
            let patience = self.patience;
            let outbox = &self.outbox;
            let newer = async {
                sleep(patience.unwrap_or_default()).await;
                outbox.is_waiting().await;
            };
            tokio::select! {
                outcome = self.otlp.send(request.clone(), *points, &mut self.drain) => {
                    outbox.counters.exported(outcome.delivered);
                    for (why, n) in outcome.lost {
                        outbox.counters.lost(why, n);
                    }
                }
                () = newer, if patience.is_some() => return false,
            }
        }
        true
    }
}
