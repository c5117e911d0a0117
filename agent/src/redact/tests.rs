//! Nothing that was said is left, and every call is still the same.

use std::sync::Arc;

use proptest::prelude::*;
use tokentap_genai::{Calls, Options, Span, Transport, semconv};
use tokentap_wire::{Connection, Ending, Limits, Nanos};

use super::*;

/// A captured run: which way, from where, and what.
type Run = (Direction, u64, Vec<u8>);

/// Cuts both directions of an exchange, the request first, into runs of the given sizes in turn.
fn cut(request: &[u8], response: &[u8], sizes: &[usize]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut sizes = sizes.iter().cycle();
    for (dir, mut rest) in [(Direction::Write, request), (Direction::Read, response)] {
        let mut offset = 0;
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            runs.push((dir, offset, rest[..size].to_vec()));
            offset += size as u64;
            rest = &rest[size..];
        }
    }
    runs
}

/// What a tape would hold of the runs, and how many bytes it would not.
fn masked(runs: &[Run]) -> (Vec<Run>, usize) {
    let mut masker = Masker::default();
    let (mut out, mut withheld) = (Vec::new(), 0);
    let masked = runs.iter().map(|(dir, offset, bytes)| {
        let ranges = masker.data(*dir, *offset, bytes, &mut out);
        assert_eq!(out.len(), bytes.len());
        withheld += ranges.iter().map(ExactSizeIterator::len).sum::<usize>();
        (*dir, *offset, out.clone())
    });
    (masked.collect(), withheld)
}

fn joined(runs: &[Run], dir: Direction) -> Vec<u8> {
    runs.iter().filter(|(d, ..)| *d == dir).flat_map(|(.., bytes)| bytes).copied().collect()
}

/// The span of a connection that carries one call.
fn span(runs: &[Run]) -> Option<Span> {
    let mut connection = Connection::new(Limits::default());
    let mut calls = Calls::new(Arc::new(Options::default()), Transport { tls: true, peer: None });
    for (i, (dir, offset, bytes)) in runs.iter().enumerate() {
        connection.data(*dir, *offset, bytes, Nanos(i as u64), &mut calls);
    }
    connection.close(Ending::Cut, Nanos(runs.len() as u64), &mut calls);
    let mut span = calls.take()?;
    // The only texts of users in a span.
    span.attributes.retain(|a| a.key != semconv::REQUEST_STOP_SEQUENCES);
    Some(span)
}

fn post(target: &str, fields: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n{fields}Content-Length: {len}\r\n\r\n{body}")
        .into_bytes()
}

