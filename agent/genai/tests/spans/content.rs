//! Prompts and completions, where they are captured. What a case of `tests/apis` must give then lies beside it:
//! `<case>.content.json`, an object for each span.

use std::{collections::BTreeSet, fs};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tokentap_genai::{Api, ContentOptions, Destination, Hidden, Options, Span, Value};
use tokentap_wire::Ending;

use crate::{
    apis::{CASES, Case, described, folder, play_with_loss, spans},
    exchange::{Capture, Exchange},
};

const KEYS: [&str; 8] = [
    "gen_ai.system_instructions",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.definitions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.documents",
];

fn capture(content: ContentOptions) -> Capture {
    Capture::new(Options { content: Some(content), ..Options::default() })
}

/// The content on a span; text that is no JSON as a string.
fn content(span: &Span) -> Json {
    let found = KEYS.iter().filter_map(|key| match span.get(key)? {
        Value::Str(text) if *key == "gen_ai.retrieval.query.text" => Some((*key, json!(text))),
        Value::Str(text) => Some((*key, serde_json::from_str(text).expect("JSON"))),
        other => panic!("{key} is {other:?}"),
    });
    found.map(|(key, json)| (key.to_owned(), json)).collect::<serde_json::Map<_, _>>().into()
}

fn expected(case: &Case) -> Option<Json> {
    let path = folder().join(format!("{}.content.json", case.name));
    let text = fs::read_to_string(&path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

#[test]
fn cases_give_their_content_and_otherwise_the_same_spans() {
    let mut with_content = BTreeSet::new();
    for case in CASES.iter() {
        for size in [usize::MAX, 7] {
            let found = spans(case, capture(ContentOptions::default()), size);
            let other: Vec<Vec<String>> = found
                .iter()
                .map(|span| {
                    let mut lines = described(span);
                    lines.retain(|line| {
                        !KEYS.iter().any(|key| format!("gen_ai.{line}").starts_with(&format!("{key}=")))
                    });
                    lines
                })
                .collect();
            assert_eq!(other, case.spans, "{}", case.name);
            found.iter().for_each(|span| assert_valid(&content(span), &case.name));
            let Some(expected) = expected(case) else { continue };
            with_content.insert(case.name.split('/').next().unwrap_or_default().to_owned());
            let found: Json = found.iter().map(content).collect();
            assert_eq!(found, expected, "{}\n{found:#}", case.name);
        }
    }
    let apis: BTreeSet<String> =
        Api::all().filter(|api| api.captures_content()).map(|api| api.name().to_owned()).collect();
    assert_eq!(with_content, apis, "each API whose content is captured has a case for it, and no other");
}

/// Asserts what the conventions' schemas demand.
#[track_caller]
fn assert_valid(content: &Json, case: &str) {
    let text = |json: &Json| json.as_str().is_some_and(|text| !text.is_empty());
    let parts = |parts: &Json| {
        for part in parts.as_array().expect("parts") {
            let fields: &[&str] = match part["type"].as_str().expect("a type") {
                "text" | "reasoning" => &["content"],
                "blob" => &["content", "modality"],
                "file" => &["file_id", "modality"],
                "uri" => &["uri", "modality"],
                "tool_call" => {
                    assert!(part["name"].is_string(), "{case}: {part}");
                    &[]
                }
                _ => &[],
            };
            fields.iter().for_each(|field| assert!(text(&part[*field]), "{case}: {field} in {part}"));
        }
    };
    for (key, json) in content.as_object().expect("an object") {
        match key.as_str() {
            "gen_ai.input.messages" | "gen_ai.output.messages" => {
                for message in json.as_array().expect("messages") {
                    assert!(text(&message["role"]), "{case}: {message}");
                    parts(&message["parts"]);
                    assert!(key.contains("input") || message["finish_reason"].is_string(), "{case}");
                }
            }
            "gen_ai.system_instructions" => parts(json),
            "gen_ai.tool.definitions" => json
                .as_array()
                .expect("tools")
                .iter()
                .for_each(|tool| assert!(text(&tool["type"]) && text(&tool["name"]), "{case}: {tool}")),
            "gen_ai.retrieval.documents" => assert!(json.is_array()),
            "gen_ai.retrieval.query.text" => assert!(text(json)),
            _ => assert!(json.is_object(), "{case}: {key}"),
        }
    }
}

fn chat(request: &Json, response: &Json) -> Exchange {
    Exchange {
        method: "POST".into(),
        host: "api.openai.com".into(),
        target: "/v1/chat/completions".into(),
        request_fields: vec![("Content-Type".into(), "application/json".into())],
        request: request.to_string().into_bytes(),
        status: 200,
        response_fields: vec![("Content-Type".into(), "application/json".into())],
        response: response.to_string().into_bytes(),
    }
}

fn answer(text: &str) -> Json {
    json!({"object": "chat.completion", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]})
}

fn span_with(content: ContentOptions, exchange: &Exchange) -> Span {
    let mut capture = capture(content);
    capture.whole(exchange, &[]);
    let spans = capture.end(Ending::Cut);
    let [span] = spans.as_slice() else { panic!("one span expected: {spans:?}") };
    span.clone()
}

const SECRET: &str = "sk-proj-abcdefghijklmnopqrstuvwx";

#[test]
fn nothing_is_captured_unless_it_is_asked_for() {
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "a canary"}]});
    let span = chat(&request, &answer("another canary")).span();
    assert!(!format!("{span:?}").contains("canary"), "{span:?}");
}

