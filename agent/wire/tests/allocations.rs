//! What a connection costs in memory: nothing per chunk, nothing that grows, and no more than is stated.

mod counting;

use std::io::Write;

use counting::cost;
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use tokentap_wire::{
    Connection, Direction, Ending, ExchangeId, Interest, Limits, MessagePart, Nanos, RequestHead,
    ResponseHead, Role, Sink, eventstream, grpc, multipart, sse,
};

/// Takes everything and keeps nothing, as a sink that reads events.
#[derive(Default)]
struct Reader {
    events: sse::Parser,
    data: usize,
    /// Whole messages of WebSockets, and their bytes.
    messages: (u64, usize),
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
    fn message(&mut self, _: ExchangeId, part: &MessagePart<'_>, _: Nanos) {
        self.messages.0 += u64::from(part.last);
        self.messages.1 += part.bytes.len();
    }
    fn gap(&mut self, _: ExchangeId, _: Role, _: Option<u64>) {}
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
        assert_eq!(cost(|| send(1000)), (0, 0, 0), "in pieces of {size}");
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
    let level = Compression::default();
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
        assert_eq!(cost(|| send(rest)), (0, 0, 0), "{coding}");
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
    assert_eq!(exchange(1000).0, (0, 0, 0));
    let (_, bytes, _) = cost(|| (0..100_000).for_each(|_| assert_eq!(exchange(0).0, (0, 0, 0))));
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
    assert_eq!(cost(|| exchanges(100_000)), (0, 0, 0));
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
            let (_, bytes, _) = cost(|| {
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
        assert_eq!(cost(|| send(1000)), (0, 0, 0), "in pieces of {size}");
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
        assert_eq!(cost(|| send(1000)), (0, 0, 0), "in pieces of {size}");
        assert!(files >= 1009);
    }
}

/// A frame of a WebSocket: a whole text message, masked or compressed or both.
fn text_frame(key: Option<[u8; 4]>, compressed: bool, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let first = if compressed { 0xc1 } else { 0x81 };
    match key {
        None => [&[first, length], payload].concat(),
        Some(key) => {
            let masked: Vec<u8> =
                payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            [&[first, 0x80 | length], &key[..], &masked].concat()
        }
    }
}

/// A connection of HTTP/1 that has become a WebSocket.
fn upgraded(extensions: &str) -> Stream {
    let mut stream = Stream::new();
    let switch = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    stream.call(Direction::Write, format!("GET / HTTP/1.1\r\n{switch}\r\n").as_bytes());
    let answer = format!("HTTP/1.1 101 \r\n{switch}Sec-WebSocket-Extensions: {extensions}\r\n\r\n");
    stream.call(Direction::Read, answer.as_bytes());
    stream
}

/// The heads that open a WebSocket on a stream (RFC 8441 §5).
fn open(stream: &mut Stream, number: u32, extensions: &str) {
    let field = |name: &str, value: &str| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    // The method and the status are names of the static table.
    let ask = [&b"\x02\x07CONNECT"[..], &field(":protocol", "websocket"), &field(":path", "/")].concat();
    let tell = [&[0x88][..], &field("sec-websocket-extensions", extensions)].concat();
    stream.call(Direction::Write, &frame(1, 4, number, &ask));
    stream.call(Direction::Read, &frame(1, 4, number, &tell));
}

/// A connection of HTTP/2 on which a stream has become a WebSocket.
fn tunneled(extensions: &str) -> Stream {
    let mut stream = Stream::new();
    stream.call(Direction::Write, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    open(&mut stream, 1, extensions);
    stream
}

/// Messages of a text, each compressed with reference to those before it (RFC 7692 §7.2.1).
fn compressed(text: &[u8], times: usize) -> Vec<Vec<u8>> {
    let mut coder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let message = |_| {
        coder.write_all(text).unwrap();
        coder.flush().unwrap();
        let bytes = std::mem::take(coder.get_mut());
        bytes.strip_suffix(b"\0\0\xff\xff").unwrap().to_vec()
    };
    (0..times).map(message).collect()
}

const TEXT: &[u8] = b"{\"type\":\"response.audio.delta\",\"delta\":\"UklGRg==\"}";

#[test]
fn a_message_of_a_websocket_costs_no_allocation_however_it_is_cut() {
    const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
    let times = 1000;
    for extensions in ["", "permessage-deflate", "permessage-deflate; client_no_context_takeover"] {
        let deflate = !extensions.is_empty();
        let payloads = match extensions {
            "" => vec![TEXT.to_vec(); times + 10],
            _ if extensions.contains("no_context") => vec![compressed(TEXT, 1).remove(0); times + 10],
            _ => compressed(TEXT, times + 10),
        };
        for (http2, size) in [(false, 99), (false, 1), (false, 7), (true, 99), (true, 1), (true, 7)] {
            // The client's messages are masked, the server's are not.
            for (dir, key) in [(Direction::Write, KEY), (Direction::Read, None)] {
                if key.is_none() && extensions.contains("no_context") {
                    continue;
                }
                let mut stream = if http2 { tunneled(extensions) } else { upgraded(extensions) };
                let frames: Vec<_> = payloads
                    .iter()
                    .map(|payload| text_frame(key, deflate, payload))
                    .map(|bytes| if http2 { frame(0, 0, 1, &bytes) } else { bytes })
                    .collect();
                let mut send = |frames: &[Vec<u8>]| {
                    for frame in frames {
                        frame.chunks(size).for_each(|piece| stream.call(dir, piece));
                    }
                };
                let (first, rest) = frames.split_at(10);
                send(first);
                let what = format!("{extensions:?} {dir:?}, HTTP/2: {http2}, in pieces of {size}");
                assert_eq!(cost(|| send(rest)), (0, 0, 0), "{what}");
                let all = frames.len();
                assert_eq!(stream.sink.messages, (all as u64, all * TEXT.len()), "{what}");
            }
        }
    }
}

#[test]
fn a_long_conversation_keeps_to_its_bound() {
    let ask = text_frame(Some([1, 2, 3, 4]), false, TEXT);
    let tell = compressed(TEXT, 100_000);
    for http2 in [false, true] {
        let (_, bytes, _) = cost(|| {
            let mut stream =
                if http2 { tunneled("permessage-deflate") } else { upgraded("permessage-deflate") };
            let (_, bytes, _) = cost(|| {
                for tell in &tell {
                    let tell = text_frame(None, true, tell);
                    if http2 {
                        stream.call(Direction::Write, &frame(0, 0, 1, &ask));
                        stream.call(Direction::Read, &frame(0, 0, 1, &tell));
                    } else {
                        stream.call(Direction::Write, &ask);
                        stream.call(Direction::Read, &tell);
                    }
                }
            });
            assert_eq!(stream.sink.messages, (200_000, 200_000 * TEXT.len()));
            // The decompression of one direction.
            assert!(bytes <= 64 << 10, "{bytes} bytes");
        });
        assert_eq!(bytes, 0);
    }
}

#[test]
fn a_connection_that_is_full_of_websockets_keeps_to_its_bound() {
    let limits = Limits::default();
    let streams = || (0..limits.streams as u32).map(|n| 2 * n + 1);
    // None is answered, and every client has much to say in small pieces.
    let mut stream = tunneled("");
    let ask = b"\x02\x07CONNECT\x00\x09:protocol\x09websocket";
    let (_, bytes, _) = cost(|| {
        streams().skip(1).for_each(|number| stream.call(Direction::Write, &frame(1, 4, number, ask)));
        for _ in 0..50 {
            streams().skip(1).for_each(|number| stream.call(Direction::Write, &frame(0, 0, number, b"x")));
        }
    });
    let each = 1000;
    // What vectors keep in reserve comes to as much again, or four places for each of many that have one.
    let bound = limits.streams * each + 8 * limits.held;
    assert!(bytes <= bound as i64, "{bytes} bytes");
    // All are open and compress.
    let mut stream = tunneled("permessage-deflate");
    let message = &compressed(TEXT, 1)[0];
    let (_, bytes, _) = cost(|| {
        streams().skip(1).for_each(|number| open(&mut stream, number, "permessage-deflate"));
        for number in streams() {
            stream
                .call(Direction::Write, &frame(0, 0, number, &text_frame(Some([1, 2, 3, 4]), true, message)));
            stream.call(Direction::Read, &frame(0, 0, number, &text_frame(None, true, message)));
        }
    });
    assert_eq!(stream.sink.messages.0, 2 * limits.inflating as u64);
    let bound = limits.streams * each + limits.inflating * (128 << 10);
    assert!(bytes <= bound as i64, "{bytes} bytes");
}

/// A message of gRPC, its bytes after their prefix.
fn grpc_message(flags: u8, bytes: &[u8]) -> Vec<u8> {
    [&[flags][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

#[test]
fn a_compressed_grpc_message_costs_no_allocation_however_it_is_cut() {
    let mut coder = GzEncoder::new(Vec::new(), Compression::fast());
    coder.write_all(TEXT).unwrap();
    let message = grpc_message(1, &coder.finish().unwrap());
    for size in [message.len(), 1, 7] {
        let mut parser = grpc::Parser::with_encoding(1024, b"gzip", &Limits::default()).unwrap();
        let mut whole = 0;
        let mut send = |times: usize| {
            for _ in 0..times {
                for piece in message.chunks(size) {
                    let fed = parser
                        .feed(piece, |message| whole += u32::from(message.whole && message.bytes == TEXT));
                    assert_eq!(fed, Ok(()));
                }
            }
        };
        send(10);
        assert_eq!(cost(|| send(1000)), (0, 0, 0), "in pieces of {size}");
        assert_eq!(whole, 1010);
    }
}

#[test]
fn a_grpc_web_message_costs_no_allocation_in_both_forms_however_it_is_cut() {
    for (text, message) in [(false, &b"\0\0\0\0\x05hello"[..]), (true, b"AAAAAAVoZWxsbw==")] {
        for size in [message.len(), 1, 7] {
            let mut parser = grpc::web::Parser::new(text, grpc::Parser::new(1024));
            let mut whole = 0;
            let mut send = |times: usize| {
                for _ in 0..times {
                    for piece in message.chunks(size) {
                        let fed = parser.feed(piece, |message| whole += u32::from(message.bytes == b"hello"));
                        assert_eq!(fed, Ok(()));
                    }
                }
            };
            send(10);
            assert_eq!(cost(|| send(1000)), (0, 0, 0), "text: {text}, in pieces of {size}");
            assert_eq!(whole, 1010);
        }
    }
}
