//! Speed of the parsers together: captured bytes of a streamed chat completion in, span out, on one core.
//!
//! `cargo xtask bench parser` prints a table, with `--json` one JSON object a line. The body has 300 chunks in
//! 44.8 kB, as chunked HTTP/1.1, and is fed in frames of 16 KiB, as large as the kernel side makes them, and in
//! frames one chunk each. The baseline searches the same frames for line ends: what any parser has to do at least.

#[path = "../../wire/benches/harness/mod.rs"]
mod harness;

use std::{hint::black_box, sync::Arc};

use harness::{Load, Table, Target};
use tokentap_genai::{Calls, Options, Transport, Value, semconv};
use tokentap_wire::{
    Connection, Direction, Ending, ExchangeId, Headers, Limits, Nanos, RequestHead, ResponseHead, Role, Sink,
    Version,
};

const CHUNKS: usize = 300;
const BODY: usize = 44_800;
const FRAME: usize = 16 << 10;

const ASKED: &str = r#"{"messages":[{"role":"user","content":"Count to three hundred, please."}],"model":"gpt-4o","stream":true}"#;

fn main() {
    let table = Table::new();
    let whole = |response: Vec<Vec<u8>>| response.concat().chunks(FRAME).map(<[u8]>::to_vec).collect();
    let body = |chunks| events(&id(), chunks).concat().as_bytes().chunks(FRAME).map(<[u8]>::to_vec).collect();
    // 20,000 responses.
    let target = Target::Megabytes(900);
    row(&table, "genai alone", Target::Steady, body, read);
    row(&table, "16 KiB frames, search", Target::Steady, |chunks| whole(response(chunks)), search);
    row(&table, "16 KiB frames", target, |chunks| whole(response(chunks)), parse);
    row(&table, "one chunk a frame, search", Target::Steady, response, search);
    row(&table, "one chunk a frame", Target::Steady, response, parse);
}

/// Each exchange goes through the frames of a response of this many chunks.
fn row(
    table: &Table,
    name: &str,
    target: Target,
    frames: impl Fn(usize) -> Vec<Vec<u8>>,
    run: fn(usize, usize, &[Vec<u8>]),
) {
    table.row(name, target, (4, CHUNKS), |exchanges, chunks| {
        let frames = frames(chunks);
        let bytes = exchanges * events(&id(), chunks).concat().len();
        let round = Box::new(move || run(exchanges, chunks, &frames));
        Load { bytes, exchanges, chunks: exchanges * chunks, round }
    });
}

fn search(exchanges: usize, _: usize, frames: &[Vec<u8>]) {
    for _ in 0..exchanges {
        for frame in frames {
            black_box(memchr::memchr_iter(b'\n', black_box(frame)).count());
        }
    }
}

/// What `genai` takes of it: the body as the HTTP layer hands it over.
fn read(exchanges: usize, chunks: usize, body: &[Vec<u8>]) {
    let mut calls = Calls::new(Arc::new(Options::default()), Transport { tls: true, peer: None });
    for number in 0..exchanges {
        let (id, at) = (ExchangeId(number as u64), Nanos(1));
        let fields = [(&b"host"[..], &b"api.openai.com"[..]), (b"content-type", b"text/event-stream")];
        let headers = Headers::new(&fields, true);
        let request = RequestHead {
            role: Role::Client,
            version: Version::Http11,
            method: b"POST",
            target: b"/v1/chat/completions",
            authority: headers.get("host"),
            headers,
        };
        calls.request(id, &request, at);
        calls.request_body(id, ASKED.as_bytes(), at);
        calls.response(id, &ResponseHead { version: Version::Http11, status: 200, headers }, at);
        for piece in body {
            calls.response_body(id, black_box(piece), at);
        }
        assert!(calls.is_response_complete(id));
        calls.end(id, Ending::Complete, at);
        check(&mut calls, chunks);
    }
}

/// On one connection that is kept.
fn parse(exchanges: usize, chunks: usize, frames: &[Vec<u8>]) {
    let transport = Transport { tls: true, peer: None };
    let (mut connection, mut calls) =
        (Connection::new(Limits::default()), Calls::new(Arc::new(Options::default()), transport));
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length:";
    let request = format!("{head} {}\r\n\r\n{ASKED}", ASKED.len());
    let (mut at, mut offsets) = (0, [0; 2]);
    let mut data = |dir: Direction, bytes: &[u8], calls: &mut Calls| {
        at += 1;
        let offset = &mut offsets[dir.index()];
        connection.data(dir, *offset, black_box(bytes), Nanos(at), calls);
        *offset += bytes.len() as u64;
    };
    for _ in 0..exchanges {
        data(Direction::Write, request.as_bytes(), &mut calls);
        for frame in frames {
            data(Direction::Read, frame, &mut calls);
        }
        check(&mut calls, chunks);
    }
}

fn check(calls: &mut Calls, chunks: usize) {
    let span = calls.take().expect("one call");
    assert_eq!(span.get(semconv::USAGE_OUTPUT_TOKENS), Some(&Value::Int(chunks as i64 - 4)));
    assert!(span.get(semconv::INCOMPLETE).is_none() && calls.take().is_none());
}

/// Head and chunks, each as the server would write it.
fn response(chunks: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
    ];
    pieces.extend(
        events(&id(), chunks).iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()),
    );
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

/// As long as it takes for the body to have its size.
fn id() -> String {
    let plain: usize = events("", CHUNKS).iter().map(String::len).sum();
    "x".repeat((BODY - plain) / (CHUNKS - 1))
}

fn events(id: &str, chunks: usize) -> Vec<String> {
    let event = |rest: String| {
        format!(
            "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":1718345013,\"model\":\"gpt-4o\",{rest}}}\n\n"
        )
    };
    let choice = |delta: &str| event(format!("\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}]"));
    let mut events = vec![choice("\"role\":\"assistant\",\"content\":\"\"}}")];
    events.extend((0..chunks - 4).map(|n| choice(&format!("\"content\":\" {n}\"}}}}"))));
    events.push(choice("},\"finish_reason\":\"stop\"}"));
    events.push(event(format!(
        "\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{},\"total_tokens\":{}}}",
        chunks - 4,
        chunks + 5
    )));
    events.push("data: [DONE]\n\n".into());
    events
}
