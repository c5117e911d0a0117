//! Which processes are observed, and why.
//!
//! A process is observed because its id was named, because its executable matches, because all are, or
//! because its parent is. Everything here is a few reads of `/proc`; placing probes is
//! [`prober`]'s and takes longer.

pub mod attributes;
pub mod peer;
pub mod prober;
pub mod procfs;
mod select;

use std::{collections::HashMap, io, sync::Arc};

use tokentap_abi::Tracked;

pub use select::Selector;

use crate::{
    kernel::KernelMaps,
    targets::attributes::{HostAttributes, Resource, process},
};

/// A process that is observed.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// What its spans are about.
    pub resource: Arc<Resource>,
}

/// Why a process that was asked for is not observed.
#[derive(Debug, thiserror::Error)]
pub enum NotObserved {
    /// There is none.
    #[error("process {0} does not exist")]
    Gone(u32),
    /// It is the agent.
    #[error("process {0} is tokentap itself")]
    Agent(u32),
    /// A kernel thread has no user code.
    #[error("process {0} is a kernel thread")]
    KernelThread(u32),
    /// It is a thread.
    #[error("{0} is a thread of process {1}: use --pid {1}")]
    Thread(u32, u32),
    /// Not ours to see.
    #[error("process {0} may not be observed: {1}; run tokentap as root in the host's pid namespace")]
    Denied(u32, io::Error),
    /// The kernel side has no room.
    #[error("process {0} is not observed: {1}")]
    Kernel(u32, crate::kernel::KernelError),
}

/// Knows the observed processes; owned by the thread that reads the ring.
pub struct Discovery {
    selector: Selector,
    host: Arc<HostAttributes>,
    service_name: Option<String>,
    observed: HashMap<u32, Arc<Process>>,
}

/// What an event means for the rest of the agent.
#[derive(Clone, Debug)]
pub enum Change {
    /// Observed from now on (again, when it replaced its image).
    Observed(Arc<Process>),
    /// Not ours: what was captured of it so far is dropped.
    Refused(u32),
    /// It ended, or is not observed any more.
    Ended(u32),
}

impl Discovery {
    /// For a selection; `service_name` overrides what processes call themselves.
    #[must_use]
    pub fn new(selector: Selector, service_name: Option<String>) -> Self {
        Self { selector, host: Arc::new(HostAttributes::read()), service_name, observed: HashMap::new() }
    }

    /// Whether any process can still turn up: one that is observed may have children or execute; a rule may
    /// match at any time.
    #[must_use]
    pub fn can_see_more(&self) -> bool {
        self.selector.has_rules() || !self.observed.is_empty()
    }

    /// Whether a process is observed.
    #[must_use]
    pub fn observes(&self, pid: u32) -> bool {
        self.observed.contains_key(&pid)
    }

    /// The processes that the selection means now. The second list says which named ones are not, and why.
    pub fn start(&mut self, maps: &mut KernelMaps) -> (Vec<Arc<Process>>, Vec<NotObserved>) {
        let mut started = Vec::new();
        let mut refused = Vec::new();
        for pid in self.selector.pids().to_vec() {
            match self.named(pid, maps) {
                Ok(process) => {
                    started.push(process);
                    if self.selector.follow() {
                        let children = procfs::descendants(pid);
                        started
                            .extend(children.into_iter().filter_map(|child| self.observe(child, maps).ok()));
                    }
                }
                Err(why) => refused.push(why),
            }
        }
        if self.selector.has_rules() {
            for pid in procfs::pids() {
                if !self.observes(pid)
                    && self.matches(pid, None)
                    && let Ok(process) = self.observe(pid, maps)
                {
                    started.push(process);
                }
            }
        }
        (started, refused)
    }

