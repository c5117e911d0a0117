//! Bytes that were lost on the way here: what is on a span is right nevertheless.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};
use tokentap_genai::{Options, Span};
use tokentap_wire::Ending;

use crate::exchange::{Capture, Exchange, check, lines};

const OPENAI: &str = "/v1/chat/completions";
const ANTHROPIC: &str = "/v1/messages";

/// As servers do where they know the length of what they send.
fn with_length(response: &str) -> Vec<u8> {
    let kind = if response.starts_with('{') { "application/json" } else { "text/event-stream" };
    let length = response.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{response}")
        .into_bytes()
}

/// Sends `request` and the response to it, each without the bytes in its range.
fn lossy(
    path: &str,
    request: &str,
    lost_request: std::ops::Range<usize>,
    response: &str,
    lost_response: std::ops::Range<usize>,
) -> Span {
    let mut capture = Capture::new(Options::default());
    let sent = Exchange::new("h", path, request, 200, response).request_bytes();
    let lost = lost_request.len();
    let start = sent.len() - request.len() + lost_request.start;
    sent[..start].chunks(16 << 10).for_each(|piece| capture.request(piece));
    capture.lose_request(lost);
    sent[start + lost..].chunks(16 << 10).for_each(|piece| capture.request(piece));

    let sent = with_length(response);
    let lost = lost_response.len();
    let start = sent.len() - response.len() + lost_response.start;
    sent[..start].chunks(16 << 10).for_each(|piece| capture.response(piece));
    capture.lose_response(lost);
    sent[start + lost..].chunks(16 << 10).for_each(|piece| capture.response(piece));
    let spans = capture.taken();
    let [span] = spans.as_slice() else { panic!("one call, over with its length: {spans:?}") };
    span.clone()
}

const SHOWN: [&str; 7] =
    ["request.m", "request.t", "response.finish", "response.id", "usage", "error", "tokentap.inc"];
const GAP: [&str; 2] = ["tokentap.incomplete=true", "tokentap.incomplete.reason=gap"];

fn openai(content: &str) -> String {
    // What a model writes may look like usage, in text and in JSON.
    let arguments = json!({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}).to_string();
    format!(
        r#"{{"id":"c1","object":"chat.completion","model":"m1","choices":[{{"index":0,"message":{{"content":{},"tool_calls":[{{"id":"t","function":{{"name":"f","arguments":{}}}}}],"annotations":[{{"usage":{{"prompt_tokens":3,"completion_tokens":4}}}}]}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":31,"completion_tokens":20017,"total_tokens":20048,"prompt_tokens_details":{{"cached_tokens":16}}}}}}"#,
        json!(content),
        json!(arguments),
    )
}

fn anthropic(content: &str) -> String {
    format!(
        r#"{{"model":"m1","id":"c1","type":"message","content":[{{"type":"text","text":{}}},{{"type":"tool_use","id":"t","name":"f","input":{{"id":"no","model":"no","stop_reason":"no","usage":{{"input_tokens":1,"cache_creation_input_tokens":2,"output_tokens":3}}}}}}],"stop_reason":"tool_use","usage":{{"input_tokens":5,"cache_read_input_tokens":26,"output_tokens":20017}}}}"#,
        json!(content),
    )
}

fn asked(content: &str) -> String {
    format!(
        r#"{{"messages":[{{"role":"user","content":{}}}],"model":"m","temperature":0.5}}"#,
        json!(content)
    )
}

#[test]
fn a_response_whose_middle_was_lost_still_has_its_usage() {
    let content = "He said: \"usage\": {\"prompt_tokens\": 9}, ".repeat(200_000 / 41);
    for (path, response, reason) in
        [(OPENAI, openai(&content), "stop"), (ANTHROPIC, anthropic(&content), "tool_use")]
    {
        let cached = if path == OPENAI { 16 } else { 26 };
        let usage = [
            "usage.input_tokens=31".to_owned(),
            "usage.output_tokens=20017".to_owned(),
            format!("usage.cache_read.input_tokens={cached}"),
        ];
        for lost in [100..101, 1000..2000, 50_000..150_000, 100..199_000, 60..100_000] {
            let span = lossy(path, &asked("hi"), 0..0, &response, lost.clone());
            let reason = format!("response.finish_reasons={reason}");
            let mut expected = vec!["request.model=m", "request.temperature=0.5", "response.id=c1"];
            expected.extend(usage.iter().map(String::as_str).chain(GAP));
            // That of OpenAI is inside what was cut open.
            if path == ANTHROPIC {
                expected.push(&reason);
            }
            check(&span, &SHOWN, &expected);
        }
    }
}

