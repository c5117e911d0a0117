//! What is the same for all APIs: which exchanges are calls, and what every span has.

use serde_json::{Value as Json, json};
use tokentap_genai::{Options, SpanKind, SpanStatus, Traffic};
use tokentap_wire::Ending;

use crate::exchange::{Capture, Exchange, check, lines};

fn asked() -> Json {
    json!({"messages": [{"role": "user", "content": "hi"}], "model": "m", "max_tokens": 5})
}

fn chat() -> Json {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "m-1", "choices": [{"index": 0, "finish_reason": "stop"}]})
}

fn message() -> Json {
    json!({"id": "msg_1", "type": "message", "model": "m-1", "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}})
}

#[test]
fn a_span_says_who_when_and_where() {
    let exchange = Exchange::new("127.0.0.1:8000", "/v1/chat/completions", asked(), 200, chat());
    let mut capture = Capture::new(Options::default());
    capture.whole(&exchange, &[0.3, 0.6]);
    let span = capture.taken().pop().expect("a span");
    assert_eq!(
        (span.kind, span.status.clone(), span.parent.clone()),
        (SpanKind::Client, SpanStatus::Unset, None)
    );
    assert_eq!((span.start.0, span.end.0), (1_000_000, 6_000_000));
    check(
        &span,
        &["server", "http", "error", "tokentap", "response.time", "request.stream"],
        &["server.address=127.0.0.1", "server.port=8000", "http.response.status_code=200"],
    );
    let mut keys: Vec<&str> = span.attributes.iter().map(|attribute| &*attribute.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), span.attributes.len());
}

#[test]
fn the_serving_side_gives_a_server_span() {
    let exchange = Exchange::new("127.0.0.1:8000", "/v1/chat/completions", asked(), 200, chat());
    let mut capture = Capture::server();
    capture.whole(&exchange, &[]);
    let span = capture.taken().pop().expect("a span");
    assert_eq!((span.kind, span.name.as_str()), (SpanKind::Server, "chat m"));
    check(&span, &["server"], &["server.address=127.0.0.1", "server.port=8000"]);
}

#[test]
fn the_parent_is_the_one_in_the_request() {
    let exchange = Exchange::new("h", "/v1/chat/completions", asked(), 200, chat())
        .request_field("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .request_field("tracestate", "a=1")
        .request_field("tracestate", "b=2");
    let parent = exchange.span().parent.expect("a parent");
    assert_eq!(
        (parent.trace_id[0], parent.span_id[1], parent.flags, parent.state.as_str()),
        (0x4b, 0xf0, 1, "a=1,b=2")
    );
}

#[test]
fn what_the_path_leaves_open_the_bodies_decide() {
    let other = json!({"ok": true});
    for (name, target, request, status, response, expected) in [
        ("messages to people", "/v1/messages", json!({"to": "+1", "type": "text"}), 200, other.clone(), None),
        ("an error of that", "/v1/messages", json!({"to": "+1"}), 400, json!({"error": "no"}), None),
        (
            "JSON-RPC",
            "/v1/messages",
            json!({"jsonrpc": "2.0", "method": "tools/list"}),
            200,
            other.clone(),
            None,
        ),
        ("by the request", "/v1/messages", asked(), 500, other.clone(), Some("anthropic")),
        ("by the response", "/v1/messages", json!({}), 200, message(), Some("anthropic")),
        ("by path", "/v1/chat/completions", json!({}), 400, other.clone(), Some("openai")),
        ("included, OpenAI", "/inner/x", asked(), 200, chat(), Some("openai")),
        ("included, Anthropic", "/inner/x", asked(), 200, message(), Some("anthropic")),
        ("included, neither", "/inner/x", json!({"a": 1}), 200, other, None),
    ] {
        let options = Options { include: vec!["/inner/*".parse().expect("valid")], ..Options::default() };
        let mut capture = Capture::new(options);
        capture.whole(&Exchange::new("h.example", target, request, status, response), &[0.5]);
        let provider =
            capture.taken().pop().map(|span| lines(&span).into_iter().find(|l| l.starts_with("provider")));
        assert_eq!(provider, expected.map(|p| Some(format!("provider.name={p}"))), "{name}");
    }
}

#[test]
fn a_redirect_answers_nothing() {
    assert_eq!(Exchange::new("h", "/v1/chat/completions", asked(), 307, "").spans(), []);
}

#[test]
fn calls_of_one_connection_come_one_by_one_and_are_counted() {
    let call = Exchange::new("h", "/v1/chat/completions", asked(), 200, chat());
    let other = Exchange::new("h", "/v1/files", asked(), 200, json!({"data": []}));
    let unclear = Exchange::new("h", "/v1/messages", json!({"to": "+1"}), 200, json!({"ok": true}));
    let mut capture = Capture::new(Options::default());
    for (exchange, spans, llm, others_in_a_row) in [
        (&other, 0, 0, 1),
        (&call, 1, 1, 0),
        (&call, 1, 2, 0),
        (&other, 0, 2, 1),
        (&unclear, 0, 3, 1),
        (&other, 0, 3, 2),
    ] {
        capture.whole(exchange, &[]);
        assert_eq!(capture.taken().len(), spans);
        assert_eq!(capture.calls.traffic(), Traffic { llm, others_in_a_row });
    }
    assert_eq!(capture.end(Ending::Cut), []);
}

#[test]
fn what_the_connection_passed_over_is_told_by_reason() {
    let mut capture = Capture::new(Options::default());
    capture.request(b"\x00\x01 not HTTP");
    assert!(matches!(capture.calls.take_dropped(), Some((_, 11))));
    assert_eq!(capture.calls.take_dropped(), None);
}

#[test]
fn what_was_said_is_not_on_a_span() {
    let secret = "SECRET";
    let request = json!({
        "messages": [{"role": "system", "content": secret}, {"role": "user", "content": [{"type": "text", "text": secret}], "name": secret}],
        "model": "m", "system": secret, "tools": [{"name": secret, "function": {"name": secret, "arguments": secret}}],
        "user": secret, "metadata": {"a": secret}, "prompt_cache_key": secret, "max_tokens": 5,
    });
    let choice = json!({"index": 0, "finish_reason": "stop", "message": {"content": secret, "reasoning": secret},
        "delta": {"content": secret, "tool_calls": [{"function": {"name": "f", "arguments": secret}}]}});
    let chat = json!({"object": "chat.completion.chunk", "choices": [choice]});
    let content =
        json!([{"type": "text", "text": secret}, {"type": "tool_use", "name": "f", "input": {"a": secret}}]);
    let message = json!({"type": "message", "content": content, "stop_sequence": secret});
    let error =
        json!({"type": "error", "error": {"type": "t", "code": "c", "message": secret, "param": secret}});
    for (target, status, response) in [
        ("/v1/chat/completions", 200, chat.to_string()),
        ("/v1/chat/completions", 200, format!("data: {chat}\n\ndata: {error}\n\n")),
        ("/v1/chat/completions", 400, error.to_string()),
        ("/v1/messages", 200, message.to_string()),
        ("/v1/messages", 200, format!("data: {message}\n\ndata: {error}\n\n")),
    ] {
        let exchange =
            Exchange::new("user:SECRET@h", &format!("{target}?key=SECRET"), &request, status, response)
                .request_field("Authorization", "Bearer SECRET");
        let shown = format!("{:?}", exchange.span());
        assert!(!shown.contains(secret), "{shown}");
    }
}
