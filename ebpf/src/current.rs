//! The running thread, the time, and the counters.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns,
        generated::bpf_get_current_cgroup_id,
    },
};
use tokentap_abi::{
    ABI_VERSION, Counter, FdKey, HEADER_LEN, HandleKey, Header, Kind, TRACKED_FILTER, Tracked,
};

use crate::maps::{MAY_BE_TRACKED, STATS, TRACKED};

/// The running thread, once it is known to belong to a tracked process.
#[derive(Clone, Copy)]
pub struct TrackedThread {
    pub pid_tgid: u64,
    pub generation: u64,
    /// The process's entry. A map value stays readable until the program ends, also when it is removed meanwhile.
    pub tracked: *mut Tracked,
}

impl TrackedThread {
    /// `None` ends the program for everybody else.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        let pid_tgid = bpf_get_current_pid_tgid();
        let tgid = (pid_tgid >> 32) as u32;
        // SAFETY: a live, aligned map value.
        if unsafe { MAY_BE_TRACKED.get_ptr(tgid % TRACKED_FILTER)?.read_volatile() } == 0 {
            return None;
        }
        let tracked = TRACKED.get_ptr_mut(&tgid)?;
        // SAFETY: a map value that was just found; an aligned u64 is read whole.
        let generation = unsafe { (*tracked).generation };
        Some(Self { pid_tgid, generation, tracked })
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

    /// Bits of [`tokentap_abi::tracked`].
    #[inline(always)]
    pub fn flags(&self) -> u32 {
        // SAFETY: as in `current`.
        unsafe { (*self.tracked).flags }
    }

    /// Sets a bit; true when it was not set before. Two threads at once may both get true.
    #[inline(always)]
    pub fn set_flag(&self, bit: u32) -> bool {
        // SAFETY: as in `current`; a lost bit costs a second event.
        unsafe {
            let before = (*self.tracked).flags;
            (*self.tracked).flags = before | bit;
            before & bit == 0
        }
    }
}

/// Tracks the process with this id from now on; a new entry replaces an older one. False when there is no room, which
/// is counted.
#[inline(always)]
pub fn track(tgid: u32, generation: u64, bits: u32) -> bool {
    if let Some(may_be) = MAY_BE_TRACKED.get_ptr_mut(tgid % TRACKED_FILTER) {
        // SAFETY: a live, aligned map value, into which everybody writes the same.
        unsafe { may_be.write_volatile(1) };
    }
    let entry = Tracked { generation, flags: bits, ..Tracked::default() };
    let is_tracked = TRACKED.insert(&tgid, &entry, u64::from(BPF_ANY)).is_ok();
    if !is_tracked {
        count(Counter::MapFull, 1);
    }
    is_tracked
}

/// Sets what every frame has; the rest is zero. In place, because stack space is short.
#[inline(always)]
pub fn fill(header: &mut Header, kind: Kind, who: &TrackedThread, len: usize) {
    header.version = ABI_VERSION;
    header.kind = kind as u8;
    header.flags = 0;
    header.len = len as u32;
    header.time = now();
    header.tgid = who.tgid();
    header.tid = who.pid_tgid as u32;
    header.stream = zero();
    header.offset = zero();
    header.orig = zero() as u32;
    header.dir = 0;
    header.turns = [0; 3];
    header.header_len = HEADER_LEN as u16;
    header.reserved = 0;
    header.epoch = zero() as u32;
    header.generation = who.generation;
    // SAFETY: no arguments, always allowed.
    header.cgroup = unsafe { bpf_get_current_cgroup_id() };
}

/// Zero, without the compiler knowing: it makes a call of `memset` of several zeros in a row, which writes byte by byte,
/// and the verifier follows each.
#[inline(always)]
pub fn zero() -> u64 {
    let zero;
    // SAFETY: sets a register.
    unsafe { core::arch::asm!("{zero} = 0", zero = out(reg) zero) };
    zero
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
    (now() << 10) | u64::from(cpu & 0x3ff)
}

/// Adds to a counter. Atomic, because another program can preempt this one on the same CPU.
#[inline(always)]
pub fn count(counter: Counter, n: u64) {
    count_index(counter as u32, n);
}

/// Adds to the counter with this index.
#[inline(always)]
pub fn count_index(counter: u32, n: u64) {
    if let Some(slot) = STATS.get_ptr_mut(counter) {
        // SAFETY: a live, aligned map value. `core`'s atomics have no fetch_add on this target.
        unsafe { core::arch::asm!("lock *(u64 *)({slot} + 0) += {n}", slot = in(reg) slot, n = in(reg) n) };
    }
}

/// Adds one to a number that several CPUs count.
///
/// # Safety
/// `number` is an aligned u64 in a live map value.
#[inline(always)]
pub unsafe fn add_one(number: *mut u64) {
    // SAFETY: as the caller promises.
    unsafe { core::arch::asm!("lock *(u64 *)({slot} + 0) += {n}", slot = in(reg) number, n = in(reg) 1u64) };
}

/// Adds to a number that several CPUs count; `n` may be a negative number's two's complement.
///
/// # Safety
/// `number` is an aligned u32 in a live map value.
#[inline(always)]
pub unsafe fn add(number: *mut u32, n: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!("lock *(u32 *)({slot} + 0) += {n}", slot = in(reg) number, n = in(reg) u64::from(n))
    };
}
