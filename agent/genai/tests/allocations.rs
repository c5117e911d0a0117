//! A stream costs no allocation per chunk: hours of it leave the heap alone.

#[path = "../../wire/tests/counting/mod.rs"]
mod counting;

use std::sync::Arc;

use counting::cost;
use tokentap_genai::{Calls, Options, Transport};
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
            assert_eq!(cost(|| send(rest)), (0, 0), "{path} in frames of {size}");
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
    let (allocations, _) = cost(|| {
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
