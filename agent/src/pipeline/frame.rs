//! What a frame says of its process. No other code of the data path knows which fields hold that.

use tokentap_abi::{Frame, Kind};

use crate::targets::ProcessKey;

/// The generation of the process that sent a frame; `None` when the frame does not carry it.
pub(super) const fn generation(frame: &Frame<'_>) -> Option<u64> {
    match frame.kind {
        Kind::Exec | Kind::Exit => Some(frame.header.stream),
        _ => None,
    }
}

/// The process of a frame; generation 0 when the frame does not carry it.
pub(super) fn process(frame: &Frame<'_>) -> ProcessKey {
    ProcessKey { pid: frame.header.tgid, generation: generation(frame).unwrap_or(0) }
}

/// The child of a fork.
pub(super) fn child(frame: &Frame<'_>) -> Option<ProcessKey> {
    frame.child().map(|pid| ProcessKey { pid, generation: frame.header.stream })
}

/// Whether a thread that ended was the last one of its process; `None` when the kernel side cannot say.
pub(super) const fn was_last_thread(_exit: &Frame<'_>) -> Option<bool> {
    None
}
