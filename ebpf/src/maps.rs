//! Every map, and the switches that user space sets when it loads the programs.
//!
//! Sizes are the most that a map may hold; memory is taken as entries are made, where the kernel can do that safely
//! (6.1), else at once and of smaller maps. Nothing whose absence would change the meaning of bytes is in an LRU map.

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use tokentap_abi::{
    COUNTERS, FdKey, HandleKey, NamePattern, PATTERNS as MAX_PATTERNS, SYSCALLS, TRACKED_FILTER, Tracked,
    UringKey, repeated,
};

use crate::state::{Exit, Prefix, Stream, Thread, Transfer, Uring, UringCall};

/// 1 when every process that executes is tracked.
#[unsafe(no_mangle)]
pub static ALL: Global<u8> = Global::new(0);

/// How many entries of [`PATTERNS`] are set.
#[unsafe(no_mangle)]
pub static PATTERN_COUNT: Global<u32> = Global::new(0);

/// 1 when [`CGROUPS`] may hold something.
#[unsafe(no_mangle)]
pub static HAS_CGROUPS: Global<u8> = Global::new(0);

/// [`tokentap_abi::tracked`] bits of a process that a rule selects.
#[unsafe(no_mangle)]
pub static RULE_FLAGS: Global<u32> = Global::new(0);

/// The agent's process id: it is never tracked.
#[unsafe(no_mangle)]
pub static AGENT: Global<u32> = Global::new(0);

/// 1 when the kernel has `bpf_loop`.
#[unsafe(no_mangle)]
pub static HAS_LOOP: Global<u8> = Global::new(0);

/// 1 on arm64, 0 on x86-64.
#[unsafe(no_mangle)]
pub static ARM64: Global<u8> = Global::new(0);

/// 1 when programs at tracepoints can be preempted.
#[unsafe(no_mangle)]
pub static PREEMPTIBLE: Global<u8> = Global::new(0);

/// What is done at the end of each system call, by number: [`tokentap_abi::Syscall`].
#[unsafe(no_mangle)]
pub static CALLS: Global<[u8; SYSCALLS]> = Global::new([0; SYSCALLS]);

/// Frames to user space; its size is set when it is created.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Who is tracked, by process id.
#[map]
pub static TRACKED: HashMap<u32, Tracked> = HashMap::with_max_entries(32768, BPF_F_NO_PREALLOC);

/// Whether a process may be in [`TRACKED`], by the low bits of its id: what everybody else pays is a read of this, not a
/// look-up there. Set before an entry is made and never cleared: wrongly set costs the look-up, wrongly clear would lose a
/// process.
#[map]
pub static MAY_BE_TRACKED: Array<u32> = Array::with_max_entries(TRACKED_FILTER, 0);

/// Cgroups whose processes are tracked from the moment they execute, by id, with [`tokentap_abi::tracked`] bits.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Rules about what a process executes.
#[map]
pub static PATTERNS: Array<NamePattern> = Array::with_max_entries(MAX_PATTERNS, 0);

/// Descriptors of tracked processes that are known to be sockets, with the stream each one names.
#[map]
pub static FDS: HashMap<FdKey, u64> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// TLS connection objects of tracked processes, with the stream of each.
#[map]
pub static HANDLES: HashMap<HandleKey, u64> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// State of each stream, by id.
#[map]
pub static STREAMS: HashMap<u64, Stream> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// Threads that have called a TLS library, by thread and process id.
#[map]
pub static THREADS: HashMap<u64, Thread> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// io_urings of tracked processes, by the descriptor of each.
#[map]
pub static URINGS: HashMap<FdKey, Uring> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// Operations that were submitted to an io_uring.
#[map]
pub static URING_CALLS: HashMap<UringKey, UringCall> = HashMap::with_max_entries(65536, BPF_F_NO_PREALLOC);

/// What user space decided about streams, by id; absent means "copy all", which is always right.
#[map]
pub static VERDICTS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(65536, 0);

/// Records that TLS libraries emitted through memory, with the TLS stream of each. An absent entry costs an address.
#[map]
pub static SENT_RECORDS: LruHashMap<Prefix, u64> = LruHashMap::with_max_entries(16384, 0);

/// Records that sockets received for them, with the socket stream of each.
#[map]
pub static RECEIVED_RECORDS: LruHashMap<Prefix, u64> = LruHashMap::with_max_entries(16384, 0);

/// Programs that `sys_exit` goes on with, by [`tokentap_abi::tail`].
#[map]
pub static TAIL_CALLS: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// Events that the first program of a tracepoint has handled, by thread and process id and kind, until the second knows.
#[map]
pub static HANDLED: HashMap<u64, u8> = HashMap::with_max_entries(32768, BPF_F_NO_PREALLOC);

/// Events that the second program of a tracepoint has handled because the first was skipped, by
/// [`tokentap_abi::repeated`].
#[map]
pub static REPEATED: Array<u64> = Array::with_max_entries(repeated::COUNT, 0);

/// Threads that have made a system call that matters, by thread and process id, where programs can be preempted.
#[map]
pub static EXITS: HashMap<u64, Exit> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// A thread that has made none; never written.
#[map]
pub static NEW_EXIT: Array<Exit> = Array::with_max_entries(1, 0);

/// The system call that has just returned on this CPU, where programs are not preempted.
#[map]
pub static TRANSFER: PerCpuArray<Transfer> = PerCpuArray::with_max_entries(1, 0);

/// A thread that has made no call; never written. It is too large for the stack.
#[map]
pub static NEW_THREAD: Array<Thread> = Array::with_max_entries(1, 0);

/// A stream of which nothing is known; never written. Made of parts on the stack, it would be written byte by byte.
#[map]
pub static NEW_STREAM: Array<Stream> = Array::with_max_entries(1, 0);

/// [`tokentap_abi::Counter`]s.
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);
