//! What the targets thread is asked, and what it answers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc::{Receiver, Sender, channel},
};

use tokentap_abi::Verdict;
use tokentap_tape::{Process, ProcessKey};

use super::{NotObserved, describe::ReaderReport};
use crate::telemetry::{Event, Telemetry};

/// Requests that wait for the targets thread.
const MAX_WAITING: usize = 16_384;

/// What the targets thread is asked.
#[derive(Debug)]
pub enum Request {
    /// Observe what is selected now, and say what that is.
    Start(Sender<Started>),
    /// A process replaced its image.
    Executed {
        /// The new image.
        key: ProcessKey,
        /// The name that it was started by.
        started_as: String,
        /// It is observed, as the old image was. Else it has to be decided.
        accepted: bool,
        /// The kernel side tracks it.
        tracked: bool,
    },
    /// A process has a child.
    Forked {
        /// The child.
        child: ProcessKey,
        /// Its parent's id.
        parent: u32,
        /// It is observed, as its parent is. Else it has to be decided.
        accepted: bool,
    },
    /// Frames came of a process that nothing is known of.
    Unknown(ProcessKey),
    /// An observed process uses the network: what it is will be asked for.
    Describe(ProcessKey),
    /// A thread ended that is the last one of its process, or may be (`last` unknown).
    Exited {
        /// The process.
        key: ProcessKey,
        /// Whether it was the last, where the kernel side can say.
        last: Option<bool>,
    },
    /// The kernel side cannot tell what this descriptor is.
    NameDescriptor(ProcessKey, u32),
    /// A process mapped a file as executable.
    Mapped(u32),
    /// A process has a TLS stream whose socket is not known.
    Unbound(u32),
    /// What is copied of a stream from now on.
    Copy(u64, Verdict),
    /// A thread that reads processes has something to say.
    Reader(ReaderReport),
    /// Nothing is captured any more.
    Quiesce,
    /// The end.
    Stop,
}

/// What was there to be observed at the start.
#[derive(Debug, Default)]
pub struct Started {
    /// What is observed.
    pub keys: Vec<ProcessKey>,
    /// What is known of those, apart from `--all`.
    pub described: Vec<Arc<Process>>,
    /// Why a process that was named is not observed.
    pub refused: Vec<NotObserved>,
}

/// What the targets thread found.
#[derive(Clone, Debug)]
pub enum ProcessEvent {
    /// A process is observed.
    Accepted(ProcessKey),
    /// No rule selects it.
    Refused(ProcessKey),
    /// What an observed process is.
    Described(Arc<Process>),
    /// An observed process ended.
    Ended(ProcessKey),
}

/// What the two ends of the queue share.
#[derive(Debug, Default)]
struct Shared {
    /// Requests in the queue, the one in work included.
    waiting: AtomicUsize,
    /// Descriptions that were begun.
    describing: AtomicUsize,
    /// A request was lost.
    overflowed: AtomicBool,
}

/// Takes requests, from any thread; never waits.
#[derive(Clone, Debug)]
pub struct Requests {
    sender: Sender<Request>,
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
}

/// The other end of [`Requests`].
#[derive(Debug)]
pub struct Inbox {
    pub(super) receiver: Receiver<Request>,
    shared: Arc<Shared>,
}

/// A bounded queue of requests.
#[must_use]
pub fn requests(telemetry: &Arc<Telemetry>) -> (Requests, Inbox) {
    let (sender, receiver) = channel();
    let shared = Arc::<Shared>::default();
    let requests = Requests { sender, shared: Arc::clone(&shared), telemetry: Arc::clone(telemetry) };
    (requests, Inbox { receiver, shared })
}

impl Requests {
    /// Queues a request. When the queue is full that is counted, and the targets thread checks all processes later.
    pub fn send(&self, request: Request) {
        // What readers report and orders to end are few, and must arrive.
        let must = matches!(request, Request::Reader(_) | Request::Quiesce | Request::Stop);
        if self.shared.waiting.fetch_add(1, Ordering::AcqRel) >= MAX_WAITING && !must {
            self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
            self.shared.overflowed.store(true, Ordering::Release);
            self.telemetry.add(Event::TargetsQueueFull, 1);
            return;
        }
        if let Err(unsent) = self.sender.send(request) {
            self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
            tracing::debug!("the targets thread has ended, not done: {:?}", unsent.0);
        }
    }

    /// Whether something that was asked for is not answered yet.
    #[must_use]
    pub fn are_pending(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) + self.shared.describing.load(Ordering::Acquire) > 0
    }
}

impl Inbox {
    /// Everything that waits.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Vec<Request> {
        self.receiver.try_iter().inspect(|_| self.done()).collect()
    }

    /// The request taken last is done.
    pub(super) fn done(&self) {
        self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// So many descriptions are under way.
    pub(super) fn set_describing(&self, count: usize) {
        self.shared.describing.store(count, Ordering::Release);
    }

    /// Whether requests were lost since this was asked last.
    pub(super) fn overflowed(&self) -> bool {
        self.shared.overflowed.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_what_it_refuses_and_asks_for_a_new_look() {
        let telemetry = Telemetry::new();
        let (requests, inbox) = requests(&telemetry);
        for pid in 0..u32::try_from(MAX_WAITING).unwrap() + 3 {
            requests.send(Request::Mapped(pid));
        }
        assert_eq!(telemetry.count(Event::TargetsQueueFull), 3);
        assert!(inbox.overflowed() && !inbox.overflowed());
        requests.send(Request::Stop);
        let taken = inbox.take_all();
        assert_eq!(taken.len(), MAX_WAITING + 1, "an order to end is never refused");
        assert!(matches!(taken.last(), Some(Request::Stop)));
        assert!(!requests.are_pending());
    }
}
