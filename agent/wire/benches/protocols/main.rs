//! Speed of each protocol on one core, and what it allocates: `cargo xtask bench wire`.
//!
//! Bytes come as the kernel side hands them on: what one call of the observed process moved, in frames of at most
//! 16 KiB. They are in the processor's cache, as they are there when they were just copied off the ring. A response is
//! read in as few calls as it takes unless a row says "a chunk a call". Each round plays a whole connection, from its
//! first byte to its last. MB/s count what was captured (10⁶ bytes), those of a
//! compressed body what it became. Bodies that are not wanted are skipped without being looked at: their
//! figures say what the framing costs.

mod bodies;
#[path = "../harness/mod.rs"]
mod harness;
mod http1;
mod http2;
mod readers;
mod tape;
mod websocket;

use harness::{Load, Table, Target};
use http1::Kept;
use http2::Multiplexed;
use websocket::Sent;

/// What the largest write of a TLS library is.
const BULK_CHUNK: usize = 16 << 10;
const EVENTS: &str = "Content-Type: text/event-stream\r\n";

fn main() {
    let table = Table::new();
    bulk(&table);
    streams(&table);
    rpc(&table);
    websockets(&table);
    requests(&table);
    codings(&table);
    small(&table);
}

/// A load of exchanges that are all alike.
fn kept<R: tape::Reader + 'static>(
    (exchanges, chunks): (usize, usize),
    mut exchange: impl FnMut(&mut Kept),
    reader: impl Fn() -> R + 'static,
) -> Load {
    let mut kept = Kept::new(exchanges, chunks);
    (0..exchanges).for_each(|_| exchange(&mut kept));
    kept.0.load(reader)
}

fn multiplexed<R: tape::Reader + 'static>(
    (exchanges, chunks): (usize, usize),
    mut exchange: impl FnMut(&mut Multiplexed),
    reader: impl Fn() -> R + 'static,
) -> Load {
    let mut connection = Multiplexed::new(exchanges, chunks);
    (0..exchanges).for_each(|_| exchange(&mut connection));
    connection.tape.load(reader)
}

/// The bodies are not wanted.
fn bulk(table: &Table) {
    let (size, target) = ((2, 256), Target::Megabytes(1000));
    table.row("HTTP/1 length, body unwanted", target, size, |exchanges, chunks| {
        let body = bodies::bulk(chunks * BULK_CHUNK);
        kept((exchanges, chunks), |kept| kept.plain("", &body), || readers::Nothing)
    });
    table.row("HTTP/1 chunked, body unwanted", target, size, |exchanges, chunks| {
        let body = vec![bodies::bulk(BULK_CHUNK); chunks];
        kept((exchanges, chunks), |kept| kept.chunked("", &body, false), || readers::Nothing)
    });
    table.row("HTTP/2 DATA, body unwanted", target, size, |exchanges, chunks| {
        let body = vec![bodies::bulk(BULK_CHUNK); chunks];
        multiplexed((exchanges, chunks), |connection| connection.exchange(&body), || readers::Nothing)
    });
}

/// Streamed answers, of which the JSON fields that a chat completion is read for are taken.
fn streams(table: &Table) {
    let (size, target) = ((8, 300), Target::Megabytes(900));
    for (name, apart, target) in [
        ("HTTP/1 SSE, JSON fields", false, target),
        ("HTTP/1 SSE, JSON fields, a chunk a call", true, Target::Steady),
    ] {
        table.row(name, target, size, |exchanges, chunks| {
            let events = bodies::events(chunks);
            kept((exchanges, chunks), |kept| kept.chunked(EVENTS, &events, apart), readers::Events::new)
        });
    }
    table.row("HTTP/2 SSE, JSON fields", target, size, |exchanges, chunks| {
        let events = bodies::events(chunks);
        multiplexed((exchanges, chunks), |connection| connection.exchange(&events), readers::Events::new)
    });
    table.row("HTTP/1 NDJSON, JSON fields", Target::Steady, size, |exchanges, chunks| {
        let lines = bodies::lines(chunks);
        kept((exchanges, chunks), |kept| kept.chunked("", &lines, false), readers::Lines::new)
    });
    table.row("HTTP/1 event stream (AWS)", Target::Steady, size, |exchanges, chunks| {
        let frames = bodies::frames(chunks);
        kept((exchanges, chunks), |kept| kept.chunked("", &frames, false), readers::Frames::new)
    });
}

