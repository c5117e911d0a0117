//! Streams: identity, class, verdict, offsets, and the copying of their bytes.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_loop, bpf_probe_read_user},
};
use tokentap_abi::{
    Class, Close, Counter, Direction, HEAD_BYTES, Header, Kind, MAX_CHUNK, MAX_CHUNKS, Open, Opened, Verdict,
    flags,
};

use crate::{
    maps::{HAS_LOOP, STREAMS, VERDICTS, Watched, count, unique},
    ring::{self, Sent},
};

/// State of one stream pair.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Stream {
    /// Bytes that passed, per direction.
    pub offsets: [u64; 2],
    /// Bytes of those that a verdict left out.
    pub skipped: [u64; 2],
    /// What is left of the head where only heads are copied, per direction.
    pub head_left: [u64; 2],
    /// For a TLS stream, the socket stream under it; for a socket, the TLS stream on it. 0: not known.
    pub bound: u64,
    /// Descriptors that name this stream (`dup`).
    pub refs: u32,
    /// How often `turn` has changed.
    pub turns: u32,
    /// A [`Class`].
    pub class: u8,
    /// Last direction that moved: heads begin where it turns.
    pub turn: u8,
    /// 1 once an open frame went out.
    pub announced: u8,
    /// Bit per direction: bytes were skipped since the last data frame.
    pub after_skip: u8,
    /// [`flags`] of every frame.
    pub flags: u16,
    /// 1 once the peer closed, or the network failed.
    pub over: u8,
    /// Where only heads are copied: 1 after a request that may be a call.
    pub post: u8,
    /// How it was opened and to whom.
    pub open: Open,
}

impl Stream {
    pub fn new(how: Opened, class: Class, flags: u16) -> Self {
        Self {
            refs: 1,
            class: class as u8,
            turn: 0xff,
            flags,
            open: Open { how: how as u8, fd: -1, ..Open::default() },
            ..Self::default()
        }
    }
}

/// Remembers a new stream and returns its id.
#[inline(always)]
pub fn create(stream: &Stream) -> Option<u64> {
    let id = unique();
    if STREAMS.insert(&id, stream, u64::from(BPF_NOEXIST)).is_err() {
        count(Counter::MapFull, 1);
        return None;
    }
    Some(id)
}

/// The state of a stream; one that was evicted, or that user space named, begins anew as a late one.
#[inline(always)]
pub fn state(id: u64) -> Option<*mut Stream> {
    if let Some(stream) = STREAMS.get_ptr_mut(&id) {
        return Some(stream);
    }
    if STREAMS.insert(&id, &Stream::new(Opened::Seen, Class::Unknown, flags::LATE), 0).is_err() {
        count(Counter::MapFull, 1);
        return None;
    }
    STREAMS.get_ptr_mut(&id)
}

/// Tells user space about a stream, once.
#[inline(always)]
pub fn announce(who: &Watched, id: u64, stream: *mut Stream) {
    // SAFETY: a live map value; the worst that a concurrent announcement does is send it twice.
    unsafe {
        if (*stream).announced != 0 {
            return;
        }
        (*stream).announced = 1;
        let mut header = ring::header(Kind::Open, who, Open::LEN as u32);
        header.stream = id;
        header.flags = (*stream).flags;
        ring::event(&header, (*stream).open);
    }
}

/// Tells user space that an announced stream ended, and forgets it.
#[inline(always)]
pub fn close(who: &Watched, id: u64) {
    let Some(stream) = STREAMS.get_ptr_mut(&id) else { return };
    // SAFETY: a live map value.
    unsafe {
        if (*stream).announced != 0 {
            let mut header = ring::header(Kind::Close, who, Close::LEN as u32);
            header.stream = id;
            // The end of a TLS connection is seen on its socket, where that is known.
            let told = (*stream).flags & flags::TLS == 0 || (*stream).bound != 0;
            let left = if told && (*stream).over == 0 { flags::LEFT } else { 0 };
            header.flags = (*stream).flags | left;
            ring::event(&header, Close { offsets: (*stream).offsets, skipped: (*stream).skipped });
        }
    }
    forget(id);
}

#[inline(always)]
fn forget(id: u64) {
    // Absent keys are fine: another thread may have closed it too.
    STREAMS.remove(&id).unwrap_or(());
    VERDICTS.remove(&id).unwrap_or(());
}

