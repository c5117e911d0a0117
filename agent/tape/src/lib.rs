//! Tapes: what came off the ring, in a file, to be run through the same path again without root.
//!
//! All numbers are little-endian. A tape begins with
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `89 54 4b 54 41 50 45 0a` (`\x89TKTAPE\n`) |
//! | 1 | version of this format: 1 |
//! | 1 | [`tokentap_abi::ABI_VERSION`] of its frames |
//! | 1 | 1 when nothing is masked, else 0 |
//! | 1 | zero |
//! | 8 | wall clock at boot, Unix nanoseconds: frame times are relative to it |
//! | 2 + n | kernel release, UTF-8 |
//! | 2 + n | machine architecture, UTF-8 |
//!
//! and goes on with entries in ring order, each a length (4 bytes, of what follows), a type (1 byte) and
//!
//! | type | payload |
//! |---|---|
//! | 1 | a frame: its 48-byte header and payload |
//! | 2 | what an observed process is: `{"pid": …, "generation": …, "attributes": [[name, value], …]}`; without a generation it is also observed from here on |
//! | 3 | a process ended: its id (4 bytes) and generation (8 bytes; absent on old tapes) |
//! | 4 | the other end of a stream: its id (8 bytes) and `address:port` as text |
//! | 5 | a process is observed from here on: its id (4 bytes) and generation (8 bytes) |
//!
//! Entries of other types are passed over. A tape whose last entry is cut is one whose writer was killed: all
//! before it is good.

mod event;
mod file;
mod reader;
mod recorder;
pub mod redact;
mod writer;

use tokentap_abi::Frame;

pub use event::{ControlEvent, Process, ProcessKey};
pub use reader::{Head, TapeError, TapeReader};
pub use recorder::{Recorder, RecorderCounters};
pub use writer::TapeWriter;

const MAGIC: &[u8; 8] = b"\x89TKTAPE\n";
const FORMAT_VERSION: u8 = 1;

/// Longest entry. The kernel side sends at most 2 MiB in one frame.
const MAX_ENTRY: u32 = 16 << 20;

/// Types of entries.
mod entry {
    pub(super) const FRAME: u8 = 1;
    pub(super) const DESCRIBED: u8 = 2;
    pub(super) const ENDED: u8 = 3;
    pub(super) const PEER: u8 = 4;
    pub(super) const OBSERVED: u8 = 5;
}

/// What a tape holds at one place.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// A frame, and the bytes that it was decoded from.
    Frame(Frame<'a>, &'a [u8]),
    /// What else happened here.
    Event(ControlEvent),
}

#[cfg(test)]
mod tests;