#[test]
fn content_goes_where_it_is_asked_for() {
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    let exchange = chat(&request, &answer("Yes"));
    for (destination, on_span, on_event) in [
        (Destination::Span, true, false),
        (Destination::Event, false, true),
        (Destination::SpanAndEvent, true, true),
    ] {
        let span = span_with(ContentOptions { destination, ..ContentOptions::default() }, &exchange);
        assert_eq!(span.get("gen_ai.input.messages").is_some(), on_span, "{destination:?}");
        assert_eq!(!span.event_content.is_empty(), on_event, "{destination:?}");
        if on_event {
            let input = &span.event_content.iter().find(|(key, _)| *key == "gen_ai.input.messages");
            assert_eq!(input.expect("input").1[0]["parts"][0]["content"], "Hi");
        }
    }
}

#[test]
fn secrets_are_masked_wherever_they_are() {
    let request = json!({"model": "m",
        "messages": [
            {"role": "system", "content": format!("key {SECRET}")},
            {"role": "user", "content": [{"type": "text", "text": format!("{SECRET} jo@example.org")}]},
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function",
                "function": {"name": "f", "arguments": json!({"token": SECRET, SECRET: [SECRET]}).to_string()}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": format!("card 4111 1111 1111 1111 {SECRET}")},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": SECRET, "parameters": {"enum": [SECRET]}}}]});
    let span = span_with(
        ContentOptions { destination: Destination::SpanAndEvent, ..ContentOptions::default() },
        &chat(&request, &answer(&format!("{SECRET} is it"))),
    );
    let all = format!("{span:?}");
    for secret in [SECRET, "jo@example.org", "4111"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
    for mark in ["<API_KEY>", "<EMAIL_ADDRESS>", "<CREDIT_CARD>"] {
        assert!(all.contains(mark), "{mark} is not in {all}");
    }
}

/// A secret that comes in pieces is one secret.
#[test]
fn secrets_in_the_pieces_of_a_stream_are_masked() {
    let request = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let mut exchange = chat(&request, &Json::Null);
    exchange.response_fields = vec![("Content-Type".into(), "text/event-stream".into())];
    exchange.response = SECRET
        .as_bytes()
        .chunks(3)
        .map(|piece| {
            json!({"object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": {"content": str::from_utf8(piece).expect("ASCII")}}]})
        })
        .flat_map(|event| format!("data: {event}\n\n").into_bytes())
        .chain(*b"data: [DONE]\n\n")
        .collect();
    let span = span_with(ContentOptions::default(), &exchange);
    assert_eq!(content(&span)["gen_ai.output.messages"][0]["parts"][0]["content"], "<API_KEY>");
}

