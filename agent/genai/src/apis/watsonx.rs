//! IBM watsonx.ai: `/ml/v1/text/generation`, `/ml/v1/text/chat`, and their streams.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use super::openai_chat::{FAILURE, SAMPLING, TOP, USAGE};
use crate::{
    api::{self, ApiSpec, Field, content, counted, own, own_presence, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Reasoning, RequestFacts, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { merge: true, cumulative: true, reasoning: Reasoning::ByTotal, ..UsageRule::PLAIN },
    decoder: || Box::new(Watsonx),
    is_request: RequestFacts::has_evidence,
    content: Some(read_content),
    ..ApiSpec::new("watsonx", provider::WATSONX, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/deployments/{model}/text/generation", "text_completion"),
    Route::post("/deployments/{model}/text/generation_stream", "text_completion"),
    Route::post("/deployments/{model}/text/chat", "chat"),
    Route::post("/deployments/{model}/text/chat_stream", "chat"),
    Route::post("/ml/v1/text/generation", "text_completion"),
    Route::post("/ml/v1/text/generation_stream", "text_completion"),
    Route::post("/ml/v1/text/chat", "chat"),
    Route::post("/ml/v1/text/chat_stream", "chat"),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", SAMPLING),
        (
            "",
            &[
                request("model_id", RequestField::Model),
                request("input", RequestField::Evidence),
                request("messages", RequestField::Evidence),
            ],
        ),
        (
            "parameters",
            &[
                request("max_new_tokens", RequestField::MaxTokens),
                request("temperature", RequestField::Temperature),
                request("top_p", RequestField::TopP),
                request("top_k", RequestField::TopK),
                request("random_seed", RequestField::Seed),
                request("stop_sequences[]", RequestField::Stop),
            ],
        ),
    ])
});

const TEXT: u8 = 0;
const STOP_REASON: u8 = 1;

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        ("", TOP),
        ("choices[].delta", &[content("content")]),
        ("usage", USAGE),
        (
            "",
            &[
                response("model_id", ResponseField::Model),
                response("errors[].code", ResponseField::ErrorCode),
                // Every event of a stream counts the output so far, and only the first one the input.
                response("results[]", ResponseField::Usage),
                own("results[].stop_reason", STOP_REASON),
                own_presence("results[].generated_text", TEXT),
                counted("results[].input_token_count", Count::Input),
                counted("results[].generated_token_count", Count::Output),
            ],
        ),
    ])
});

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    super::openai_chat::read_content(sent, content);
    if sent.is_request() {
        content.prompt(sent.get("input"));
    }
    for result in sent.list("results") {
        content.text(0, 0, result.get("generated_text"));
    }
}

/// Tells the reason of an event that is not the last one from those why a result ended.
#[derive(Debug)]
struct Watsonx;

impl Decoder for Watsonx {
    fn field(&mut self, field: u8, indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        let Value::Str(text) = value else { return };
        response.is_recognised = true;
        let index = indices.last().copied().unwrap_or_default();
        if field == TEXT {
            response.choice(index, "");
            if !text.is_empty() {
                response.content();
            }
        } else if !text.is("not_finished") {
            response.choice(index, &text.decode());
        }
    }
}
