//! Which processes are observed, and why.
//!
//! A process is observed because its id was named, because its executable matches, because all are, or because
//! its parent is. The targets thread (`tracker`) decides that; [`prober`] places probes, and `describe` reads what
//! a process may not let us read.

pub mod attributes;
mod describe;
mod glob;
pub mod peer;
pub mod prober;
pub mod procfs;
mod queue;
mod select;
mod system;
mod tracker;

use std::io;

pub use describe::ReaderReport;
pub use glob::Glob;
pub use queue::{Inbox, ProcessEvent, Request, Requests, Started, requests};
pub use select::Selector;
pub use system::{KernelSide, Probes, Proc, ProcessSource};
pub use tracker::Tracker;

/// Why a process that was asked for is not observed.
#[derive(Debug, thiserror::Error)]
pub enum NotObserved {
    /// There is none.
    #[error("process {0} does not exist")]
    Gone(u32),
    /// All its threads have ended; its parent has not taken note of it.
    #[error("process {0} has ended (it is a zombie until its parent waits for it)")]
    Ended(u32),
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

#[cfg(test)]
mod tests;
