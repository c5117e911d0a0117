//! A stream costs no allocation per chunk: hours of it leave the heap alone.

#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use std::sync::Arc;

use counting::cost;
use tokentap_genai::{Calls, Options, Transport, Value, semconv};
use tokentap_wire::{Connection, Direction, Ending, Limits, Nanos};

#[test]
fn chunks_of_a_stream_are_read_without_allocating() {
    let openai = |n: usize| {
        format!(
            "data: {{\"id\":\"c1\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n}\"}},\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let anthropic = |n: usize| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{n}\"}}}}\n\n"
        )
    };
    for (path, event) in [
        ("/v1/chat/completions", &openai as &dyn Fn(usize) -> String),
        ("/anthropic/v1/messages", &anthropic),
    ] {
        // Each chunk in one frame, then cut in the middle.
        for size in [usize::MAX, 70] {
            let body: Vec<u8> = (0..2000).map(|n| chunk(&event(n))).collect::<String>().into_bytes();
            let head =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let request = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}");
            let mut connection = Connection::new(Limits::default());
            let mut calls = Calls::new(Arc::new(Options::default()), Transport::default());
            connection.data(Direction::Write, 0, request.as_bytes(), Nanos(1), &mut calls);
            connection.data(Direction::Read, 0, head, Nanos(1), &mut calls);
            let frames: Vec<&[u8]> = body.chunks(size.min(body.len() / 2000)).collect();
            let mut offset = head.len() as u64;
            let mut send = |frames: &[&[u8]]| {
                for frame in frames {
                    connection.data(Direction::Read, offset, frame, Nanos(1), &mut calls);
                    offset += frame.len() as u64;
                }
            };
            let (first, rest) = frames.split_at(frames.len() / 10);
            send(first);
            assert_eq!(cost(|| send(rest)), (0, 0, 0), "{path} in frames of {size}");
            assert_eq!(calls.traffic().llm, 1);
        }
    }
}

#[test]
fn a_large_image_in_a_request_costs_time_and_no_memory() {
    let image = "iVBORw0KGgo/+=".repeat((20 << 20) / 14);
    let body = format!(
        r#"{{"messages":[{{"content":[{{"image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}],"model":"m"}}"#
    );
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut connection = Connection::new(Limits::default());
    let mut calls = Calls::new(Arc::new(Options::default()), Transport::default());
    connection.data(Direction::Write, 0, head.as_bytes(), Nanos(1), &mut calls);
    let mut offset = head.len() as u64;
    let (allocations, _, _) = cost(|| {
        for frame in body.as_bytes().chunks(16 << 10) {
            connection.data(Direction::Write, offset, frame, Nanos(1), &mut calls);
            offset += frame.len() as u64;
        }
    });
    // The model's name, and nothing else that grows with the body.
    assert!(allocations <= 2);
    connection.close(Ending::Cut, Nanos(2), &mut calls);
    assert_eq!(calls.take().map(|span| span.name), Some("chat m".to_owned()));
}

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// What a call in the middle of its stream takes, its connection included: about 4 KiB.
const STREAMED_CALL: i64 = (4 << 10) + 512;

#[test]
fn ten_thousand_streamed_calls_at_once_keep_to_their_memory_and_give_it_back() {
    const CALLS: usize = 10_000;
    let event = chunk(
        "data: {\"id\":\"chatcmpl-0123456789\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n",
    );
    let usage = chunk(
        "data: {\"id\":\"chatcmpl-0123456789\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":10}}\n\n",
    );
    let done = chunk("data: [DONE]\n\n");
    let body = r#"{"model":"gpt-4o","stream":true,"temperature":0.5,"messages":[{"role":"user","content":"Hello"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let options = Arc::new(Options::default());
    let mut spans = 0;
    let (_, left, _) = cost(|| {
        let mut streams: Vec<_> = (0..CALLS)
            .map(|_| {
                let calls = Calls::new(Arc::clone(&options), Transport::default());
                (Connection::new(Limits::default()), calls, 0)
            })
            .collect();
        let itself = size_of_val(&streams[0]) as i64;
        let send = |text: &str, streams: &mut [(Connection, Calls, u64)]| {
            for (connection, calls, offset) in streams {
                connection.data(Direction::Read, *offset, text.as_bytes(), Nanos(2), calls);
                *offset += text.len() as u64;
            }
        };
        let (_, bytes, _) = cost(|| {
            for (connection, calls, _) in &mut streams {
                connection.data(Direction::Write, 0, request.as_bytes(), Nanos(1), calls);
            }
            for text in [head, &event, &event] {
                send(text, &mut streams);
            }
        });
        let each = bytes / CALLS as i64 + itself;
        assert!(each <= STREAMED_CALL, "{each} bytes a call");
        for _ in 0..10 {
            assert_eq!(cost(|| send(&event, &mut streams)), (0, 0, 0));
        }
        send(&usage, &mut streams);
        send(&done, &mut streams);
        for (_, calls, _) in &mut streams {
            let span = calls.take().expect("a call");
            spans += usize::from(span.get(semconv::USAGE_OUTPUT_TOKENS) == Some(&Value::Int(10)));
        }
    });
    assert_eq!((spans, left), (CALLS, 0));
}
