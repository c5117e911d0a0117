//! What a connection costs in memory: nothing per chunk, nothing that grows, and no more than is stated.

mod counting;

use std::io::Write;

use counting::cost;
use flate2::write::{GzEncoder, ZlibEncoder};
use tokentap_wire::{
    Connection, Direction, Ending, ExchangeId, Interest, Limits, Nanos, RequestHead, ResponseHead, Sink,
    eventstream, multipart, sse,
};

/// Takes everything and keeps nothing, as a sink that reads events.
#[derive(Default)]
struct Reader {
    events: sse::Parser,
    data: usize,
    ended: u64,
}

impl Sink for Reader {
    fn request(&mut self, _: ExchangeId, _: &RequestHead<'_>, _: Nanos) -> Interest {
        Interest::Body
    }
    fn request_body(&mut self, _: ExchangeId, _: &[u8], _: Nanos) {}
    fn request_end(&mut self, _: ExchangeId, _: Nanos) {}
    fn response(&mut self, _: ExchangeId, _: &ResponseHead<'_>, _: Nanos) -> Interest {
        Interest::Body
    }
    fn response_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
        self.events.feed(bytes, |event| self.data += event.data.len());
    }
    fn gap(&mut self, _: ExchangeId, _: bool, _: Option<u64>) {}
    fn end(&mut self, _: ExchangeId, _: Ending, _: Nanos) {
        self.ended += 1;
    }
}

/// A connection and how far both its directions are.
struct Stream {
    connection: Connection,
    offsets: [u64; 2],
    sink: Reader,
}

impl Stream {
    fn new() -> Self {
        Self { connection: Connection::new(Limits::default()), offsets: [0; 2], sink: Reader::default() }
    }

    fn call(&mut self, dir: Direction, bytes: &[u8]) {
        let offset = &mut self.offsets[dir.index()];
        self.connection.data(dir, *offset, bytes, Nanos(1), &mut self.sink);
        *offset += bytes.len() as u64;
    }
}

