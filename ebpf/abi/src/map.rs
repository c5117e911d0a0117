//! Keys and values of the maps that both sides touch.

use crate::Direction;

/// Largest payload of one data frame.
pub const MAX_CHUNK: u32 = 16 << 10;

/// Most steps in which one call is copied: pieces of at most [`MAX_CHUNK`] bytes and `iovec`s. 16 MiB and 1,024 `iovec`s
/// fit; what is beyond is declared lost, exactly.
pub const MAX_CHUNKS: u32 = 2200;

/// Most open streams that one process may have: what is beyond is not captured, counted, and leaves room for others.
pub const STREAMS_PER_PROCESS: u32 = 1 << 15;

/// Value of the `FDS` map, instead of a stream: user space was asked what this descriptor is (only without BTF).
pub const FD_ASKED: u64 = 0;

/// Value of the `FDS` map, instead of a stream: user space says that this descriptor is a socket.
pub const FD_NAMED: u64 = 1;

/// How much is copied after each turn of direction where only heads are.
pub const HEAD_BYTES: u64 = 4 << 10;

/// Size of a value of the `STREAMS` map, which only the kernel side reads.
pub const STREAM_BYTES: usize = 144;

/// Size of a value of the `EXITS` map, which only the kernel side reads.
pub const EXIT_BYTES: usize = 280;

/// Size of a value of the `THREADS` map, which only the kernel side reads.
pub const THREAD_BYTES: usize = 376;

/// Size of a value of the `URINGS` map, which only the kernel side reads.
pub const URING_BYTES: usize = 64;

/// Size of a value of the `URING_CALLS` map, which only the kernel side reads.
pub const URING_CALL_BYTES: usize = 24;

/// Value of the `TRACKED` map, keyed by process id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tracked {
    /// Distinguishes a process from an earlier one with the same id, and a new image from the old one;
    /// part of every stream's key.
    pub generation: u64,
    /// Bits of [`tracked`].
    pub flags: u32,
    /// Open streams, counted by the kernel side.
    pub streams: u32,
    /// Streams made so far: the [`crate::Header::epoch`] of the next one.
    pub epoch: u32,
    /// Bytes that the process put on the ring in the window of time below.
    pub used: u32,
    /// Window of time that `used` counts.
    pub window: u64,
}

/// Bits of [`Tracked::flags`].
pub mod tracked {
    /// Children are tracked too, and so is whatever it executes.
    pub const FOLLOW: u32 = 1;
    /// Selected by a rule about what it executes: looked at again when it executes something else.
    pub const BY_RULE: u32 = 2;
    /// User space was notified that the quota of streams is used up.
    pub const OVER_QUOTA: u32 = 4;
    /// User space was notified that it uses io_uring.
    pub const IO_URING: u32 = 8;
    /// It has TLS streams whose sockets are found by their ciphertext.
    pub const BINDS: u32 = 16;
}

/// Most rules that the kernel side can check.
pub const PATTERNS: u32 = 16;

/// Longest pattern that the kernel side can check, in bytes.
pub const PATTERN_BYTES: usize = 120;

/// Value of the `PATTERNS` map: a glob (`*`, `?`) for the file that a process executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NamePattern {
    /// Bytes of the pattern.
    pub len: u32,
    /// 1: compared with the whole path, 0: with the file name.
    pub whole_path: u32,
    /// The pattern.
    pub bytes: [u8; PATTERN_BYTES],
}

/// Entries of the filter before the table of tracked processes: a process id modulo this is the index.
pub const TRACKED_FILTER: u32 = 16384;

/// Number of entries of the table of system calls; higher numbers are none of ours on any architecture.
pub const SYSCALLS: usize = 512;

/// Index into the `TAIL_CALLS` map: the program at `sys_exit` goes on with these, each with its own name.
pub mod tail {
    /// `sys_exit_other`
    pub const OTHER: u32 = 0;
    /// `uring_enter`
    pub const URING_ENTER: u32 = 1;
    /// `passed_by`
    pub const PASSED_BY: u32 = 2;
    /// `sys_exit` itself
    pub const SYS_EXIT: u32 = 3;
}

