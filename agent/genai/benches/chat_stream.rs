//! Speed of the parsers alone: captured bytes of a streamed chat completion in, span out, on one core.
//!
//! `cargo bench -p tokentap-genai` prints a table, `cargo bench -p tokentap-genai -- --json` one JSON object a
//! line. The body has 300 chunks in 44.8 kB, as chunked HTTP/1.1, and is fed in frames of 16 KiB and in frames
//! one chunk each. The baseline searches the same frames for line ends: what any parser has to do at least.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let wanted =
        |name: &str| arguments.iter().all(|argument| argument.starts_with('-') || name.contains(argument));
    let response = response();
    let whole: Vec<&[u8]> = response.concat().leak().chunks(FRAME).collect();
    let single: Vec<&[u8]> = response.iter().map(Vec::as_slice).collect();
    let body = events(&id()).concat();
    let body: Vec<&[u8]> = body.as_bytes().chunks(FRAME).collect();
    let cases: [(&str, &dyn Fn()); 5] = [
        ("genai alone", &|| read(&body)),
        ("16 KiB frames, search", &|| search(&whole)),
        ("16 KiB frames", &|| parse(&whole)),
        ("one chunk a frame, search", &|| search(&single)),
        ("one chunk a frame", &|| parse(&single)),
    ];
    if !json {
        println!("{:<26} {:>12} {:>9} {:>10}", "", "responses/s", "MB/s", "ns/chunk");
    }
    for (name, case) in cases.into_iter().filter(|(name, _)| wanted(name)) {
        report(json, name, measure(case));
    }
}

fn search(frames: &[&[u8]]) {
    for frame in frames {
        black_box(memchr::memchr_iter(b'\n', black_box(frame)).count());
    }
}

/// What `genai` takes of it: the body as the HTTP layer hands it over.
fn read(body: &[&[u8]]) {
    let mut calls = Calls::new(Arc::new(Options::default()), Transport { tls: true, peer: None });
    let (id, at) = (ExchangeId(0), Nanos(1));
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
    assert!(calls.finished(id));
    calls.end(id, Ending::Complete, at);
    check(&mut calls);
}

fn parse(frames: &[&[u8]]) {
    let transport = Transport { tls: true, peer: None };
    let (mut connection, mut calls) =
        (Connection::new(Limits::default()), Calls::new(Arc::new(Options::default()), transport));
    let mut at = 1;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: {}\r\n\r\n",
        ASKED.len()
    );
    connection.data(Direction::Write, 0, (head + ASKED).as_bytes(), Nanos(at), &mut calls);
    let mut offset = 0;
    for frame in frames {
        at += 1;
        connection.data(Direction::Read, offset, black_box(frame), Nanos(at), &mut calls);
        offset += frame.len() as u64;
    }
    connection.close(Ending::Cut, Nanos(at), &mut calls);
    check(&mut calls);
}

fn check(calls: &mut Calls) {
    let span = calls.take().expect("one call");
    assert_eq!(span.get(semconv::USAGE_OUTPUT_TOKENS), Some(&Value::Int(296)));
    assert!(span.get(semconv::INCOMPLETE).is_none() && calls.take().is_none());
}

/// Runs for about a second and gives the time of one run: the median of batches shorter than a time slice, as
/// the machine may be shared.
fn measure(run: &dyn Fn()) -> Duration {
    const BATCH: u32 = 4;
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end || times.len() < 3 {
        let start = Instant::now();
        (0..BATCH).for_each(|_| run());
        times.push(start.elapsed() / BATCH);
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn report(json: bool, name: &str, time: Duration) {
    let responses = 1.0 / time.as_secs_f64();
    let (megabytes, chunk) = (responses * BODY as f64 / 1e6, time.as_nanos() as f64 / CHUNKS as f64);
    if json {
        let line = serde_json::json!({"name": name, "responses_per_s": responses.round(), "mb_per_s": megabytes.round(), "ns_per_chunk": chunk.round()});
        println!("{line}");
    } else {
        println!("{name:<26} {responses:>12.0} {megabytes:>9.0} {chunk:>10.1}");
    }
}

/// Head and chunks, each as the server would write it.
fn response() -> Vec<Vec<u8>> {
    let mut pieces = vec![
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
    ];
    pieces.extend(events(&id()).iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()));
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

/// As long as it takes for the body to have its size.
fn id() -> String {
    let plain: usize = events("").iter().map(String::len).sum();
    "x".repeat((BODY - plain) / (CHUNKS - 1))
}

fn events(id: &str) -> Vec<String> {
    let event = |rest: String| {
        format!(
            "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":1718345013,\"model\":\"gpt-4o\",{rest}}}\n\n"
        )
    };
    let choice = |delta: &str| event(format!("\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}]"));
    let mut events = vec![choice("\"role\":\"assistant\",\"content\":\"\"}}")];
    events.extend((0..CHUNKS - 4).map(|n| choice(&format!("\"content\":\" {n}\"}}}}"))));
    events.push(choice("},\"finish_reason\":\"stop\"}"));
    events.push(event(
        "\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":296,\"total_tokens\":305}"
            .into(),
    ));
    events.push("data: [DONE]\n\n".into());
    events
}