const ASK: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: api\r\nContent-Length: 2\r\n\r\n{}";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNK: &[u8] = b"16\r\ndata: {\"delta\":\"hi\"}\n\n\r\n";

#[test]
fn a_streamed_chunk_costs_no_allocation_however_it_is_cut() {
    for size in [CHUNK.len(), 1, 7] {
        let mut stream = Stream::new();
        stream.call(Direction::Write, ASK);
        stream.call(Direction::Read, ANSWER);
        let mut send = |times: usize| {
            for _ in 0..times {
                CHUNK.chunks(size).for_each(|piece| stream.call(Direction::Read, piece));
            }
        };
        send(10);
        assert_eq!(cost(|| send(1000)), (0, 0), "in pieces of {size}");
        assert_eq!(stream.sink.data, 1010 * b"{\"delta\":\"hi\"}".len());
    }
}

/// A body in a content coding, in pieces that end where an event does.
fn coded<W: Write>(mut encoder: W, written: impl Fn(&W) -> &Vec<u8>) -> Vec<Vec<u8>> {
    let mut seen = 0;
    let piece = |number: usize| {
        let event = format!("data: {{\"delta\":\"{:x}\"}}\n\n", number * number);
        encoder.write_all(event.as_bytes()).and_then(|()| encoder.flush()).unwrap();
        let piece = written(&encoder)[seen..].to_vec();
        seen += piece.len();
        piece
    };
    (0..300).map(piece).collect()
}

#[test]
fn a_streamed_chunk_in_a_content_coding_costs_no_allocation() {
    let level = flate2::Compression::default();
    for (coding, pieces) in [
        ("gzip", coded(GzEncoder::new(Vec::new(), level), GzEncoder::get_ref)),
        ("deflate", coded(ZlibEncoder::new(Vec::new(), level), ZlibEncoder::get_ref)),
        ("br", coded(brotli::CompressorWriter::new(Vec::new(), 4096, 5, 18), |encoder| encoder.get_ref())),
        ("zstd", coded(zstd::Encoder::new(Vec::new(), 3).unwrap(), |encoder| encoder.get_ref())),
    ] {
        let mut stream = Stream::new();
        stream.call(Direction::Write, ASK);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n\r\n");
        stream.call(Direction::Read, head.as_bytes());
        let (first, rest) = pieces.split_at(pieces.len() / 10);
        let mut send = |pieces: &[Vec<u8>]| {
            pieces.iter().for_each(|piece| stream.call(Direction::Read, piece));
        };
        send(first);
        assert_eq!(cost(|| send(rest)), (0, 0), "{coding}");
        assert!(stream.sink.data > 300 * b"{\"delta\":\"\"}".len(), "{coding}");
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn an_http2_frame_costs_no_allocation_and_an_exchange_leaves_nothing_behind() {
    let mut stream = Stream::new();
    stream.call(Direction::Write, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut number = 1;
    let mut exchange = |chunks: usize| {
        // POST / and 200, from the static table.
        stream.call(Direction::Write, &frame(1, 5, number, &[0x83, 0x84]));
        stream.call(Direction::Read, &frame(1, 4, number, &[0x88]));
        let chunk = frame(0, 0, number, b"data: {\"delta\":\"hi\"}\n\n");
        let cost = cost(|| (0..chunks).for_each(|_| stream.call(Direction::Read, &chunk)));
        stream.call(Direction::Read, &frame(0, 1, number, b""));
        number += 2;
        (cost, stream.sink.ended)
    };
    exchange(10);
    assert_eq!(exchange(1000).0, (0, 0));
    let (_, bytes) = cost(|| (0..100_000).for_each(|_| assert_eq!(exchange(0).0, (0, 0))));
    assert_eq!((bytes, exchange(0).1), (0, 100_003));
}

#[test]
fn an_exchange_leaves_nothing_behind() {
    let mut stream = Stream::new();
    let mut exchanges = |times: usize| {
        for _ in 0..times {
            stream.call(Direction::Write, ASK);
            stream.call(Direction::Read, ANSWER);
            stream.call(Direction::Read, CHUNK);
            stream.call(Direction::Read, b"0\r\n\r\n");
        }
    };
    exchanges(10);
    let (allocations, bytes) = cost(|| exchanges(100_000));
    assert_eq!((allocations, bytes), (0, 0));
    assert_eq!(stream.sink.ended, 100_010);
}

#[test]
fn a_connection_keeps_to_its_bound_whatever_comes() {
    let head = vec![b'x'; 1000];
    let cases: [(&str, &[u8], &[u8]); 5] = [
        ("a head without end", b"GET /", &head),
        ("a field without end", b"GET / HTTP/1.1\r\nX: ", &head),
        ("requests without answers", b"", b"GET / HTTP/1.1\r\n\r\n"),
        ("a chunk size without end", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", &head),
        ("bytes before a switch", b"GET / HTTP/1.1\r\nConnection: upgrade\r\n\r\n", &head),
    ];
    for (what, first, then) in cases {
        for dir in Direction::ALL {
            let mut stream = Stream::new();
            let (_, bytes) = cost(|| {
                stream.call(dir, first);
                stream.call(dir.opposite(), b"HTTP/1.1 200 OK\r\nX: ");
                for _ in 0..5000 {
                    stream.call(dir, then);
                    stream.call(dir.opposite(), &head);
                }
            });
            // Two heads and two held runs, with what vectors keep in reserve.
            let limits = Limits::default();
            let bound = 4 * (limits.head + limits.held) as i64;
            assert!(bytes <= bound, "{what}: {bytes} bytes");
        }
    }
}

#[test]
fn an_event_stream_message_costs_no_allocation_however_it_is_cut() {
    // A header `a: b`, and `hi`.
    let message = b"\0\0\0\x18\0\0\0\x06\xdc\xd1\xa6\x1f\x01a\x07\0\x01bhi\x88\xe2\x1d\x9c";
    for size in [message.len(), 1, 7] {
        let mut parser = eventstream::Parser::new(1024);
        let mut whole = 0;
        let mut send = |times: usize| {
            for _ in 0..times {
                for piece in message.chunks(size) {
                    parser.feed(piece, |piece| whole += u32::from(piece == eventstream::Piece::End(Ok(()))));
                }
            }
        };
        send(10);
        assert_eq!(cost(|| send(1000)), (0, 0), "in pieces of {size}");
        assert_eq!(whole, 1010);
    }
}

#[test]
fn a_form_costs_no_allocation_and_its_file_no_memory_however_it_is_cut() {
    let part = b"--b\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\nRIFF\r\n--\0\r\n";
    for size in [part.len(), 1, 7, 64 << 10] {
        let file = part.repeat((size / part.len()).max(1));
        let mut parser = multipart::Parser::new(b"b", 1024);
        let mut files = 0;
        let mut send = |times: usize| {
            for _ in 0..times {
                for piece in file.chunks(size) {
                    parser.feed(piece, |piece| {
                        files += u32::from(piece == multipart::Piece::End { bytes: 9, whole: true });
                    });
                }
            }
        };
        send(10);
        assert_eq!(cost(|| send(1000)), (0, 0), "in pieces of {size}");
        assert!(files >= 1009);
    }
}
