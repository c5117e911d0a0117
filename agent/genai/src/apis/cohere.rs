//! Cohere: chat (`/v2/chat`, `/v1/chat`), generate and embed. Reranking is in `rerank.rs`.
//!
//! Streams of version 2 are server-sent events, those of version 1 JSON lines. Billed counts are reported where there are
//! others, too.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use crate::{
    api::{self, ApiSpec, Field, Kind, Wanted, content, counted, extra, kind, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, ResponseField, UsageRule, read},
    provider,
    route::{Framing, Route},
};

const SAMPLING: &[Wanted] = &[
    request("model", RequestField::Model),
    request("stream", RequestField::Stream),
    request("max_tokens", RequestField::MaxTokens),
    request("num_generations", RequestField::Choices),
    request("temperature", RequestField::Temperature),
    request("p", RequestField::TopP),
    request("k", RequestField::TopK),
    request("seed", RequestField::Seed),
    request("stop_sequences[]", RequestField::Stop),
    request("frequency_penalty", RequestField::FrequencyPenalty),
    request("presence_penalty", RequestField::PresencePenalty),
    request("response_format.type", RequestField::FormatName),
];

/// `usage` of version 2, `meta` of version 1.
pub(super) const USAGE: &[Wanted] = &[
    response("", ResponseField::Usage),
    counted("billed_units.input_tokens", Count::Input),
    counted("billed_units.output_tokens", Count::Output),
    counted("tokens.input_tokens", Count::UnbilledInput),
    counted("tokens.output_tokens", Count::UnbilledOutput),
    counted("cached_tokens", Count::CacheRead),
];

pub(crate) static CHAT: ApiSpec = ApiSpec {
    kinds: &[
        ("message-start", Kind::OneChoice),
        ("message-end", Kind::Last),
        // The role of the message, which users have in other chats.
        ("assistant", Kind::Evidence),
    ],
    content: Some(read_chat),
    ..ApiSpec::new("cohere-chat", provider::COHERE, CHAT_ROUTES, &CHAT_REQUEST, &CHAT_RESPONSE)
};

const CHAT_ROUTES: &[Route] = &[Route::post("/v2/chat", "chat").likely()];

static CHAT_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", SAMPLING),
        (
            "",
            &[
                request("messages", RequestField::Evidence),
                request("messages[].role", RequestField::MessageRole),
                request("messages[].tool_call_id", RequestField::ToolResultId),
                request("reasoning_effort", RequestField::ReasoningLevel),
            ],
        ),
    ])
});

static CHAT_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("usage", USAGE),
        ("delta.usage", USAGE),
        (
            "",
            &[
                kind("type"),
                response("id", ResponseField::Id),
                kind("message.role"),
                response("finish_reason", ResponseField::FinishReason),
                response("delta.finish_reason", ResponseField::FinishReason),
                Wanted::presence("delta.error", Field::Response(ResponseField::Error)),
                content("delta.message.content.text"),
                content("delta.message.content.thinking"),
                content("delta.message.tool_plan"),
                response("delta.message.tool_calls.id", ResponseField::ToolCallId),
                response("delta.message.tool_calls.function.name", ResponseField::ToolCallName),
                response("message.tool_calls[].id", ResponseField::ToolCallId),
                response("message.tool_calls[].function.name", ResponseField::ToolCallName),
                content("delta.message.tool_calls.function.arguments"),
            ],
        ),
    ])
});

pub(crate) static CHAT_V1: ApiSpec = ApiSpec {
    kinds: &[("stream-start", Kind::OneChoice), ("stream-end", Kind::Last)],
    decoder: || Box::<ChatV1>::default(),
    is_request: |_| false,
    content: Some(read_chat_v1),
    ..ApiSpec::new("cohere-chat-v1", provider::COHERE, CHAT_V1_ROUTES, &CHAT_V1_REQUEST, &CHAT_V1_RESPONSE)
};

const CHAT_V1_ROUTES: &[Route] = &[Route::post("/v1/chat", "chat").response(Framing::Lines).likely()];

const GENERATION_ID: u8 = 0;

static CHAT_V1_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", SAMPLING),
        ("", &[request("message", RequestField::Evidence), extra("conversation_id", Extra::ConversationId)]),
    ])
});

