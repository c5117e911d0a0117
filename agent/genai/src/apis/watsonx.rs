//! IBM watsonx.ai: `/ml/v1/text/generation`, `/ml/v1/text/chat`, and their streams.

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use super::openai_chat::{FAILURE, SAMPLING, TOP, USAGE};
use crate::{
    api::{self, ApiSpec, Field, content, counted, request, response},
    content::{Content, Sent},
    facts::{Count, Reasoning, RequestFacts, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, reasoning: Reasoning::ByTotal, ..UsageRule::PLAIN },
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
                response("results[]", ResponseField::Choice),
                response("results[].stop_reason", ResponseField::FinishReason),
                content("results[].generated_text"),
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
