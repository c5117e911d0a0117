//! SGLang's own `/generate`. `meta_info` is in every chunk, and cumulative.

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, content, counted, request, response},
    content::{Content, Sent},
    facts::{Count, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { cumulative: true, ..UsageRule::PLAIN },
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("sglang", provider::SGLANG, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[Route::post("/generate", "text_completion").likely()];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("text", RequestField::Evidence),
                request("input_ids", RequestField::Evidence),
                request("stream", RequestField::Stream),
            ],
        ),
        (
            "sampling_params",
            &[
                request("max_new_tokens", RequestField::MaxTokens),
                request("temperature", RequestField::Temperature),
                request("top_p", RequestField::TopP),
                request("top_k", RequestField::TopK),
                request("frequency_penalty", RequestField::FrequencyPenalty),
                request("presence_penalty", RequestField::PresencePenalty),
                request("stop", RequestField::Stop),
                request("stop[]", RequestField::Stop),
            ],
        ),
    ])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        ("", &[content("text")]),
        (
            "meta_info",
            &[
                response("", ResponseField::Usage),
                response("id", ResponseField::Id),
                response("finish_reason.type", ResponseField::FinishReason),
                response("e2e_latency", ResponseField::Evidence),
                response("weight_version", ResponseField::Evidence),
                counted("prompt_tokens", Count::Input),
                counted("completion_tokens", Count::Output),
                counted("cached_tokens", Count::CacheRead),
                counted("reasoning_tokens", Count::Reasoning),
            ],
        ),
    ])
});

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("text"));
        return;
    }
    if sent.get("text").is_some() {
        // Each event of a stream has all of the text so far.
        content.restart_output();
        content.text(0, 0, sent.get("text"));
    }
    for (index, one) in (0..).zip(sent.json.as_array().into_iter().flatten()) {
        content.text(index, 0, one.get("text"));
    }
}
