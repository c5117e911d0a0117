//! What no tape has.

use std::io::Write as _;

use flate2::{
    Compression, Crc,
    write::{GzEncoder, ZlibEncoder},
};

use crate::{http2, replay, script, websocket};

/// What the first byte of an input of the target `coding` chooses from.
pub const CODINGS: [&str; 6] = ["gzip", "zstd", "br", "deflate", "gzip, zstd", "br, gzip"];

/// `data: first` and `data: second`, each with a blank line, flushed after the first.
const BR: &[u8] = b"\x0b\x06\x00\x00\x24\x15\x40\x74\x72\x10\x49\x26\x29\xe9\x14\x59\x3e\x86\x01\xd1\x00\x00\x40\x42\xa1\x08\x91\xa4\x1a\x0d\xbb";

/// Requests and responses of RFC 7541 §C.4 and §C.6, and one with a table size update.
const BLOCKS: [(u8, &[u8]); 7] = [
    (0, b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
    (1, b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3"),
    (0, b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf"),
    (1, b"\x48\x83\x64\x0e\xff\xc1\xc0\xbf"),
    (0, b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
    (1, b"\x88\xc1\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x84\xa6\x2d\x1b\xff"),
    (0, b"\x3f\xe1\x1f\x82\x86\x84\x10\x01a\x01b"),
];

/// A connection of HTTP/1, by direction: trailers, an interim response, an upgrade.
const HTTP1: [(u8, &[u8]); 5] = [
    (
        0,
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",
    ),
    (1, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (1, b"3\r\nabc\r\n0\r\n\r\n"),
    (0, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    (1, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"),
];

/// Codes and bytes.
type Steps = &'static [(u8, &'static [u8])];

/// Inputs that are pieces: odd codes have a gap before them.
const PIECES: [(&str, Steps); 8] = [
    (
        "multipart",
        &[
            (0, b"--b-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhis"),
            (0, b"per\r\n--b-1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nRIFF\r\n--b"),
            (0, b"-1--\r\n"),
        ],
    ),
    ("ndjson", &[(0, b"{\"a\":1}\r\n{\"b\""), (0, b":2}\n\n"), (1, b"3}\n{\"c\":4}")]),
    ("grpc", &[(0, b"\0\0\0\0\x05hel"), (0, b"lo\x01\0\0\0\0"), (0, b"\x80\0\0\0\x0egrpc-status: 0")]),
    ("grpc", &[(0, b"\0\0\0\0\x0ahel"), (1, b"\x03lo"), (1, b"")]),
    (
        "sse",
        &[
            (0, b"\xef\xbb\xbfevent: a\rdata: 1\r\n"),
            (0, b"\ndata: 2\nid: 7\nretry: 9\n:c\n\n"),
            (1, b"\n\ndata:x\n\n"),
        ],
    ),
    (
        "json",
        &[
            (0, br#"{"model":"\u00e9\ud83d\ude00","usage":{"prompt_to"#),
            (0, br#"kens":1.2e1},"choices":[{"index":0,"finish_reason":null}]}"#),
        ],
    ),
    ("json", &[(0, br#"[{"model":"a"},[{"x":-0.5}]]"#)]),
    ("json", &[(0, br#"{"messages":[{"x":"a\"#), (1, br#"","usage":{"prompt_tokens":7}}"#)]),
];

/// Conversations over WebSocket: messages in parts with a ping between them, compressed ones, a loss, a close of
/// both sides.
const CONVERSATION: Steps = &[
    (2, b"\x81{\"type\":\"session.update\"}"),
    (3, b"\x01{\"type\":"),
    (3, b"\x89?"),
    (2, b"\x8a?"),
    (3, b"\x80\"session.updated\"}"),
    (5, b"{\"type\":\"response.done\"}"),
    (5, b"{\"type\":\"response.done\"}"),
    (11, b"\x82bytes"),
    (12, b"{\"type\":\"input\"}"),
    (17, b"\x81\x05Hello"),
    (16, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f"),
    (22, b"?"),
    (16, b"\x51\x58"),
    (2, b"\x88\x03\xe8"),
    (3, b"\x88\x03\xe8"),
];

/// Inputs by target.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let settings = |settings: u8, script: Vec<u8>| [vec![settings], script].concat();
    let mut all: Vec<_> = PIECES.iter().map(|(target, pieces)| (*target, steps(pieces))).collect();
    let (first, second) = (event("a", b"{\"bytes\":\"e30=\"}"), event("b", b""));
    let (half, rest) = first.split_at(first.len() / 2);
    all.push(("eventstream", steps(&[(0, half), (0, rest), (0, &second)])));
    all.push(("eventstream", steps(&[(0, half), (1, rest), (1, &second)])));
    all.push(("hpack", steps(&BLOCKS)));
    all.push(("http2", settings(replay::OPENED | http2::PREFACE_FIRST, http2_call(http2_step))));
    all.push(("http2", settings(0, http2_call(http2_step))));
    for target in ["connection", "recut", "genai"] {
        all.push((target, settings(replay::OPENED | replay::SMALL, steps(&HTTP1))));
        let preface = [(0, http2::PREFACE)];
        let call = http2_call(|dir, kind, flags, payload| (dir, http2::frame(kind, flags, 1, payload)));
        all.push((target, settings(replay::OPENED, [steps(&preface), call.clone()].concat())));
        all.push((target, settings(0, call)));
        all.push((target, settings(replay::OPENED | replay::SMALL, [steps(&preface), tunnel()].concat())));
    }
    for deflate in [0, websocket::DEFLATE, websocket::DEFLATE_EACH] {
        all.push(("websocket", settings(deflate, steps(CONVERSATION))));
        // Without the loss.
        let whole: Vec<_> = CONVERSATION.iter().filter(|(code, _)| code >> 1 & 3 != 3).copied().collect();
        all.push(("websocket", settings(deflate, steps(&whole))));
    }
    for target in ["splitter", "redact"] {
        all.push((target, steps(&HTTP1)));
    }
    all.extend((0..CODINGS.len()).map(|coding| ("coding", coded(coding, b"data: first\n\n"))));
    all.push(("coding", [&[2], BR].concat()));
    all
}

/// An input for the target `coding`, with one of the codings that there is an encoder for.
pub(super) fn coded(choice: usize, body: &[u8]) -> Vec<u8> {
    const ENCODED: [u8; 4] = [0, 1, 3, 4];
    let choice = ENCODED[choice % ENCODED.len()];
    let codings = CODINGS[usize::from(choice)].split(", ");
    let body = codings.fold(body.to_vec(), |body, coding| encode(coding, &body));
    [vec![choice], body].concat()
}

fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    let in_memory = "writing to memory";
    match coding {
        "zstd" => zstd::encode_all(body, 3).expect(in_memory),
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).expect(in_memory);
            encoder.finish().expect(in_memory)
        }
        _ => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(body).expect(in_memory);
            encoder.finish().expect(in_memory)
        }
    }
}

/// An Amazon event stream message with an `:event-type` header.
fn event(kind: &str, payload: &[u8]) -> Vec<u8> {
    let sum = |bytes: &[u8]| {
        let mut sum = Crc::new();
        sum.update(bytes);
        sum.sum().to_be_bytes()
    };
    let headers = [&b"\x0b:event-type\x07\0"[..], &[kind.len() as u8], kind.as_bytes()].concat();
    let len = 16 + headers.len() + payload.len();
    let mut message = [(len as u32).to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    message.extend(sum(&message));
    message.extend([&headers[..], payload].concat());
    message.extend(sum(&message));
    message
}

/// A WebSocket on a stream of HTTP/2, whose client begins before it is answered.
fn tunnel() -> Vec<u8> {
    const ASK: &[u8] = b"\x02\x07CONNECT\0\x09:protocol\x09websocket\x04\x05/live";
    let text = |bytes: &[u8]| http2::frame(0, 0, 1, bytes);
    let calls = [
        (0, http2::frame(1, 4, 1, ASK)),
        (0, text(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")),
        (1, [http2::frame(1, 4, 1, b"\x88"), text(b"\x01\x03Hel")].concat()),
        (1, text(b"\x80\x02lo")),
        (1, text(b"\x88\0")),
        (0, http2::frame(0, 1, 1, b"")),
    ];
    steps(&calls.each_ref().map(|(code, bytes)| (*code, &bytes[..])))
}

fn steps(steps: &[(u8, &[u8])]) -> Vec<u8> {
    let mut input = Vec::new();
    for (code, bytes) in steps {
        script::write(&mut input, *code, bytes);
    }
    input
}

/// A step of the target `http2`.
fn http2_step(dir: u8, kind: u8, flags: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    (kind << 1 | dir, [&[flags, 1], payload].concat())
}

/// An LLM call over HTTP/2, each frame as `step` has it: direction, type, flags and payload in, code and bytes of a
/// step out.
fn http2_call(step: impl Fn(u8, u8, u8, &[u8]) -> (u8, Vec<u8>)) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        [&[0x40, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    let ask =
        [field(":method", "POST"), field(":path", "/v1/chat/completions"), field(":authority", "a")].concat();
    let tell = [field(":status", "200"), field("content-type", "text/event-stream")].concat();
    let event =
        b"data: {\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let usage = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":7,\"total_tokens\":19}}\n\n";
    let frames = [
        step(0, 1, 4, &ask),
        step(1, 4, 0, b""),
        step(0, 0, 1, br#"{"model":"m","stream":true,"messages":[]}"#),
        step(1, 1, 4, &tell),
        step(1, 0, 0, event),
        step(1, 8, 0, &[0, 0, 1, 0]),
        step(1, 0, 0, usage),
        step(1, 0, 0, b"data: [DONE]\n\n"),
        step(1, 1, 5, &field("grpc-status", "0")),
    ];
    steps(&frames.each_ref().map(|(code, bytes)| (*code, &bytes[..])))
}
