//! Probes in files under a lease: a write is let in when they are gone.
//!
//! ```text
//! prober:        take the lease ─> check the bytes ─> attach ─> hold ─────────────> (broken meanwhile?) give up
//! file-changes:                                     notice ─> take_broken ─> detach ─> drop the lease ─> tell prober
//! writer:                     open(2) ──────────────^ waits ·······································^ goes on
//! ```
//!
//! The thread that gets the notice takes the probes away itself: the prober may be busy with a batch of other files.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokentap_tls::Lease;

/// Probes, and the lease on their file where there is one. They are dropped in this command: no write is let in before
/// the probes are gone.
pub(super) struct Held<P> {
    _probes: P,
    lease: Option<Lease>,
    /// The file's name, for people.
    pub(super) file: String,
}

/// Probes that are there until somebody takes them away.
pub(super) struct Slot<P>(Arc<Mutex<Option<Held<P>>>>);

impl<P> Slot<P> {
    /// Takes the probes out, if that was not done yet.
    pub(super) fn take(&self) -> Option<Held<P>> {
        lock(&self.0).take()
    }

    /// Whether they were taken out.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).is_none()
    }

    /// Whether they are in a file that was deleted, as far as a lease shows it.
    pub(super) fn is_of_deleted(&self) -> bool {
        lock(&self.0).as_ref().and_then(|held| held.lease.as_ref()).is_some_and(Lease::is_of_deleted)
    }

    fn take_if_broken(&self) -> Option<Held<P>> {
        lock(&self.0).take_if(|held| held.lease.as_ref().is_some_and(Lease::is_broken))
    }
}

/// All slots with a lease.
pub(super) struct Leases<P>(Mutex<Known<P>>);

struct Known<P> {
    slots: Vec<Weak<Mutex<Option<Held<P>>>>>,
    /// How many there may be before those that are gone are sorted out.
    sorted_at: usize,
}

impl<P> Leases<P> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Known { slots: Vec::new(), sorted_at: 64 }))
    }

    /// Keeps probes that were just placed; `None` when a writer came meanwhile: then they are gone again.
    pub(super) fn hold(&self, probes: P, lease: Option<Lease>, file: String) -> Option<Slot<P>> {
        let is_leased = lease.is_some();
        let slot = Slot(Arc::new(Mutex::new(Some(Held { _probes: probes, lease, file }))));
        if !is_leased {
            return Some(slot);
        }
        let mut known = lock(&self.0);
        if known.slots.len() >= known.sorted_at {
            known.slots.retain(|slot| slot.strong_count() > 0);
            known.sorted_at = (2 * known.slots.len()).max(64);
        }
        known.slots.push(Arc::downgrade(&slot.0));
        drop(known);
        // A notice before this moment found nothing to take away.
        let broken = slot.take_if_broken();
        (broken.is_none() && !slot.is_empty()).then_some(slot)
    }

    /// Takes out everything whose lease is being broken.
    pub(super) fn take_broken(&self) -> Vec<Held<P>> {
        let slots: Vec<_> = lock(&self.0).slots.iter().filter_map(Weak::upgrade).collect();
        slots.into_iter().filter_map(|slot| Slot(slot).take_if_broken()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use tokentap_tls::{BreakNotices, OpenFile};

    use crate::privileges::Thread;

    /// Sees at its end whether the file is as it was.
    struct Probe<'a>(&'a Path, &'a AtomicBool);

    impl Drop for Probe<'_> {
        fn drop(&mut self) {
            self.1.store(fs::read(self.0).unwrap() == b"old", Ordering::Release);
        }
    }

    fn wait_for_notice(notices: &BreakNotices) {
        use rustix::event::{PollFd, PollFlags, poll};
        while poll(&mut [PollFd::new(notices, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
    }

    #[test]
    fn a_writer_goes_on_when_the_probes_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["lib.so", "other.so"].map(|name| folder.path().join(name));
        [&path, &other].into_iter().for_each(|path| fs::write(path, b"old").unwrap());
        let (leases, notices) = (Leases::new(), BreakNotices::install().unwrap());
        let gone = [(); 3].map(|()| AtomicBool::new(false));
        let hold = |path, gone| {
            let lease = Lease::take(&OpenFile::open(path).unwrap(), &notices).unwrap();
            leases.hold(Probe(path, gone), Some(lease), path.display().to_string()).unwrap()
        };
        let slots = [hold(&path, &gone[0]), hold(&path, &gone[1]), hold(&other, &gone[2])];
        assert!(leases.take_broken().is_empty());
        let file = path.clone();
        let writer = Thread::named("test").spawn(move || fs::write(file, b"new").unwrap()).unwrap();
        wait_for_notice(&notices);
        notices.take().unwrap();
        let broken = leases.take_broken();
        assert_eq!(broken.len(), 2);
        assert!(slots[0].is_empty() && slots[1].is_empty() && !slots[2].is_empty());
        drop(broken);
        writer.join().unwrap();
        assert!(gone[0].load(Ordering::Acquire) && gone[1].load(Ordering::Acquire), "no write before");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
