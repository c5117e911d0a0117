//! Recorded traffic of real providers, beside what a whole parser makes of it.

use std::{collections::BTreeMap, io::Read as _, sync::LazyLock};

use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};
use tokentap_genai::{Options, Span};

use crate::{
    exchange::{Capture, Exchange, lines},
    recordings,
};

/// Every recorded call of Chat Completions and Messages.
static CALLS: LazyLock<Vec<(String, Exchange)>> = LazyLock::new(|| {
    let folders = [
        "openai-chat",
        "azure-openai",
        "anthropic",
        "deepseek",
        "groq",
        "mistral",
        "openrouter",
        "together",
        "vllm",
        "perplexity",
        "xai",
        "others",
    ];
    let calls = folders.into_iter().flat_map(recordings::load).filter(|(_, exchange)| {
        let path = exchange.target.split(['?', '#']).next().unwrap_or_default();
        exchange.method == "POST" && (path.ends_with("/chat/completions") || path.ends_with("/v1/messages"))
    });
    calls.collect()
});

/// What a span must say, from the whole bodies.
fn expected(exchange: &Exchange) -> Vec<String> {
    let request: Json = serde_json::from_slice(&exchange.request).expect("a request is JSON");
    let mut text = exchange.response.clone();
    if text.starts_with(&[0x1f, 0x8b]) {
        text.clear();
        flate2::read::GzDecoder::new(&exchange.response[..]).read_to_end(&mut text).expect("it is gzip");
    }
    let text = String::from_utf8(text).expect("a response is UTF-8");
    let streamed = !text.trim_start().starts_with('{');
    let documents: Vec<Json> = if streamed {
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON")).collect()
    } else {
        vec![serde_json::from_str(&text).expect("a response is JSON")]
    };
    let anthropic = exchange.target.contains("/messages");
    let mut facts = if anthropic { anthropic_facts(&documents) } else { openai_facts(&documents) };
    let path: Vec<&str> = exchange.target.split(['/', '?']).collect();
    let deployment = path.iter().position(|segment| *segment == "deployments").map(|at| json!(path[at + 1]));
    facts.push(("request.model", deployment.unwrap_or_else(|| request["model"].clone())));
    if request["stream"] == true {
        facts.push(("request.stream", json!(true)));
    }
    facts.push(("http.response.status_code", json!(exchange.status)));
    facts.push(("server.address", json!(exchange.host)));
    let error = documents.iter().map(|document| &document["error"]).find(|error| !error.is_null());
    if let Some(error) = error {
        let named = [&error["code"], &error["type"]].into_iter().find(|name| name.is_string());
        let number = if exchange.status < 400 { &error["code"] } else { &json!(exchange.status) };
        let number = json!(number.to_string());
        facts.push(("error.type", named.unwrap_or(&number).clone()));
    }
    for (key, name) in [
        ("http.response.header.x-request-id", "x-request-id"),
        ("http.response.header.request-id", "request-id"),
        ("http.response.header.apim-request-id", "apim-request-id"),
    ] {
        let field = exchange.response_fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        facts.push((key, field.map(|(_, value)| json!(value)).unwrap_or_default()));
    }
    let mut lines: Vec<String> = facts
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}={text}"),
            None => format!("{key}={value}"),
        })
        .collect();
    lines.sort();
    lines
}

type Facts = Vec<(&'static str, Json)>;

/// The last value at a pointer that is not null, or the first one.
fn pick(documents: &[Json], pointer: &str, last: bool) -> Json {
    let mut found = documents
        .iter()
        .filter_map(|document| document.pointer(pointer))
        .filter(|v| !v.is_null() && *v != "");
    if last { found.next_back() } else { found.next() }.cloned().unwrap_or_default()
}

fn openai_facts(documents: &[Json]) -> Facts {
    let mut reasons = BTreeMap::new();
    for choice in documents.iter().filter_map(|document| document["choices"].as_array()).flatten() {
        let reason: &mut String = reasons.entry(choice["index"].as_u64().expect("an index")).or_default();
        if let Some(text) = choice["finish_reason"].as_str() {
            text.clone_into(reason);
        }
    }
    let reasons: Vec<String> = reasons.into_values().filter(|reason| !reason.is_empty()).collect();
    vec![
        ("response.id", pick(documents, "/id", false)),
        ("response.model", pick(documents, "/model", false)),
        ("response.finish_reasons", if reasons.is_empty() { Json::Null } else { json!(reasons.join(",")) }),
        ("usage.input_tokens", pick(documents, "/usage/prompt_tokens", true)),
        ("usage.output_tokens", pick(documents, "/usage/completion_tokens", true)),
    ]
}

fn anthropic_facts(documents: &[Json]) -> Facts {
    let either = |pointer: &str, last: bool| {
        let all: Vec<Json> = documents.iter().flat_map(|d| [d["message"].clone(), d.clone()]).collect();
        pick(&all, pointer, last)
    };
    let input: i64 = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
        .iter()
        .filter_map(|field| either(&format!("/usage/{field}"), true).as_i64())
        .sum();
    let reason = [either("/stop_reason", true), either("/delta/stop_reason", true)]
        .into_iter()
        .find(|r| r.is_string());
    vec![
        ("response.id", either("/id", false)),
        ("response.model", either("/model", false)),
        ("response.finish_reasons", reason.unwrap_or_default()),
        ("usage.input_tokens", if input > 0 { json!(input) } else { Json::Null }),
        ("usage.output_tokens", either("/usage/output_tokens", true)),
    ]
}

/// The attributes of which [`expected`] says something.
fn compared(span: &Span) -> Vec<String> {
    let keys = [
        "request.model=",
        "request.stream=",
        "response.id=",
        "response.model=",
        "response.finish_reasons=",
        "usage.input_tokens=",
        "usage.output_tokens=",
        "http.",
        "server.address=",
        "error.",
        "tokentap.incomplete",
    ];
    lines(span).into_iter().filter(|line| keys.iter().any(|key| line.starts_with(key))).collect()
}

#[test]
#[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
fn every_recorded_call_is_read_as_a_whole_parser_reads_it() {
    assert!(CALLS.len() >= 16, "{} calls were found", CALLS.len());
    for (name, exchange) in CALLS.iter() {
        assert_eq!(compared(&exchange.span()), expected(exchange), "{name}");
    }
}

#[test]
#[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
fn recorded_providers_are_told_apart() {
    let mut providers: Vec<String> = CALLS
        .iter()
        .map(|(_, call)| lines(&call.span()))
        .map(|mut lines| {
            lines.retain(|line| line.starts_with("provider"));
            lines.concat().replace("provider.name=", "")
        })
        .collect();
    providers.sort();
    providers.dedup();
    let expected = [
        "anthropic",
        "azure.ai.inference",
        "azure.ai.openai",
        "deepseek",
        "groq",
        "mistral_ai",
        "openai",
        "openrouter",
        "perplexity",
        "together_ai",
        "zai",
    ];
    assert_eq!(providers, expected);
}

proptest! {
    #[test]
    #[cfg_attr(not(recordings), ignore = "no recordings: TOKENTAP_RECORDINGS names their folder")]
    fn recorded_calls_may_be_cut_anywhere(call in any::<prop::sample::Index>(), cuts in vec(0.0..1.0, 0..40)) {
        let (name, exchange) = &CALLS[call.index(CALLS.len())];
        let mut capture = Capture::new(Options::default());
        capture.whole(exchange, &cuts);
        let spans = capture.taken();
        prop_assert_eq!(spans.len(), 1, "{}", name);
        prop_assert_eq!(compared(&spans[0]), expected(exchange), "{}", name);
    }
}
