//! Anthropic Messages (`POST …/v1/messages`), at Anthropic and at all servers of the same format.

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, kind, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, RequestField, ResponseField, UsageRule},
    provider,
    route::{Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    kinds: KINDS,
    usage: USAGE_RULE,
    decoder: || Box::new(Messages),
    by_bodies: true,
    content: Some(read_content),
    ..ApiSpec::new("anthropic", provider::ANTHROPIC, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/messages", "chat").confidence(Confidence::WithHeader("anthropic-version")),
    // Other services have a `/v1/messages` of their own.
    Route::post("/v1/messages", "chat").likely(),
    // At Vertex AI, where other models have this path, too.
    Route::post("/models/{model}:rawPredict", "chat").confidence(Confidence::ByBodies),
    Route::post("/models/{model}:streamRawPredict", "chat").confidence(Confidence::ByBodies),
];

pub(super) const KINDS: &[(&str, Kind)] = &[
    ("message", Kind::Choice),
    ("message_start", Kind::OneChoice),
    ("message_stop", Kind::Last),
    ("error", Kind::OwnFailure),
];

/// `message_delta` overrides `message_start` field by field; nothing is added.
pub(super) const USAGE_RULE: UsageRule = UsageRule { merge: true, cache_apart: true, ..UsageRule::PLAIN };

pub(super) const REQUEST_FIELDS: &[Wanted] = &[
    request("messages", RequestField::Evidence),
    request("messages[].role", RequestField::MessageRole),
    request("messages[].content[].tool_use_id", RequestField::ToolResultId),
    request("model", RequestField::Model),
    request("stream", RequestField::Stream),
    request("max_tokens", RequestField::MaxTokens),
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("top_k", RequestField::TopK),
    request("stop_sequences[]", RequestField::Stop),
    request("output_config.effort", RequestField::ReasoningLevel),
    request("output_config.format", RequestField::FormatSchema),
    request("output_format", RequestField::FormatSchema),
];

pub(super) const EVENT: &[Wanted] = &[
    kind("type"),
    counted("message.usage.output_tokens", Count::OutputAtStart),
    counted("usage.output_tokens", Count::Output),
    response("delta.stop_reason", ResponseField::FinishReason),
    content("delta.text"),
    content("delta.thinking"),
    content("delta.partial_json"),
    content("content_block.text"),
    response("content_block.id", ResponseField::ToolCallId),
    response("content_block.name", ResponseField::ToolCallName),
    Wanted::presence("error", Field::Response(ResponseField::Error)),
    response("error.code", ResponseField::ErrorCode),
    response("error.type", ResponseField::ErrorType),
];

/// A message: at the top of a plain response, inside `message_start` of a streamed one.
pub(super) const MESSAGE: &[Wanted] = &[
    response("id", ResponseField::Id),
    response("model", ResponseField::Model),
    response("stop_reason", ResponseField::FinishReason),
    response("content[].id", ResponseField::ToolCallId),
    response("content[].name", ResponseField::ToolCallName),
    response("usage", ResponseField::Usage),
    counted("usage.input_tokens", Count::Input),
    counted("usage.cache_read_input_tokens", Count::CacheRead),
    counted("usage.cache_creation_input_tokens", Count::CacheWrite),
    counted("usage.cache_creation.ephemeral_5m_input_tokens", Count::CacheWrite5m),
    counted("usage.cache_creation.ephemeral_1h_input_tokens", Count::CacheWrite1h),
    counted("usage.output_tokens_details.thinking_tokens", Count::Reasoning),
];

static REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", REQUEST_FIELDS), ("", api::IDENTITY)]));

static RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", EVENT), ("", MESSAGE), ("message", MESSAGE)]));

/// Also of messages that other hosts carry.
pub(super) fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("system"));
        content.input(sent.get("messages"));
        content.tools(sent.get("tools"));
        return;
    }
    let number = sent.number("index");
    match sent.kind() {
        "message" => content.message(0, Some(sent.json)),
        "content_block_start" => content.pieces(0, number, &sent.json["content_block"]),
        "content_block_delta" => {
            content.text(0, number, sent.at("/delta/text"));
            content.reasoning(0, number, sent.at("/delta/thinking"));
            content.tool_arguments(0, number, sent.at("/delta/partial_json"));
        }
        _ => {}
    }
}

/// Chats have messages, too: those of a model have usage.
#[derive(Debug)]
struct Messages;

impl Decoder for Messages {
    fn end(&mut self, _whole: bool, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        response.is_recognised = response.is_recognised || response.has_usage();
    }
}
