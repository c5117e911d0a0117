//! OpenAI Responses (`POST …/responses`), plain, streamed and in the background, and fetching what was stored
//! (`GET …/responses/{id}`).
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
        ("response", Kind::Evidence),
        ("response.created", Kind::OneChoice),
        ("response.completed", Kind::Last),
        ("response.done", Kind::Last),
        ("response.incomplete", Kind::Last),
        ("response.cancelled", Kind::Last),
        ("response.failed", Kind::Last),
        ("error", Kind::OwnFailure),
    ],
    decoder: || Box::<Responses>::default(),
    by_bodies: true,
    content: Some(read_content),
    ..ApiSpec::new("openai-responses", provider::OPENAI, ROUTES, &REQUEST, &RESPONSE)
};

const FETCH: &str = "fetch_response";

const ROUTES: &[Route] =
    &[Route::post("/responses", "chat").likely(), Route::get("/responses/{id}", FETCH).likely()];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("input", RequestField::Evidence),
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
        ],
    )])
});

const STATUS: u8 = 0;
const INCOMPLETE_REASON: u8 = 1;
const OUTPUT_TYPE: u8 = 2;

const RESPONSE_OBJECT: &[Wanted] = &[
    response("id", ResponseField::Id),
    response("model", ResponseField::Model),
    response("service_tier", ResponseField::ServiceTier),
    own("status", STATUS),
    own("incomplete_details.reason", INCOMPLETE_REASON),
    own("output[].type", OUTPUT_TYPE),
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
                content("item.name"),
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
    fetched: bool,
}

impl Decoder for Responses {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        self.fetched = captures.raw("id").is_some();
        if self.fetched
            && let Some(after) = query(head.target, "starting_after")
        {
            calls.current.set(Extra::StreamCursor, after);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        match field {
            STATUS => {
                read(value, &mut self.status);
                calls.current.response.is_recognised |= !self.status.is_empty();
            }
            INCOMPLETE_REASON => read(value, &mut self.incomplete_reason),
            _ => {
                if let Value::Str(kind) = value {
                    self.calls_tool |=
                        ["function_call", "custom_tool_call", "computer_call", "local_shell_call"]
                            .iter()
                            .any(|tool| kind.is(tool));
                }
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let reason = match (self.status.as_str(), self.incomplete_reason.as_str()) {
            ("completed", _) if self.calls_tool => "tool_call",
            // The call of a tool may have been lost.
            ("completed", _) if call.response.gapped => "",
            ("completed", _) => "stop",
            ("incomplete", "max_output_tokens") => "length",
            ("incomplete", reason) => reason,
            ("failed" | "cancelled", _) => "error",
            _ => "",
        };
        if self.status == "failed" {
            call.response.failure.seen = true;
        }
        if !reason.is_empty() {
            call.response.choice(0, reason);
        }
        if !self.status.is_empty() {
            call.set(Extra::ResponseStatus, self.status.as_str());
        }
        if self.fetched {
            // Nothing is inferred, and no token is used: the conventions say so.
            call.response.forget_usage();
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
    let number = |key| sent.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let item = number("output_index").saturating_mul(ITEM_PARTS);
    let part = item.saturating_add(number("content_index") % ITEM_PARTS);
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
