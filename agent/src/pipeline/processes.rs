//! The processes that a worker knows, and the spans that wait to learn what their process is.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokentap_export::Record;
use tokentap_genai::Resource;
use tokentap_tape::{Process, ProcessKey};
use tokentap_wire::Nanos;

use crate::targets::attributes::{Describer, Facts};

/// How long a span waits for the description of its process.
const PATIENCE: Nanos = Nanos(2_000_000_000);
/// Spans that wait at the same time; of more, the oldest wait no longer.
const MAX_WAITING: usize = 1024;

/// What a worker knows of processes.
pub(super) struct Processes {
    describer: Arc<Describer>,
    known: HashMap<ProcessKey, Known>,
    /// The newest image of each process that has not ended.
    current: HashMap<u32, ProcessKey>,
    /// In the order in which their patience ends.
    waiting: VecDeque<(Nanos, ProcessKey, Record)>,
}

#[derive(Default)]
struct Known {
    resource: Option<Arc<Resource>>,
    /// What stands in for a description that does not come.
    stand_in: Option<Arc<Resource>>,
    streams: HashSet<u64>,
    over: bool,
}

/// A span that can be exported, and whether its process is described.
pub(super) type Ready = (Record, bool);

impl Processes {
    pub(super) fn new(describer: Arc<Describer>) -> Self {
        Self { describer, known: HashMap::new(), current: HashMap::new(), waiting: VecDeque::new() }
    }

    /// A process image is observed; the image before it, if there is one, is over.
    pub(super) fn observe(&mut self, key: ProcessKey) -> Option<ProcessKey> {
        let before = self.current.insert(key.pid, key);
        self.known.entry(key).or_default();
        before
    }

    /// The process that a frame belongs to; without a generation, the one that has this id now.
    pub(super) fn of_frame(&self, pid: u32, generation: Option<u64>) -> Option<ProcessKey> {
        match generation {
            Some(generation) => {
                let key = ProcessKey { pid, generation };
                self.known.get(&key).filter(|known| !known.over).map(|_| key)
            }
            None => self.current.get(&pid).copied(),
        }
    }

    pub(super) fn add_stream(&mut self, key: ProcessKey, stream: u64) {
        if let Some(known) = self.known.get_mut(&key) {
            known.streams.insert(stream);
        }
    }

    pub(super) fn remove_stream(&mut self, key: ProcessKey, stream: u64) {
        if let Some(known) = self.known.get_mut(&key) {
            known.streams.remove(&stream);
        }
    }

    /// The streams of a process, which are its no longer.
    pub(super) fn take_streams(&mut self, key: ProcessKey) -> HashSet<u64> {
        self.known.get_mut(&key).map(|known| std::mem::take(&mut known.streams)).unwrap_or_default()
    }

    /// A process is over, and so are its streams. Spans of it may still wait.
    pub(super) fn end(&mut self, key: ProcessKey) {
        if self.current.get(&key.pid) == Some(&key) {
            self.current.remove(&key.pid);
        }
        if let Some(known) = self.known.get_mut(&key) {
            known.over = true;
        }
        self.forget_if_over(key);
    }

    /// What a process is; the spans that waited for it.
    pub(super) fn describe(&mut self, process: &Process) -> Vec<Ready> {
        let Some(known) = self.known.get_mut(&process.key) else { return Vec::new() };
        known.resource = Some(Arc::clone(&process.resource));
        let (ready, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, key, _)| *key == process.key);
        self.waiting = waiting;
        self.forget_if_over(process.key);
        let describe = |record| Record { resource: Arc::clone(&process.resource), ..record };
        ready.into_iter().map(|(_, _, record)| (describe(record), true)).collect()
    }

    /// A span is finished: it comes back when its process is described, else it waits. Instead of it the oldest
    /// one may come back.
    pub(super) fn finish(
        &mut self,
        key: ProcessKey,
        now: Nanos,
        make: impl FnOnce(Arc<Resource>) -> Record,
    ) -> Option<Ready> {
        let known = self.known.entry(key).or_default();
        if let Some(resource) = &known.resource {
            return Some((make(Arc::clone(resource)), true));
        }
        let stand_in =
            known.stand_in.get_or_insert_with(|| self.describer.resource(key.pid, &Facts::default()));
        let record = make(Arc::clone(stand_in));
        self.waiting.push_back((Nanos(now.0.saturating_add(PATIENCE.0)), key, record));
        if self.waiting.len() > MAX_WAITING { self.oldest() } else { None }
    }

    /// The oldest span that has waited long enough.
    pub(super) fn overdue(&mut self, now: Nanos) -> Option<Ready> {
        let (until, ..) = self.waiting.front()?;
        if *until <= now { self.oldest() } else { None }
    }

    /// The oldest span that waits.
    pub(super) fn oldest(&mut self) -> Option<Ready> {
        let (_, key, record) = self.waiting.pop_front()?;
        self.forget_if_over(key);
        Some((record, false))
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn forget_if_over(&mut self, key: ProcessKey) {
        let over = self.known.get(&key).is_some_and(|known| known.over);
        if over && !self.waiting.iter().any(|(_, waiting, _)| *waiting == key) {
            self.known.remove(&key);
        }
    }
}
