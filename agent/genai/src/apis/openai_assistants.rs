//! OpenAI Assistants: `POST …/assistants` creates an agent, runs invoke it (`…/threads/{thread}/runs`,
//! `…/threads/runs`). Searching a vector store (`…/vector_stores/{store}/search`) is retrieval.
//!
//! LangGraph and others have the same paths. OpenAI's clients send the header field `OpenAI-Beta: assistants=v2` with all
//! of these requests: it makes a request a call also where the answer is a failure, which says nothing of the API.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use super::openai_chat::{FAILURE, USAGE};
use crate::{
    api::{self, ApiSpec, Field, Kind, content, extra, kind, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Extra, RequestFacts, RequestField, ResponseField, read},
    provider,
    route::{Captures, Route},
};

pub(crate) static ASSISTANTS: ApiSpec = ApiSpec {
    kinds: &[("assistant", Kind::Evidence)],
    decoder: || Box::new(Assistant),
    is_request: RequestFacts::has_evidence,
    ..ApiSpec::new("openai-assistants", provider::OPENAI, ASSISTANT_ROUTES, &ASSISTANT, &ASSISTANT_RESPONSE)
};

const ASSISTANT_ROUTES: &[Route] = &[Route::post("/assistants", "create_agent").likely()];

static ASSISTANT: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("temperature", RequestField::Temperature),
            request("top_p", RequestField::TopP),
            request("reasoning_effort", RequestField::ReasoningLevel),
            extra("name", Extra::AgentName),
        ],
    )])
});

static ASSISTANT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                kind("object"),
                extra("id", Extra::AgentId),
                extra("name", Extra::AgentName),
                response("model", ResponseField::Model),
            ],
        ),
        ("", FAILURE),
    ])
});

#[derive(Debug)]
struct Assistant;

impl Decoder for Assistant {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.current.request.evidence = has_beta_field(head);
    }
}

/// Whether the header fields are those of OpenAI's clients.
fn has_beta_field(head: &RequestHead<'_>) -> bool {
    head.headers.get("openai-beta").is_some_and(|value| value.starts_with(b"assistants="))
}

pub(crate) static RUNS: ApiSpec = ApiSpec {
    decoder: || Box::<Run>::default(),
    is_request: RequestFacts::has_evidence,
    content: Some(read_run),
    ..ApiSpec::new("openai-runs", provider::OPENAI, RUN_ROUTES, &RUN, &RUN_RESPONSE)
};

const RUN_ROUTES: &[Route] = &[
    Route::post("/threads/{thread}/runs/{run}/submit_tool_outputs", "invoke_agent").likely(),
    Route::post("/threads/runs", "invoke_agent").likely(),
    Route::post("/threads/{thread}/runs", "invoke_agent").likely(),
];

static RUN: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("stream", RequestField::Stream),
            request("temperature", RequestField::Temperature),
            request("top_p", RequestField::TopP),
            request("max_completion_tokens", RequestField::MaxTokens),
            extra("assistant_id", Extra::AgentId),
        ],
    )])
});

const OBJECT: u8 = 0;
const ID: u8 = 1;
const STATUS: u8 = 2;

static RUN_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                own("object", OBJECT),
                own("id", ID),
                own("status", STATUS),
                response("model", ResponseField::Model),
                extra("assistant_id", Extra::AgentId),
                extra("thread_id", Extra::ConversationId),
                content("delta.content[].text.value"),
                response("last_error", ResponseField::Error),
                response("last_error.code", ResponseField::ErrorCode),
            ],
        ),
        ("", FAILURE),
        ("usage", USAGE),
    ])
});

/// Takes the thread from the path, and id and status of the run: messages and steps have their own.
#[derive(Debug, Default)]
struct Run {
    is_run: bool,
    id: String,
    status: String,
}

impl Decoder for Run {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.current.request.evidence = has_beta_field(head);
        if let Some(thread) = captures.get("thread") {
            calls.current.set(Extra::ConversationId, thread);
        }
    }

    fn begin(&mut self, _event: &Event<'_>, _calls: &mut OpenCalls) {
        self.is_run = false;
        self.id.clear();
        self.status.clear();
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        match (field, value) {
            (OBJECT, Value::Str(object)) => {
                self.is_run = object.is("thread.run");
                calls.current.response.is_recognised |= self.is_run || object.is("thread.message.delta");
            }
            (ID, value) => read(value, &mut self.id),
            (_, value) => read(value, &mut self.status),
        }
    }

    fn end(&mut self, _whole: bool, calls: &mut OpenCalls) {
        if self.is_run {
            self.id.clone_into(&mut calls.current.response.id);
            calls.current.set_text(Extra::ResponseStatus, &self.status);
        }
    }
}

pub(crate) static SEARCH: ApiSpec = ApiSpec {
    kinds: &[("vector_store.search_results.page", Kind::Evidence)],
    decoder: || Box::new(Search),
    is_request: RequestFacts::has_evidence,
    content: Some(read_search),
    ..ApiSpec::new(
        "openai-vector-store-search",
        provider::OPENAI,
        SEARCH_ROUTES,
        &SEARCH_REQUEST,
        &SEARCH_RESPONSE,
    )
};

const SEARCH_ROUTES: &[Route] = &[Route::post("/vector_stores/{store}/search", "retrieval").likely()];

static SEARCH_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[request("ranking_options", RequestField::Evidence), extra("max_num_results", Extra::RetrievalTopK)],
    )])
});

static SEARCH_RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[kind("object")]), ("", FAILURE)]));

/// Takes the store from the path.
#[derive(Debug)]
struct Search;

impl Decoder for Search {
    fn request_head(&mut self, head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.current.request.evidence = has_beta_field(head);
        if let Some(store) = captures.get("store") {
            calls.current.subject = Some(store.clone());
            calls.current.set(Extra::DataSourceId, store);
        }
    }
}

fn read_run(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("instructions"));
        content.input(sent.get("additional_messages").or_else(|| sent.at("/thread/messages")));
        content.tools(sent.get("tools"));
        return;
    }
    for part in sent.at("/delta/content").and_then(serde_json::Value::as_array).into_iter().flatten() {
        let number = part.get("index").and_then(serde_json::Value::as_u64).unwrap_or(0);
        content.text(0, number, part.pointer("/text/value"));
    }
}

fn read_search(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.query(sent.get("query"));
    }
    for found in sent.list("data") {
        content.document(found.get("file_id"), found.get("score"));
    }
}
