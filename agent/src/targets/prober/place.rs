//! Probes into files and out again, and the notices of files that change while they are probed.
//!
//! What remains uncertain: between a write to a probed file and the moment at which its probes are gone (some 50 ms),
//! a process that maps it anew gets breakpoints where the old contents had functions. A write through a shared
//! mapping gives no notice; it shows in the change time at the next look at a process that uses the file (at most
//! [`super::RECHECK`] later). Holding a lease would leave no such gap, but would make the writer wait for the agent.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use super::{
    Order,
    placement::{Place, Unplaced},
};
use crate::{
    kernel::{Attacher, Scope, TlsProbes},
    privileges::Thread,
    tls::Found,
};

/// Probes that are there, in a file that is watched.
pub(super) struct Placed {
    probes: TlsProbes,
    watch: Option<i32>,
}

impl Placed {
    /// Whether a notice is about this file.
    pub(super) fn is_about(&self, watch: i32) -> bool {
        self.watch == Some(watch)
    }
}

/// The kernel, as a place for probes.
pub(super) struct Kernel {
    attacher: Attacher,
    /// To be taken away, by a thread that may wait.
    going: Sender<Vec<TlsProbes>>,
    notices: Option<Arc<OwnedFd>>,
    /// How many probes share a watch: a file has one.
    watches: HashMap<i32, usize>,
}

impl Kernel {
    /// Starts the threads that take probes away and wait for notices, which go to `orders`.
    pub(super) fn new(attacher: Attacher, orders: Sender<Order>) -> io::Result<Self> {
        let (going, inbox) = channel::<Vec<TlsProbes>>();
        Thread::named("detach").spawn(move || inbox.into_iter().for_each(detach))?;
        let notices = match inotify::init(CreateFlags::CLOEXEC) {
            Ok(notices) => {
                let notices = Arc::new(notices);
                let reader = Arc::clone(&notices);
                Thread::named("file-changes").spawn(move || read(&reader, &orders))?;
                Some(notices)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot watch probed files for changes, they are looked at in intervals only");
                None
            }
        };
        Ok(Self { attacher, going, notices, watches: HashMap::new() })
    }

    /// Before the contents are compared, so that no change falls in between.
    fn watch(&mut self, found: &Found) -> Option<i32> {
        let notices = self.notices.as_ref()?;
        match inotify::add_watch(notices, found.file.path(), WatchFlags::MODIFY) {
            Ok(watch) => {
                *self.watches.entry(watch).or_default() += 1;
                Some(watch)
            }
            Err(error) => {
                tracing::debug!(file = found.name, %error, "a change of the file will be seen late");
                None
            }
        }
    }

    fn unwatch(&mut self, watch: Option<i32>) {
        let Some(watch) = watch else { return };
        let Some(count) = self.watches.get_mut(&watch) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.watches.remove(&watch);
        let Some(notices) = &self.notices else { return };
        match inotify::remove_watch(notices, watch) {
            // The file is gone, and the watch with it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => tracing::debug!(%error, "a file stays watched"),
        }
    }

    fn attach(&mut self, found: &Found, scope: Scope) -> Result<TlsProbes, Unplaced> {
        let read = |error: io::Error| Unplaced::Refused(format!("its code cannot be read: {error}"));
        // The thread that found it has just read these bytes: they come from memory.
        if !found.code.is_in(&found.file).map_err(read)? {
            return Err(Unplaced::Changed);
        }
        let probes = self
            .attacher
            .attach_tls(&found.file.path(), &found.code.points, scope)
            .map_err(|error| Unplaced::Refused(error.to_string()))?;
        if !found.file.is_unchanged().map_err(read)? {
            return Err(Unplaced::Changed);
        }
        Ok(probes)
    }
}

impl Place for Kernel {
    type Probes = Placed;

    fn place(&mut self, found: &Found, scope: Scope) -> Result<Placed, Unplaced> {
        let watch = self.watch(found);
        self.attach(found, scope).map(|probes| Placed { probes, watch }).inspect_err(|_| self.unwatch(watch))
    }

    fn is_probed(&self, found: &Found) -> bool {
        let Some(point) = found.code.points.first() else { return false };
        found.file.is_probed(point.offset).unwrap_or_else(|error| {
            tracing::debug!(file = found.name, %error, "cannot tell whether the file is probed");
            false
        })
    }

    fn remove(&mut self, probes: Vec<Placed>) {
        let probes: Vec<TlsProbes> = probes
            .into_iter()
            .map(|placed| {
                self.unwatch(placed.watch);
                placed.probes
            })
            .collect();
        if !probes.is_empty()
            && let Err(unsent) = self.going.send(probes)
        {
            drop(unsent);
        }
    }
}

/// Takes probes away. Each wait of the kernel's is over for all that wait at the same time.
pub(super) fn detach(mut probes: Vec<TlsProbes>) {
    const THREADS: usize = 64;
    let share = probes.len().div_ceil(THREADS).max(1);
    if probes.len() <= share {
        return;
    }
    thread::scope(|scope| {
        while !probes.is_empty() {
            let part = probes.split_off(probes.len().saturating_sub(share));
            scope.spawn(move || drop(part));
        }
    });
}

/// All probes at the end.
pub(super) fn detach_all(placed: Vec<Placed>) {
    detach(placed.into_iter().map(|placed| placed.probes).collect());
}

/// Passes notices on until nobody takes them.
fn read(notices: &OwnedFd, orders: &Sender<Order>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(notices.as_fd(), &mut buffer);
    loop {
        let order = match reader.next() {
            Ok(notice) if notice.events().contains(ReadFlags::QUEUE_OVERFLOW) => Order::Recheck,
            Ok(notice) if notice.events().contains(ReadFlags::MODIFY) => Order::Modified(notice.wd()),
            Ok(_) | Err(Errno::INTR) => continue,
            Err(error) => {
                tracing::warn!(%error, "probed files are not watched for changes any more");
                return;
            }
        };
        if orders.send(order).is_err() {
            return;
        }
    }
}
