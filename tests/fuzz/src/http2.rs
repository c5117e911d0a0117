//! HTTP/2 frames around fuzzed bytes.

use crate::script::ScriptStep;

/// Setting: the connection preface comes first.
pub const PREFACE_FIRST: u8 = 1 << 2;

/// What a client's first bytes are (RFC 9113 §3.4), with an empty SETTINGS frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// A frame (RFC 9113 §4.1).
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = (payload.len() as u32).to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The frame of a step: bits 1 to 4 of its code are the type, its first two bytes flags and stream. From type 10
/// on, its bytes as they are.
#[must_use]
pub fn frame_of(step: &ScriptStep) -> Vec<u8> {
    match (step.code >> 1 & 15, &step.bytes[..]) {
        (kind @ 0..10, &[flags, stream, ref payload @ ..]) => frame(kind, flags, stream.into(), payload),
        _ => step.bytes.clone(),
    }
}

/// A message without a body, its field block in one frame.
#[must_use]
pub fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// As [`headers`], with padding and priority, and the block cut into many frames.
#[must_use]
pub fn headers_in_pieces(stream: u32, block: &[u8]) -> Vec<u8> {
    let (first, rest) = block.split_at(block.len().min(1));
    let first = [&[3], &[0; 5][..], first, &[0; 3]].concat();
    let end = |is_last: bool| if is_last { END_HEADERS } else { 0 };
    let flags = END_STREAM | PADDED | PRIORITY | end(rest.is_empty());
    let mut frames = frame(HEADERS, flags, stream, &first);
    let pieces = rest.chunks(3);
    let last = pieces.len();
    for (n, piece) in pieces.enumerate() {
        frames.extend(frame(CONTINUATION, end(n + 1 == last), stream, piece));
    }
    frames
}
