//! Triton's generate extension: `/v2/models/{model}/generate` and `generate_stream`. Inference on tensors is no LLM call as
//! far as its bodies tell.

use std::sync::LazyLock;

use tokentap_wire::json::Schema;

use crate::{
    api::{self, ApiSpec, Field, Wanted, request, response},
    content::{Content, Sent},
    facts::{RequestFacts, RequestField, ResponseField},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    is_request: RequestFacts::has_evidence,
    content: Some(read_content),
    ..ApiSpec::new("triton", provider::TRITON, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/models/{model}/versions/{version}/generate", "text_completion").likely(),
    Route::post("/models/{model}/versions/{version}/generate_stream", "text_completion").likely(),
    Route::post("/models/{model}/generate", "text_completion").likely(),
    Route::post("/models/{model}/generate_stream", "text_completion").likely(),
];

const PARAMETERS: &[Wanted] = &[
    request("stream", RequestField::Stream),
    request("max_tokens", RequestField::MaxTokens),
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("top_k", RequestField::TopK),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", &[request("text_input", RequestField::Evidence)]),
        ("", PARAMETERS),
        ("parameters", PARAMETERS),
    ])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("model_name", ResponseField::Model),
            Wanted::presence("text_output", Field::Response(ResponseField::Evidence)),
            Wanted::presence("error", Field::Response(ResponseField::Error)),
        ],
    )])
});

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("text_input"));
    }
    content.text(0, 0, sent.get("text_output"));
}
