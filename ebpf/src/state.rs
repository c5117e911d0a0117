//! What the maps hold: plain data, without behaviour that needs a map.

use tokentap_abi::{Header, Open};

/// State of one stream pair.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Stream {
    /// Its key.
    pub id: u64,
    /// Bytes that passed, per direction.
    pub offsets: [u64; 2],
    /// Bytes of those that a verdict left out.
    pub skipped: [u64; 2],
    /// What is left of the head where only heads are copied, per direction.
    pub head_left: [u64; 2],
    /// The process image that the stream belongs to.
    pub generation: u64,
    /// For a TLS stream, the socket stream under it; for a socket, the TLS stream on it. 0: not known.
    pub bound: u64,
    /// For a TLS stream, its handle.
    pub handle: u64,
    /// For a socket, its inode number; 0 when not known.
    pub inode: u64,
    /// Descriptors that name this stream (`dup`), or references to the handle (`SSL_up_ref`).
    pub refs: u32,
    /// How often `turn` has changed.
    pub turns: u32,
    /// How many streams the process had made when this one began.
    pub epoch: u32,
    /// A [`Class`].
    pub class: u8,
    /// Last direction that moved: heads begin where it turns.
    pub turn: u8,
    /// 1 once an open frame went out.
    pub announced: u8,
    /// Bit per direction: bytes were skipped since the last data frame.
    pub after_skip: u8,
    /// [`tokentap_abi::flags`] of every frame.
    pub flags: u16,
    /// 1 once the peer closed, or the network failed.
    pub over: u8,
    /// Where only heads are copied: 1 after a request that may be a call.
    pub post: u8,
    /// How it was opened and to whom.
    pub open: Open,
    /// `turns` when user space was last notified that the socket of this TLS stream is not known.
    pub bind_requested_at: u32,
    /// How often it was notified.
    pub bind_requests: u8,
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Stream>() == tokentap_abi::STREAM_BYTES);

const _: () = assert!(size_of::<Thread>() == tokentap_abi::THREAD_BYTES);
const _: () = assert!(size_of::<Exit>() == tokentap_abi::EXIT_BYTES);
const _: () = assert!(size_of::<Uring>() == tokentap_abi::URING_BYTES);
const _: () = assert!(size_of::<UringCall>() == tokentap_abi::URING_CALL_BYTES);

/// The beginning of a record's ciphertext: no other record of the process has it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Prefix {
    pub generation: u64,
    pub bytes: [u64; 2],
}

/// A copy in progress: what is the same for all bytes of one call, and what became of them.
///
/// It lives in a map, not on the stack: the verifier would track its numbers through every turn of the loop on the
/// stack, and take a load from a map as unknown, which is all it needs.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Copy {
    pub header: Header,
    /// Where the next byte is in the target's memory.
    pub from: u64,
    /// Bytes of this call that are to be copied.
    pub total: u64,
    /// Bytes of those that are still to be copied.
    pub left: u64,
    /// Bytes of this call to be skipped after those.
    pub skip: u64,
    /// Where the next byte is in the stream.
    pub offset: u64,
    /// Bytes put on the ring.
    pub delivered: u64,
    /// Bytes for which the ring had no room.
    pub ring_full: u64,
    /// Bytes for which the process had no share of the ring left.
    pub over_share: u64,
}

/// Where the next byte of a scattered call is.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Cursor {
    pub message: u64,
    /// Messages behind this one.
    pub messages: u64,
    pub vector: u64,
    pub vectors: u64,
    pub base: u64,
    pub len: u64,
    /// Bytes of this message that were moved and not yet copied.
    pub left: u64,
}

/// A system call that may have moved bytes.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Call {
    pub pointer: u64,
    pub count: u64,
    /// `MSG_*`
    pub flags: u64,
    pub result: i64,
    pub fd: u32,
    /// Bits of [`tokentap_abi::Syscall`].
    pub kind: u8,
}

/// A system call that has returned, and the copying of what it moved. There is one per CPU: only the program at `sys_exit`
/// uses it, and the kernel does not start that program again on a CPU where it runs. Where that program can be preempted,
/// there is one per thread ([`Exit`]).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Transfer {
    /// Buffer, `iovec`s, `msghdr` or `mmsghdr`s, by the call.
    pub pointer: u64,
    /// Count of `iovec`s or of messages, by the call.
    pub count: u64,
    /// An operation of an io_uring.
    pub operation: Call,
    /// 1 while its bytes are copied.
    pub under_way: u64,
    /// Descriptor of the io_uring.
    pub ring: u32,
    /// Where the walk through its submissions or completions ends.
    pub end: u32,
    /// Completions before this one were taken by the process.
    pub taken: u32,
    pub reserved: u32,
    pub cursor: Cursor,
    pub copy: Copy,
}

/// A thread at the end of its system calls.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Exit {
    /// Whether one of the programs has handled this one, see [`crate::preempted`].
    pub state: u64,
    pub transfer: Transfer,
}

/// TLS calls that one thread may have under way, one inside the other (TLS inside TLS).
pub const DEPTH: usize = 4;

/// A TLS library call in progress.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct TlsCall {
    /// Stack pointer at entry: tells which entry a return belongs to, and which calls were left by a jump.
    pub sp: u64,
    /// The `SSL *`.
    pub handle: u64,
    pub buffer: u64,
    /// Where the ciphertext goes that the library takes in at this moment.
    pub incoming: u64,
    /// Where the function puts the count, for those that do.
    pub out: u64,
    /// Entry time.
    pub time: u64,
    /// A [`tokentap_abi::TlsFunction`].
    pub function: u8,
    /// 1 when a call inside this one, of the same handle, has delivered the bytes.
    pub done: u8,
    /// 1 when the connection's socket gave its end inside this call.
    pub end_of_file: u8,
    /// 1 when a socket was used inside this call.
    pub nested: u8,
    /// 1 when the buffer has no room.
    pub empty: u8,
    pub reserved: [u8; 3],
}

/// A thread of a tracked process that has called a TLS library; forgotten when the thread ends.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Thread {
    /// The process image that the calls belong to.
    pub generation: u64,
    /// Calls under way.
    pub depth: u64,
    pub calls: [TlsCall; DEPTH],
    /// For the call that returns. Per thread, because uprobe programs can preempt each other on one CPU.
    pub copy: Copy,
}

/// An io_uring of a tracked process, in the process's memory (include/uapi/linux/io_uring.h).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Uring {
    /// Where the submission ring is mapped.
    pub submissions: u64,
    /// Where the completion ring is mapped.
    pub completions: u64,
    /// Where the submission entries are mapped.
    pub entries: u64,
    /// Offsets in the submission ring: head, mask, array.
    pub head: u32,
    pub mask: u32,
    pub array: u32,
    /// Offsets in the completion ring: head, tail, mask, entries.
    pub done_head: u32,
    pub done_tail: u32,
    pub done_mask: u32,
    pub done_entries: u32,
    /// `IORING_SETUP_*`
    pub flags: u32,
    /// How far submissions and completions were followed.
    pub submitted: u32,
    pub completed: u32,
}

/// An operation under way in an io_uring.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct UringCall {
    pub address: u64,
    pub count: u64,
    pub fd: u32,
    /// 0: the descriptor is closed; else bits of [`tokentap_abi::Syscall`].
    pub kind: u8,
    /// 1: where the bytes are cannot be known.
    pub hidden: u8,
    pub reserved: u16,
}
