//! Streams: identity, class, verdict, offsets, and the copying of their bytes.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::bpf_probe_read_user,
};
use tokentap_abi::{
    Class, Close, Counter, Direction, HEAD_BYTES, Header, Kind, MAX_CHUNK, MAX_CHUNKS, Open, Opened, Verdict, flags,
};

use crate::{
    maps::{STREAMS, VERDICTS, Watched, count, unique},
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
    /// What is left of the head under [`Verdict::Heads`], per direction.
    pub head_left: [u64; 2],
    /// For a TLS stream, the socket stream under it; for a socket, the TLS stream on it. 0: not known.
    pub bound: u64,
    /// Descriptors that name this stream (`dup`).
    pub refs: u32,
    /// A [`Class`].
    pub class: u8,
    /// Last direction that moved, for [`Verdict::Heads`].
    pub turn: u8,
    /// 1 once an open frame went out.
    pub announced: u8,
    /// Bit per direction: bytes were skipped since the last data frame.
    pub after_skip: u8,
    /// [`flags`] of every frame.
    pub flags: u16,
    pub reserved: [u16; 1],
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
    if STREAMS.insert(id, stream, u64::from(BPF_NOEXIST)).is_err() {
        count(Counter::MapFull, 1);
        return None;
    }
    Some(id)
}

/// The state of a stream; one that was evicted, or that user space named, begins anew as a late one.
#[inline(always)]
pub fn state(id: u64) -> Option<*mut Stream> {
    if let Some(stream) = STREAMS.get_ptr_mut(id) {
        return Some(stream);
    }
    if STREAMS.insert(id, Stream::new(Opened::Seen, Class::Unknown, flags::LATE), 0).is_err() {
        count(Counter::MapFull, 1);
        return None;
    }
    STREAMS.get_ptr_mut(id)
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
    let Some(stream) = STREAMS.get_ptr_mut(id) else { return };
    // SAFETY: a live map value.
    unsafe {
        if (*stream).announced != 0 {
            let mut header = ring::header(Kind::Close, who, Close::LEN as u32);
            header.stream = id;
            header.flags = (*stream).flags;
            ring::event(&header, Close { offsets: (*stream).offsets, skipped: (*stream).skipped });
        }
    }
    forget(id);
}

#[inline(always)]
fn forget(id: u64) {
    // Absent keys are fine: another thread may have closed it too.
    STREAMS.remove(id).unwrap_or(());
    VERDICTS.remove(id).unwrap_or(());
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
/// of a request alone.
#[inline(always)]
pub fn classify(from: u64, len: u64) -> Class {
    let mut first = [0u8; 8];
    let n = ring::at_most::<8>(len);
    // SAFETY: `first` has 8 bytes and `n` is at most 8; the helper checks `from`.
    if unsafe { bpf_probe_read_user(first.as_mut_ptr().cast(), n as u32, from as *const _) } != 0 {
        return Class::Unknown;
    }
    // A TLS record: type 20 to 24, version 3.x.
    if n >= 3 && first[0] >= 20 && first[0] <= 24 && first[1] == 3 && first[2] <= 4 {
        return Class::Tls;
    }
    let word = u64::from_le_bytes(first);
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
        || starts(b"CONNECT ", 8)
    {
        return Class::Http;
    }
    Class::Unknown
}

/// What is the same for all bytes of one call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Copy {
    pub header: Header,
    pub stream: *mut Stream,
    /// Bytes of this call still to be copied.
    pub left: u64,
    /// Bytes of this call to be skipped after those.
    pub skip: u64,
}

/// Starts the copy of `total` bytes that one call moved: applies the verdict.
#[inline(always)]
pub fn begin(who: &Watched, id: u64, stream: *mut Stream, dir: Direction, total: u64, time: u64) -> Copy {
    let mut header = ring::header(Kind::Data, who, 0);
    header.time = time;
    header.stream = id;
    header.dir = dir as u8;
    let mut skip = 0;
    // SAFETY: a live map value, and the index is masked.
    unsafe {
        let verdict = VERDICTS.get(id).copied().unwrap_or(Verdict::All as u8);
        if verdict == Verdict::Ignore as u8 {
            skip = total;
        } else if verdict == Verdict::Heads as u8 {
            let at = dir.index() & 1;
            if (*stream).turn != dir as u8 {
                (*stream).head_left[at] = HEAD_BYTES;
            }
            let head = (*stream).head_left[at];
            skip = total.saturating_sub(head);
            (*stream).head_left[at] = head.saturating_sub(total);
        }
        (*stream).turn = dir as u8;
        header.flags = (*stream).flags;
    }
    count(Counter::Seen, total);
    Copy { header, stream, left: total - skip, skip }
}

/// Copies one piece; `len` is at most [`MAX_CHUNK`]. Not inlined: one body for the verifier to follow.
#[inline(never)]
pub fn piece(copy: &mut Copy, from: u64, len: u64) -> u64 {
    let at = (copy.header.dir & 1) as usize;
    // SAFETY: a live map value, and the index is masked.
    unsafe {
        let stream = copy.stream;
        copy.header.offset = (*stream).offsets[at];
        (*stream).offsets[at] = copy.header.offset.wrapping_add(len);
        copy.header.len = len as u32;
        copy.header.orig = len as u32;
        let bit = 1u8 << at;
        if (*stream).after_skip & bit != 0 {
            copy.header.flags |= flags::SKIPPED;
            (*stream).after_skip &= !bit;
        }
    }
    match ring::data(&copy.header, from) {
        Sent::Yes => count(Counter::Delivered, len),
        Sent::RingFull => count(Counter::LostRingFull, len),
        Sent::Unreadable => {
            count(Counter::LostUnreadable, len);
            copy.header.len = 0;
            copy.header.kind = Kind::Loss as u8;
            ring::bare(&copy.header, false);
            copy.header.kind = Kind::Data as u8;
        }
    }
    copy.header.flags &= !flags::SKIPPED;
    copy.left = copy.left.saturating_sub(len);
    0
}

/// Copies a contiguous buffer.
#[inline(always)]
pub fn flat(copy: &mut Copy, from: u64) {
    let mut done = 0u64;
    for _ in 0..MAX_CHUNKS {
        if copy.left == 0 {
            break;
        }
        let len = if copy.left < u64::from(MAX_CHUNK) { copy.left } else { u64::from(MAX_CHUNK) };
        piece(copy, from.wrapping_add(done), len);
        done = done.wrapping_add(len);
    }
    finish(copy, Counter::LostTooLarge);
}

/// Accounts for what was not copied: too much for one call (or unreadable, by `reason`), and skipped.
#[inline(always)]
pub fn finish(copy: &mut Copy, reason: Counter) {
    let at = (copy.header.dir & 1) as usize;
    // SAFETY: a live map value, and the index is masked.
    unsafe {
        let stream = copy.stream;
        if copy.left > 0 {
            copy.header.kind = Kind::Loss as u8;
            copy.header.offset = (*stream).offsets[at];
            copy.header.len = 0;
            copy.header.orig = copy.left as u32;
            (*stream).offsets[at] = copy.header.offset.wrapping_add(copy.left);
            count(reason, copy.left);
            ring::bare(&copy.header, false);
            copy.left = 0;
        }
        if copy.skip > 0 {
            (*stream).offsets[at] = (*stream).offsets[at].wrapping_add(copy.skip);
            (*stream).skipped[at] = (*stream).skipped[at].wrapping_add(copy.skip);
            (*stream).after_skip |= 1u8 << at;
            count(Counter::Skipped, copy.skip);
        }
    }
}