    fn named(&mut self, pid: u32, maps: &mut KernelMaps) -> Result<Arc<Process>, NotObserved> {
        if pid == std::process::id() {
            return Err(NotObserved::Agent(pid));
        }
        match procfs::thread_group(pid) {
            None => return Err(NotObserved::Gone(pid)),
            Some(group) if group != pid => return Err(NotObserved::Thread(pid, group)),
            Some(_) => {}
        }
        match procfs::executable(pid) {
            Ok(_) => self.observe(pid, maps),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotObserved::KernelThread(pid)),
            Err(error) => Err(NotObserved::Denied(pid, error)),
        }
    }

    fn matches(&self, pid: u32, started_as: Option<&str>) -> bool {
        if pid == std::process::id() {
            return false;
        }
        let executable = procfs::executable(pid).ok();
        let executable = executable.as_ref().map(|path| path.to_string_lossy());
        self.selector.matches(executable.as_deref(), started_as)
    }

    /// Watches a process, and names the sockets that it has open.
    fn observe(&mut self, pid: u32, maps: &mut KernelMaps) -> Result<Arc<Process>, NotObserved> {
        let generation = maps
            .track(pid, if self.selector.follow() { tokentap_abi::tracked::FOLLOW } else { 0 })
            .map_err(|error| NotObserved::Kernel(pid, error))?;
        name_sockets(pid, generation, maps);
        Ok(self.describe(pid, None))
    }

    fn describe(&mut self, pid: u32, started_as: Option<&str>) -> Arc<Process> {
        let attributes = process::attributes(pid, started_as, self.service_name.as_deref(), &self.host);
        let process = Arc::new(Process { pid, resource: Arc::new(Resource::new(attributes)) });
        self.observed.insert(pid, Arc::clone(&process));
        process
    }

    /// A process replaced its image. With rules the kernel side watches it already, until told otherwise.
    pub fn executed(
        &mut self,
        pid: u32,
        tracked: Tracked,
        untracked: bool,
        filename: &[u8],
        maps: &mut KernelMaps,
    ) -> Change {
        let filename = String::from_utf8_lossy(filename);
        let wanted =
            self.observes(pid) || self.selector.pids().contains(&pid) || self.matches(pid, Some(&filename));
        tracing::debug!(pid, started_as = %filename, wanted, "process executed");
        if !wanted {
            return Change::Refused(pid);
        }
        // Sockets survive an exec, their keys do not.
        let generation = if untracked {
            maps.track(pid, if self.selector.follow() { tokentap_abi::tracked::FOLLOW } else { 0 })
                .unwrap_or(0)
        } else {
            tracked.generation
        };
        name_sockets(pid, generation, maps);
        Change::Observed(self.describe(pid, Some(&filename)))
    }

    /// A watched process has a child, which is watched already.
    pub fn forked(&mut self, child: u32, tracked: Tracked, maps: &mut KernelMaps) -> Change {
        name_sockets(child, tracked.generation, maps);
        Change::Observed(self.describe(child, None))
    }

    /// The first thread of a process ended: that is its end, unless others go on.
    pub fn ended(&mut self, pid: u32, maps: &mut KernelMaps) -> Option<Change> {
        if procfs::has_live_threads(pid) {
            return None;
        }
        maps.untrack(pid);
        self.observed.remove(&pid);
        Some(Change::Ended(pid))
    }

    /// Processes whose end was not told (the ring was full).
    pub fn vanished(&mut self, maps: &mut KernelMaps) -> Vec<Change> {
        let pids: Vec<u32> = self.observed.keys().copied().collect();
        pids.into_iter().filter_map(|pid| self.ended(pid, maps)).collect()
    }
}

fn name_sockets(pid: u32, generation: u64, maps: &mut KernelMaps) {
    if !maps.names_descriptors() {
        return;
    }
    for fd in procfs::sockets(pid) {
        if let Err(error) = maps.name_socket(pid, generation, fd) {
            // The kernel side was faster: the socket was used since.
            tracing::trace!(pid, fd, %error, "socket is known already");
        }
    }
}
