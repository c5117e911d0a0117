//! The only thing that both sides of the ring buffer see.
//!
//! The kernel side writes [`Header`]-prefixed frames; the user side reads them with [`decode`], a pure
//! function that trusts no length. Everything is little-endian, as the machines are (`bpfel`).

#![no_std]

mod frame;
mod map;

pub use frame::{Close, DecodeError, Family, Frame, Kind, Open, Opened, decode, encode};
pub use map::{
    COUNTERS, Class, Counter, FdKey, HEAD_BYTES, HandleKey, MAX_CHUNK, MAX_CHUNKS, Tracked, USER_STREAM,
    Verdict,
};

/// Bumped whenever a byte on the ring, in a map or in a tape changes its meaning.
pub const ABI_VERSION: u8 = 1;

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

/// A probed function of a TLS library: the cookie of its probes, which tells the programs how it takes its
/// buffer and returns its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum TlsFunction {
    /// `int SSL_read(SSL *ssl, void *buf, int num)`
    Read = 0,
    /// `int SSL_write(SSL *ssl, const void *buf, int num)`
    Write = 1,
    /// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)`
    ReadEx = 2,
    /// `int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *written)`
    WriteEx = 3,
    /// `void SSL_free(SSL *ssl)`
    Free = 4,
}

impl TlsFunction {
    /// The function whose probes have this cookie.
    #[must_use]
    pub const fn from_cookie(cookie: u64) -> Option<Self> {
        match cookie {
            0 => Some(Self::Read),
            1 => Some(Self::Write),
            2 => Some(Self::ReadEx),
            3 => Some(Self::WriteEx),
            4 => Some(Self::Free),
            _ => None,
        }
    }

    /// Which way its bytes go; `None` when it moves none, so that its return is not probed.
    #[must_use]
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Self::Read | Self::ReadEx => Some(Direction::Read),
            Self::Write | Self::WriteEx => Some(Direction::Write),
            Self::Free => None,
        }
    }

    /// Whether it stores its byte count through its fourth argument instead of returning it.
    #[must_use]
    pub const fn has_count(self) -> bool {
        matches!(self, Self::ReadEx | Self::WriteEx)
    }
}

/// The fixed start of every frame: 48 bytes, no padding.
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
    /// Nanoseconds since boot (`bpf_ktime_get_boot_ns`) when the call that moved the bytes was entered
    /// (writes) or returned (reads).
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
}

/// Size of [`Header`] on the wire.
pub const HEADER_LEN: usize = size_of::<Header>();

const _: () = {
    assert!(HEADER_LEN == 48);
    assert!(core::mem::offset_of!(Header, flags) == 2);
    assert!(core::mem::offset_of!(Header, len) == 4);
    assert!(core::mem::offset_of!(Header, time) == 8);
    assert!(core::mem::offset_of!(Header, tgid) == 16);
    assert!(core::mem::offset_of!(Header, stream) == 24);
    assert!(core::mem::offset_of!(Header, offset) == 32);
    assert!(core::mem::offset_of!(Header, orig) == 40);
    assert!(core::mem::offset_of!(Header, dir) == 44);
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
}