/// Tells user space that one direction ended.
#[inline(always)]
pub fn half_close(who: &Watched, id: u64, stream: *mut Stream, dir: Direction) {
    // SAFETY: a live map value.
    unsafe {
        if (*stream).announced == 0 {
            return;
        }
        let mut header = ring::header(Kind::HalfClose, who, 0);
        header.stream = id;
        header.flags = (*stream).flags;
        header.dir = dir as u8;
        header.offset = (*stream).offsets[dir.index() & 1];
        ring::bare(&header, true);
    }
}

/// Says what a socket carries by the first bytes of a call.
///
/// A short piece that could still become an HTTP/1 request counts as HTTP: some clients send the first bytes
/// of a request alone. `late`: the connection may have been open before, and its preface have passed.
#[inline(always)]
pub fn classify(from: u64, len: u64, late: bool) -> Class {
    let mut first = [0u8; FRAME_HEADER];
    let n = ring::at_most::<{ FRAME_HEADER as u64 }>(len);
    // SAFETY: `first` has as many bytes as `n` is at most; the helper checks `from`.
    if unsafe { bpf_probe_read_user(first.as_mut_ptr().cast(), n as u32, from as *const _) } != 0 {
        return Class::Unknown;
    }
    // A TLS record: type 20 to 24, version 3.x.
    if n >= 3 && first[0] >= 20 && first[0] <= 24 && first[1] == 3 && first[2] <= 4 {
        return Class::Tls;
    }
    if late && n == FRAME_HEADER as u64 && starts_frame(&first) {
        return Class::Http;
    }
    let [a, b, c, d, e, f, g, h, _] = first;
    let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let starts = |token: &[u8; 8], token_len: u64| {
        let used = if n < token_len { n } else { token_len };
        let mask = if used >= 8 { u64::MAX } else { (1 << (used * 8)) - 1 };
        n > 0 && (word ^ u64::from_le_bytes(*token)) & mask == 0
    };
    if starts(b"POST \0\0\0", 5)
        || starts(b"GET \0\0\0\0", 4)
        || starts(b"HTTP/1.\0", 7)
        || starts(b"PRI * HT", 8)
        || starts(b"PUT \0\0\0\0", 4)
        || starts(b"HEAD \0\0\0", 5)
        || starts(b"DELETE \0", 7)
        || starts(b"PATCH \0\0", 6)
        || starts(b"OPTIONS ", 8)
    {
        return Class::Http;
    }
    // What a PROXY protocol header is in front of may be TLS as well, as behind a CONNECT.
    if starts(b"CONNECT ", 8) || starts(b"PROXY \0\0", 6) || starts(b"\r\n\r\n\0\r\nQ", 8) {
        return Class::Tunnel;
    }
    Class::Unknown
}

/// Bytes of an HTTP/2 frame header (RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;

/// Whether this is the header of a frame that is in use, with what its type allows (RFC 9113 §6). User space
/// looks closer.
#[inline(always)]
fn starts_frame(header: &[u8; FRAME_HEADER]) -> bool {
    let [a, b, c, kind, flags, stream @ ..] = *header;
    let length = u32::from_be_bytes([0, a, b, c]);
    let stream = u32::from_be_bytes(stream);
    // By type: the flags that are defined, and lengths.
    let (known, least, most) = match kind {
        0 => (0x09, 0, 1 << 19),
        1 => (0x2d, 1, 1 << 16),
        3 => (0, 4, 4),
        4 => (0x01, 0, 1 << 10),
        6 => (0x01, 8, 8),
        7 => (0, 8, 1 << 10),
        8 => (0, 4, 4),
        _ => return false,
    };
    // Those of a stream, those of the connection, and WINDOW_UPDATE, which is of either.
    let right = if kind <= 3 { stream != 0 } else { stream == 0 || kind == 8 };
    right && stream < 1 << 31 && flags & !known == 0 && length >= least && length <= most
}

/// A copy in progress: what is the same for all bytes of one call, and what became of them.
///
/// It lives in the map entry of the call, not on the stack: the verifier would track its numbers through
/// every turn of the loop on the stack, and take a load from a map as unknown, which is all it needs.
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
    /// Wake-up flags for the ring.
    pub wakeup: u64,
}

/// Bytes that one call moved.
pub struct Moved {
    pub dir: Direction,
    pub total: u64,
    pub from: u64,
    pub time: u64,
}

