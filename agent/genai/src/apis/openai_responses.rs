//! OpenAI Responses (`POST …/responses`), plain, streamed and in the background, and fetching what was stored
//! (`GET …/responses/{id}`). Compacting a conversation (`POST …/responses/compact`) has the model rewrite it.
//!
//! What a plain response has at its top lies under `response` in the events of a stream. The conventions derive the
//! finish reason from the status.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, extra, kind, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, ResponseField, read},
    provider,
    route::{Captures, Route, query},
};

pub(crate) static API: ApiSpec = ApiSpec {
    openai_api_type: Some("responses"),
    kinds: &[
        // The kinds of most events first.
        ("response.output_text.delta", Kind::Evidence),
        ("response.function_call_arguments.delta", Kind::Evidence),
        ("response.reasoning_text.delta", Kind::Evidence),
        ("response.reasoning_summary_text.delta", Kind::Evidence),
        ("response", Kind::Evidence),
        ("response.compaction", Kind::Evidence),
        ("response.created", Kind::OneChoice),
        ("response.queued", Kind::Evidence),
        ("response.in_progress", Kind::Evidence),
        ("response.output_item.added", Kind::Evidence),
        ("response.output_item.done", Kind::Evidence),
        ("response.completed", Kind::Last),
        ("response.done", Kind::Last),
        ("response.incomplete", Kind::Last),
        ("response.cancelled", Kind::Last),
        ("response.failed", Kind::Last),
        // Not only this API has such documents.
        ("error", Kind::Failure),
    ],
    decoder: || Box::<Responses>::default(),
    by_bodies: true,
    content: Some(read_content),
    chained: true,
    ..ApiSpec::new("openai-responses", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

const FETCH: &str = "fetch_response";

const ROUTES: &[Route] = &[
    Route::post("/responses/compact", "chat").likely(),
    Route::post("/responses", "chat").likely(),
    Route::get("/responses/{id}", FETCH).likely(),
];

pub(super) const REQUEST_FIELDS: &[Wanted] = &[
    request("input", RequestField::Evidence),
    request("input[].role", RequestField::MessageRole),
    request("input[].call_id", RequestField::ToolResultId),
    request("model", RequestField::Model),
    request("stream", RequestField::Stream),
    request("max_output_tokens", RequestField::MaxTokens),
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("reasoning.effort", RequestField::ReasoningLevel),
    request("text.format.type", RequestField::FormatName),
    request("service_tier", RequestField::ServiceTier),
    extra("previous_response_id", Extra::PreviousResponseId),
    extra("conversation", Extra::ConversationId),
    extra("conversation.id", Extra::ConversationId),
    extra("prompt.id", Extra::PromptName),
    extra("prompt.version", Extra::PromptVersion),
];

static REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", REQUEST_FIELDS), ("", api::IDENTITY)]));

pub(super) const STATUS: u8 = 0;
pub(super) const INCOMPLETE_REASON: u8 = 1;
pub(super) const OUTPUT_TYPE: u8 = 2;

pub(super) const RESPONSE_OBJECT: &[Wanted] = &[
    response("id", ResponseField::Id),
    response("model", ResponseField::Model),
    response("service_tier", ResponseField::ServiceTier),
    own("status", STATUS),
    own("incomplete_details.reason", INCOMPLETE_REASON),
    own("output[].type", OUTPUT_TYPE),
    response("output[].call_id", ResponseField::ToolCallId),
    response("output[].name", ResponseField::ToolCallName),
    Wanted::presence("error", Field::Response(ResponseField::Error)),
    response("error.code", ResponseField::ErrorCode),
    response("error.type", ResponseField::ErrorType),
    extra("conversation.id", Extra::ConversationId),
    response("usage", ResponseField::Usage),
    counted("usage.input_tokens", Count::Input),
    counted("usage.input_tokens_details.cached_tokens", Count::CacheRead),
    counted("usage.input_tokens_details.cache_write_tokens", Count::CacheWrite),
    counted("usage.output_tokens", Count::Output),
    counted("usage.output_tokens_details.reasoning_tokens", Count::Reasoning),
    counted("usage.total_tokens", Count::Total),
];

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", RESPONSE_OBJECT),
        ("response", RESPONSE_OBJECT),
        (
            "",
            &[
                kind("object"),
                kind("type"),
                // Of the event `error`, and of xAI's documents.
                response("code", ResponseField::ErrorCode),
                content("delta"),
                response("item.call_id", ResponseField::ToolCallId),
                response("item.name", ResponseField::ToolCallName),
                content("partial_image_b64"),
            ],
        ),
        ("response", &[kind("object")]),
    ])
});

