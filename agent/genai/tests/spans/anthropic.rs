//! Anthropic Messages.

use serde_json::{Value as Json, json};

use crate::exchange::{Exchange, check};

const HOST: &str = "api.anthropic.com";
const PATH: &str = "/v1/messages";

fn asked() -> Json {
    json!({"max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], "model": "claude-x"})
}

fn answered() -> Json {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1",
        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"usage": {"input_tokens": 999}, "model": "no", "stop_reason": "no"}}],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 5}})
}

/// Events named by their type.
fn stream(events: &[Json]) -> String {
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type")))
        .collect()
}

fn start(usage: Json) -> Json {
    json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "model": "claude-x-1", "content": [], "stop_reason": null, "usage": usage}})
}

fn text(text: &str) -> Json {
    json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
}

fn end(usage: Json) -> [Json; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ]
}

#[test]
fn everything_a_request_asks_for_is_on_the_span() {
    let request = json!({
        "max_tokens": 100, "messages": [{"role": "user", "content": [{"type": "tool_result", "content": {"model": "not this", "stream": true}}]}],
        "model": "claude-x", "temperature": 1, "top_p": 0.9, "top_k": 5, "stop_sequences": ["a", "b"], "stream": false,
        "output_config": {"effort": "medium", "format": {"type": "json_schema", "schema": {}}}, "service_tier": "auto",
        "system": [{"type": "text", "text": "secret"}], "tools": [{"input_schema": {"properties": {"model": {"type": "string"}}}}],
    });
    let span = Exchange::new(HOST, PATH, request, 200, answered()).span();
    assert_eq!(span.name, "chat claude-x");
    check(
        &span,
        &[
            "request",
            "output",
            "operation",
            "provider",
            "openai",
            "response",
            "usage",
            "error",
            "tokentap.time",
            "tokentap.inc",
        ],
        &[
            "operation.name=chat",
            "provider.name=anthropic",
            "request.model=claude-x",
            "request.max_tokens=100",
            "request.temperature=1.0",
            "request.top_p=0.9",
            "request.top_k=5",
            "request.stop_sequences=a,b",
            "request.reasoning.level=medium",
            "output.type=json",
            "response.id=msg_1",
            "response.model=claude-x-1",
            "response.finish_reasons=tool_use",
            "usage.input_tokens=10",
            "usage.output_tokens=5",
        ],
    );
}

#[test]
fn a_stream_ends_with_its_last_event() {
    let [delta, stop] = end(json!({"output_tokens": 7}));
    let events = [
        start(json!({"input_tokens": 10, "output_tokens": 1})),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        text("hello"),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "some_future_event", "usage": {"unknown": 1}}),
        delta,
        stop,
    ];
    let exchange = Exchange::new(HOST, "/v1/messages?beta=true", asked(), 200, "event: -");
    let mut capture = crate::exchange::Capture::new(tokentap_genai::Options::default());
    capture.request(&exchange.request_bytes());
    capture.response(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n");
    for event in &events {
        capture.response(stream(std::slice::from_ref(event)).as_bytes());
    }
    let spans = capture.taken();
    let [span] = spans.as_slice() else { panic!("the call is over with its last event: {spans:?}") };
    assert_eq!((span.start.0, span.end.0), (1_000_000, 10_000_000));
    check(
        span,
        &["request.stream", "response", "usage", "error", "tokentap"],
        &[
            "request.stream=true",
            "response.id=msg_1",
            "response.model=claude-x-1",
            "response.finish_reasons=end_turn",
            "response.time_to_first_chunk=0.002",
            "tokentap.time_to_first_token=0.005",
            "usage.input_tokens=10",
            "usage.output_tokens=7",
        ],
    );
}

#[test]
fn the_first_token_may_be_of_any_kind() {
    for (event, generated) in [
        (text("x"), true),
        (text(""), false),
        (json!({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "x"}}), true),
        (
            json!({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}),
            true,
        ),
        (
            json!({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}}),
            false,
        ),
        (
            json!({"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}}),
            true,
        ),
        (json!({"type": "ping"}), false),
    ] {
        let [delta, stop] = end(json!({"output_tokens": 7}));
        let events = stream(&[start(json!({"input_tokens": 1})), event, delta, stop]);
        let span = Exchange::new(HOST, PATH, asked(), 200, events).span();
        let expected = if generated { &["tokentap.time_to_first_token=0.001"][..] } else { &[] };
        check(&span, &["tokentap.time", "tokentap.inc"], expected);
    }
}

