//! OpenLLMetry.

use super::{
    messages::{Flat, flatten, system, text},
    translation::Translation,
};
use crate::{Value, render::semconv};

/// Also those of the conventions that it has under the same name.
const NAMES: &[(&str, &str)] = &[
    (semconv::PROVIDER_NAME, "gen_ai.system"),
    (semconv::OPERATION_NAME, "gen_ai.operation.name"),
    (semconv::REQUEST_MODEL, "gen_ai.request.model"),
    (semconv::REQUEST_MAX_TOKENS, "gen_ai.request.max_tokens"),
    (semconv::REQUEST_TEMPERATURE, "gen_ai.request.temperature"),
    (semconv::REQUEST_TOP_P, "gen_ai.request.top_p"),
    (semconv::REQUEST_TOP_K, "llm.top_k"),
    (semconv::REQUEST_FREQUENCY_PENALTY, "llm.frequency_penalty"),
    (semconv::REQUEST_PRESENCE_PENALTY, "llm.presence_penalty"),
    (semconv::REQUEST_STOP_SEQUENCES, "llm.chat.stop_sequences"),
    (semconv::REQUEST_REASONING_LEVEL, "gen_ai.request.reasoning_effort"),
    (semconv::RESPONSE_MODEL, "gen_ai.response.model"),
    (semconv::RESPONSE_ID, "gen_ai.response.id"),
    (semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, "gen_ai.openai.system_fingerprint"),
    (semconv::USAGE_INPUT_TOKENS, "gen_ai.usage.prompt_tokens"),
    (semconv::USAGE_OUTPUT_TOKENS, "gen_ai.usage.completion_tokens"),
    (semconv::USAGE_INPUT_TOKENS, "gen_ai.usage.input_tokens"),
    (semconv::USAGE_OUTPUT_TOKENS, "gen_ai.usage.output_tokens"),
    (semconv::USAGE_CACHE_READ_INPUT_TOKENS, "gen_ai.usage.cache_read.input_tokens"),
    (semconv::USAGE_CACHE_WRITE_INPUT_TOKENS, "gen_ai.usage.cache_creation.input_tokens"),
    (semconv::USAGE_REASONING_OUTPUT_TOKENS, "gen_ai.usage.reasoning_tokens"),
];

pub(super) fn translate(span: &mut Translation<'_>) {
    let kind = match span.text(semconv::OPERATION_NAME).unwrap_or_default() {
        "chat" | "generate_content" => Some("chat"),
        "text_completion" => Some("completion"),
        "embeddings" => Some("embedding"),
        "rerank" => Some("rerank"),
        _ => None,
    };
    if let Some(kind) = kind {
        span.put("llm.request.type", kind);
        let streamed = span.get(semconv::REQUEST_STREAM).is_some();
        span.put("llm.is_streaming", streamed);
    }
    match span.kind() {
        "TOOL" => span.put("traceloop.span.kind", "tool"),
        "AGENT" => span.put("traceloop.span.kind", "agent"),
        _ => {}
    }
    span.rename(NAMES);
    span.put_total("llm.usage.total_tokens");
    span.put_total("gen_ai.usage.total_tokens");
    let reasons = span.get(semconv::RESPONSE_FINISH_REASONS).cloned();
    let reasons = reasons.and_then(|reasons| match reasons {
        Value::StrList(list) => Some(list),
        _ => None,
    });
    if let Some(first) = reasons.iter().flatten().next() {
        span.put("llm.response.finish_reason", first.clone());
    }
    let input = system(span.content(semconv::SYSTEM_INSTRUCTIONS)).into_iter();
    let input: Vec<Flat> = input.chain(flatten(span.content(semconv::INPUT_MESSAGES))).collect();
    let output = flatten(span.content(semconv::OUTPUT_MESSAGES));
    for (prefix, list) in [("gen_ai.prompt", input), ("gen_ai.completion", output)] {
        for (n, flat) in list.iter().enumerate() {
            message(span, &format!("{prefix}.{n}"), flat);
        }
    }
    let tools = span.content(semconv::TOOL_DEFINITIONS).and_then(|tools| tools.as_array()).cloned();
    for (n, tool) in tools.into_iter().flatten().enumerate() {
        for field in ["name", "description", "parameters"] {
            span.put_text(format!("llm.request.functions.{n}.{field}"), &text(&tool[field]));
        }
    }
    for (key, value) in [
        (semconv::TOOL_CALL_ARGUMENTS, "traceloop.entity.input"),
        (semconv::TOOL_CALL_RESULT, "traceloop.entity.output"),
    ] {
        if let Some(json) = span.content(key).map(ToString::to_string) {
            span.put(value, json);
        }
    }
}

fn message(span: &mut Translation<'_>, prefix: &str, flat: &Flat) {
    span.put_text(format!("{prefix}.role"), &flat.role);
    span.put_text(format!("{prefix}.content"), &flat.text);
    span.put_text(format!("{prefix}.finish_reason"), &flat.finish_reason);
    span.put_text(format!("{prefix}.tool_call_id"), &flat.tool_call_id);
    for (n, call) in flat.tool_calls.iter().enumerate() {
        span.put_text(format!("{prefix}.tool_calls.{n}.id"), &call.id);
        span.put_text(format!("{prefix}.tool_calls.{n}.name"), &call.name);
        span.put_text(format!("{prefix}.tool_calls.{n}.arguments"), &call.arguments);
    }
}
