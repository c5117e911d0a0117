//! Roboflow's inference server: `/infer/lmm`, a prompt and an image to a multimodal model. Its other models are no language
//! models.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use crate::{
    api::{self, ApiSpec, Field, own_presence, request, response},
    decoder::{Decoder, OpenCalls},
    facts::{RequestField, ResponseField},
    provider,
    route::{Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    decoder: || Box::<Roboflow>::default(),
    is_request: |_| false,
    ..ApiSpec::new("roboflow", provider::ROBOFLOW, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[Route::post("/infer/lmm", "generate_content").confidence(Confidence::ByBodies)];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("prompt", RequestField::Evidence),
            request("model_id", RequestField::Model),
            request("max_new_tokens", RequestField::MaxTokens),
        ],
    )])
});

const ANSWER: u8 = 0;

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[own_presence("response", ANSWER), response("inference_id", ResponseField::Id)])])
});

/// Recognises a model by what it was asked and what it answered.
#[derive(Debug, Default)]
struct Roboflow {
    answered: bool,
}

impl Decoder for Roboflow {
    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        self.answered |= matches!(value, Value::Str(_) | Value::Object);
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        let asked = call.request.has_evidence() && !call.request.model.is_empty();
        call.response.is_recognised |= self.answered && asked;
    }
}
