//! What is measured of a call.

use std::time::Duration;

use tokentap_genai::{Measurements, Options, Propagator, Value};
use tokentap_wire::Ending;

use crate::exchange::{Capture, Exchange};

const CHUNK: &str = "data: {\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5-2\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

fn streamed(chunks: usize) -> Exchange {
    let usage = r#"data: {"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    let body = format!("{}{usage}\n\ndata: [DONE]\n\n", CHUNK.repeat(chunks));
    Exchange::new(
        "api.openai.com",
        "/v1/chat/completions",
        r#"{"model":"gpt-5","stream":true,"messages":[]}"#,
        200,
        body,
    )
}

/// Each event in a piece of its own: a millisecond each.
fn measured(exchange: &Exchange) -> Measurements {
    let mut capture = Capture::new(Options::default());
    capture.request(&exchange.request_bytes());
    let whole = exchange.response_bytes();
    let (head, mut rest) = whole.split_at(head_length(&whole));
    capture.response(head);
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |at| at + 2);
        capture.response(&rest[..end]);
        rest = &rest[end..];
    }
    capture.end(Ending::Cut).swap_remove(0).measurements
}

fn head_length(response: &[u8]) -> usize {
    response.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4
}

#[test]
fn a_stream_is_measured_chunk_by_chunk() {
    let measured = measured(&streamed(5));
    assert_eq!((&*measured.operation, &*measured.provider), ("chat", "openai"));
    assert_eq!((&*measured.request_model, &*measured.response_model), ("gpt-5", "gpt-5-2"));
    assert_eq!(measured.server, Some(("api.openai.com".into(), 443)));
    assert_eq!(measured.error, None);
    let http = measured.http.expect("an exchange of its own");
    assert_eq!((http.method, http.status, http.http2), ("POST", 200, false));
    let usage = measured.usage;
    assert_eq!((usage.input, usage.output, usage.cache_read), (Some(9), Some(3), Some(4)));
    let chunks: Vec<(u32, Duration)> = measured.chunks.expect("chunks").buckets().collect();
    let [(5, mean)] = chunks[..] else { panic!("after six chunks: {chunks:?}") };
    assert!(mean.abs_diff(Duration::from_millis(1)) < Duration::from_micros(10), "{mean:?}");
    assert!(measured.time_to_first_chunk.is_some() && measured.time_to_first_token.is_some());
    assert!(measured.duration > measured.time_to_first_chunk);
}

#[test]
fn what_is_not_streamed_has_no_chunks_and_what_stopped_with_the_agent_no_duration() {
    let answer =
        r#"{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let exchange = Exchange::new("h", "/v1/chat/completions", r#"{"model":"m","messages":[]}"#, 200, answer);
    let plain = measured(&exchange);
    assert_eq!((plain.chunks, plain.time_to_first_chunk, plain.streamed), (None, None, false));
    assert!(plain.duration.is_some());
    let mut capture = Capture::new(Options::default());
    let exchange = streamed(3);
    capture.request(&exchange.request_bytes());
    let response = exchange.response_bytes();
    capture.response(&response[..head_length(&response) + CHUNK.len() + 10]);
    let stopped = capture.end(Ending::AgentStop).swap_remove(0);
    assert_eq!(stopped.measurements.duration, None);
}

#[test]
fn a_failed_call_is_measured_with_its_error() {
    let answer = r#"{"error":{"message":"slow down","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let exchange = Exchange::new("h", "/v1/chat/completions", r#"{"model":"m","messages":[]}"#, 429, answer);
    let measured = measured(&exchange);
    assert_eq!(measured.error.as_deref(), Some("rate_limit_exceeded"));
    assert_eq!(measured.http.map(|http| http.status), Some(429));
    assert_eq!(measured.usage.input, None);
}

#[test]
fn a_root_is_forced_by_its_header_and_a_child_is_not() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let options = || Options { force_header: Some("x-force-trace".into()), ..Options::default() };
    let forced = |exchange: &Exchange, options: Options| {
        let mut capture = Capture::new(options);
        capture.whole(exchange, &[]);
        let span = capture.end(Ending::Cut).swap_remove(0);
        assert_eq!(span.get("sampling.forced").is_some(), span.forced);
        span.forced
    };
    let root = streamed(1).request_field("X-Force-Trace", "True");
    assert!(forced(&root, options()));
    assert!(!forced(&root, Options::default()), "nobody asked for it");
    assert!(!forced(&streamed(1), options()));
    assert!(!forced(&streamed(1).request_field("X-Force-Trace", "false"), options()));
    assert!(!forced(&root.request_field("traceparent", parent), options()));
}

#[test]
fn ids_of_responses_are_kept_and_other_headers_are_not() {
    let exchange = streamed(1)
        .response_field("X-Request-Id", "req_1")
        .response_field("x-trace-id", "0af7651916cd43dd8448eb211c80319c")
        .response_field("request-id", "no id: it has spaces")
        .response_field("set-cookie", "secret=1");
    let span = exchange.span();
    let list = |text: &str| Some(Value::StrList(vec![text.into()]));
    assert_eq!(span.get("http.response.header.x-request-id").cloned(), list("req_1"));
    assert_eq!(
        span.get("http.response.header.x-trace-id").cloned(),
        list("0af7651916cd43dd8448eb211c80319c")
    );
    let kept = span.attributes.iter().filter(|attribute| attribute.key.starts_with("http.response.header."));
    assert_eq!(kept.count(), 2);
}

#[test]
fn the_parent_may_be_in_another_format() {
    let exchange = streamed(1).request_field("b3", "463ac35c9f6413ad48485a3953bb6124-0020000000000001-0");
    let mut capture = Capture::new(Options {
        propagators: vec![Propagator::B3, Propagator::TraceContext],
        ..Options::default()
    });
    capture.whole(&exchange, &[]);
    let parent = capture.end(Ending::Cut).swap_remove(0).parent.expect("a parent");
    assert_eq!((parent.trace_id[0], parent.span_id[7], parent.flags), (0x46, 1, 0));
}
