//! Keys and values of the maps that both sides touch.

use crate::Direction;

/// Largest payload of one data frame.
pub const MAX_CHUNK: u32 = 16 << 10;

/// Most data frames that one call is cut into; what is beyond is declared lost, exactly.
pub const MAX_CHUNKS: u32 = 160;

/// Stream ids with this bit were given by user space, to descriptors that were open before it came.
pub const USER_STREAM: u64 = 1 << 63;

/// How much is copied after each turn of direction where only heads are.
pub const HEAD_BYTES: u64 = 4 << 10;

/// Value of the `TRACKED` map, keyed by process id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tracked {
    /// Distinguishes a process from an earlier one with the same id, and a new image from the old one;
    /// part of every stream's key.
    pub generation: u64,
    /// 1 when children are to be tracked too.
    pub follow: u32,
    /// Zero.
    pub reserved: u32,
}

/// Key of the `FDS` map: one file descriptor of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FdKey {
    /// [`Tracked::generation`] of the owner.
    pub generation: u64,
    /// Process id.
    pub tgid: u32,
    /// File descriptor.
    pub fd: u32,
}

/// Key of the `HANDLES` map: one TLS connection object of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HandleKey {
    /// [`Tracked::generation`] of the owner.
    pub generation: u64,
    /// The `SSL *`.
    pub handle: u64,
}

/// What a socket carries, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Nothing recognised so far: looked at again at each call.
    Unknown = 0,
    /// HTTP/1 or HTTP/2 in the clear: copied.
    Http = 1,
    /// TLS records: never copied.
    Tls = 2,
    /// An HTTP/1 CONNECT, or a PROXY protocol header: copied until TLS begins inside.
    Tunnel = 3,
}

/// What user space decided about a stream; value of the `VERDICTS` map, keyed by stream id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Copy every byte (the default).
    All = 0,
    /// Of what is written, copy the start of each message only: [`HEAD_BYTES`] after the direction turns. But
    /// what answers a request that begins with `P`, as `POST` does, is copied whole: it may be a call.
    WriteHeads = 1,
    /// The same of what is read.
    ReadHeads = 2,
    /// Copy nothing.
    Ignore = 3,
}

impl Verdict {
    /// Only the heads of the messages in this direction; those of the other are copied whole.
    #[must_use]
    pub const fn heads(dir: Direction) -> Self {
        match dir {
            Direction::Write => Self::WriteHeads,
            Direction::Read => Self::ReadHeads,
        }
    }
}

/// Index into the per-CPU `COUNTERS` array. The unit is bytes unless the name says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Bytes that passed a probe on a tracked process and belong to a stream that is copied.
    Seen = 0,
    /// Bytes put on the ring.
    Delivered = 1,
    /// Bytes lost because the ring was full.
    LostRingFull = 2,
    /// Bytes lost because the target's memory could not be read.
    LostUnreadable = 3,
    /// Bytes lost because one call moved more than is copied of one call.
    LostTooLarge = 4,
    /// Bytes left out because of a verdict.
    Skipped = 5,
    /// Event frames (open, close, bind, exec, fork, exit, map) that did not fit the ring.
    EventsLost = 6,
    /// Entries (processes, calls, streams) that could not be remembered because a map was full.
    MapFull = 7,
    /// Bytes sent with `sendfile(2)`, which no probe can read.
    LostSendfile = 8,
}

/// Number of counters.
pub const COUNTERS: u32 = 9;

impl Counter {
    /// All, in index order, with the name each is exported under.
    pub const ALL: [(Self, &'static str); COUNTERS as usize] = [
        (Self::Seen, "seen"),
        (Self::Delivered, "delivered"),
        (Self::LostRingFull, "lost.ring_full"),
        (Self::LostUnreadable, "lost.unreadable"),
        (Self::LostTooLarge, "lost.too_large"),
        (Self::Skipped, "skipped.verdict"),
        (Self::EventsLost, "events_lost"),
        (Self::MapFull, "map_full"),
        (Self::LostSendfile, "lost.sendfile"),
    ];
}
