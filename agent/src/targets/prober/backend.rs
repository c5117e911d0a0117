//! Probes into files and out again.
//!
//! A file is held by a lease while it is probed ([`super::leases`]), so that nobody writes to it before its probes are
//! gone. Where no lease is to be had (a file system that has none, another user's file without `CAP_LEASE`), inotify
//! gives notice of writes. What remains uncertain there: between a write to the file and the moment at which its
//! probes are gone (some 50 ms), a process that maps it anew gets breakpoints where the old contents had functions; and
//! a write through a shared mapping gives no notice, it shows in the change time at the next look at a process that
//! uses the file (at most [`super::coordinator::RECHECK_INTERVAL`] later).

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokentap_tls::{BreakNotices, FileId, Found, Lease, NoLease};

use super::{
    changes,
    command::Command,
    detach::{detach, detach_all_of},
    leases::{Held, Leases, Slot},
    placement::{NotPlaced, ProbeBackend},
};
use crate::{
    kernel::{Attacher, Scope, TlsProbes},
    privileges::Thread,
    telemetry::{Event, Telemetry},
};

/// Most files of which it is remembered that there was no lease.
const MAX_UNLEASED: usize = 4096;

/// Probes that are there, in a file that is leased or watched.
pub(super) struct PlacedProbes {
    probes: Slot<TlsProbes>,
    watch: Option<i32>,
}

impl PlacedProbes {
    /// Whether a notice is about this file.
    pub(super) fn is_about(&self, watch: i32) -> bool {
        self.watch == Some(watch)
    }

    /// Whether the probes were taken away because a writer came.
    pub(super) fn is_gone(&self) -> bool {
        self.probes.is_empty()
    }
}

/// Probes placed by the kernel.
pub(super) struct KernelBackend {
    attacher: Attacher,
    /// To be taken away, by a thread that may wait.
    going: Sender<Vec<Held<TlsProbes>>>,
    leases: Arc<Leases<TlsProbes>>,
    breaks: Option<Arc<BreakNotices>>,
    notices: Option<Arc<OwnedFd>>,
    /// How many probes share a watch: a file has one.
    watches: HashMap<i32, usize>,
    /// Files that were counted as having no lease.
    unleased: HashSet<FileId>,
    telemetry: Arc<Telemetry>,
}

impl KernelBackend {
    /// Starts the threads that take probes away and wait for notices, which go to `commands`.
    pub(super) fn new(
        attacher: Attacher,
        commands: Sender<Command>,
        telemetry: Arc<Telemetry>,
    ) -> io::Result<Self> {
        let (going, inbox) = channel();
        Thread::named("detach").spawn(move || detach_all_of(&inbox))?;
        let leases = Arc::new(Leases::new());
        let breaks = BreakNotices::install().map(Arc::new).inspect_err(|error| {
            tracing::warn!(%error, "cannot take leases on probed files: their changes are noticed only after they have happened");
        });
        let breaks = breaks.ok();
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map(Arc::new);
        let notices = notices.inspect_err(|error| {
            tracing::warn!(%error, "cannot watch probed files for changes: those without a lease are checked every 10 s");
        });
        let notices = notices.ok();
        let changes = changes::Changes {
            breaks: breaks.clone(),
            leases: Arc::clone(&leases),
            notices: notices.clone(),
            commands,
        };
        Thread::named("file-changes").spawn(move || changes.read())?;
        let (watches, unleased) = (HashMap::new(), HashSet::new());
        Ok(Self { attacher, going, leases, breaks, notices, watches, unleased, telemetry })
    }

    /// Before the contents are compared, so that no change falls in between.
    fn lease(&mut self, found: &Found) -> Result<Option<Lease>, NotPlaced> {
        let Some(breaks) = &self.breaks else { return Ok(None) };
        match Lease::take(&found.file, breaks) {
            Ok(lease) => Ok(Some(lease)),
            Err(NoLease::Writer) => Err(NotPlaced::Busy),
            Err(NoLease::Unavailable(error)) => {
                if self.unleased.len() < MAX_UNLEASED && self.unleased.insert(found.id) {
                    self.telemetry.add(Event::FilesUnleased, 1);
                    tracing::debug!(
                        file = found.name,
                        %error,
                        "no lease on the file (its file system has none, or it is another user's and CAP_LEASE is \
                         missing): it is watched instead, a change is noticed when it has happened"
                    );
                }
                Ok(None)
            }
        }
    }

    /// As [`Self::lease`], where there is none.
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

    fn attach(&mut self, found: &Found, scope: Scope) -> Result<TlsProbes, NotPlaced> {
        let read = |error: io::Error| NotPlaced::Refused(format!("its code cannot be read: {error}"));
        // The thread that found it has just read these bytes: they come from memory.
        if !found.code.is_in(&found.file).map_err(read)? {
            return Err(NotPlaced::Changed);
        }
        let probes = self
            .attacher
            .attach_tls(&found.file.path(), &found.code.points, scope)
            .map_err(|error| NotPlaced::Refused(error.to_string()))?;
        if !found.file.is_unchanged().map_err(read)? {
            return Err(NotPlaced::Changed);
        }
        Ok(probes)
    }
}

impl ProbeBackend for KernelBackend {
    type Probes = PlacedProbes;

    fn place(&mut self, found: &Found, scope: Scope) -> Result<PlacedProbes, NotPlaced> {
        let lease = self.lease(found)?;
        let watch = if lease.is_some() { None } else { self.watch(found) };
        let probes = self.attach(found, scope).and_then(|probes| {
            self.leases.hold(probes, lease, found.name.clone()).ok_or_else(|| {
                self.telemetry.add(Event::FilesChanged, 1);
                NotPlaced::Busy
            })
        });
        probes.map(|probes| PlacedProbes { probes, watch }).inspect_err(|_| self.unwatch(watch))
    }

    fn is_probed(&self, found: &Found) -> bool {
        let Some(point) = found.code.points.first() else { return false };
        found.file.is_probed(point.offset).unwrap_or_else(|error| {
            tracing::debug!(file = found.name, %error, "cannot tell whether the file is probed");
            false
        })
    }

    fn is_of_deleted(&self, placed: &PlacedProbes) -> bool {
        placed.probes.is_of_deleted()
    }

    fn remove(&mut self, probes: Vec<PlacedProbes>) {
        let take = |placed: PlacedProbes| {
            self.unwatch(placed.watch);
            placed.probes.take()
        };
        let probes: Vec<Held<TlsProbes>> = probes.into_iter().filter_map(take).collect();
        if !probes.is_empty()
            && let Err(unsent) = self.going.send(probes)
        {
            drop(unsent);
        }
    }
}

/// All probes at the end.
pub(super) fn detach_all(placed: &[PlacedProbes]) {
    detach(placed.iter().filter_map(|placed| placed.probes.take()).collect());
}
