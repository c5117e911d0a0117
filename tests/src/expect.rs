//! Spans compared with the ledger of what was really sent.

use serde_json::{Value, json};

use crate::{
    ledger::{Answer, Api},
    span::Span,
};

/// Marks a span of a call that was not seen to its end.
pub const INCOMPLETE: &str = "tokentap.incomplete";

/// Exactly one right span of a caller for every answer, in any order.
///
/// # Panics
/// When a span is missing, wrong or too many; says which, and what differs.
pub fn check_calls(spans: &[Span], answers: &[Answer]) {
    check(spans, answers, "CLIENT");
}

/// The same, where the observed process is the one that answers.
///
/// # Panics
/// As [`check_calls`].
pub fn check_served_calls(spans: &[Span], answers: &[Answer]) {
    check(spans, answers, "SERVER");
}

fn check(spans: &[Span], answers: &[Answer], kind: &str) {
    compare(spans, answers, kind).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Whether there is exactly one right span of this kind for every answer, in any order.
///
/// # Errors
/// Says which span is missing, wrong or too many, and what differs.
pub fn compare(spans: &[Span], answers: &[Answer], kind: &str) -> Result<(), String> {
    if spans.len() != answers.len() {
        return Err(format!(
            "{} spans for {} calls\nspans: {}\ncalls: {}",
            spans.len(),
            answers.len(),
            lines(spans.iter().map(summary)),
            lines(answers.iter().map(|answer| format!("{answer:?}"))),
        ));
    }
    let mut left: Vec<&Span> = spans.iter().collect();
    for answer in answers {
        let at = left.iter().position(|span| belongs(span, answer)).ok_or_else(|| {
            format!("no span for {answer:?}\nleft: {}", lines(left.iter().map(|span| summary(span))))
        })?;
        let span = left.swap_remove(at);
        let mut wrong = differences(span, answer);
        if span.kind != kind {
            wrong.push(format!("kind is {}, expected {kind}", span.kind));
        }
        if !wrong.is_empty() {
            return Err(format!("{answer:?}\ngot {span:#?}\nwrong: {}", lines(wrong.into_iter())));
        }
    }
    Ok(())
}

/// Answers without an id are told apart by what was asked; any of several equal ones will do.
fn belongs(span: &Span, answer: &Answer) -> bool {
    *span.get("gen_ai.response.id") == json!(answer.id)
        && *span.get("gen_ai.request.model") == json!(answer.request_model)
        && *span.get("server.port") == json!(answer.port)
        && *span.get("gen_ai.provider.name") == json!(provider(answer))
}

/// Whose API it is, by its format.
const fn provider(answer: &Answer) -> &'static str {
    match answer.api {
        Some(Api::AnthropicMessages) => "anthropic",
        _ => "openai",
    }
}

/// What of a span is not as it was sent.
#[must_use]
pub fn differences(span: &Span, answer: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, got: &Value, expected: Value| {
        if *got != expected {
            wrong.push(format!("{what} is {got}, expected {expected}"));
        }
    };
    let failed = answer.error.is_some() || !answer.whole;
    let error = match (&answer.error, answer.whole) {
        (Some(error), _) => json!(error),
        (None, true) => Value::Null,
        // What to call it is the agent's to say.
        (None, false) => span.get("error.type").clone(),
    };
    let usage =
        |count: fn(&crate::ledger::Usage) -> Option<u64>| json!(answer.usage.as_ref().and_then(count));
    let optional = |count: Option<u64>| count.filter(|count| *count > 0);
    let model = answer.request_model.as_deref().unwrap_or_default();
    expect("name", &json!(span.name), json!(format!("chat {model}")));
    expect("status", &json!(span.failed), json!(failed));
    for (key, expected) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.request.model", json!(answer.request_model)),
        ("gen_ai.response.model", json!(answer.response_model)),
        ("gen_ai.response.id", json!(answer.id)),
        ("gen_ai.usage.input_tokens", usage(|u| Some(u.input))),
        ("gen_ai.usage.output_tokens", usage(|u| u.output)),
        ("error.type", error),
        ("server.address", json!("127.0.0.1")),
    ] {
        expect(key, span.get(key), expected);
    }
    // Some clients leave at an error event, without the end of the stream.
    if answer.error.is_none() || !answer.stream {
        let expected = if answer.whole { Value::Null } else { json!(true) };
        expect(INCOMPLETE, span.get(INCOMPLETE), expected);
    }
    // Zero may be told or left out.
    let usage = answer.usage.unwrap_or_default();
    for (key, expected) in [
        ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
        ("gen_ai.usage.cache_write.input_tokens", usage.cache_creation),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ] {
        let got = span.get(key).as_u64();
        expect(key, &json!(optional(got)), json!(optional(expected)));
    }
    // A choice that never said why it ended is said to have ended in an error.
    let cut_short = answer.status == 200 && failed && answer.finish_reasons.is_empty();
    let reasons = if cut_short { vec!["error".to_owned()] } else { answer.finish_reasons.clone() };
    let expected = if reasons.is_empty() { Value::Null } else { json!(reasons) };
    expect("finish_reasons", span.get("gen_ai.response.finish_reasons"), expected);
    expect("start before end", &json!(span.start < span.end), json!(true));
    if answer.stream && answer.events > 2 {
        let first = span.get("gen_ai.response.time_to_first_chunk").as_f64();
        let duration = (span.end - span.start) as f64 / 1e9;
        expect("request.stream", span.get("gen_ai.request.stream"), json!(true));
        let within = first.is_some_and(|first| first > 0.0 && first <= duration);
        expect("time to first chunk within the duration", &json!(within), json!(true));
    }
    wrong
}

fn summary(span: &Span) -> String {
    format!("{} {} {}", span.name, span.get("gen_ai.response.id"), span.get("error.type"))
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.fold(String::new(), |text, item| text + "\n  " + &item)
}