#[test]
fn hidden_content_is_left_out_or_marked() {
    let request = json!({"model": "m", "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}]}]});
    let exchange = chat(&request, &answer("Yes"));
    let with =
        |hidden| content(&span_with(ContentOptions { hidden, ..ContentOptions::default() }, &exchange));
    let plain = with(Hidden::default());
    assert_eq!(plain["gen_ai.input.messages"][0]["parts"][1]["uri"], "https://pictures.example/1.png");
    let hidden = with(Hidden { input_text: true, ..Hidden::default() });
    assert_eq!(hidden["gen_ai.input.messages"][0]["parts"][0]["content"], Hidden::MARK);
    assert_eq!(hidden["gen_ai.output.messages"], plain["gen_ai.output.messages"]);
    let hidden = with(Hidden { input_images: true, output_text: true, ..Hidden::default() });
    assert_eq!(hidden["gen_ai.input.messages"][0]["parts"][1]["uri"], Hidden::MARK);
    assert_eq!(hidden["gen_ai.output.messages"][0]["parts"][0]["content"], Hidden::MARK);
    for (hidden, key) in [
        (Hidden { inputs: true, ..Hidden::default() }, "gen_ai.input.messages"),
        (Hidden { input_messages: true, ..Hidden::default() }, "gen_ai.input.messages"),
        (Hidden { outputs: true, ..Hidden::default() }, "gen_ai.output.messages"),
        (Hidden { output_messages: true, ..Hidden::default() }, "gen_ai.output.messages"),
    ] {
        let mut rest = plain.clone();
        rest.as_object_mut().expect("an object").remove(key);
        assert_eq!(with(hidden), rest, "{hidden:?}");
    }
}

#[test]
fn long_content_is_truncated_and_stays_json() {
    let data = format!("data:image/png;base64,{}", "QUJD".repeat(500_000));
    let request = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data}}]},
        {"role": "user", "content": "word ".repeat(100_000)},
        {"role": "user", "content": "the last"}]});
    let span = span_with(
        ContentOptions { max_bytes: 4096, ..ContentOptions::default() },
        &chat(&request, &answer("Yes")),
    );
    let Some(Value::Str(text)) = span.get("gen_ai.input.messages") else { panic!("no input: {span:?}") };
    assert!((2048..=4096).contains(&text.len()), "{}", text.len());
    let input = &content(&span)["gen_ai.input.messages"];
    assert_eq!(input[1]["parts"][0]["content"], "[1500000 bytes]");
    assert_eq!(input[1]["parts"][0]["mime_type"], "image/png");
    assert!(input[2]["parts"][0]["content"].as_str().is_some_and(|text| text.ends_with(" bytes]")));
    assert_eq!(input[3]["parts"][0]["content"], "the last");
}

proptest! {
    /// With bytes missing, what is captured is still valid.
    #[test]
    fn content_with_gaps_is_valid(
        case in any::<prop::sample::Index>(),
        segment in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        len in 1..400_usize,
    ) {
        let case = &CASES[case.index(CASES.len())];
        let mut capture = capture(ContentOptions::default());
        play_with_loss(case, &mut capture, segment.index(case.segments.len()), |size| from.index(size), len);
        for span in capture.end(Ending::Complete) {
            let found = content(&span);
            for messages in ["gen_ai.input.messages", "gen_ai.output.messages"] {
                for message in found[messages].as_array().into_iter().flatten() {
                    prop_assert!(message["role"].is_string() && message["parts"].is_array(), "{}", message);
                }
            }
        }
    }
}
