//! Tapes of HTTP/2.

use std::collections::VecDeque;

use tokentap_wire::Direction;

use crate::{bodies, tape::Tape};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a peer may send unless its settings say otherwise.
const MAX_FRAME: usize = 16 << 10;

/// A connection that is seen from its start.
pub(crate) struct Multiplexed {
    pub(crate) tape: Tape,
    requests: Fields,
    responses: Fields,
    stream: u32,
}

impl Multiplexed {
    pub(crate) fn new(exchanges: usize, chunks: usize) -> Self {
        let mut tape = Tape::new(exchanges, chunks);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        tape.call(Direction::Write, &[&preface[..], &frame(SETTINGS, 0, 0, b"")].concat());
        tape.call(Direction::Read, &frame(SETTINGS, 0, 0, b""));
        Self { tape, requests: Fields::default(), responses: Fields::default(), stream: 1 }
    }

    fn ask(&mut self) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        let id = bodies::id(stream as usize);
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/v1/chat/completions"),
            (":authority", "api.example.com"),
            ("accept", "*/*"),
            ("user-agent", "client/1.0"),
            ("content-type", "application/json"),
            ("x-request-id", id.as_str()),
        ];
        let block = self.requests.block(&fields);
        let head = frame(HEADERS, END_HEADERS, stream, &block);
        self.tape.call(Direction::Write, &[head, frame(DATA, END_STREAM, stream, b"{}")].concat());
        stream
    }

    fn answer(&mut self, stream: u32) -> Vec<u8> {
        let fields = [
            (":status", "200"),
            ("date", "Sat, 01 Jan 2000 00:00:00 GMT"),
            ("server", "example"),
            ("content-type", "application/json"),
            ("cache-control", "no-cache"),
        ];
        frame(HEADERS, END_HEADERS, stream, &self.responses.block(&fields))
    }

    /// An exchange whose response is sent in these chunks, a frame each.
    pub(crate) fn exchange(&mut self, chunks: &[Vec<u8>]) {
        let stream = self.ask();
        let mut bytes = self.answer(stream);
        for part in chunks.iter().flat_map(|chunk| chunk.chunks(MAX_FRAME)) {
            bytes.extend(frame(DATA, 0, stream, part));
        }
        bytes.extend(frame(DATA, END_STREAM, stream, b""));
        self.tape.call(Direction::Read, &bytes);
    }

    /// As [`Self::exchange`], with the trailers that gRPC ends with.
    pub(crate) fn call(&mut self, messages: &[Vec<u8>]) {
        let stream = self.ask();
        let mut bytes = self.answer(stream);
        for message in messages {
            bytes.extend(frame(DATA, 0, stream, message));
        }
        let trailers = self.responses.block(&[("grpc-status", "0")]);
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers));
        self.tape.call(Direction::Read, &bytes);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The encoder of one direction's fields (RFC 7541): all go into the dynamic table, and those that are there
/// are referred to.
#[derive(Default)]
struct Fields {
    table: VecDeque<(String, String)>,
    size: usize,
}

/// RFC 7541 §4.1: what a field takes besides its text.
const OVERHEAD: usize = 32;
const TABLE: usize = 4096;
const STATIC_FIELDS: usize = 61;

impl Fields {
    fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for &(name, value) in fields {
            if let Some(at) = self.table.iter().position(|(n, v)| (n.as_str(), v.as_str()) == (name, value)) {
                integer(&mut block, 0x80, 7, STATIC_FIELDS + 1 + at);
                continue;
            }
            block.push(0x40);
            integer(&mut block, 0, 7, name.len());
            block.extend(name.as_bytes());
            match huffman(value) {
                Some(coded) => {
                    integer(&mut block, 0x80, 7, coded.len());
                    block.extend(coded);
                }
                None => {
                    integer(&mut block, 0, 7, value.len());
                    block.extend(value.as_bytes());
                }
            }
            self.size += name.len() + value.len() + OVERHEAD;
            self.table.push_front((name.to_owned(), value.to_owned()));
            while self.size > TABLE
                && let Some((name, value)) = self.table.pop_back()
            {
                self.size -= name.len() + value.len() + OVERHEAD;
            }
        }
        block
    }
}

/// An integer with a prefix of this many bits (RFC 7541 §5.1).
fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        out.push(first | value as u8);
        return;
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A hexadecimal number in Huffman code (RFC 7541 appendix B); other text stays as it is.
fn huffman(text: &str) -> Option<Vec<u8>> {
    const DIGITS: [(u32, u32); 16] = [
        (0x00, 5),
        (0x01, 5),
        (0x02, 5),
        (0x19, 6),
        (0x1a, 6),
        (0x1b, 6),
        (0x1c, 6),
        (0x1d, 6),
        (0x1e, 6),
        (0x1f, 6),
        (0x03, 5),
        (0x23, 6),
        (0x04, 5),
        (0x24, 6),
        (0x05, 5),
        (0x25, 6),
    ];
    let mut out = Vec::new();
    let (mut word, mut have) = (0, 0);
    for digit in text.chars() {
        let (code, bits) = DIGITS[digit.to_digit(16)? as usize];
        word = word << bits | code;
        have += bits;
        while have >= 8 {
            have -= 8;
            out.push((word >> have) as u8);
        }
    }
    if have > 0 {
        // Filled up with ones (§5.2).
        out.push((word << (8 - have)) as u8 | 0xff >> have);
    }
    Some(out)
}
