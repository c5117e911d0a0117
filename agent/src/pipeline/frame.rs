//! What a frame says of its process. No other code of the data path knows which fields hold that.

use tokentap_abi::{Frame, Kind, flags};
use tokentap_tape::ProcessKey;

/// The generation of the process that sent a frame; `None` when the frame does not carry it.
pub(super) const fn generation(frame: &Frame<'_>) -> Option<u64> {
    match frame.kind {
        // The image that begins; the one before has its own place.
        Kind::Exec => Some(frame.header.stream),
        // Version 1, which tapes may hold, had it here.
        Kind::Exit if frame.header.generation == 0 => Some(frame.header.stream),
        _ if frame.header.generation == 0 => None,
        _ => Some(frame.header.generation),
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
pub(super) const fn was_last_thread(exit: &Frame<'_>) -> Option<bool> {
    if exit.has(flags::LAST_THREAD) { Some(true) } else { None }
}

/// Whether the kernel side tracks the image that was executed; else no rule that it can check selects it.
pub(super) const fn is_tracked(exec: &Frame<'_>) -> bool {
    !exec.has(flags::UNTRACKED)
}
