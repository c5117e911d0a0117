//! What the data path must know of processes and streams that no frame says.

use std::{net::SocketAddr, sync::Arc};

use tokentap_genai::Resource;

/// One image of one process: another one after a fork and after an exec, whatever its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Process id.
    pub pid: u32,
    /// The kernel side's number for this image; 0 where it is not known (tapes of old agents).
    pub generation: u64,
}

/// An observed process and what is known of it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which one.
    pub key: ProcessKey,
    /// What its spans are about.
    pub resource: Arc<Resource>,
}

/// What happened beside the frames, at its place among them.
#[derive(Clone, Debug)]
pub enum ControlEvent {
    /// A process image is observed from here on. An earlier image with the same id is over.
    Observed(ProcessKey),
    /// What an observed process is: it can come long after its first frames, and after its end.
    Described(Arc<Process>),
    /// A process ended.
    Ended(ProcessKey),
    /// The other end of a stream.
    Peer(u64, SocketAddr),
}
