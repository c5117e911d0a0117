//! OpenInference.

use super::{
    messages::{Flat, flatten, system, text},
    translation::Translation,
};
use crate::render::semconv;

const NAMES: &[(&str, &str)] = &[
    (semconv::REQUEST_MODEL, "llm.request.model_name"),
    (semconv::RESPONSE_MODEL, "llm.response.model_name"),
    (semconv::USAGE_INPUT_TOKENS, "llm.token_count.prompt"),
    (semconv::USAGE_OUTPUT_TOKENS, "llm.token_count.completion"),
    (semconv::USAGE_CACHE_READ_INPUT_TOKENS, "llm.token_count.prompt_details.cache_read"),
    (semconv::USAGE_CACHE_WRITE_INPUT_TOKENS, "llm.token_count.prompt_details.cache_write"),
    (semconv::USAGE_AUDIO_INPUT_TOKENS, "llm.token_count.prompt_details.audio"),
    (semconv::USAGE_AUDIO_OUTPUT_TOKENS, "llm.token_count.completion_details.audio"),
    (semconv::USAGE_REASONING_OUTPUT_TOKENS, "llm.token_count.completion_details.reasoning"),
    (semconv::SESSION_ID, "session.id"),
    (semconv::CONVERSATION_ID, "session.id"),
    (semconv::AGENT_NAME, "agent.name"),
    (semconv::TOOL_NAME, "tool.name"),
];

pub(super) fn translate(span: &mut Translation<'_>) {
    let kind = span.kind();
    span.put("openinference.span.kind", kind);
    let model = span.text(semconv::RESPONSE_MODEL).or_else(|| span.text(semconv::REQUEST_MODEL));
    let model = model.unwrap_or_default().to_owned();
    match kind {
        "EMBEDDING" => span.put_text("embedding.model_name", &model),
        "RERANKER" => span.put_text("reranker.model_name", &model),
        _ => span.put_text("llm.model_name", &model),
    }
    if let Some(provider) = span.text(semconv::PROVIDER_NAME) {
        let (provider, system) = provider_of(provider);
        let provider = provider.to_owned();
        span.put("llm.provider", provider);
        if let Some(system) = system {
            span.put("llm.system", system);
        }
    }
    span.rename(NAMES);
    span.put_total("llm.token_count.total");
    if let Some(reasons) = span.get(semconv::RESPONSE_FINISH_REASONS).cloned()
        && let crate::Value::StrList(reasons) = reasons
        && let Some(first) = reasons.first()
    {
        span.put("llm.finish_reason", first.clone());
    }
    if let Some(parameters) = span.parameters() {
        let key =
            if kind == "EMBEDDING" { "embedding.invocation_parameters" } else { "llm.invocation_parameters" };
        span.put(key, parameters.to_string());
    }
    content(span);
}

/// `llm.provider` and `llm.system` of a provider of the conventions.
fn provider_of(provider: &str) -> (&str, Option<&'static str>) {
    match provider {
        "openai" => ("openai", Some("openai")),
        "anthropic" => ("anthropic", Some("anthropic")),
        "cohere" => ("cohere", Some("cohere")),
        "mistral_ai" => ("mistralai", Some("mistralai")),
        "gcp.vertex_ai" => ("google", Some("vertexai")),
        "gcp.gemini" | "gcp.gen_ai" => ("google", None),
        "aws.bedrock" => ("aws", None),
        "azure.ai.openai" => ("azure", Some("openai")),
        "azure.ai.inference" => ("azure", None),
        "x_ai" => ("xai", None),
        other => (other, None),
    }
}

fn content(span: &mut Translation<'_>) {
    span.put_values();
    let input = system(span.content(semconv::SYSTEM_INSTRUCTIONS)).into_iter();
    let input: Vec<Flat> = input.chain(flatten(span.content(semconv::INPUT_MESSAGES))).collect();
    let output = flatten(span.content(semconv::OUTPUT_MESSAGES));
    for (prefix, list) in [("llm.input_messages", input), ("llm.output_messages", output)] {
        for (n, flat) in list.iter().enumerate() {
            message(span, &format!("{prefix}.{n}.message"), flat);
        }
    }
    let tools = span.content(semconv::TOOL_DEFINITIONS).and_then(|tools| tools.as_array()).cloned();
    for (n, tool) in tools.into_iter().flatten().enumerate() {
        span.put(format!("llm.tools.{n}.tool.json_schema"), tool.to_string());
    }
    if let Some(arguments) = span.content(semconv::TOOL_CALL_ARGUMENTS).map(ToString::to_string) {
        span.put("tool.parameters", arguments);
    }
    let reranks = span.kind() == "RERANKER";
    if let Some(query) = span.content(semconv::RETRIEVAL_QUERY_TEXT).map(text).filter(|_| reranks) {
        span.put("reranker.query", query);
    }
    let documents = span.content(semconv::RETRIEVAL_DOCUMENTS).and_then(|list| list.as_array()).cloned();
    let prefix = if reranks { "reranker.output_documents" } else { "retrieval.documents" };
    for (n, document) in documents.into_iter().flatten().enumerate() {
        span.put_text(format!("{prefix}.{n}.document.id"), &text(&document["id"]));
        if let Some(score) = document["score"].as_f64() {
            span.put(format!("{prefix}.{n}.document.score"), score);
        }
    }
}

fn message(span: &mut Translation<'_>, prefix: &str, flat: &Flat) {
    span.put_text(format!("{prefix}.role"), &flat.role);
    if flat.uris.is_empty() {
        span.put_text(format!("{prefix}.content"), &flat.text);
    } else {
        let mut n = 0;
        if !flat.text.is_empty() {
            span.put(format!("{prefix}.contents.{n}.message_content.type"), "text");
            span.put_text(format!("{prefix}.contents.{n}.message_content.text"), &flat.text);
            n += 1;
        }
        for (modality, uri) in flat.uris.iter().filter(|(modality, _)| modality == "image") {
            span.put_text(format!("{prefix}.contents.{n}.message_content.type"), modality);
            span.put_text(format!("{prefix}.contents.{n}.message_content.image.image.url"), uri);
            n += 1;
        }
    }
    span.put_text(format!("{prefix}.tool_call_id"), &flat.tool_call_id);
    for (n, call) in flat.tool_calls.iter().enumerate() {
        let prefix = format!("{prefix}.tool_calls.{n}.tool_call");
        span.put_text(format!("{prefix}.id"), &call.id);
        span.put_text(format!("{prefix}.function.name"), &call.name);
        span.put_text(format!("{prefix}.function.arguments"), &call.arguments);
    }
}
