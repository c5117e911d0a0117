//! Frames onto the ring.
//!
//! Space is reserved in size classes, so that a frame takes little more than it needs and is written in
//! place. A per-CPU scratch buffer would spare the rounding, but uprobe programs can preempt each other on
//! one CPU and would overwrite it.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::generated::bpf_probe_read_user,
};
use tokentap_abi::{ABI_VERSION, Counter, HEADER_LEN, Header, Kind, MAX_CHUNK};

use crate::maps::{EVENTS, Watched, count, now};

/// Reserves, fills and submits one frame of a constant size.
macro_rules! submit {
    ($size:expr, $flags:expr, |$to:ident| $fill:block) => {
        match EVENTS.reserve_bytes($size, 0) {
            None => None,
            Some(mut entry) => {
                let $to = entry.as_mut_ptr();
                let filled: bool = $fill;
                if filled {
                    entry.submit($flags);
                } else {
                    entry.discard(u64::from(BPF_RB_NO_WAKEUP));
                }
                Some(filled)
            }
        }
    };
}

/// What became of a frame.
pub enum Sent {
    Yes,
    RingFull,
    Unreadable,
}

/// Sends a data frame with `header.len` bytes from `from` in the target's memory; at most [`MAX_CHUNK`].
#[inline(always)]
pub fn data(header: &Header, from: u64, flags: u64) -> Sent {
    if header.len <= 192 {
        sent(submit!(HEADER_LEN + 192, flags, |to| { fill::<192>(to, header, from) }))
    } else if header.len <= 976 {
        sent(submit!(HEADER_LEN + 976, flags, |to| { fill::<976>(to, header, from) }))
    } else if header.len <= 4048 {
        sent(submit!(HEADER_LEN + 4048, flags, |to| { fill::<4048>(to, header, from) }))
    } else {
        sent(submit!(HEADER_LEN + MAX_CHUNK as usize, flags, |to| {
            fill::<{ MAX_CHUNK as u64 }>(to, header, from)
        }))
    }
}

#[inline(always)]
fn sent(outcome: Option<bool>) -> Sent {
    match outcome {
        Some(true) => Sent::Yes,
        Some(false) => Sent::Unreadable,
        None => Sent::RingFull,
    }
}

#[inline(always)]
fn fill<const ROOM: u64>(to: *mut u8, header: &Header, from: u64) -> bool {
    put(to, header);
    let len = at_most::<ROOM>(u64::from(header.len));
    // SAFETY: `to` has HEADER_LEN + ROOM bytes and `len` is at most ROOM; the helper checks `from`.
    unsafe { bpf_probe_read_user(to.add(HEADER_LEN).cast(), len as u32, from as *const _) == 0 }
}

/// Sends an event frame whose payload is a value on the stack, and wakes the reader.
#[inline(always)]
pub fn event<T: Copy>(header: &Header, payload: T) -> bool {
    let sent = submit!(HEADER_LEN + size_of::<T>(), u64::from(BPF_RB_FORCE_WAKEUP), |to| {
        put(to, header);
        // SAFETY: reserved with room for a T behind the header.
        unsafe { to.add(HEADER_LEN).cast::<T>().write_unaligned(payload) };
        true
    });
    sent.is_some() || lost_event()
}

/// Sends a frame that is only a header.
#[inline(always)]
pub fn bare(header: &Header, wake: bool) -> bool {
    let flags = if wake { u64::from(BPF_RB_FORCE_WAKEUP) } else { wakeup() };
    let sent = submit!(HEADER_LEN, flags, |to| {
        put(to, header);
        true
    });
    sent.is_some() || lost_event()
}

fn lost_event() -> bool {
    count(Counter::EventsLost, 1);
    false
}

/// A header with what every frame has.
#[inline(always)]
pub fn header(kind: Kind, who: &Watched, len: u32) -> Header {
    Header {
        version: ABI_VERSION,
        kind: kind as u8,
        len,
        time: now(),
        tgid: who.tgid(),
        tid: who.pid_tgid as u32,
        ..Header::default()
    }
}

#[inline(always)]
pub fn put(to: *mut u8, header: &Header) {
    // SAFETY: ring entries are 8-byte aligned and hold at least a header.
    unsafe { to.cast::<Header>().write(*header) };
}

/// The reader looks at the ring by itself every few milliseconds; it is woken only when the ring fills, which
/// spares the target an interrupt per frame.
#[inline(always)]
pub fn wakeup() -> u64 {
    const _: () = assert!(BPF_RB_NO_WAKEUP == 1 && BPF_RB_FORCE_WAKEUP == 2);
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let size = EVENTS.query(u64::from(BPF_RB_RING_SIZE));
    // The top bit is set when more than an eighth of the ring waits.
    u64::from(BPF_RB_NO_WAKEUP) + ((size >> 3).wrapping_sub(waiting) >> 63)
}

/// Clamps where the value is used. Opaque to LLVM, so that it is neither hoisted above a spill nor elided;
/// kernels up to 6.1 do not follow a bound through a spill.
#[inline(always)]
pub fn at_most<const MAX: u64>(mut n: u64) -> u64 {
    // SAFETY: register-only arithmetic.
    unsafe {
        core::arch::asm!("if {n} <= {max} goto +1", "{n} = {max}", n = inout(reg) n, max = const MAX);
    };
    n
}
