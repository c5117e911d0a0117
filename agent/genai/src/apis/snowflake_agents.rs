//! Snowflake Cortex: agents, with or without an object of their own, and searches.

use std::sync::LazyLock;

use serde_json::Value as Json;
use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use super::{openai_chat::FAILURE, snowflake_cortex::tool_call};
use crate::{
    api::{self, ApiSpec, Field, extra, own, own_presence, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Extra, RequestFacts, RequestField, ResponseField},
    provider,
    route::{Captures, Route},
};

pub(crate) static AGENT: ApiSpec = ApiSpec {
    decoder: || Box::new(Agent),
    is_request: RequestFacts::has_evidence,
    content: Some(read_agent),
    ..ApiSpec::new("snowflake-agent", provider::SNOWFLAKE, AGENT_ROUTES, &AGENT_REQUEST, &AGENT_RESPONSE)
};

const AGENT_ROUTES: &[Route] = &[
    Route::post("/cortex/agent:run", "invoke_agent"),
    Route::post("/schemas/{schema}/agents/{name}:run", "invoke_agent"),
];

const THREAD: u8 = 0;
const TEXT: u8 = 1;
const ANSWER: u8 = 2;

static AGENT_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("messages", RequestField::Evidence),
            request("messages[].role", RequestField::MessageRole),
            request("models.orchestration", RequestField::Model),
            request("model", RequestField::Model),
            request("stream", RequestField::Stream),
            own("thread_id", THREAD),
        ],
    )])
});

static AGENT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                own_presence("text", TEXT),
                own("role", ANSWER),
                response("error_code", ResponseField::ErrorCode),
                response("content_index", ResponseField::Evidence),
                response("metadata.message_id", ResponseField::Evidence),
                // An older form of the events.
                response("delta.content", ResponseField::Evidence),
                own_presence("delta.content[].text", TEXT),
            ],
        ),
    ])
});

/// Takes the agent from the path, and the thread.
#[derive(Debug)]
struct Agent;

impl Decoder for Agent {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(name) = captures.get("name") {
            calls.current.set(Extra::AgentName, name);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match (field, value) {
            // Before the first message of a thread, it is 0.
            (THREAD, Value::Number(id)) => {
                if let Some(id) = id.as_i64().filter(|&id| id > 0) {
                    call.set(Extra::ConversationId, id.to_string());
                }
            }
            (TEXT, Value::Str(text)) if !text.is_empty() => call.response.content(),
            (ANSWER, Value::Str(role)) => call.response.is_recognised |= role.is("assistant"),
            _ => {}
        }
    }
}

/// Events have the name of their kind outside of the document: only the last one, which has the whole answer, is read.
fn read_agent(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.at("/instructions/system"));
        content.input(sent.get("messages"));
        return;
    }
    if sent.get("role").is_some_and(|role| role == "assistant") {
        content.restart_output();
        for part in sent.list("content") {
            match part["type"].as_str() {
                Some("text") => content.message(0, Some(&Json::Array(vec![part.clone()]))),
                Some("tool_use") => content.message(0, Some(&Json::Array(vec![tool_call(part)]))),
                _ => {}
            }
        }
    }
}

pub(crate) static SEARCH: ApiSpec = ApiSpec {
    decoder: || Box::new(Search),
    is_request: RequestFacts::has_evidence,
    content: Some(read_search),
    ..ApiSpec::new("snowflake-search", provider::SNOWFLAKE, SEARCH_ROUTES, &SEARCH_REQUEST, &SEARCH_RESPONSE)
};

const SEARCH_ROUTES: &[Route] = &[Route::post("/cortex-search-services/{service}:query", "retrieval")];

static SEARCH_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[request("query", RequestField::Evidence), extra("limit", Extra::RetrievalTopK)])])
});

static SEARCH_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[response("results", ResponseField::Evidence), response("error_code", ResponseField::ErrorCode)],
        ),
    ])
});

/// Takes the service from the path.
#[derive(Debug)]
struct Search;

impl Decoder for Search {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(service) = captures.get("service") {
            calls.current.subject = Some(service.clone());
            calls.current.set(Extra::DataSourceId, service);
        }
    }
}

/// What was found has the columns that the request names, and no id that is known.
fn read_search(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.query(sent.get("query"));
    }
}