fn rpc(table: &Table) {
    let size = (8, 300);
    table.row("HTTP/2 gRPC", Target::Steady, size, |exchanges, chunks| {
        let messages = bodies::messages(chunks, false);
        let reader = || readers::Calls::new("identity");
        multiplexed((exchanges, chunks), |connection| connection.call(&messages), reader)
    });
    table.row("HTTP/2 gRPC, gzip", Target::Steady, size, |exchanges, chunks| {
        let messages = bodies::messages(chunks, true);
        let mut connection = Multiplexed::new(exchanges, chunks);
        (0..exchanges).for_each(|_| connection.call(&messages));
        connection.tape.measured = exchanges * bodies::message_bytes(chunks);
        connection.tape.load(|| readers::Calls::new("gzip"))
    });
    for (name, text) in [("HTTP/1 gRPC-Web", false), ("HTTP/1 gRPC-Web, base64", true)] {
        table.row(name, Target::Steady, size, |exchanges, chunks| {
            let messages = bodies::web_messages(chunks, text);
            // A body of its own for each exchange: nothing comes after its trailers.
            kept(
                (exchanges, chunks),
                |kept| kept.chunked("", &messages, false),
                move || readers::WebCalls::new(text),
            )
        });
    }
}

fn websockets(table: &Table) {
    for (name, sent) in [
        ("WebSocket", Sent::Plain),
        ("WebSocket, masked", Sent::Masked),
        ("WebSocket, permessage-deflate", Sent::Deflated),
    ] {
        table.row(name, Target::Steady, (1, 2000), |exchanges, chunks| {
            // An exchange for each connection: twice as many are no more than twice the rounds.
            let load = websocket::tape(chunks, sent).load(readers::Messages::default);
            let round = load.round;
            Load {
                bytes: load.bytes * exchanges,
                exchanges,
                chunks: load.chunks * exchanges,
                round: Box::new(move || (0..exchanges).for_each(|_| round())),
            }
        });
    }
}

/// Large requests.
fn requests(table: &Table) {
    table.row("HTTP/1 form with a file", Target::Steady, (1, 64), |exchanges, chunks| {
        let form = bodies::form(chunks * BULK_CHUNK);
        kept((exchanges, chunks), |kept| kept.upload(&form), readers::Form::new)
    });
    table.row("HTTP/1 JSON with a 20 MiB string", Target::Steady, (1, 1280), |exchanges, chunks| {
        let body = bodies::image(chunks * BULK_CHUNK);
        kept((exchanges, chunks), |kept| kept.upload(&body), readers::Document::new)
    });
}

/// Events as compressed bodies, of which every byte is undone and none is read.
fn codings(table: &Table) {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        table.row(&format!("HTTP/1 {coding}"), Target::Steady, (8, 300), |exchanges, chunks| {
            let events = bodies::events(chunks);
            let coded = bodies::coded(coding, &events);
            let mut kept = Kept::new(exchanges, chunks);
            (0..exchanges).for_each(|_| kept.plain(&format!("Content-Encoding: {coding}\r\n"), &coded));
            kept.0.measured = exchanges * events.concat().len();
            kept.0.load(readers::Bytes::default)
        });
    }
}

/// Nothing but heads, nearly.
fn small(table: &Table) {
    table.row("HTTP/1 small exchanges", Target::Steady, (1000, 1), |exchanges, _| {
        let mut kept = Kept::new(exchanges, 1);
        (0..exchanges).for_each(|number| kept.small(number));
        kept.0.load(readers::Heads::default)
    });
    table.row("HTTP/2 small exchanges, dynamic fields", Target::Steady, (1000, 1), |exchanges, _| {
        let body = [br#"{"status":"ok"}"#.to_vec()];
        multiplexed((exchanges, 1), |connection| connection.exchange(&body), readers::Heads::default)
    });
}