/// Sent in chunks, as most servers do: how long they are is in what was lost.
#[test]
fn chunks_after_a_loss_still_have_the_usage() {
    let document = openai(&"some words ".repeat(9000));
    let event = |text: &str| format!("data: {text}\n\n");
    let word = r#"{"id":"c1","object":"chat.completion.chunk","model":"m1","choices":[{"index":0,"delta":{"content":"w"}}]}"#;
    let last = r#"{"id":"c1","object":"chat.completion.chunk","model":"m1","choices":[],"usage":{"prompt_tokens":31,"completion_tokens":20017,"prompt_tokens_details":{"cached_tokens":16}}}"#;
    let words = (0..300).map(|_| event(word)).chain([event(last), event("[DONE]")]);
    let documents = document.as_bytes().chunks(1000).map(|piece| String::from_utf8_lossy(piece).into_owned());
    for (kind, pieces) in
        [("application/json", documents.collect::<Vec<_>>()), ("text/event-stream", words.collect())]
    {
        let mut chunks: Vec<String> =
            pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
        chunks.push("0\r\n\r\n".to_owned());
        for lost in [5..6, 5..50, 1..90] {
            let mut capture = Capture::new(Options::default());
            capture.request(&Exchange::new("h", OPENAI, asked("hi"), 200, "").request_bytes());
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
            capture.response(format!("{head}Content-Type: {kind}\r\n\r\n").as_bytes());
            for (at, chunk) in chunks.iter().enumerate() {
                match lost.contains(&at) {
                    true => capture.lose_response(chunk.len()),
                    false => capture.response(chunk.as_bytes()),
                }
            }
            let spans = capture.taken();
            let [span] = spans.as_slice() else { panic!("one call, over with its last chunk: {spans:?}") };
            let mut expected = vec!["request.model=m", "request.temperature=0.5", "response.id=c1"];
            expected.extend(["usage.input_tokens=31", "usage.output_tokens=20017"]);
            expected.push("usage.cache_read.input_tokens=16");
            expected.extend(GAP);
            check(span, &SHOWN, &expected);
        }
    }
}

#[test]
fn a_request_whose_middle_was_lost_still_has_its_model() {
    let image = "iVBORw0KGgo/+=".repeat(20_000);
    for lost in [20..21, 1000..200_000] {
        let span = lossy(OPENAI, &asked(&image), lost, &openai("x"), 0..0);
        assert_eq!(span.name, "chat m");
        let answered = [
            "request.model=m",
            "request.temperature=0.5",
            "response.id=c1",
            "response.finish_reasons=stop",
            "usage.input_tokens=31",
            "usage.output_tokens=20017",
            "usage.cache_read.input_tokens=16",
        ];
        check(&span, &SHOWN, &[&answered[..], &GAP].concat());
    }
}

fn events(events: &[Json], done: bool) -> String {
    let line = |event: &Json| {
        let kind = event["type"].as_str().map(|kind| format!("event: {kind}\n")).unwrap_or_default();
        format!("{kind}data: {event}\n\n")
    };
    let all: String = events.iter().map(line).collect();
    if done { all + "data: [DONE]\n\n" } else { all }
}

