//! What the targets thread needs of the operating system, each as narrow as it can be: tests put their own in place.

use tokentap_abi::{COUNTERS, Counter, Verdict};
use tokentap_tape::ProcessKey;

use super::{
    attributes::Facts,
    procfs::{self, Identity},
};
use crate::{
    kernel::{KernelError, KernelMaps},
    targets::prober::Prober,
};

/// The kernel side's maps.
pub trait KernelSide: Send + 'static {
    /// Tracks a process, unless it is tracked already; its generation. `bits` are of [`tokentap_abi::tracked`].
    ///
    /// # Errors
    /// When there is no room.
    fn track(&mut self, pid: u32, bits: u32) -> Result<u64, KernelError>;
    /// Tracks an image that the kernel side reported, as itself; `bits` as in [`Self::track`].
    ///
    /// # Errors
    /// When there is no room.
    fn adopt(&mut self, key: ProcessKey, bits: u32) -> Result<(), KernelError>;
    /// Removes what processes left behind that are not tracked any more.
    fn sweep(&mut self);
    /// Stops tracking a process.
    fn untrack(&mut self, pid: u32);
    /// Stops tracking all.
    fn untrack_all(&mut self);
    /// Whether user space has to name the descriptors that are sockets.
    fn names_descriptors(&self) -> bool;
    /// Names a descriptor that is a socket.
    fn name_socket(&mut self, key: ProcessKey, fd: u32);
    /// Decides what is copied of a stream.
    fn copy(&mut self, stream: u64, verdict: Verdict);
    /// The counters, in the order of [`Counter`].
    fn counters(&self) -> [u64; COUNTERS as usize];
}

impl KernelSide for KernelMaps {
    fn track(&mut self, pid: u32, bits: u32) -> Result<u64, KernelError> {
        Self::track(self, pid, bits)
    }

    fn adopt(&mut self, key: ProcessKey, bits: u32) -> Result<(), KernelError> {
        Self::adopt(self, key.pid, key.generation, bits)
    }

    fn sweep(&mut self) {
        let removed = Self::sweep(self);
        tracing::trace!(removed, "streams of processes that ended were removed");
    }

    fn untrack(&mut self, pid: u32) {
        Self::untrack(self, pid);
    }

    fn untrack_all(&mut self) {
        Self::untrack_all(self);
    }

    fn names_descriptors(&self) -> bool {
        Self::names_descriptors(self)
    }

    fn name_socket(&mut self, key: ProcessKey, fd: u32) {
        if let Err(error) = Self::name_socket(self, key.pid, key.generation, fd) {
            // The kernel side was faster: the socket was used since.
            tracing::trace!(pid = key.pid, fd, %error, "socket is known already");
        }
    }

    fn copy(&mut self, stream: u64, verdict: Verdict) {
        if let Err(error) = self.decide(stream, verdict) {
            tracing::debug!(stream, %error, "decision not passed on");
        }
    }

    fn counters(&self) -> [u64; COUNTERS as usize] {
        std::array::from_fn(|index| self.counter(Counter::ALL[index]))
    }
}

/// The prober.
pub trait Probes: Send + 'static {
    /// A process may have mapped TLS code.
    fn scan(&self, pid: u32);
    /// A process has a TLS stream whose socket is not known.
    fn bind(&self, pid: u32);
    /// A process ended.
    fn forget(&self, pid: u32);
    /// Processes that do not exist yet will be observed.
    fn probe_host_wide(&self);
}

impl Probes for Prober {
    fn scan(&self, pid: u32) {
        Self::scan(self, pid);
    }

    fn bind(&self, pid: u32) {
        Self::bind(self, pid);
    }

    fn forget(&self, pid: u32) {
        Self::forget(self, pid);
    }

    fn probe_host_wide(&self) {
        Self::probe_host_wide(self);
    }
}

/// The processes of this host.
pub trait ProcessSource: Send + Sync + 'static {
    /// All of them. Never waits for one.
    fn pids(&self) -> Vec<u32>;
    /// What decides whether a process is observed. Never waits for it.
    fn identity(&self, pid: u32) -> Option<Identity>;
    /// Whether some thread of a process still runs. Never waits for it.
    fn is_alive(&self, pid: u32) -> bool;
    /// Whether a descriptor is a socket. Never waits for the process.
    fn is_socket(&self, pid: u32, fd: u32) -> bool;
    /// Its descriptors that are sockets: takes its time.
    fn sockets(&self, pid: u32) -> Vec<u32>;
    /// What the kernel knows of it.
    fn kernel_facts(&self, pid: u32) -> Facts;
    /// Its command line and its environment: can wait for the process, for ever.
    fn strings(&self, pid: u32) -> (Vec<String>, Vec<(String, String)>);
}

/// `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Proc;

impl ProcessSource for Proc {
    fn pids(&self) -> Vec<u32> {
        procfs::pids()
    }

    fn identity(&self, pid: u32) -> Option<Identity> {
        procfs::identity(pid)
    }

    fn is_alive(&self, pid: u32) -> bool {
        procfs::has_live_threads(pid)
    }

    fn is_socket(&self, pid: u32, fd: u32) -> bool {
        procfs::is_socket(pid, fd)
    }

    fn sockets(&self, pid: u32) -> Vec<u32> {
        procfs::live_thread(pid).map_or_else(Vec::new, procfs::sockets)
    }

    fn kernel_facts(&self, pid: u32) -> Facts {
        let identity = procfs::identity(pid).unwrap_or_default();
        Facts {
            executable: identity.executable,
            cgroups: procfs::cgroups(pid),
            parent: Some(identity.parent).filter(|parent| *parent != 0),
            start_ticks: Some(identity.start_ticks).filter(|ticks| *ticks != 0),
            ..Facts::default()
        }
    }

    fn strings(&self, pid: u32) -> (Vec<String>, Vec<(String, String)>) {
        match procfs::live_thread(pid).filter(|tid| procfs::strings_in_memory(*tid)) {
            Some(tid) => (procfs::arguments(tid), procfs::environment(tid)),
            None => (Vec::new(), Vec::new()),
        }
    }
}
