//! Frames onto the ring.
//!
//! Space is reserved in size classes, so that a frame takes little more than it needs and is written in place. A per-CPU
//! buffer would spare the rounding, but uprobe programs can preempt each other on one CPU and would overwrite it.
//!
//! Data leaves the last sixteenth of the ring to events: a flood of bytes never pushes out an exec, a fork, an exit or a
//! close. And of the last quarter each process may take a small share only, so that one that floods loses its own bytes.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::generated::bpf_probe_read_user,
};
use tokentap_abi::{Counter, HEADER_LEN, Header, MAX_CHUNK, Tracked};

use crate::{current::count, maps::EVENTS, target::at_most};

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
    if header.len <= 168 {
        sent(submit!(HEADER_LEN + 168, flags, |to| { fill::<168>(to, header, from) }))
    } else if header.len <= 952 {
        sent(submit!(HEADER_LEN + 952, flags, |to| { fill::<952>(to, header, from) }))
    } else if header.len <= 4024 {
        sent(submit!(HEADER_LEN + 4024, flags, |to| { fill::<4024>(to, header, from) }))
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

/// Sends an event frame whose header is filled in place and whose payload is a value on the stack, and wakes the reader.
#[inline(always)]
pub fn event<T: Copy>(fill: impl FnOnce(&mut Header), payload: &T) -> bool {
    let sent = submit!(HEADER_LEN + size_of::<T>(), u64::from(BPF_RB_FORCE_WAKEUP), |to| {
        const { assert!(align_of::<T>() <= 8 && HEADER_LEN.is_multiple_of(8)) };
        // SAFETY: reserved with room for a header and a T behind it, and ring entries are 8-byte aligned.
        unsafe {
            fill(&mut *to.cast::<Header>());
            to.add(HEADER_LEN).cast::<T>().write(*payload);
        }
        true
    });
    sent.is_some() || lost_event()
}

/// Sends a frame that is only a header, filled in place.
#[inline(always)]
pub fn bare(fill: impl FnOnce(&mut Header), wake: bool) -> bool {
    let flags = u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP });
    let sent = submit!(HEADER_LEN, flags, |to| {
        // SAFETY: reserved with room for a header, and ring entries are 8-byte aligned.
        fill(unsafe { &mut *to.cast::<Header>() });
        true
    });
    sent.is_some() || lost_event()
}

/// Counts an event that did not fit.
pub fn lost_event() -> bool {
    count(Counter::EventsLost, 1);
    false
}

#[inline(always)]
pub fn put(to: *mut u8, header: &Header) {
    // SAFETY: ring entries are 8-byte aligned and hold at least a header.
    unsafe { to.cast::<Header>().write(*header) };
}

/// Bytes that wait in the ring, and its size.
#[inline(always)]
fn filled() -> (u64, u64) {
    (EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)), EVENTS.query(u64::from(BPF_RB_RING_SIZE)))
}

/// The reader looks at the ring by itself every few milliseconds; it is woken only when another eighth of the ring fills,
/// which spares the target an interrupt per frame.
#[inline(always)]
fn wakeup(waiting: u64, after: u64, size: u64) -> u64 {
    const _: () = assert!(BPF_RB_NO_WAKEUP == 1 && BPF_RB_FORCE_WAKEUP == 2);
    let eighth = size >> 3;
    // The sizes of rings are powers of two: a bit from the eighth on changes when a multiple of it is passed.
    let passed = (waiting ^ after) & eighth.wrapping_neg();
    // 0 or 1, without a branch for the verifier to follow.
    u64::from(BPF_RB_NO_WAKEUP) + (passed.wrapping_neg() >> 63)
}

/// What [`room`] says instead of wake-up flags: what is left is for events.
pub const FULL: u64 = 0x100;
/// What [`room`] says instead of wake-up flags: the process has used its share of what is left.
pub const OVER_SHARE: u64 = 0x101;

/// Whether data comes out of its process's share of a ring that is nearly full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Checked,
    Free,
}

/// Asks for room for `len` bytes of data of a process: the flags to submit them with, or why there is none.
#[inline(always)]
pub fn room(tracked: *mut Tracked, time: u64, len: u64, share: Share) -> u64 {
    let (waiting, size) = filled();
    let after = waiting.wrapping_add(len);
    let flags = wakeup(waiting, after, size);
    if after <= size - (size >> 2) {
        return flags;
    }
    if after > size - (size >> 4) {
        return FULL;
    }
    if share == Share::Free {
        return flags;
    }
    // Windows of 16.8 ms. Two threads that count at once may count short; the ring's end is checked above.
    let window = time >> 24;
    // SAFETY: the entry of the running process.
    unsafe {
        if (*tracked).window != window {
            (*tracked).window = window;
            (*tracked).used = 0;
        }
        let used = u64::from((*tracked).used).wrapping_add(len);
        if used > size >> 6 {
            return OVER_SHARE;
        }
        (*tracked).used = used as u32;
    }
    flags
}