const ANSWER: &[Wanted] = &[
    response("response_id", ResponseField::Id),
    own("generation_id", GENERATION_ID),
    response("finish_reason", ResponseField::FinishReason),
];

static CHAT_V1_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", ANSWER),
        ("response", ANSWER),
        ("meta", USAGE),
        ("response.meta", USAGE),
        ("", &[kind("event_type"), content("text"), content("tool_calls")]),
    ])
});

/// Takes the id of the generation where the response has none.
#[derive(Debug, Default)]
struct ChatV1 {
    generation: String,
}

impl Decoder for ChatV1 {
    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        read(value, &mut self.generation);
        calls.current.response.is_recognised |= !self.generation.is_empty();
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        // The id of the response may have been lost.
        if response.id.is_empty() && !response.gapped {
            response.id = std::mem::take(&mut self.generation);
        }
    }
}

pub(crate) static GENERATE: ApiSpec = ApiSpec {
    is_request: |_| false,
    content: Some(read_generate),
    ..ApiSpec::new(
        "cohere-generate",
        provider::COHERE,
        GENERATE_ROUTES,
        &GENERATE_REQUEST,
        &GENERATE_RESPONSE,
    )
};

const GENERATE_ROUTES: &[Route] =
    &[Route::post("/v1/generate", "text_completion").response(Framing::Lines).likely()];

static GENERATE_REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", SAMPLING), ("", &[request("prompt", RequestField::Evidence)])]));

static GENERATE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("meta", USAGE),
        ("response.meta", USAGE),
        (
            "",
            &[
                response("id", ResponseField::Id),
                response("response.id", ResponseField::Id),
                response("generations[]", ResponseField::Choice),
                response("generations[].index", ResponseField::ChoiceIndex),
                response("generations[].finish_reason", ResponseField::FinishReason),
                response("finish_reason", ResponseField::FinishReason),
                content("text"),
            ],
        ),
    ])
});

pub(crate) static EMBED: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    is_request: |_| false,
    ..ApiSpec::new("cohere-embed", provider::COHERE, EMBED_ROUTES, &EMBED_REQUEST, &EMBED_RESPONSE)
};

const EMBED_ROUTES: &[Route] =
    &[Route::post("/v2/embed", "embeddings").likely(), Route::post("/v1/embed", "embeddings").likely()];

static EMBED_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("model", RequestField::Model),
            request("texts", RequestField::Evidence),
            request("images", RequestField::Evidence),
            request("inputs", RequestField::Evidence),
            extra("embedding_types[]", Extra::EncodingFormats),
            extra("output_dimension", Extra::EmbeddingsDimensions),
        ],
    )])
});

static EMBED_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("meta", USAGE),
        ("", &[response("id", ResponseField::Id), response("embeddings", ResponseField::Evidence)]),
    ])
});

fn read_chat(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.input(sent.get("messages"));
        content.tools(sent.get("tools"));
        return;
    }
    content.message(0, sent.get("message").filter(|message| message.is_object()));
    let number = sent.number("index");
    let Some(delta) = sent.at("/delta/message") else { return };
    content.text(0, number, delta.pointer("/content/text"));
    content.reasoning(0, number, delta.pointer("/content/thinking").or_else(|| delta.get("tool_plan")));
    if let Some(call) = delta.get("tool_calls").filter(|call| call.is_object()) {
        content.tool_call(0, TOOLS.saturating_add(number), call);
    }
}

/// Numbers of parts that are calls of tools begin here.
const TOOLS: u64 = 1 << 16;

fn read_chat_v1(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.get("preamble"));
        content.input(sent.get("chat_history"));
        content.prompt(sent.get("message"));
        content.tools(sent.get("tools"));
        return;
    }
    let event = sent.get("event_type").and_then(serde_json::Value::as_str);
    if matches!(event, None | Some("text-generation")) {
        content.text(0, 0, sent.get("text"));
    }
    if matches!(event, None | Some("tool-calls-generation")) {
        for (number, call) in (1..).zip(sent.list("tool_calls")) {
            content.tool_call(0, number, call);
        }
    }
}

fn read_generate(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("prompt"));
    }
    content.text(0, 0, sent.get("text"));
    for (index, generation) in (0..).zip(sent.list("generations")) {
        content.text(index, 0, generation.get("text"));
    }
}
