//! Exchanges that hold many calls: WebSocket sessions that stay open for hours, and JSON-RPC.

use serde_json::{Value as Json, json};
use tokentap_genai::{Options, Span, SpanKind, Value, semconv};
use tokentap_wire::Ending;

use crate::{
    body,
    counting::cost,
    exchange::{Capture, Exchange, lines},
    recordings,
};

/// A session of OpenAI Realtime that is open.
fn session() -> Capture {
    let mut capture = Capture::new(Options::default());
    capture.request(
        b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    capture
        .response(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    capture
}

/// The frame of a message of the server.
fn message(json: &Json) -> Vec<u8> {
    body::web_socket(&format!("@websocket\n< {json}")).remove(0).1
}

fn created(id: &str) -> Vec<u8> {
    message(&json!({"type": "response.created", "response": {"id": id, "status": "in_progress"}}))
}

fn delta(id: &str) -> Vec<u8> {
    message(&json!({"type": "response.output_audio.delta", "response_id": id, "delta": "A".repeat(5000)}))
}

fn done(id: &str) -> Vec<u8> {
    let usage = json!({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7});
    message(
        &json!({"type": "response.done", "response": {"id": id, "status": "completed", "output": [], "usage": usage}}),
    )
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    match span.get(key)? {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

#[test]
fn a_session_gives_each_span_when_its_call_ends() {
    let mut capture = session();
    for n in 0..500 {
        let id = format!("resp_{n}");
        capture.response(&created(&id));
        capture.response(&delta(&id));
        assert_eq!(capture.taken().len(), 0);
        capture.response(&done(&id));
        let [span] = &capture.taken()[..] else { panic!("one span") };
        assert_eq!(text(span, semconv::RESPONSE_ID), Some(id.as_str()));
        assert_eq!(span.get(semconv::USAGE_OUTPUT_TOKENS), Some(&Value::Int(4)));
        // Pieces are one millisecond apart.
        assert_eq!(span.end.0 - span.start.0, 2_000_000);
        assert_eq!(span.incomplete, None);
    }
    assert_eq!(capture.end(Ending::Complete).len(), 0);
}

#[test]
fn what_ends_a_session_ends_its_open_call() {
    for (ending, reason, error) in [
        (Ending::Complete, "cut", Some("connection_closed")),
        (Ending::Cut, "cut", Some("connection_closed")),
        (Ending::ClosedLocally, "cancelled", Some("cancelled")),
        (Ending::ProcessExit, "process_exit", Some("process_exit")),
        (Ending::AgentStop, "agent_stop", None),
    ] {
        let mut capture = session();
        capture.response(&created("a"));
        let spans = capture.end(ending);
        let [span] = &spans[..] else { panic!("{ending:?}: {spans:?}") };
        assert_eq!(text(span, semconv::INCOMPLETE_REASON), Some(reason), "{ending:?}");
        assert_eq!(text(span, semconv::ERROR_TYPE), error, "{ending:?}");
    }
}

#[test]
fn a_call_whose_end_was_lost_did_not_fail_and_did_not_last_as_long_as_its_session() {
    let mut capture = session();
    capture.response(&created("a"));
    capture.lose_response(done("a").len());
    for n in 0..20 {
        let id = format!("later_{n}");
        capture.response(&created(&id));
        capture.response(&done(&id));
    }
    let mut spans = capture.taken();
    // The tail of a message may be read at which reading resumes: its id is not known, and nobody else's.
    assert!(spans.iter().all(|span| span.incomplete.is_none() || span.get(semconv::RESPONSE_ID).is_none()));
    spans.retain(|span| span.incomplete.is_none());
    // Some frames pass before the reader is sure where one begins.
    assert!(spans.len() >= 15, "{}", spans.len());
    let spans = capture.end(Ending::Cut);
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(text(span, semconv::RESPONSE_ID), Some("a"));
    assert_eq!(span.get(semconv::USAGE_OUTPUT_TOKENS), None);
    assert_eq!(text(span, semconv::INCOMPLETE_REASON), Some("gap"));
    assert_eq!(text(span, semconv::ERROR_TYPE), None);
    assert!(span.end.0 - span.start.0 <= 1_000_000, "{span:?}");
}

#[test]
fn calls_that_never_end_are_not_kept_forever() {
    let mut capture = session();
    for n in 0..1000 {
        capture.response(&created(&format!("resp_{n}")));
    }
    let early = capture.taken();
    assert!(early.len() > 900, "{}", early.len());
    assert!(early.iter().all(|span| text(span, semconv::INCOMPLETE_REASON) == Some("gap")));
    assert_eq!(early.len() + capture.end(Ending::Cut).len(), 1000);
}

#[test]
fn messages_of_a_session_are_read_without_allocating() {
    let mut capture = session();
    capture.response(&created("resp_1"));
    let audio = body::web_socket(&format!(
        "@websocket\n> {}",
        json!({"type": "input_audio_buffer.append", "audio": "B".repeat(3000)})
    ));
    let events = [
        delta("resp_1"),
        message(
            &json!({"type": "response.output_audio_transcript.delta", "response_id": "resp_1", "delta": "a"}),
        ),
        message(
            &json!({"type": "conversation.item.input_audio_transcription.delta", "item_id": "i", "delta": "a"}),
        ),
        message(&json!({"type": "input_audio_buffer.committed", "item_id": "item_of_usual_length"})),
        message(&json!({"type": "rate_limits.updated", "rate_limits": [{"name": "tokens", "limit": 1}]})),
    ];
    let mut turn = || {
        events.iter().for_each(|event| capture.response(event));
        audio.iter().for_each(|(side, bytes)| capture.piece(*side, bytes));
    };
    (0..20).for_each(|_| turn());
    assert_eq!(cost(|| (0..100).for_each(|_| turn())), (0, 0, 0));
}

fn rpc(request: &Json, response: &Json) -> Exchange {
    Exchange::new("tools.example", "/mcp", request, 200, response)
        .request_field("Accept", "application/json, text/event-stream")
}

#[test]
fn the_server_of_a_tool_runs_it() {
    for (method, kind) in [("tools/call", SpanKind::Internal), ("tools/list", SpanKind::Server)] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "f"}});
        let mut capture = Capture::server();
        capture.whole(&rpc(&request, &json!({"jsonrpc": "2.0", "id": 1, "result": {}})), &[]);
        let spans = capture.end(Ending::Cut);
        assert_eq!(spans.iter().map(|span| span.kind).collect::<Vec<_>>(), [kind], "{method}");
    }
}