/// Index into the `REPEATED` map: events that a second program handled because the first at its tracepoint was skipped.
pub mod repeated {
    /// `process_exec`
    pub const EXEC: u32 = 0;
    /// `task_newtask`
    pub const FORK: u32 = 1;
    /// Entries.
    pub const COUNT: u32 = 2;
}

/// What the kernel side does at the end of a system call; entry of the table by system call number, which user space
/// fills for its architecture.
///
/// Values from [`TRANSFER`](Self::TRANSFER) on are calls that move bytes, which say how in their bits: one path through
/// the program serves them all, so that the kernel's verifier has to follow it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall(pub u8);

impl Syscall {
    /// Not ours.
    pub const NONE: Self = Self(0);
    /// `sendfile(out, in, offset, count)`
    pub const SENDFILE: Self = Self(1);
    /// `splice(in, offset, out, offset, length, flags)`
    pub const SPLICE: Self = Self(2);
    /// `connect(fd, sockaddr, length)`
    pub const CONNECT: Self = Self(3);
    /// `accept(fd, sockaddr, length)`, `accept4`
    pub const ACCEPT: Self = Self(4);
    /// `close(fd)`
    pub const CLOSE: Self = Self(5);
    /// `close_range(first, last, flags)`
    pub const CLOSE_RANGE: Self = Self(6);
    /// `shutdown(fd, how)`
    pub const SHUTDOWN: Self = Self(7);
    /// `dup(fd)`, `dup2`, `dup3`: the result is the new number
    pub const DUP: Self = Self(8);
    /// `fcntl(fd, command, …)`
    pub const FCNTL: Self = Self(9);
    /// `mmap(address, length, protection, flags, fd, offset)`
    pub const MMAP: Self = Self(10);
    /// `io_uring_setup(entries, params)`
    pub const URING_SETUP: Self = Self(11);
    /// `io_uring_enter(fd, to_submit, min_complete, flags, …)`
    pub const URING_ENTER: Self = Self(12);

    /// The call moves bytes: `call(fd, buffer, length, …)`.
    pub const TRANSFER: u8 = 0x80;
    /// The process receives.
    pub const RECEIVES: u8 = Direction::Read as u8;
    /// Bits that say how the call points at its bytes: one buffer when none is set.
    pub const PIECES: u8 = 0x06;
    /// The second argument is a `struct iovec[third argument]`.
    pub const VECTOR: u8 = 0x02;
    /// The second argument is a `struct msghdr *`.
    pub const MESSAGE: u8 = 0x04;
    /// The second argument is a `struct mmsghdr[]`, of which the result says how many were used.
    pub const MESSAGES: u8 = 0x06;
    /// No other kind of descriptor takes this call.
    pub const SOCKET_ONLY: u8 = 0x08;
    /// The third argument is `MSG_*`.
    pub const FLAGS_THIRD: u8 = 0x10;
    /// The fourth argument is `MSG_*`.
    pub const FLAGS_FOURTH: u8 = 0x20;

    /// A call that moves bytes, with the bits that say how.
    #[must_use]
    pub const fn transfer(bits: u8) -> Self {
        Self(Self::TRANSFER | bits)
    }
}

/// A function of a TLS library: the low 8 bits of the cookie of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TlsFunction {
    /// `int SSL_read(SSL *, void *buffer, int length)`
    Read = 0,
    /// `int SSL_write(SSL *, const void *buffer, int length)`
    Write = 1,
    /// `int SSL_read_ex(SSL *, void *buffer, size_t length, size_t *count)`
    ReadEx = 2,
    /// `int SSL_write_ex(SSL *, const void *buffer, size_t length, size_t *count)`
    WriteEx = 3,
    /// `void SSL_free(SSL *)`: entry only
    Free = 4,
    /// `int SSL_write_ex2(SSL *, const void *buffer, size_t length, uint64_t flags, size_t *count)`
    WriteEx2 = 5,
    /// `int SSL_read_early_data(SSL *, void *buffer, size_t length, size_t *count)`
    ReadEarlyData = 6,
    /// `int SSL_write_early_data(SSL *, const void *buffer, size_t length, size_t *count)`
    WriteEarlyData = 7,
    /// `ssize_t SSL_sendfile(SSL *, int fd, off_t offset, size_t size, int flags)`
    Sendfile = 8,
    /// `int SSL_up_ref(SSL *)`: entry only
    UpRef = 9,
    /// `int SSL_clear(SSL *)`: entry only
    Clear = 10,
    /// `int BIO_write(BIO *, const void *data, int length)`: entry only; ciphertext that a TLS library emits
    BioWrite = 11,
    /// `int BIO_read(BIO *, void *data, int length)`: ciphertext that a TLS library takes in
    BioRead = 12,
}

