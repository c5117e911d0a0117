//! Nothing that was said is left, and every call is still the same.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};
use tokentap_genai::{Calls, Options, Span, Transport, semconv};
use tokentap_wire::{Connection, Ending, Limits, Nanos};

use super::*;

/// What a masker makes of a text, however it is cut.
#[track_caller]
pub(super) fn check_masked<M: Default>(mask: fn(&mut M, &mut [u8]), text: &str, want: &str) {
    for size in [1, 2, 7, text.len()] {
        let mut masker = M::default();
        let mut masked = text.as_bytes().to_vec();
        masked.chunks_mut(size).for_each(|piece| mask(&mut masker, piece));
        assert_eq!(String::from_utf8(masked).unwrap(), want, "cut every {size}");
    }
}

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
    // The only texts of users in a span. A field `name` may name a person, too: a tape has none.
    let of_users = [semconv::REQUEST_STOP_SEQUENCES, semconv::TOOL_CALL_NAMES];
    span.attributes.retain(|a| !of_users.contains(&&*a.key));
    Some(span)
}

fn post(target: &str, fields: &str, body: &Json) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n{fields}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

fn plain(fields: &str, body: &Json) -> Vec<u8> {
    let body = body.to_string();
    let kind = "Content-Type: application/json";
    format!("HTTP/1.1 200 OK\r\n{fields}{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One chunk per event; an event without a `type` has no name either.
fn streamed(fields: &str, events: &[Json]) -> Vec<u8> {
    let kind = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    let mut out = format!("HTTP/1.1 200 OK\r\n{fields}{kind}\r\n\r\n");
    for data in events {
        let event = match &data["type"] {
            Json::String(name) => format!("event: {name}\ndata: {data}\n\n"),
            _ if data == "[DONE]" => "data: [DONE]\n\n".to_owned(),
            _ => format!(": comment\n\ndata: {data}\n\n"),
        };
        out += &format!("{:x}\r\n{event}\r\n", event.len());
    }
    (out + "0\r\n\r\n").into_bytes()
}

fn openai_request(secret: &str, stream: bool) -> Json {
    let (object, name) = (json!({ secret: "v", "k": secret }), secret);
    let schema = json!({ "type": "object", "properties": { secret: { "type": "string" } } });
    json!({
        "model": "gpt-4o-mini", "stream": stream, "max_tokens": 7, "temperature": 0.5,
        "stop": [secret], "user": secret, "metadata": object,
        "messages": [
            { "role": "system", "content": secret },
            { "role": "user", "content": [
                { "type": "text", "text": secret },
                { "type": "image_url", "image_url": { "url": secret } },
            ] },
        ],
        "tools": [{ "type": "function", "function": {
            "name": name, "description": secret, "parameters": schema,
        } }],
    })
}

fn openai_reply(secret: &str) -> Json {
    let arguments = json!({ "city": secret }).to_string();
    let call =
        json!({ "id": "call_1", "type": "function", "function": { "name": "f", "arguments": arguments } });
    let message = json!({ "role": "assistant", "content": secret, "refusal": null, "tool_calls": [call] });
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024",
        "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }],
        "usage": {
            "prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46,
            "prompt_tokens_details": { "cached_tokens": 3 },
        },
    })
}

fn openai_events(secret: &str) -> Vec<Json> {
    let chunk = |delta: Json, reason: Json| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-mini-2024",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
        })
    };
    vec![
        chunk(json!({ "role": "assistant", "content": "" }), Json::Null),
        chunk(json!({ "content": secret }), Json::Null),
        chunk(json!({}), json!("stop")),
        json!({ "choices": [], "usage": { "prompt_tokens": 12, "completion_tokens": 34 } }),
        json!("[DONE]"),
    ]
}

fn anthropic_request(secret: &str, stream: bool) -> Json {
    let input = json!({ "city": secret, secret: 1, "pin": 987_654 });
    let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "f", "input": input });
    json!({
        "model": "claude-sonnet-4", "max_tokens": 100, "stream": stream, "system": secret,
        "messages": [{ "role": "user", "content": secret }, { "role": "assistant", "content": [call] }],
    })
}

