//! What this process gives up, and the only place where it starts threads.
//!
//! Linux keeps capabilities per thread, and a new thread has those of the thread that starts it. Every thread of
//! the agent is started as a [`Thread`]; its first instructions give up everything that it was not started for, so
//! that the order in which threads are started does not matter. Which capability is for what:
//! `kernel::requirements`, and SECURITY.md.

use std::{
    io,
    panic::resume_unwind,
    sync::mpsc::channel,
    thread::{Builder, JoinHandle, scope},
};

use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

/// Descriptors for 5,000 observed processes, each with libraries of its own, and their links.
const DESCRIPTORS: u64 = 1 << 18;

/// Hardens the process as a whole; capabilities stay. Before the first thread is started: `no_new_privs` belongs
/// to a thread, too.
///
/// # Errors
/// When the kernel refuses.
pub fn harden() -> io::Result<()> {
    // From here on no program that is executed has more than this process.
    set_no_new_privs(true)?;
    // Credentials and captured bytes are in our memory: no core dump, no reading by others of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    raise_descriptor_limit();
    Ok(())
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is enough.
    let Some(current) = limit.current else { return };
    let wanted = current.max(DESCRIPTORS);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum.map(|maximum| maximum.max(wanted)) };
    // More than the maximum takes a capability (CAP_SYS_RESOURCE).
    let result = setrlimit(Resource::Nofile, raised)
        .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }));
    if let Err(error) = result {
        tracing::warn!(%error, limit = limit.current, "cannot raise the limit of open files");
    }
}

/// Gives up all capabilities of this thread, for good.
///
/// # Errors
/// When the kernel refuses (a system call filter may).
pub fn give_up() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

/// Gives up all capabilities of this thread, for good, but for some.
fn keep(kept: CapabilitySet) -> io::Result<()> {
    let held = capabilities(None)?;
    // Without no_new_privs, the bounding set is what root gets back at an execve. It takes a capability to
    // empty it.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()?;
    }
    clear_ambient_capability_set()?;
    let kept = kept & held.permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

fn empty_bounding_set() -> io::Result<()> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel has no more capabilities.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A thread to be started. Unless it is said what it keeps, it has no capabilities.
#[derive(Debug)]
pub struct Thread<'a> {
    name: &'a str,
    builder: Builder,
    kept: CapabilitySet,
}

impl<'a> Thread<'a> {
    /// One with this name, of which the kernel shows 15 bytes.
    #[must_use]
    pub fn named(name: &'a str) -> Self {
        Self { name, builder: Builder::new().name(name.to_owned()), kept: CapabilitySet::empty() }
    }

    /// It keeps these capabilities, as far as this thread has them.
    #[must_use]
    pub const fn keeping(mut self, kept: CapabilitySet) -> Self {
        self.kept = kept;
        self
    }

    /// Its stack has this size in bytes.
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.builder = self.builder.stack_size(bytes);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When there is no thread to be had, or it cannot give up its capabilities; then `work` was not begun.
    pub fn spawn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let Self { name, builder, kept } = self;
        let (report, reduced) = channel();
        let thread = builder.spawn(move || {
            let kept = keep(kept);
            let may_work = kept.is_ok();
            // The other end waits for it below.
            if report.send(kept).is_err() || !may_work {
                // Ends this thread without a message: its handle is gone, the error is the caller's.
                resume_unwind(Box::new("not begun"));
            }
            work()
        })?;
        match reduced.recv() {
            Ok(Ok(())) => Ok(thread),
            Ok(Err(error)) => {
                let why = format!("thread {name} cannot give up its capabilities: {error}");
                Err(io::Error::new(error.kind(), why))
            }
            Err(_) => Err(io::Error::other(format!("thread {name} ended before it began"))),
        }
    }
}

/// Does work on each value in a thread of its own, and gives the results in the same order. The threads have what this one
/// has, and end before this returns; `None` for work that panicked.
pub fn in_parallel<T: Send, R: Send>(
    values: impl Iterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<Option<R>> {
    scope(|scope| {
        let work = &work;
        let threads: Vec<_> = values.map(|value| scope.spawn(move || work(value))).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    })
}

/// Drops values whose drop waits for the kernel, in a limited number of threads, and waits until it is done.
pub fn drop_in_parallel<T: Send>(mut values: Vec<T>, threads: usize) {
    let share = values.len().div_ceil(threads.max(1));
    scope(|scope| {
        while values.len() > share {
            let part = values.split_off(values.len() - share);
            let thread = Builder::new().name("dropping".to_owned()).spawn_scoped(scope, move || {
                if let Err(error) = give_up() {
                    tracing::debug!(%error, "a thread that detaches probes keeps its capabilities");
                }
                drop(part);
            });
            if let Err(error) = thread {
                // What it was to drop is gone with it: dropped here, and waited for.
                tracing::debug!(%error, "cannot start a thread");
            }
        }
        drop(values);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_no_more_than_it_is_started_for() {
        let sets = |kept| {
            let thread = Thread::named("test").keeping(kept).spawn(|| capabilities(None).unwrap());
            thread.unwrap().join().unwrap()
        };
        let held = capabilities(None).unwrap().permitted;
        for kept in [CapabilitySet::empty(), CapabilitySet::SYS_PTRACE, CapabilitySet::all()] {
            let expected = kept & held;
            let got = sets(kept);
            assert_eq!((got.effective, got.permitted), (expected, expected));
            assert!(got.inheritable.is_empty());
        }
        let heir = Thread::named("test").spawn(move || sets(CapabilitySet::all()).permitted);
        let inherited = heir.unwrap().join().unwrap();
        assert!(inherited.is_empty(), "what was given up does not come back");
    }

    #[test]
    fn everything_is_dropped_before_it_goes_on() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Counted<'a>(&'a AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        for (count, threads) in [(0, 4), (1, 4), (4, 4), (9, 4), (3, 0)] {
            let dropped = AtomicUsize::new(0);
            drop_in_parallel((0..count).map(|_| Counted(&dropped)).collect(), threads);
            assert_eq!(dropped.into_inner(), count);
        }
    }
}