impl TlsFunction {
    /// Whether what it returns matters.
    #[must_use]
    pub const fn returns(self) -> bool {
        !matches!(self, Self::Free | Self::UpRef | Self::Clear | Self::BioWrite)
    }
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

/// Key of the `URING_CALLS` map: one operation that a process submitted to an io_uring and that has not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct UringKey {
    /// [`Tracked::generation`] of the owner.
    pub generation: u64,
    /// What the process will know the completion by.
    pub user_data: u64,
    /// Descriptor of the io_uring.
    pub ring: u32,
    /// Zero.
    pub reserved: u32,
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
    /// Entries (processes, threads, streams) that could not be remembered because a map was full.
    MapFull = 7,
    /// Bytes moved by `sendfile(2)` and `SSL_sendfile`, which pass no buffer that could be read.
    LostSendfile = 8,
    /// Bytes moved by `splice(2)`.
    LostSplice = 9,
    /// Bytes moved by io_uring in a way that is not followed.
    LostIoUring = 10,
    /// Bytes lost because the process had used its share of a ring that was nearly full.
    LostShare = 11,
    /// Bytes of TLS connections beyond [`STREAMS_PER_PROCESS`].
    LostQuota = 12,
    /// Streams beyond [`STREAMS_PER_PROCESS`].
    StreamsOverQuota = 13,
    /// Returns of TLS calls whose entry is not known: entered before the probes were placed, or nested too deep.
    ReturnsUnmatched = 14,
    /// TLS calls that never returned: their thread ended or left them by a jump.
    CallsAbandoned = 15,
    /// Runs of programs that the kernel skipped. User space reads it from the kernel, no program counts it.
    ProgramsSkipped = 16,
}

/// Number of counters.
pub const COUNTERS: u32 = 17;

impl Counter {
    /// All, in index order.
    pub const ALL: [Self; COUNTERS as usize] = [
        Self::Seen,
        Self::Delivered,
        Self::LostRingFull,
        Self::LostUnreadable,
        Self::LostTooLarge,
        Self::Skipped,
        Self::EventsLost,
        Self::MapFull,
        Self::LostSendfile,
        Self::LostSplice,
        Self::LostIoUring,
        Self::LostShare,
        Self::LostQuota,
        Self::StreamsOverQuota,
        Self::ReturnsUnmatched,
        Self::CallsAbandoned,
        Self::ProgramsSkipped,
    ];
}

#[cfg(test)]
mod tests {
    use super::{Syscall, TlsFunction};

    #[test]
    fn functions_whose_result_does_not_matter_are_probed_at_their_entry_only() {
        use TlsFunction::{BioRead, BioWrite, Clear, Free, Read, UpRef, Write};
        assert!([Read, Write, BioRead].into_iter().all(TlsFunction::returns));
        assert!(![Free, UpRef, Clear, BioWrite].into_iter().any(TlsFunction::returns));
    }

    #[test]
    fn a_transfer_keeps_the_bits_that_say_how() {
        let bits = Syscall::RECEIVES | Syscall::SOCKET_ONLY;
        assert_eq!(Syscall::transfer(bits).0, Syscall::TRANSFER + bits);
        assert_eq!(Syscall::transfer(Syscall::TRANSFER).0, Syscall::TRANSFER);
    }
}
