//! Anthropic's older text completions (`POST /v1/complete`), which count no tokens.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use crate::{
    api::{self, ApiSpec, Field, Kind, kind, once, own_presence, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{RequestField, ResponseField},
    provider,
    route::{Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    kinds: &[("completion", Kind::Choice), ("error", Kind::Failure)],
    decoder: || Box::<Complete>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("anthropic-complete", provider::ANTHROPIC, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/v1/complete", "text_completion").confidence(Confidence::WithHeader("anthropic-version")),
    Route::post("/v1/complete", "text_completion").likely(),
];

const COMPLETION: u8 = 0;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("prompt", RequestField::Evidence),
            request("model", RequestField::Model),
            request("stream", RequestField::Stream),
            request("max_tokens_to_sample", RequestField::MaxTokens),
            request("temperature", RequestField::Temperature),
            request("top_p", RequestField::TopP),
            request("top_k", RequestField::TopK),
            request("stop_sequences[]", RequestField::Stop),
        ],
    )])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            kind("type"),
            once("id", ResponseField::Id),
            once("model", ResponseField::Model),
            own_presence("completion", COMPLETION),
            response("stop_reason", ResponseField::FinishReason),
            response("error", ResponseField::Error),
            response("error.type", ResponseField::ErrorType),
        ],
    )])
});

/// Others complete things at such a path, too: here, a model was asked for a number of tokens.
#[derive(Debug, Default)]
struct Complete {
    answered: bool,
}

impl Decoder for Complete {
    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        if let Value::Str(text) = value {
            self.answered = true;
            if !text.is_empty() {
                calls.current.response.content();
            }
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let asked = call.request.has_evidence() && call.request.max_tokens().is_some();
        call.response.is_recognised |= self.answered && asked;
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("prompt"));
    }
    content.text(0, 0, sent.get("completion"));
}