fn anthropic_reply(secret: &str) -> Json {
    let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "f", "input": { "city": secret } });
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4",
        "content": [{ "type": "text", "text": secret }, call],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": { "input_tokens": 12, "cache_read_input_tokens": 5, "output_tokens": 34 },
    })
}

fn anthropic_events(secret: &str) -> Vec<Json> {
    let message = json!({
        "id": "msg_1", "type": "message", "model": "claude-sonnet-4",
        "usage": { "input_tokens": 12, "output_tokens": 1 },
    });
    let delta = |delta: Json| json!({ "type": "content_block_delta", "index": 0, "delta": delta });
    let block = json!({ "type": "text", "text": "" });
    vec![
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        delta(json!({ "type": "text_delta", "text": secret })),
        delta(json!({ "type": "input_json_delta", "partial_json": json!({ "city": secret }).to_string() })),
        json!({
            "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 34 },
        }),
        json!({ "type": "message_stop" }),
    ]
}

/// Exchanges of the APIs that are known, with a secret wherever one can be: in the value of a header, in a
/// query, and in whatever a user or a model says. Of the first two, only its letters and digits.
fn exchanges(secret: &str) -> [(&'static str, Vec<u8>, Vec<u8>); 5] {
    let word = word(secret);
    let fields = format!(
        "Authorization: Bearer {word}\r\nx-api-key:{word}\r\nCookie: a={word}; b={word}\r\nX-Own: {word}\r\n\
         anthropic-version: 2023-06-01\r\n"
    );
    let answer = format!("Set-Cookie: s={word}\r\nopenai-organization: {word}\r\nserver: x\r\n");
    let error = json!({ "error": {
        "message": secret, "type": "invalid_request_error", "param": null, "code": "context_length_exceeded",
    } });
    let chat = format!("/v1/chat/completions?api-version=1&key={word}");
    let openai = |stream| post(&chat, &fields, &openai_request(secret, stream));
    let anthropic = |stream| post("/v1/messages", &fields, &anthropic_request(secret, stream));
    [
        ("openai", openai(false), plain(&answer, &openai_reply(secret))),
        ("openai stream", openai(true), streamed(&answer, &openai_events(secret))),
        ("openai error", openai(false), plain(&answer, &error)),
        ("anthropic", anthropic(false), plain(&answer, &anthropic_reply(secret))),
        ("anthropic stream", anthropic(true), streamed(&answer, &anthropic_events(secret))),
    ]
}

fn word(secret: &str) -> String {
    secret.chars().filter(char::is_ascii_alphanumeric).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_secret_is_left_and_every_call_is_the_same(
        secret in r#"S3CR3T[ -~é\n🔑]{4,24}"#,
        sizes in vec(1..400_usize, 1..40),
    ) {
        let escaped = json!(secret).to_string();
        let word = word(&secret);
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
        sizes in vec(1..80_usize, 1..40),
        lost in vec(any::<bool>(), 1..40),
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
        runs in vec((any::<bool>(), 0..300_u64, vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let runs: Vec<Run> = runs
            .into_iter()
            .map(|(write, offset, bytes)| (Direction::ALL[usize::from(!write)], offset, bytes))
            .collect();
        masked(&runs);
    }
}

#[test]
fn bodies_that_cannot_be_masked_in_place_are_withheld() {
    let check = |fields: &str, body: &str, want: usize| {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        let runs = cut(&post("/", "", &json!({})), response.as_bytes(), &[]);
        assert_eq!(masked(&runs).1, want, "{response}");
    };
    check("Content-Type: text/html\r\n", "secret", 6);
    check("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "secret", 6);
    check("", "secret", 6);
    check("", "{\"a\":\"b\"}", 0);
    check("", "data: {}\n\n", 0);
}

#[test]
fn what_is_no_http_is_withheld() {
    let upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x06secret";
    assert_eq!(masked(&cut(&post("/", "", &json!({})), upgraded, &[])).1, 8);
    let runs = [(Direction::Write, 0, b"\x16\x03\x01secret".to_vec())];
    let (masked, withheld) = masked(&runs);
    assert_eq!((masked[0].2.as_slice(), withheld), (&b"xxxxxxxxx"[..], 9));
}
