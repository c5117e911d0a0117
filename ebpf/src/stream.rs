//! Streams: identity, verdict, offsets, and the copying of their bytes.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_loop, bpf_probe_read_user},
};
use tokentap_abi::{
    Close, Counter, Direction, HEAD_BYTES, HEADER_LEN, Header, Kind, MAX_CHUNK, MAX_CHUNKS, Open,
    STREAMS_PER_PROCESS, Verdict, flags, tracked,
};

use crate::{
    current::{self, TrackedThread, count, now, unique, zero},
    maps::{HANDLES, HAS_LOOP, NEW_STREAM, STREAMS, VERDICTS},
    ring::{self, Sent},
    state::{Copy, Stream},
    target::at_most,
};

/// Makes a stream; null when the process has too many, or the map is full.
///
/// Not inlined, like all that is rare here: the verifier follows each inlined copy, and stack space is short.
#[inline(never)]
pub fn create(who: &TrackedThread, how: u8, class: u8, flags: u16) -> *mut Stream {
    // SAFETY: the entry of the running process.
    let open = unsafe { (*who.tracked).streams };
    if open >= STREAMS_PER_PROCESS {
        refuse(who);
        return ptr::null_mut();
    }
    let id = unique();
    let Some(template) = NEW_STREAM.get(0) else { return ptr::null_mut() };
    if STREAMS.insert(&id, template, u64::from(BPF_NOEXIST)).is_err() {
        count(Counter::MapFull, 1);
        return ptr::null_mut();
    }
    // SAFETY: a live map value.
    unsafe { current::add(&raw mut (*who.tracked).streams, 1) };
    let stream = find(id);
    if !stream.is_null() {
        // SAFETY: a live map value, which no other program knows yet; two threads at once may give the same epoch to
        // theirs, the id tells the streams apart.
        let (stream, tracked) = unsafe { (&mut *stream, &mut *who.tracked) };
        stream.id = id;
        stream.generation = who.generation;
        stream.epoch = tracked.epoch;
        tracked.epoch = stream.epoch.wrapping_add(1);
        stream.refs = 1;
        stream.class = class;
        stream.turn = 0xff;
        stream.flags = flags;
        stream.open.how = how;
        stream.open.fd = -1;
    }
    stream
}

#[inline(always)]
fn refuse(who: &TrackedThread) {
    count(Counter::StreamsOverQuota, 1);
    if who.set_flag(tracked::OVER_QUOTA) {
        ring::bare(|header| current::fill(header, Kind::OverQuota, who, 0), true);
    }
}

/// The state of a stream; null when there is none.
#[inline(always)]
pub fn find(id: u64) -> *mut Stream {
    STREAMS.get_ptr_mut(&id).unwrap_or(ptr::null_mut())
}

/// Fills the header of a stream's frame.
#[inline(always)]
fn fill(header: &mut Header, kind: Kind, who: &TrackedThread, stream: &Stream, len: usize) {
    current::fill(header, kind, who, len);
    header.stream = stream.id;
    header.epoch = stream.epoch;
    header.flags = stream.flags;
}

/// Announces a stream to user space, once; again when the event did not fit.
#[inline(always)]
pub fn announce(stream: *mut Stream) {
    // SAFETY: a live map value.
    unsafe {
        if (*stream).announced == 0 {
            announce_now((*stream).id);
        }
    }
}

/// A global function: what is rare, and what much leads to, the verifier follows once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_now(id: u64) -> u64 {
    let Some(who) = &TrackedThread::current() else { return 0 };
    let stream = find(id);
    if stream.is_null() {
        return 0;
    }
    // SAFETY: a live map value; the worst that a concurrent announcement does is send it twice.
    let stream = unsafe { &mut *stream };
    // A process can open streams without end: when the ring is nearly full, that comes out of its share.
    if ring::room(who.tracked, now(), (HEADER_LEN + Open::LEN) as u64, ring::Share::Checked) < ring::FULL {
        let sent = ring::event(|header| fill(header, Kind::Open, who, stream, Open::LEN), &stream.open);
        stream.announced = u8::from(sent);
    }
    0
}

/// Announces the end of a stream that was announced, and forgets it.
#[inline(never)]
pub fn close(who: &TrackedThread, id: u64) {
    let Some(stream) = STREAMS.get_ptr_mut(&id) else { return };
    // SAFETY: a live map value.
    let stream = unsafe { &*stream };
    if stream.announced != 0 {
        // The end of a TLS connection is seen on its socket, where that is known.
        let known = stream.flags & flags::TLS == 0 || stream.bound != 0;
        let left = if known && stream.over == 0 { flags::LEFT } else { 0 };
        ring::event(
            |header| {
                fill(header, Kind::Close, who, stream, Close::LEN);
                header.flags |= left;
            },
            &Close { offsets: stream.offsets, skipped: stream.skipped },
        );
    }
    forget(who, id);
    VERDICTS.remove(&id).unwrap_or(());
}

