//! Calls that were not seen whole, or did not end well.

use serde_json::{Value as Json, json};
use tokentap_genai::{Options, Span, SpanStatus};
use tokentap_wire::{
    Ending, ExchangeId, Headers, Nanos, Reason, RequestHead, ResponseHead, Role, Sink, Version,
};

use crate::exchange::{Capture, Exchange, check};

const PATH: &str = "/v1/chat/completions";
const SHOWN: [&str; 5] = ["error", "response.finish", "response.id", "usage", "tokentap.inc"];

fn asked() -> Json {
    json!({"messages": [{"role": "user", "content": "hi"}], "model": "m"})
}

fn chunk(content: &str, reason: Json) -> String {
    let chunk = json!({"id": "c1", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]});
    format!("data: {chunk}\n\n")
}

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";

/// A stream of which this was seen before it ended so.
fn streamed(seen: &str, ending: Ending) -> Span {
    let exchange = Exchange::new("h", PATH, asked(), 200, "data: -");
    let mut capture = Capture::new(Options::default());
    capture.request(&exchange.request_bytes());
    capture.response(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    capture.response(format!("{:x}\r\n{seen}\r\n", seen.len()).as_bytes());
    capture.end(ending).pop().expect("an incomplete call is still a call")
}

#[test]
fn a_call_that_did_not_end_says_why_and_fails_only_when_it_was_not_our_fault() {
    let seen = chunk("x", Json::Null);
    for (ending, reason, error) in [
        (Ending::Cut, "cut", Some("connection_closed")),
        (Ending::ClosedLocally, "cancelled", Some("cancelled")),
        (Ending::ProcessExit, "process_exit", Some("process_exit")),
        (
            Ending::Malformed(Reason::ChunkSizeInvalid),
            "malformed:invalid chunk size",
            Some("malformed_response"),
        ),
        (Ending::AgentStop, "agent_stop", None),
        (Ending::Stale, "stale", None),
        (Ending::Lost, "gap", None),
    ] {
        let span = streamed(&seen, ending);
        let error_line = error.map(|error| format!("error.type={error}"));
        let reason = format!("tokentap.incomplete.reason={reason}");
        let mut expected = vec!["response.id=c1", "tokentap.incomplete=true", &reason];
        if let Some(error) = &error_line {
            expected.extend([error.as_str(), "response.finish_reasons=error"]);
        }
        check(&span, &SHOWN, &expected);
        let leaked = span.get("gen_ai.span.leaked").is_some();
        assert_eq!(leaked, matches!(ending, Ending::AgentStop), "{ending:?}");
        assert_eq!(matches!(span.status, SpanStatus::Error(_)), error.is_some(), "{ending:?}");
        let incomplete = span.incomplete.expect("it is incomplete");
        assert_eq!(format!("tokentap.incomplete.reason={incomplete}"), reason);
        assert!(incomplete.to_string().starts_with(incomplete.name()), "{ending:?}");
    }
}

#[test]
fn a_stream_is_whole_with_its_terminal_event_however_the_connection_ends() {
    let seen = chunk("x", json!("stop")) + USAGE + "data: [DONE]\n\n";
    for ending in [Ending::Cut, Ending::ClosedLocally, Ending::ProcessExit, Ending::Stale] {
        let span = streamed(&seen, ending);
        check(
            &span,
            &SHOWN,
            &[
                "response.id=c1",
                "response.finish_reasons=stop",
                "usage.input_tokens=3",
                "usage.output_tokens=2",
            ],
        );
        assert_eq!((span.end.0, span.status, span.incomplete), (3_000_000, SpanStatus::Unset, None));
    }
}

#[test]
fn a_caller_that_leaves_with_the_whole_answer_did_not_fail() {
    let span = streamed(&chunk("x", json!("stop")), Ending::ClosedLocally);
    let expected = [
        "response.id=c1",
        "response.finish_reasons=stop",
        "tokentap.incomplete=true",
        "tokentap.incomplete.reason=cancelled",
    ];
    check(&span, &SHOWN, &expected);
}

#[test]
fn a_stream_that_ends_in_good_order_without_a_reason_was_cut() {
    let cut = [
        "error.type=connection_closed",
        "response.finish_reasons=error",
        "tokentap.incomplete=true",
        "tokentap.incomplete.reason=cut",
    ];
    for (response, expected) in [
        (chunk("x", Json::Null), &[&["response.id=c1"], &cut[..]].concat()[..]),
        (chunk("x", json!("stop")), &["response.id=c1", "response.finish_reasons=stop"]),
        (chunk("x", Json::Null) + "data: [DONE]\n\n", &["response.id=c1"]),
    ] {
        check(&Exchange::new("h", PATH, asked(), 200, response).span(), &SHOWN, expected);
    }
}

#[test]
fn a_call_without_any_response_is_told() {
    let exchange = Exchange::new("h", PATH, asked(), 200, "");
    let mut capture = Capture::new(Options::default());
    capture.request(&exchange.request_bytes());
    let spans = capture.end(Ending::Cut);
    let expected =
        ["error.type=connection_closed", "tokentap.incomplete=true", "tokentap.incomplete.reason=cut"];
    check(&spans[0], &[&SHOWN[..], &["http", "response"]].concat(), &expected);
    assert_eq!(spans[0].name, "chat m");
}

/// A response of which `lost` is missing.
fn gapped(response: &str, lost: &str, request_lost: bool) -> Span {
    let exchange = Exchange::new("h", PATH, asked(), 200, response);
    let (before, after) = response.split_once(lost).expect("it is in there");
    let mut capture = Capture::new(Options::default());
    let request = exchange.request_bytes();
    if request_lost {
        capture.request(&request[..request.len() - 4]);
        capture.lose_request(4);
    } else {
        capture.request(&request);
    }
    let kind = &exchange.response_fields[0].1;
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", response.len());
    capture.response((head + before).as_bytes());
    if !lost.is_empty() {
        capture.lose_response(lost.len());
    }
    capture.response(after.as_bytes());
    capture.taken().pop().expect("it ended by its length")
}

#[test]
fn lost_bytes_make_a_call_incomplete_and_never_wrong() {
    let stream = chunk("one", Json::Null) + &chunk("two", json!("stop")) + USAGE + "data: [DONE]\n\n";
    let plain = r#"{"id":"c1","choices":[{"index":0,"message":{"content":"x \"usage\":{\"prompt_tokens\":99} y"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let gap = ["tokentap.incomplete=true", "tokentap.incomplete.reason=gap"];
    let (id, stop) = ("response.id=c1", "response.finish_reasons=stop");
    let usage = ["usage.input_tokens=3", "usage.output_tokens=2"];
    for (response, lost, expected) in [
        (stream.as_str(), "one", [&[id, stop][..], &usage, &gap].concat()),
        // The lost chunk may have said why the choice ended: nothing is made up.
        (&stream, "two", [&[id][..], &usage, &gap].concat()),
        (&stream, "prompt_tokens", [&[id, stop][..], &gap].concat()),
        (plain, "x \\\"us", [&[id][..], &usage, &gap].concat()),
        (plain, "message\":{\"content", [&[id][..], &usage, &gap].concat()),
        (plain, "\"usage\":{\"prompt_tokens\":3", [&[id, stop][..], &gap].concat()),
        (plain, "\"completion_tokens\":2", [&[id, stop][..], &gap].concat()),
    ] {
        let span = gapped(response, lost, false);
        check(&span, &SHOWN, &expected);
        assert_eq!(span.status, SpanStatus::Unset);
    }
    check(&gapped(plain, "", true), &SHOWN, &[&[id, stop][..], &usage, &gap].concat());
}

#[test]
fn a_body_that_cannot_be_decoded_or_is_no_json_is_said_to_be_so() {
    let exchange =
        Exchange::new("h", PATH, asked(), 200, "not gzip").response_field("Content-Encoding", "gzip");
    let span = exchange.span();
    let reason = tokentap_genai::semconv::INCOMPLETE_REASON;
    let Some(tokentap_genai::Value::Str(why)) = span.get(reason) else { panic!("a reason: {span:?}") };
    assert!(why.starts_with("undecodable:"), "{why}");
    assert_eq!(span.status, SpanStatus::Unset);

    let deep = format!("{{\"id\":\"c1\",\"choices\":{}", "[".repeat(5000));
    for (body, why) in [
        ("<html>Sign in</html>", "invalid JSON"),
        ("{\"id\":\"c1\",\"choices\":[{", "JSON without its end"),
        (&deep, "JSON nested over the limit"),
    ] {
        let mut exchange = Exchange::new("h", PATH, asked(), 200, body);
        exchange.response_fields = vec![("Content-Type".into(), "application/json".into())];
        check(
            &exchange.span(),
            &["error", "tokentap.inc"],
            &["tokentap.incomplete=true", &format!("tokentap.incomplete.reason=malformed:{why}")],
        );
    }
}

#[test]
fn a_call_whose_head_was_not_resolved_is_recognised_by_its_bodies() {
    let fields = [];
    let unresolved = Headers::new(&fields, false);
    for (response, provider) in [
        (json!({"object": "chat.completion", "choices": [{"index": 0}]}), "openai"),
        (json!({"type": "message", "usage": {"input_tokens": 1}}), "anthropic"),
    ] {
        let (id, at) = (ExchangeId(0), Nanos(5));
        let mut calls = Capture::new(Options::default()).calls;
        let request = RequestHead {
            role: Role::Client,
            version: Version::Http2,
            method: b"",
            target: b"",
            authority: None,
            headers: unresolved,
        };
        calls.request(id, &request, at);
        calls.request_body(id, asked().to_string().as_bytes(), at);
        calls.response(id, &ResponseHead { version: Version::Http2, status: 0, headers: unresolved }, at);
        calls.response_body(id, response.to_string().as_bytes(), at);
        calls.end(id, Ending::Complete, at);
        let span = calls.take().expect("a call");
        assert_eq!(span.name, "chat m");
        let provider = format!("provider.name={provider}");
        check(
            &span,
            &["provider", "tokentap", "server", "http", "error"],
            &[
                &provider,
                "server.address=192.0.2.1",
                "server.port=8443",
                "tokentap.incomplete=true",
                "tokentap.incomplete.reason=late_join",
            ],
        );
    }
}