/// Responses of all shapes, short enough to be cut everywhere.
fn responses() -> Vec<(&'static str, String)> {
    let delta = |content: &str| json!({"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]});
    let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    vec![
        (OPENAI, openai("He said \"usage\": {\"prompt_tokens\": 9} \\")),
        (ANTHROPIC, anthropic("He said \"usage\": {\"input_tokens\": 9} \\")),
        (OPENAI, r#"{"choices":[{"index":0,"finish_reason":"stop"}],"timings":{"prompt_n":5,"predicted_n":7,"cache_n":100}}"#.into()),
        (
            OPENAI,
            events(
                &[
                    delta("data: {\"usage\":{\"prompt_tokens\":9}}\n\n"),
                    delta("b"),
                    json!({"id": "c1", "model": "m1", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
                    json!({"id": "c1", "model": "m1", "choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 47, "prompt_tokens_details": {"cached_tokens": 12}}}),
                ],
                true,
            ),
        ),
        (
            ANTHROPIC,
            events(
                &[
                    json!({"type": "message_start", "message": {"id": "c1", "type": "message", "model": "m1", "usage": {"input_tokens": 5, "cache_read_input_tokens": 26, "output_tokens": 1}}}),
                    text("x"),
                    text("y"),
                    json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 47}}),
                    json!({"type": "message_stop"}),
                ],
                false,
            ),
        ),
    ]
}

/// What a span says of the call, without times, without what it says of losses, and without the provider, for which
/// the name of the format stands where nothing tells.
fn facts(span: &Span) -> Vec<String> {
    let mut lines = lines(span);
    let of_losses =
        ["tokentap.", "error.", "response.time_to", "response.finish_reasons=error", "provider", "openai."];
    lines.retain(|line| !of_losses.iter().any(|prefix| line.starts_with(prefix)));
    lines
}

fn is_incomplete(span: &Span) -> bool {
    span.get(tokentap_genai::semconv::INCOMPLETE).is_some()
}

#[track_caller]
fn check_part(span: &Span, truth: &[String], what: &str) {
    let facts = facts(span);
    let wrong: Vec<&String> = facts.iter().filter(|line| !truth.contains(line)).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:?}, not {truth:?}");
    assert!(is_incomplete(span) || facts == truth, "{what}: not marked");
}

#[test]
fn a_response_cut_anywhere_says_nothing_wrong() {
    for (path, response) in responses() {
        let exchange = Exchange::new("h", path, asked("hi"), 200, &response);
        let truth = facts(&exchange.span());
        let sent = with_length(&response);
        for cut in sent.len() - response.len()..sent.len() {
            for ending in [Ending::Cut, Ending::ProcessExit, Ending::Stale] {
                let mut capture = Capture::new(Options::default());
                capture.request(&exchange.request_bytes());
                capture.response(&sent[..cut]);
                let mut spans = capture.taken();
                spans.extend(capture.end(ending));
                assert_eq!(spans.len(), 1);
                check_part(&spans[0], &truth, &format!("{path} cut at {cut}"));
            }
        }
    }
}

#[test]
fn a_response_with_a_loss_and_cut_anywhere_after_it_says_nothing_wrong() {
    for (path, response) in responses() {
        let exchange = Exchange::new("h", path, asked("hi"), 200, &response);
        let truth = facts(&exchange.span());
        let sent = with_length(&response);
        let body = sent.len() - response.len();
        for lost in (body + 2..sent.len() - 4).step_by(14) {
            for cut in lost + 4..sent.len() {
                let mut capture = Capture::new(Options::default());
                capture.request(&exchange.request_bytes());
                capture.response(&sent[..lost]);
                capture.lose_response(4);
                capture.response(&sent[lost + 4..cut]);
                let mut spans = capture.taken();
                spans.extend(capture.end(Ending::Cut));
                assert_eq!(spans.len(), 1);
                check_part(&spans[0], &truth, &format!("{path}, lost at {lost}, cut at {cut}"));
            }
        }
    }
}

#[test]
fn a_request_with_a_loss_anywhere_says_nothing_wrong() {
    let request = r#"{"messages":[{"content":[{"text":"\"model\":\"no\""},{"input":{"model":"no","temperature":1}}]}],"model":"m","temperature":0.5,"max_tokens":1234,"stop":["ab","cd"]}"#;
    let truth = facts(&lossy(OPENAI, request, 0..0, &openai("x"), 0..0));
    for lost in 1..request.len() {
        for from in 0..=request.len() - lost {
            let span = lossy(OPENAI, request, from..from + lost, &openai("x"), 0..0);
            let mut facts = facts(&span);
            // A list may lack some.
            facts.retain(|line| !line.starts_with("request.stop_sequences="));
            assert!(facts.iter().all(|line| truth.contains(line)), "{from}..{}: {facts:?}", from + lost);
            assert!(is_incomplete(&span));
        }
    }
}

proptest! {
    #[test]
    fn a_response_with_losses_anywhere_says_nothing_wrong(
        which in any::<prop::sample::Index>(),
        losses in vec((any::<prop::sample::Index>(), 1..120_usize), 1..4),
        until_close: bool,
    ) {
        let responses = responses();
        let (path, response) = &responses[which.index(responses.len())];
        let exchange = Exchange::new("h", path, asked("hi"), 200, response);
        let truth = facts(&exchange.span());
        let mut capture = Capture::new(Options::default());
        capture.request(&exchange.request_bytes());
        let mut sent = with_length(response);
        if until_close {
            let head = String::from_utf8(sent).expect("text").replacen("Content-Length", "X-Length", 1);
            sent = head.into_bytes();
        }
        let (head, mut rest) = sent.split_at(sent.len() - response.len());
        capture.response(head);
        for (position, lost) in losses {
            let (seen, more) = rest.split_at(position.index(rest.len()));
            let lost = lost.min(more.len());
            capture.response(seen);
            capture.lose_response(lost);
            rest = &more[lost..];
            if rest.is_empty() {
                break;
            }
        }
        capture.response(rest);
        let mut spans = capture.taken();
        spans.extend(capture.end(Ending::Cut));
        prop_assert_eq!(spans.len(), 1);
        check_part(&spans[0], &truth, path);
        prop_assert!(is_incomplete(&spans[0]));
    }
}
