//! Mistral's conversations: models and agents, with a history that the server keeps.
//!
//! What comes out is a list of entries: messages, calls of tools, and tools that the provider has run. There are no finish
//! reasons.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};
use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use super::openai_chat::{self, USAGE};
use crate::{
    api::{self, ApiSpec, Field, Wanted, content, extra, once, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Extra, RequestField, ResponseField, UsageRule, read},
    provider,
    route::{Captures, Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule::PLAIN,
    decoder: || Box::<Conversation>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("mistral-conversations", provider::MISTRAL, ROUTES, &REQUEST, &RESPONSE)
};

/// Agents without a history: bodies are those of chats.
pub(crate) static AGENTS: ApiSpec = ApiSpec {
    kinds: openai_chat::KINDS,
    usage: openai_chat::PARTS_OF_THE_TOTAL,
    decoder: || Box::<openai_chat::OpenAiChat>::default(),
    content: Some(openai_chat::read_content),
    ..ApiSpec::new(
        "mistral-agents",
        provider::MISTRAL,
        AGENTS_ROUTES,
        &openai_chat::REQUEST,
        &openai_chat::RESPONSE,
    )
};

const AGENTS_ROUTES: &[Route] = &[
    Route::post("/agents/completions", "chat").confidence(MISTRAL),
    Route::post("/v1/agents/completions", "chat").confidence(Confidence::ByBodies),
];

const MISTRAL: Confidence = Confidence::At(&["api.mistral.ai"]);

/// OpenAI has conversations, too, which are no calls.
const ROUTES: &[Route] = &[
    Route::post("/v1/conversations", "chat").confidence(MISTRAL),
    Route::post("/v1/conversations/{id}", "chat").confidence(MISTRAL),
    Route::post("/v1/conversations/{id}/restart", "chat").confidence(MISTRAL),
    Route::post("/v1/conversations", "chat").confidence(Confidence::ByBodies),
    Route::post("/v1/conversations/{id}", "chat").confidence(Confidence::ByBodies),
    Route::post("/v1/conversations/{id}/restart", "chat").confidence(Confidence::ByBodies),
];

const AGENT: u8 = 0;
const ANSWERED_BY: u8 = 1;
const OBJECT: u8 = 2;
const TYPE: u8 = 3;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("inputs", RequestField::Evidence),
                request("inputs[].role", RequestField::MessageRole),
                request("inputs[].tool_call_id", RequestField::ToolResultId),
                request("model", RequestField::Model),
                request("stream", RequestField::Stream),
                own("agent_id", AGENT),
            ],
        ),
        (
            "completion_args",
            &[
                request("max_tokens", RequestField::MaxTokens),
                request("temperature", RequestField::Temperature),
                request("top_p", RequestField::TopP),
                request("random_seed", RequestField::Seed),
                request("stop", RequestField::Stop),
                request("stop[]", RequestField::Stop),
                request("presence_penalty", RequestField::PresencePenalty),
                request("frequency_penalty", RequestField::FrequencyPenalty),
                request("reasoning_effort", RequestField::ReasoningLevel),
                request("response_format.type", RequestField::FormatName),
            ],
        ),
    ])
});

/// What entries and events have.
const ENTRY: &[Wanted] = &[
    once("model", ResponseField::Model),
    own("agent_id", ANSWERED_BY),
    response("tool_call_id", ResponseField::ToolCallId),
    response("name", ResponseField::ToolCallName),
];

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", ENTRY),
        ("outputs[]", ENTRY),
        ("usage", USAGE),
        (
            "",
            &[
                own("object", OBJECT),
                own("type", TYPE),
                extra("conversation_id", Extra::ConversationId),
                content("content"),
                content("arguments"),
                response("code", ResponseField::ErrorCode),
                response("detail", ResponseField::Error),
            ],
        ),
    ])
});

/// Tells answers, events and errors by what they say of themselves.
#[derive(Debug, Default)]
struct Conversation {
    is_error: bool,
}

impl Decoder for Conversation {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(id) = captures.get("id") {
            calls.current.set(Extra::ConversationId, id);
        }
    }

    fn begin(&mut self, _event: &Event<'_>, _calls: &mut OpenCalls) {
        self.is_error = false;
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let Value::Str(text) = value else { return };
        match field {
            AGENT | ANSWERED_BY if text.is_empty() => {}
            AGENT | ANSWERED_BY => {
                call.operation = Some("invoke_agent");
                // Another agent may take over: the one that was asked counts.
                if field == AGENT || !call.has(Extra::AgentId) {
                    call.read(Extra::AgentId, value);
                }
            }
            OBJECT => {
                call.response.is_recognised |= text.is("conversation.response");
                self.is_error = text.is("error");
                call.response.failure.seen |= self.is_error;
            }
            _ if self.is_error => read(value, &mut call.response.failure.kind),
            _ => {
                let (begins, failed) =
                    (text.is("conversation.response.started"), text.is("conversation.response.error"));
                call.response.is_recognised |= begins || failed;
                call.response.failure.seen |= failed;
                if begins {
                    // Ends with the last event, without a reason.
                    call.response.choice(0, "");
                }
                call.response.in_last_event |= text.is("conversation.response.done");
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        // Tools that the provider runs have none.
        calls.current.response.tool_calls.only_with_ids();
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("instructions"));
        match sent.get("inputs") {
            Some(Json::Array(entries)) => entries.iter().for_each(|entry| content.input(Some(&item(entry)))),
            text => content.input(text),
        }
        content.tools(sent.get("tools"));
        return;
    }
    for entry in sent.list("outputs") {
        match entry["type"].as_str() {
            Some("message.output") => content.message(0, entry.get("content")),
            Some("function.call" | "tool.execution") => content.message(0, Some(&item(entry))),
            _ => {}
        }
    }
    let number =
        sent.number("output_index").saturating_mul(PARTS).saturating_add(sent.number("content_index"));
    match sent.kind() {
        "message.output.delta" => {
            if let Some(piece) = sent.get("content") {
                content.pieces(0, number, piece);
            }
        }
        "function.call.delta" => content.tool_call(0, number, &item(sent.json)),
        _ => {}
    }
}

/// More parts of an entry are not told apart.
const PARTS: u64 = 1 << 12;

/// An entry in a form that other APIs have.
fn item(entry: &Json) -> Json {
    let (id, name, arguments) = (&entry["tool_call_id"], &entry["name"], &entry["arguments"]);
    match entry["type"].as_str().unwrap_or_default() {
        "function.call" | "function.call.delta" => {
            json!({ "type": "function_call", "call_id": id, "name": name, "arguments": arguments })
        }
        "function.result" => {
            json!({ "type": "function_call_output", "call_id": id, "output": entry["result"] })
        }
        "tool.execution" => {
            json!({ "type": "server_tool_use", "id": entry["id"], "name": name, "input": arguments })
        }
        _ => json!({ "role": entry["role"], "content": entry["content"] }),
    }
}