#[derive(Debug, Default)]
struct Responses {
    status: String,
    incomplete_reason: String,
    /// The last output is the call of a tool.
    calls_tool: bool,
    /// The id of the stored response that is fetched.
    fetched: Option<String>,
}

impl Decoder for Responses {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        self.fetched = captures.get("id");
        if self.fetched.is_some()
            && let Some(after) = query(head.target, "starting_after")
        {
            calls.current.set(Extra::StreamCursor, after);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        match field {
            // No evidence: the replies of many services have one.
            STATUS => read(value, &mut self.status),
            INCOMPLETE_REASON => read(value, &mut self.incomplete_reason),
            _ => {
                self.calls_tool |= is_tool_call(value);
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let reason =
            finish_reason(&self.status, &self.incomplete_reason, self.calls_tool, call.response.gapped);
        let failed = self.status == "failed";
        if !reason.is_empty() {
            call.response.choice(0, reason);
        }
        if !self.status.is_empty() {
            call.set(Extra::ResponseStatus, self.status.as_str());
        }
        match self.fetched.take() {
            Some(id) => call.response.fetched(id, failed),
            None => call.response.failure.seen |= failed,
        }
    }
}

/// Numbers of parts that one output item may have.
const ITEM_PARTS: u64 = 1 << 12;

pub(super) fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("instructions"));
        content.input(sent.get("input"));
        content.tools(sent.get("tools"));
        return;
    }
    let item = sent.number("output_index").saturating_mul(ITEM_PARTS);
    let part = item.saturating_add(sent.number("content_index") % ITEM_PARTS);
    match sent.kind() {
        "response.output_text.delta" | "response.refusal.delta" => content.text(0, part, sent.get("delta")),
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
            content.reasoning(0, part, sent.get("delta"));
        }
        "response.output_item.done" => {
            content.replace(0, item..item.saturating_add(ITEM_PARTS), &sent.json["item"]);
        }
        kind => {
            let response = if kind.starts_with("response.") { &sent.json["response"] } else { sent.json };
            let output = response.get("output").and_then(serde_json::Value::as_array);
            if let Some(output) = output.filter(|output| !output.is_empty()) {
                content.restart_output();
                output.iter().for_each(|item| content.message(0, Some(item)));
            }
        }
    }
}

/// Whether an output of this type calls a tool.
pub(super) fn is_tool_call(kind: Value<'_>) -> bool {
    let Value::Str(kind) = kind else { return false };
    ["function_call", "custom_tool_call", "computer_call", "local_shell_call"]
        .iter()
        .any(|tool| kind.is(tool))
}

/// The finish reason that the conventions derive from the status; empty where there is none.
pub(super) fn finish_reason<'a>(
    status: &str,
    incomplete: &'a str,
    calls_tool: bool,
    gapped: bool,
) -> &'a str {
    match (status, incomplete) {
        ("completed", _) if calls_tool => "tool_call",
        // The call of a tool may have been lost.
        ("completed", _) if gapped => "",
        ("completed", _) => "stop",
        ("incomplete", "max_output_tokens") => "length",
        ("incomplete", reason) => reason,
        ("failed" | "cancelled", _) => "error",
        _ => "",
    }
}
