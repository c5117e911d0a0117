//! The only thing that both sides of the ring buffer see.
//!
//! The kernel side writes [`Header`]-prefixed frames; the user side reads them with [`decode`], a pure
//! function that trusts no length. Everything is little-endian, as the machines are (`bpfel`).

#![no_std]

mod frame;
mod map;

pub use frame::{Bind, Close, DecodeError, Family, Frame, Kind, Open, Opened, decode, encode};
pub use map::{
    COUNTERS, Class, Counter, EXIT_BYTES, FD_ASKED, FD_NAMED, FdKey, HEAD_BYTES, HandleKey, MAX_CHUNK,
    MAX_CHUNKS, NamePattern, PATTERN_BYTES, PATTERNS, STREAM_BYTES, STREAMS_PER_PROCESS, SYSCALLS, Syscall,
    THREAD_BYTES, TRACKED_FILTER, TlsFunction, Tracked, URING_BYTES, URING_CALL_BYTES, UringKey, Verdict,
    repeated, tail, tracked,
};

/// Bumped whenever a byte on the ring, in a map or in a tape changes its meaning.
pub const ABI_VERSION: u8 = 2;

/// The oldest version that is still read: tapes have it.
pub const OLDEST_ABI_VERSION: u8 = 1;

/// Which way bytes went, seen from the observed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// The process sent them.
    Write = 0,
    /// The process received them.
    Read = 1,
}

impl Direction {
    /// Both, in index order.
    pub const ALL: [Self; 2] = [Self::Write, Self::Read];

    /// 0 for write, 1 for read: the index into per-direction arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other way.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Write => Self::Read,
            Self::Read => Self::Write,
        }
    }

    /// The direction with this index, if there is one.
    #[must_use]
    pub const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Write),
            1 => Some(Self::Read),
            _ => None,
        }
    }
}

/// The fixed start of every frame: 72 bytes, no padding.
///
/// Frames of version 1, which tapes may hold, have the first 48 bytes only. A newer kernel side may write a longer
/// header: [`decode`] skips what it does not know by [`Header::header_len`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// [`ABI_VERSION`].
    pub version: u8,
    /// A [`Kind`].
    pub kind: u8,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Payload bytes that follow this header.
    pub len: u32,
    /// Nanoseconds since boot (`bpf_ktime_get_boot_ns`): of data, when the call that moved the bytes was entered (TLS
    /// writes) or returned (all others); of other frames, when the event was seen.
    pub time: u64,
    /// Process id, in the agent's pid namespace.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// The stream pair, unique while the kernel side is loaded; 0 for process events.
    pub stream: u64,
    /// Absolute offset of the first byte in its direction of the stream, counted since it was first seen.
    pub offset: u64,
    /// Bytes of the stream that this frame stands for; more than `len` when some could not be delivered.
    pub orig: u32,
    /// A [`Direction`] index.
    pub dir: u8,
    /// Data: how often the stream has turned to the other direction so far, little-endian and modulo 2^24. Two
    /// frames with the same number have nothing of the other direction between them, lost or not. 0: not known.
    pub turns: [u8; 3],
    /// Length of this header in bytes.
    pub header_len: u16,
    /// Zero.
    pub reserved: u16,
    /// How many streams the process had made when this one began: tells streams of one handle or descriptor apart.
    pub epoch: u32,
    /// The process image ([`Tracked::generation`]); of [`Kind::Fork`] the parent's. 0: not known.
    pub generation: u64,
    /// The cgroup of the thread (version 2 hierarchy), as `bpf_get_current_cgroup_id` gives it. 0: not known.
    pub cgroup: u64,
}

/// Size of [`Header`] on the wire.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Size of the header in frames of version 1.
pub const HEADER_LEN_V1: usize = 48;

const _: () = {
    assert!(HEADER_LEN == 72);
    assert!(core::mem::offset_of!(Header, flags) == 2);
    assert!(core::mem::offset_of!(Header, len) == 4);
    assert!(core::mem::offset_of!(Header, time) == 8);
    assert!(core::mem::offset_of!(Header, tgid) == 16);
    assert!(core::mem::offset_of!(Header, stream) == 24);
    assert!(core::mem::offset_of!(Header, offset) == 32);
    assert!(core::mem::offset_of!(Header, orig) == 40);
    assert!(core::mem::offset_of!(Header, dir) == 44);
    assert!(core::mem::offset_of!(Header, header_len) == HEADER_LEN_V1);
    assert!(core::mem::offset_of!(Header, epoch) == 52);
    assert!(core::mem::offset_of!(Header, generation) == 56);
    assert!(core::mem::offset_of!(Header, cgroup) == 64);
};

/// Bits of [`Header::flags`].
pub mod flags {
    /// The bytes are plaintext taken from a TLS library; unset for a plain socket.
    pub const TLS: u16 = 1;
    /// The stream was already open when it was first seen: its first bytes may be anywhere in a message.
    pub const LATE: u16 = 1 << 1;
    /// Bytes right before this frame were left out on purpose (a verdict), not lost.
    pub const SKIPPED: u16 = 1 << 2;
    /// Of a close: the process closed a connection that its peer had not ended and that had not failed.
    pub const LEFT: u16 = 1 << 3;
    /// Of an exit: it was the last thread of the process. Unset where the kernel side cannot know: then the first
    /// thread of the process ended, or a later one after it.
    pub const LAST_THREAD: u16 = 1 << 4;
    /// Of an exec: the process is not tracked, no rule that the kernel side can check selects it.
    pub const UNTRACKED: u16 = 1 << 5;
}
