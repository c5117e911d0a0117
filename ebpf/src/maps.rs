//! Every map, and the identity of the running thread.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tokentap_abi::{COUNTERS, Counter, FdKey, HandleKey, Tracked, USER_STREAM};

use crate::{stream::Stream, syscalls::Call, tls::TlsCall};

/// 1 when every process that executes is tracked until user space says otherwise, so that the first call of
/// a process that matches a rule is not missed while the rule is looked up.
#[unsafe(no_mangle)]
pub static ADOPT: Global<u8> = Global::new(0);

/// 1 when the kernel has `bpf_loop`.
#[unsafe(no_mangle)]
pub static HAS_LOOP: Global<u8> = Global::new(0);

/// Frames to user space; its size is set when it is created.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Who is watched, by process id. User space removes entries; the kernel side adds children.
#[map]
pub static TRACKED: HashMap<u32, Tracked> = HashMap::with_max_entries(32768, 0);

/// Descriptors of watched processes that are known to be sockets, with the stream each one names.
#[map]
pub static FDS: LruHashMap<FdKey, u64> = LruHashMap::with_max_entries(65536, 0);

/// TLS connection objects of watched processes, with the stream of each.
#[map]
pub static HANDLES: LruHashMap<HandleKey, u64> = LruHashMap::with_max_entries(65536, 0);

/// State of each stream, by id.
#[map]
pub static STREAMS: LruHashMap<u64, Stream> = LruHashMap::with_max_entries(65536, 0);

/// What user space decided about streams, by id; absent means "copy all".
#[map]
pub static VERDICTS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(65536, 0);

/// Socket calls between entry and return, by thread. LRU: a thread can die in between.
#[map]
pub static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(8192, 0);

/// TLS library calls between entry and return, by thread.
#[map]
pub static TLS_CALLS: LruHashMap<u64, TlsCall> = LruHashMap::with_max_entries(8192, 0);

/// [`Counter`]s.
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// The running thread, once it is known to belong to a watched process.
#[derive(Clone, Copy)]
pub struct Watched {
    pub pid_tgid: u64,
    pub generation: u64,
}

impl Watched {
    /// `None` ends the program for everybody else: one lookup.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        let pid_tgid = bpf_get_current_pid_tgid();
        // SAFETY: the value is copied out at once; a torn read is not possible for an aligned u64.
        let generation = unsafe { TRACKED.get(&((pid_tgid >> 32) as u32)) }?.generation;
        Some(Self { pid_tgid, generation })
    }

    #[inline(always)]
    pub const fn tgid(&self) -> u32 {
        (self.pid_tgid >> 32) as u32
    }

    #[inline(always)]
    pub const fn fd(&self, fd: u32) -> FdKey {
        FdKey { generation: self.generation, tgid: self.tgid(), fd }
    }

    #[inline(always)]
    pub const fn handle(&self, handle: u64) -> HandleKey {
        HandleKey { generation: self.generation, handle }
    }
}

/// Nanoseconds since boot, suspended time included.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments, always allowed.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A number that no other stream or process image has while the machine is up: the time, with the CPU in
/// the low bits, because one CPU does not see the same nanosecond twice.
#[inline(always)]
pub fn unique() -> u64 {
    // SAFETY: no arguments, always allowed.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    ((now() << 10) | u64::from(cpu & 0x3ff)) & !USER_STREAM
}

/// Adds to a counter. Atomic, because another program can preempt this one on the same CPU.
#[inline(always)]
pub fn count(counter: Counter, n: u64) {
    if let Some(slot) = STATS.get_ptr_mut(counter as u32) {
        // SAFETY: a live, aligned map value. `core`'s atomics have no fetch_add on this target.
        unsafe { core::arch::asm!("lock *(u64 *)({slot} + 0) += {n}", slot = in(reg) slot, n = in(reg) n) };
    }
}