#[test]
fn the_parent_of_a_message_is_the_one_that_it_names() {
    let parent = |meta: Json| {
        let params = json!({"name": "f", "_meta": meta});
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let exchange = rpc(&request, &json!({"jsonrpc": "2.0", "id": 1, "result": {}}))
            .request_field("traceparent", "00-11111111111111111111111111111111-2222222222222222-01");
        exchange.span().parent.expect("a parent")
    };
    let mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let found = parent(json!({"traceparent": mine, "tracestate": "a=1,b=2"}));
    assert_eq!((found.trace_id[0], found.span_id[0], found.state.as_str()), (0x0a, 0xb7, "a=1,b=2"));
    // A state that is none is dropped, and a parent that is none is that of the exchange.
    assert_eq!(parent(json!({"traceparent": mine, "tracestate": "no state\n"})).state, "");
    assert_eq!(parent(json!({"traceparent": "00-0-0-01"})).trace_id[0], 0x11);
}

#[test]
fn requests_of_a_batch_that_are_not_answered_say_so() {
    let calls = [1, 2].map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}));
    let spans = rpc(&json!(calls), &json!({"jsonrpc": "2.0", "id": 2, "result": {}})).spans();
    let of = |span: &Span| text(span, semconv::JSONRPC_REQUEST_ID).map(str::to_owned);
    let found: Vec<_> = spans.iter().map(|span| (of(span), span.incomplete.is_some())).collect();
    assert_eq!(found, [(Some("2".to_owned()), false), (Some("1".to_owned()), true)]);
}

#[test]
#[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
fn recorded_messages_are_read_as_a_whole_parser_reads_them() {
    let mut calls = 0;
    for (name, exchange) in recordings::load("mcp") {
        let request: Json = serde_json::from_slice(&exchange.request).unwrap_or_default();
        if request["jsonrpc"] != "2.0" {
            continue;
        }
        let spans = exchange.spans();
        let id = &request["id"];
        if id.is_null() {
            assert_eq!((exchange.status, spans.len()), (202, 0), "{name}: {}", request["method"]);
            continue;
        }
        let method = request["method"].as_str().expect("a method");
        let body = String::from_utf8_lossy(&exchange.response).into_owned();
        let documents = body.lines().filter_map(|line| {
            serde_json::from_str::<Json>(line.strip_prefix("data:").unwrap_or(line).trim()).ok()
        });
        let answer = documents.into_iter().find(|document| document["id"] == *id).expect("an answer");
        let field = |name: &str| {
            let known = exchange.request_fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            known.map(|(_, value)| value.clone())
        };
        let version = answer["result"]["protocolVersion"].as_str().map(str::to_owned);
        let tool = request["params"]["name"].as_str().filter(|_| method == "tools/call");
        let mut expected = vec![format!("jsonrpc.request.id={id}"), format!("mcp.method.name={method}")];
        let version = version.or_else(|| field("mcp-protocol-version")).expect("a version");
        expected.push(format!("mcp.protocol.version={version}"));
        expected.extend(["network.protocol.name=http".to_owned(), "network.protocol.version=1.1".to_owned()]);
        if let Some(tool) = tool {
            expected.extend(["operation.name=execute_tool".to_owned(), format!("tool.name={tool}")]);
        }
        let [span] = &spans[..] else { panic!("{name}: {spans:?}") };
        assert_eq!(span.name, tool.map_or_else(|| method.to_owned(), |tool| format!("{method} {tool}")));
        let mut found = lines(span);
        found.retain(|line| !line.starts_with("server.") && !line.starts_with("http."));
        assert_eq!(found, expected, "{name}");
        calls += 1;
    }
    assert!(calls > 3);
}