/// Forgets a stream that was never announced.
#[inline(always)]
pub fn forget(who: &TrackedThread, id: u64) {
    // Absent keys are fine: another thread may have closed it too.
    if STREAMS.remove(&id).is_ok() {
        // SAFETY: the entry of the running process.
        unsafe { current::add(&raw mut (*who.tracked).streams, u32::MAX) };
    }
}

/// Forgets a TLS handle and ends its stream: what its connection carries from now on begins anew.
#[inline(always)]
pub fn close_handle(who: &TrackedThread, handle: u64) {
    let key = who.handle(handle);
    // SAFETY: copied out at once.
    let Some(id) = (unsafe { HANDLES.get(&key) }).copied() else { return };
    HANDLES.remove(&key).unwrap_or(());
    close(who, id);
}

/// Ends the stream of a TLS handle whose socket was closed; the handle may have another stream by now.
#[inline(always)]
pub fn close_under(who: &TrackedThread, handle: u64, id: u64) {
    let key = who.handle(handle);
    // SAFETY: copied out at once.
    if (unsafe { HANDLES.get(&key) }).copied() == Some(id) {
        HANDLES.remove(&key).unwrap_or(());
    }
    close(who, id);
}

/// Announces that one direction ended.
#[inline(never)]
pub fn half_close(who: &TrackedThread, stream: *mut Stream, dir: u8) {
    // SAFETY: a live map value.
    let stream = unsafe { &mut *stream };
    if stream.announced != 0 {
        let offset = *of(&mut stream.offsets, dir);
        ring::bare(
            |header| {
                fill(header, Kind::HalfClose, who, stream, 0);
                header.dir = dir;
                header.offset = offset;
            },
            true,
        );
    }
}

/// The element of a direction. Clamped where it is used: what the compiler knows of the number, the verifier may not.
#[inline(always)]
pub fn of(pair: &mut [u64; 2], dir: u8) -> &mut u64 {
    let index = at_most::<1>(u64::from(dir));
    // SAFETY: the index was clamped.
    unsafe { pair.get_unchecked_mut(index as usize) }
}

/// [`Direction::Write`], as a number: the verifier is to follow one path for both.
pub const WRITE: u8 = Direction::Write as u8;
/// [`Direction::Read`], as a number.
pub const READ: u8 = Direction::Read as u8;

/// Bytes that one call moved.
pub struct TransferredBytes {
    /// Index of a [`Direction`].
    pub dir: u8,
    pub total: u64,
    pub from: u64,
    pub time: u64,
}

/// Starts the copy of what one call moved: applies the verdict.
#[inline(always)]
pub fn begin(copy: &mut Copy, who: &TrackedThread, stream: *mut Stream, moved: &TransferredBytes) {
    let TransferredBytes { dir, total, from, time } = *moved;
    let bit = 1u8 << (dir & 1);
    // SAFETY: a live map value.
    let stream = unsafe { &mut *stream };
    // SAFETY: copied out at once.
    let verdict = unsafe { VERDICTS.get(&stream.id) }.copied().unwrap_or(Verdict::All as u8);
    let turns = stream.turn != dir;
    let mut skip = 0;
    if verdict == Verdict::Ignore as u8 {
        skip = total;
    } else if verdict == heads(dir) && stream.post == 0 {
        if turns {
            *of(&mut stream.head_left, dir) = HEAD_BYTES;
        }
        let left = of(&mut stream.head_left, dir);
        skip = total.saturating_sub(*left);
        *left = left.saturating_sub(total);
    } else if verdict == heads(dir ^ 1) && turns {
        // A request. User space would see too late that it is a call: the response may be on its way.
        stream.post = u8::from(first_byte(from) == b'P');
    }
    if turns {
        stream.turn = dir;
        stream.turns = stream.turns.wrapping_add(1);
    }
    let header = &mut copy.header;
    fill(header, Kind::Data, who, stream, 0);
    header.time = time;
    header.dir = dir;
    let [a, b, c, _] = stream.turns.to_le_bytes();
    header.turns = [a, b, c];
    if stream.after_skip & bit != 0 && skip != total {
        header.flags |= flags::SKIPPED;
        stream.after_skip &= !bit;
    }
    let offset = of(&mut stream.offsets, dir);
    copy.offset = *offset;
    *offset = copy.offset.wrapping_add(total);
    if skip > 0 {
        let skipped = of(&mut stream.skipped, dir);
        *skipped = skipped.wrapping_add(skip);
        stream.after_skip |= bit;
    }
    count(Counter::Seen, total);
    copy.from = from;
    copy.total = total - skip;
    copy.left = total - skip;
    copy.skip = skip;
    copy.delivered = zero();
    copy.ring_full = zero();
    copy.over_share = zero();
}

/// [`Verdict::heads`] of the direction with this index.
#[inline(always)]
const fn heads(dir: u8) -> u8 {
    const _: () = assert!(Verdict::WriteHeads as u8 == 1 && Verdict::ReadHeads as u8 == 2);
    1 + (dir & 1)
}