fn plain(fields: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn streamed(fields: &str, events: &[String]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for event in events {
        out += &format!("{:x}\r\n{event}\r\n", event.len());
    }
    (out + "0\r\n\r\n").into_bytes()
}

/// Exchanges of the APIs that are known, with a secret in every place where one can be: in a header's value, in
/// a query, and (escaped) in whatever a user or a model says.
fn exchanges(secret: &str) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let said = serde_json::to_string(secret).unwrap();
    let twice = serde_json::to_string(&format!("{{\"city\":{said}}}")).unwrap();
    let word: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
    let fields = format!(
        "Authorization: Bearer {word}\r\nx-api-key:{word}\r\nCookie: a={word}; b={word}\r\nX-Own: {word}\r\n\
         anthropic-version: 2023-06-01\r\n"
    );
    let answer = format!("Set-Cookie: s={word}\r\nopenai-organization: {word}\r\nserver: x\r\n");
    let openai = format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":{said}}},{{"role":"user","content":[{{"type":"text","text":{said}}},{{"type":"image_url","image_url":{{"url":{said}}}}}]}}],"max_tokens":7,"temperature":0.5,"stop":[{said}],"user":{said},"tools":[{{"type":"function","function":{{"name":{said},"description":{said},"parameters":{{"type":"object","properties":{{{said}:{{"type":"string"}}}}}}}}}}],"metadata":{{"k":{said},{said}:"v"}},"stream":STREAM}}"#
    );
    let openai_reply = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini-2024","choices":[{{"index":0,"message":{{"role":"assistant","content":{said},"refusal":null,"tool_calls":[{{"id":"call_1","type":"function","function":{{"name":"f","arguments":{twice}}}}}]}},"finish_reason":"tool_calls"}}],"usage":{{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,"prompt_tokens_details":{{"cached_tokens":3}}}}}}"#
    );
    let openai_chunk = |delta: &str, reason: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o-mini-2024\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let openai_stream = [
        openai_chunk(r#"{"role":"assistant","content":""}"#, "null"),
        openai_chunk(&format!(r#"{{"content":{said}}}"#), "null"),
        format!(": {word}\n\n"),
        openai_chunk("{}", "\"stop\""),
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34}}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ];
    let anthropic = format!(
        r#"{{"model":"claude-sonnet-4","max_tokens":100,"system":{said},"messages":[{{"role":"user","content":{said}}},{{"role":"assistant","content":[{{"type":"tool_use","id":"toolu_1","name":"f","input":{{"city":{said},{said}:1,"pin":987654}}}}]}}],"stream":STREAM}}"#
    );
    let anthropic_reply = format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4","content":[{{"type":"text","text":{said}}},{{"type":"tool_use","id":"toolu_1","name":"f","input":{{"city":{said}}}}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{{"input_tokens":12,"cache_read_input_tokens":5,"output_tokens":34}}}}"#
    );
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let anthropic_stream = [
        event(
            "message_start",
            r#","message":{"id":"msg_1","type":"message","model":"claude-sonnet-4","usage":{"input_tokens":12,"output_tokens":1}}"#,
        ),
        event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        event("content_block_delta", &format!(r#","index":0,"delta":{{"type":"text_delta","text":{said}}}"#)),
        event(
            "content_block_delta",
            &format!(r#","index":1,"delta":{{"type":"input_json_delta","partial_json":{twice}}}"#),
        ),
        event("message_delta", r#","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":34}"#),
        event("message_stop", ""),
    ];
    let error = format!(
        r#"{{"error":{{"message":{said},"type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}}}"#
    );
    let chat = format!("/v1/chat/completions?api-version=1&key={word}");
    let ask = |body: &str, stream: bool| body.replace("STREAM", if stream { "true" } else { "false" });
    vec![
        ("openai", post(&chat, &fields, &ask(&openai, false)), plain(&answer, &openai_reply)),
        ("openai stream", post(&chat, &fields, &ask(&openai, true)), streamed(&answer, &openai_stream)),
        ("openai error", post(&chat, &fields, &ask(&openai, false)), plain(&answer, &error)),
        (
            "anthropic",
            post("/v1/messages", &fields, &ask(&anthropic, false)),
            plain(&answer, &anthropic_reply),
        ),
        (
            "anthropic stream",
            post("/v1/messages", &fields, &ask(&anthropic, true)),
            streamed(&answer, &anthropic_stream),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_secret_is_left_and_every_call_is_the_same(
        secret in r#"S3CR3T[ -~é\n🔑]{4,24}"#,
        sizes in proptest::collection::vec(1..400_usize, 1..40),
    ) {
        let escaped = serde_json::to_string(&secret).unwrap();
        let word: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
        for (name, request, response) in exchanges(&secret) {
            let runs = cut(&request, &response, &sizes);
            let (masked, withheld) = masked(&runs);
            prop_assert_eq!(withheld, 0);
            for dir in Direction::ALL {
                let text = String::from_utf8(joined(&masked, dir)).unwrap();
                for form in [&secret, &escaped, &word, &"S3CR3T".to_owned(), &"987654".to_owned()] {
                    prop_assert!(!text.contains(form.as_str()), "{}: {:?} in {}", name, form, text);
                }
            }
            let seen = span(&runs);
            prop_assert!(seen.is_some(), "{}", name);
            prop_assert_eq!(seen, span(&masked), "{}", name);
        }
    }

    #[test]
    fn losses_make_nothing_readable(
        secret in "S3CR3T[a-z]{4,24}",
        sizes in proptest::collection::vec(1..80_usize, 1..40),
        lost in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        for (name, request, response) in exchanges(&secret) {
            let mut runs = cut(&request, &response, &sizes);
            let mut lost = lost.iter().cycle();
            runs.retain(|_| lost.next() == Some(&false));
            let (masked, _) = masked(&runs);
            for run in &masked {
                let text = String::from_utf8_lossy(&run.2);
                // What is left of a secret is at most where a run begins in one: less than its mark.
                prop_assert!(!text.contains("S3CR3T"), "{}: {}", name, text);
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_masked_to_as_many(
        runs in proptest::collection::vec((any::<bool>(), 0..300_u64, proptest::collection::vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let runs: Vec<Run> = runs
            .into_iter()
            .map(|(write, offset, bytes)| (Direction::ALL[usize::from(!write)], offset, bytes))
            .collect();
        masked(&runs);
    }
}

/// How much of a response to `POST /` is withheld.
fn withheld(response: &str) -> usize {
    let runs = cut(&post("/", "", "{}"), response.as_bytes(), &[]);
    masked(&runs).1
}

#[test]
fn bodies_that_cannot_be_masked_in_place_are_withheld() {
    assert_eq!(withheld("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\nsecret"), 6);
    assert_eq!(
        withheld(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nsecret"
        ),
        6
    );
    assert_eq!(withheld("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"), 6);
    assert_eq!(withheld("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\":\"b\""), 0);
    assert_eq!(withheld("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x06secret"), 8);
}

#[test]
fn what_is_no_http_is_withheld() {
    let runs = [(Direction::Write, 0, b"\x16\x03\x01secret".to_vec())];
    let (masked, withheld) = masked(&runs);
    assert_eq!((masked[0].2.as_slice(), withheld), (&b"xxxxxxxxx"[..], 9));
}
