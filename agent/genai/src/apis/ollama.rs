//! Ollama's own API: `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`. Streams are JSON lines, and the default.
//!
//! Applications have an `/api/chat` of their own: only a response of Ollama's form, or a failure that answers one of its
//! clients, makes an exchange a call.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, Wanted, content, counted, extra, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, ResponseField, UsageRule},
    provider,
    route::{Captures, Framing, Route},
};

pub(crate) static GENERATE: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::PLAIN },
    decoder: || Box::<Ollama>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("ollama", provider::OLLAMA, GENERATE_ROUTES, &GENERATE_REQUEST, &GENERATE_RESPONSE)
};

const GENERATE_ROUTES: &[Route] = &[
    Route::post("/api/chat", "chat").response(Framing::Lines).likely(),
    Route::post("/api/generate", "text_completion").response(Framing::Lines).likely(),
];

const DONE: u8 = 0;
const ANSWER: u8 = 1;
const VECTOR: u8 = 2;

const OPTIONS: &[Wanted] = &[
    request("num_predict", RequestField::MaxTokens),
    request("temperature", RequestField::Temperature),
    request("top_k", RequestField::TopK),
    request("top_p", RequestField::TopP),
    request("seed", RequestField::Seed),
    request("stop", RequestField::Stop),
    request("stop[]", RequestField::Stop),
    request("frequency_penalty", RequestField::FrequencyPenalty),
    request("presence_penalty", RequestField::PresencePenalty),
];

static GENERATE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("options", OPTIONS),
        (
            "",
            &[
                request("model", RequestField::Model),
                request("messages", RequestField::Evidence),
                request("prompt", RequestField::Evidence),
                request("stream", RequestField::Stream),
                request("format", RequestField::FormatName),
                request("think", RequestField::ReasoningLevel),
            ],
        ),
    ])
});

const ERROR: Wanted = Wanted::presence("error", Field::Response(ResponseField::Error));

static GENERATE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("model", ResponseField::Model),
            own("done", DONE),
            own("message.role", ANSWER),
            own("created_at", ANSWER),
            content("message.content"),
            content("message.thinking"),
            response("message.tool_calls[].id", ResponseField::ToolCallId),
            response("message.tool_calls[].function.name", ResponseField::ToolCallName),
            content("response"),
            content("thinking"),
            response("done_reason", ResponseField::FinishReason),
            counted("prompt_eval_count", Count::Input),
            counted("eval_count", Count::Output),
            ERROR,
        ],
    )])
});

#[derive(Debug, Default)]
struct Ollama {
    /// The caller is a client of Ollama's, or it calls Ollama's port.
    client: bool,
    answered: bool,
    done: bool,
    seen_done: bool,
}

impl Decoder for Ollama {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, _calls: &mut OpenCalls) {
        let agent = head.headers.get("user-agent").unwrap_or_default();
        let port = head.authority.unwrap_or_default().ends_with(b":11434");
        self.client = port || agent.starts_with(b"ollama");
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        match (field, value) {
            (DONE, Value::Bool(done)) => {
                self.done = done;
                self.seen_done = true;
            }
            (ANSWER, Value::Str(_)) => self.answered = true,
            (VECTOR, Value::Array) => calls.current.response.is_recognised = true,
            _ => {}
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        response.is_recognised |= self.answered && self.seen_done && !response.model.is_empty();
        if response.is_recognised {
            response.choice(0, "");
            response.done |= self.done && whole;
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        call.response.is_recognised |=
            call.response.failure.seen && self.client && call.request.has_evidence();
    }
}

pub(crate) static EMBED: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::INPUT_ONLY },
    decoder: || Box::<Ollama>::default(),
    is_request: |_| false,
    ..ApiSpec::new("ollama-embed", provider::OLLAMA, EMBED_ROUTES, &EMBED_REQUEST, &EMBED_RESPONSE)
};

const EMBED_ROUTES: &[Route] = &[
    Route::post("/api/embed", "embeddings").likely(),
    Route::post("/api/embeddings", "embeddings").likely(),
];

static EMBED_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("input", RequestField::Evidence),
            request("prompt", RequestField::Evidence),
            extra("dimensions", Extra::EmbeddingsDimensions),
        ],
    )])
});

static EMBED_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("model", ResponseField::Model),
            own("embeddings", VECTOR),
            own("embedding", VECTOR),
            counted("prompt_eval_count", Count::Input),
            ERROR,
        ],
    )])
});

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("system"));
        content.input(sent.get("messages"));
        content.prompt(sent.get("prompt"));
        content.tools(sent.get("tools"));
        return;
    }
    let message = sent.get("message").unwrap_or(sent.json);
    content.reasoning(0, 0, message.get("thinking"));
    content.text(0, 1, message.get("content").or_else(|| sent.get("response")));
    for call in message.get("tool_calls").and_then(serde_json::Value::as_array).into_iter().flatten() {
        content.follow(0, &serde_json::json!([{ "type": "tool_call", "function": call.get("function") }]));
    }
}