/// The first byte of a request; one that cannot be read may be a call's.
#[inline(always)]
fn first_byte(from: u64) -> u8 {
    let mut first = [0u8; 1];
    // SAFETY: one byte to write; the helper checks `from`.
    if unsafe { bpf_probe_read_user(first.as_mut_ptr().cast(), 1, from as *const _) } != 0 {
        return b'P';
    }
    first[0]
}

/// Last bytes of a call for which a process need not have a share of the ring left.
const TAIL: u64 = 2 * MAX_CHUNK as u64;

/// Copies the next piece, of at most [`MAX_CHUNK`] bytes.
#[inline(always)]
pub fn piece(copy: &mut Copy, who: &TrackedThread, len: u64) {
    copy.header.offset = copy.offset;
    copy.header.len = len as u32;
    copy.header.orig = len as u32;
    copy.offset = copy.offset.wrapping_add(len);
    copy.left = copy.left.wrapping_sub(len);
    // What a call ends with is worth more than what is in its middle: a request's model, an answer's usage.
    let share = if copy.left > TAIL { ring::Share::Checked } else { ring::Share::Free };
    match ring::room(who.tracked, copy.header.time, len, share) {
        ring::FULL => copy.ring_full += len,
        ring::OVER_SHARE => copy.over_share += len,
        flags => match ring::data(&copy.header, copy.from, flags) {
            Sent::Yes => copy.delivered += len,
            Sent::RingFull => copy.ring_full += len,
            Sent::Unreadable => {}
        },
    }
    copy.from = copy.from.wrapping_add(len);
    copy.header.flags &= !flags::SKIPPED;
}

/// Copies a contiguous buffer.
#[inline(always)]
pub fn flat(copy: &mut Copy, who: &TrackedThread) {
    let mut state = Flat { copy, who };
    repeat(&mut state, flat_step);
    finish(state.copy, Counter::LostTooLarge as u8);
}

#[repr(C)]
struct Flat<'a> {
    copy: &'a mut Copy,
    who: &'a TrackedThread,
}

#[inline(never)]
extern "C" fn flat_step(_index: u32, state: &mut Flat<'_>) -> u64 {
    let copy = &mut *state.copy;
    let len = copy.left.min(u64::from(MAX_CHUNK));
    if len == 0 {
        return STOP;
    }
    piece(copy, state.who, len);
    if copy.left == 0 { STOP } else { GO_ON }
}

/// A step's result: there is more.
pub const GO_ON: u64 = 0;
/// A step's result: that was all.
pub const STOP: u64 = 1;

/// Repeats a step until it says stop, [`MAX_CHUNKS`] times at most.
///
/// `bpf_loop` (5.17) is verified once; a plain loop is verified turn by turn, and few turns fit.
#[inline(always)]
pub fn repeat<T>(state: &mut T, step: extern "C" fn(u32, &mut T) -> u64) {
    const TURNS_WITHOUT_HELPER: u32 = 64;
    if HAS_LOOP.load() != 0 {
        // SAFETY: the callback's type is what the helper expects, and `state` outlives the call.
        unsafe { bpf_loop(MAX_CHUNKS, step as *mut c_void, ptr::from_mut(state).cast(), 0) };
        return;
    }
    for index in 0..TURNS_WITHOUT_HELPER {
        if step(index, state) == STOP {
            return;
        }
    }
}

/// Accounts for what was to be copied. What was not tried is lost for `reason`, and a frame says so; so do
/// the next frame's offset, and the final offsets, for bytes that are lost otherwise.
#[inline(never)]
pub fn finish(copy: &mut Copy, reason: u8) {
    count(Counter::Delivered, copy.delivered);
    let refused = copy.ring_full.wrapping_add(copy.over_share);
    if copy.ring_full > 0 {
        count(Counter::LostRingFull, copy.ring_full);
    }
    if copy.over_share > 0 {
        count(Counter::LostShare, copy.over_share);
    }
    let unreadable = copy.total.wrapping_sub(copy.delivered).wrapping_sub(refused).wrapping_sub(copy.left);
    if unreadable > 0 {
        count(Counter::LostUnreadable, unreadable);
    }
    if copy.left > 0 {
        current::count_index(u32::from(reason), copy.left);
        copy.header.kind = Kind::Loss as u8;
        copy.header.offset = copy.offset;
        copy.header.len = 0;
        copy.header.orig = copy.left as u32;
        ring::bare(|header| *header = copy.header, false);
    }
    if copy.skip > 0 {
        count(Counter::Skipped, copy.skip);
    }
}

/// Bytes of a stream that pass no buffer that could be read: only their number is known.
#[inline(always)]
pub fn unseen(
    copy: &mut Copy,
    who: &TrackedThread,
    stream: *mut Stream,
    moved: &TransferredBytes,
    reason: u8,
) {
    begin(copy, who, stream, moved);
    finish(copy, reason);
}