/// Starts the copy of what one call moved: applies the verdict.
#[inline(always)]
pub fn begin(copy: &mut Copy, who: &Watched, id: u64, stream: *mut Stream, moved: &Moved) {
    let Moved { dir, total, from, time } = *moved;
    let mut header = ring::header(Kind::Data, who, 0);
    header.time = time;
    header.stream = id;
    header.dir = dir as u8;
    let mut skip = 0;
    let at = dir.index() & 1;
    let bit = 1u8 << at;
    // SAFETY: a live map value, and the index is masked.
    let offset = unsafe {
        let verdict = VERDICTS.get(&id).copied().unwrap_or(Verdict::All as u8);
        let turns = (*stream).turn != dir as u8;
        if verdict == Verdict::Ignore as u8 {
            skip = total;
        } else if verdict == Verdict::heads(dir) as u8 && (*stream).post == 0 {
            if turns {
                (*stream).head_left[at] = HEAD_BYTES;
            }
            let head = (*stream).head_left[at];
            skip = total.saturating_sub(head);
            (*stream).head_left[at] = head.saturating_sub(total);
        } else if verdict == Verdict::heads(dir.opposite()) as u8 && turns {
            // A request. User space would see too late that it is a call: the response may be on its way.
            (*stream).post = u8::from(first_byte(from) == b'P');
        }
        if turns {
            (*stream).turn = dir as u8;
            (*stream).turns = (*stream).turns.wrapping_add(1);
        }
        let [a, b, c, _] = (*stream).turns.to_le_bytes();
        header.turns = [a, b, c];
        header.flags = (*stream).flags;
        if (*stream).after_skip & bit != 0 && skip != total {
            header.flags |= flags::SKIPPED;
            (*stream).after_skip &= !bit;
        }
        let offset = (*stream).offsets[at];
        (*stream).offsets[at] = offset.wrapping_add(total);
        if skip > 0 {
            (*stream).skipped[at] = (*stream).skipped[at].wrapping_add(skip);
            (*stream).after_skip |= bit;
        }
        offset
    };
    count(Counter::Seen, total);
    let left = total - skip;
    *copy = Copy {
        header,
        from,
        total: left,
        left,
        skip,
        offset,
        delivered: 0,
        ring_full: 0,
        wakeup: ring::wakeup(),
    };
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

/// Copies the next piece, of at most [`MAX_CHUNK`] bytes.
#[inline(always)]
pub fn piece(copy: &mut Copy, len: u64) {
    copy.header.offset = copy.offset;
    copy.header.len = len as u32;
    copy.header.orig = len as u32;
    copy.offset = copy.offset.wrapping_add(len);
    copy.left = copy.left.wrapping_sub(len);
    match ring::data(&copy.header, copy.from, copy.wakeup) {
        Sent::Yes => copy.delivered += len,
        Sent::RingFull => copy.ring_full += len,
        Sent::Unreadable => {}
    }
    copy.from = copy.from.wrapping_add(len);
    copy.header.flags &= !flags::SKIPPED;
}

/// Copies a contiguous buffer.
#[inline(always)]
pub fn flat(copy: &mut Copy) {
    let mut state = Flat { copy };
    // Nearly every call fits one piece.
    if flat_step(0, &mut state) == GO_ON {
        repeat(&mut state, flat_step);
    }
    finish(state.copy, Counter::LostTooLarge);
}

#[repr(C)]
struct Flat<'a> {
    copy: &'a mut Copy,
}

extern "C" fn flat_step(_index: u32, state: &mut Flat<'_>) -> u64 {
    let copy = &mut *state.copy;
    let len = copy.left.min(u64::from(MAX_CHUNK));
    if len == 0 {
        return STOP;
    }
    piece(copy, len);
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
    const TURNS_WITHOUT_HELPER: u32 = 16;
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
#[inline(always)]
pub fn finish(copy: &mut Copy, reason: Counter) {
    count(Counter::Delivered, copy.delivered);
    if copy.ring_full > 0 {
        count(Counter::LostRingFull, copy.ring_full);
    }
    let unreadable =
        copy.total.wrapping_sub(copy.delivered).wrapping_sub(copy.ring_full).wrapping_sub(copy.left);
    if unreadable > 0 {
        count(Counter::LostUnreadable, unreadable);
    }
    if copy.left > 0 {
        count(reason, copy.left);
        copy.header.kind = Kind::Loss as u8;
        copy.header.offset = copy.offset;
        copy.header.len = 0;
        copy.header.orig = copy.left as u32;
        ring::bare(&copy.header, false);
    }
    if copy.skip > 0 {
        count(Counter::Skipped, copy.skip);
    }
}
