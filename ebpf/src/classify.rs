//! What a socket carries, by the first bytes of a call.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tokentap_abi::Class;

use crate::target::at_most;

/// A short piece that could still become an HTTP/1 request counts as HTTP: some clients send the first bytes
/// of a request alone. `late`: the connection may have been open before, and its preface have passed.
#[inline(always)]
pub fn classify(from: u64, len: u64, late: bool) -> Class {
    class_of(classify_first_bytes(from, len, u64::from(late)))
}

const fn class_of(number: u64) -> Class {
    match number as u8 {
        n if n == Class::Tls as u8 => Class::Tls,
        n if n == Class::Http as u8 => Class::Http,
        n if n == Class::Tunnel as u8 => Class::Tunnel,
        _ => Class::Unknown,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn classify_first_bytes(from: u64, len: u64, late: u64) -> u64 {
    classify_now(from, len, late != 0) as u64
}

#[inline(always)]
fn classify_now(from: u64, len: u64, late: bool) -> Class {
    let mut first = [0u8; FRAME_HEADER];
    let n = at_most::<{ FRAME_HEADER as u64 }>(len);
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
