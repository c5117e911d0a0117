//! Chat Completions at an endpoint of SageMaker: `/endpoints/{name}/invocations`, with the body of the server behind it
//! (vLLM, SGLang, LMI). TGI's bodies there are those of [`super::tgi`].

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use super::openai_chat::{FAILURE, SAMPLING, TOP, USAGE};
use crate::{
    api::{self, ApiSpec, Field, Kind, content, request},
    facts::{Reasoning, RequestField, UsageRule},
    provider,
    route::{Confidence, Framing, Route},
};

pub(crate) static CHAT: ApiSpec = ApiSpec {
    kinds: &[
        ("chat.completion.chunk", Kind::Evidence),
        ("chat.completion", Kind::Evidence),
        ("error", Kind::Failure),
    ],
    usage: UsageRule { reasoning: Reasoning::ByTotal, ..UsageRule::PLAIN },
    // Any model may be behind an endpoint, with messages of its own.
    is_request: |_| false,
    ..ApiSpec::new("sagemaker-chat", provider::SAGEMAKER, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/endpoints/{model}/invocations", "chat").confidence(Confidence::ByBodies),
    Route::post("/endpoints/{model}/invocations-response-stream", "chat")
        .confidence(Confidence::ByBodies)
        .response(Framing::EventStreamOfEvents),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", SAMPLING),
        (
            "",
            &[
                request("messages", RequestField::Evidence),
                request("max_completion_tokens", RequestField::MaxCompletionTokens),
                request("reasoning_effort", RequestField::ReasoningLevel),
                request("response_format.type", RequestField::FormatName),
            ],
        ),
    ])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        ("", TOP),
        ("choices[].delta", &[content("content"), content("reasoning_content"), content("tool_calls")]),
        ("usage", USAGE),
    ])
});