#[test]
fn usage_of_the_end_overrides_that_of_the_start_field_by_field() {
    for (at_start, at_end, expected) in [
        (
            json!({"input_tokens": 10, "output_tokens": 1}),
            json!({"output_tokens": 7}),
            vec!["input_tokens=10", "output_tokens=7"],
        ),
        (
            json!({"input_tokens": 4, "cache_creation_input_tokens": 1163, "cache_read_input_tokens": 20, "output_tokens": 1}),
            json!({"output_tokens": 7}),
            vec![
                "input_tokens=1187",
                "output_tokens=7",
                "cache_read.input_tokens=20",
                "cache_write.input_tokens=1163",
            ],
        ),
        (
            json!({"input_tokens": 4, "cache_read_input_tokens": 20, "output_tokens": 1}),
            json!({"input_tokens": 6, "cache_read_input_tokens": 0, "cache_creation_input_tokens": null, "output_tokens": 7}),
            vec!["input_tokens=6", "output_tokens=7", "cache_read.input_tokens=0"],
        ),
        (
            json!({"input_tokens": 4, "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2}}),
            json!({"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 5}}),
            vec![
                "input_tokens=9",
                "output_tokens=7",
                "cache_write.input_tokens=5",
                "reasoning.output_tokens=5",
            ],
        ),
        (
            json!({"input_tokens": 4, "output_tokens": 2}),
            json!(null),
            vec!["input_tokens=4", "output_tokens=2"],
        ),
        (json!(null), json!(null), vec![]),
    ] {
        let [delta, stop] = end(at_end);
        let span =
            Exchange::new(HOST, PATH, asked(), 200, stream(&[start(at_start), text("x"), delta, stop]))
                .span();
        let expected: Vec<String> = expected.iter().map(|line| format!("usage.{line}")).collect();
        check(&span, &["usage"], &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn a_plain_response_counts_cached_tokens_as_input() {
    let mut response = answered();
    response["usage"] = json!({"input_tokens": 4, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 7, "service_tier": "standard"});
    check(
        &Exchange::new(HOST, PATH, asked(), 200, response).span(),
        &["usage"],
        &[
            "usage.input_tokens=124",
            "usage.output_tokens=7",
            "usage.cache_read.input_tokens=20",
            "usage.cache_write.input_tokens=100",
        ],
    );
}

#[test]
fn errors_have_their_type() {
    let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"});
    for (status, response, name) in [
        (401, error("authentication_error").to_string(), "authentication_error"),
        (529, error("overloaded_error").to_string(), "overloaded_error"),
        (500, "oops".to_owned(), "500"),
    ] {
        let span = Exchange::new(HOST, PATH, asked(), status, response).span();
        check(&span, &["error", "tokentap.inc", "usage"], &[&format!("error.type={name}")]);
    }
    let broken = stream(&[
        start(json!({"input_tokens": 4, "output_tokens": 1})),
        text("x"),
        error("overloaded_error"),
    ]);
    check(
        &Exchange::new(HOST, PATH, asked(), 200, broken).span(),
        &["error", "usage", "response.finish", "tokentap.inc"],
        &["error.type=overloaded_error", "response.finish_reasons=error", "usage.input_tokens=4"],
    );
}

#[test]
fn who_serves_the_format_is_told_by_host() {
    for (host, target, provider) in [
        ("openrouter.ai", "/api/v1/messages", "openrouter"),
        ("api.deepseek.com", "/anthropic/v1/messages", "deepseek"),
        ("r.services.ai.azure.com", "/anthropic/v1/messages", "anthropic"),
        ("localhost:8000", PATH, "anthropic"),
    ] {
        let span = Exchange::new(host, target, asked(), 200, answered()).span();
        check(&span, &["provider", "openai"], &[&format!("provider.name={provider}")]);
    }
}
