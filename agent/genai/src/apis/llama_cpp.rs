//! llama.cpp's own completions: `/completion`, `/completions`, `/infill`.

use std::sync::LazyLock;

use tokentap_wire::json::{Schema, Value};

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, content, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::PLAIN },
    decoder: || Box::<LlamaCpp>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("llama-cpp", provider::LLAMA_CPP, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/completion", "text_completion").likely(),
    Route::post("/completions", "text_completion").likely(),
    Route::post("/infill", "text_completion").likely(),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            request("prompt", RequestField::Evidence),
            request("model", RequestField::Model),
            request("stream", RequestField::Stream),
            request("n_predict", RequestField::MaxTokens),
            request("temperature", RequestField::Temperature),
            request("top_k", RequestField::TopK),
            request("top_p", RequestField::TopP),
            request("seed", RequestField::Seed),
            request("stop[]", RequestField::Stop),
            request("frequency_penalty", RequestField::FrequencyPenalty),
            request("presence_penalty", RequestField::PresencePenalty),
            request("json_schema", RequestField::FormatSchema),
        ],
    )])
});

const STOP: u8 = 0;
const PREDICTED: u8 = 1;
const EVALUATED: u8 = 2;

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                response("model", ResponseField::Model),
                response("generation_settings", ResponseField::Evidence),
                response("stop_type", ResponseField::FinishReason),
                own("stop", STOP),
                own("tokens_predicted", PREDICTED),
                own("tokens_evaluated", EVALUATED),
                content("content"),
            ],
        ),
    ])
});

/// Counts of all chunks grow; those of the last one are final.
#[derive(Debug, Default)]
struct LlamaCpp {
    stop: bool,
    predicted: Option<i64>,
    evaluated: Option<i64>,
}

impl Decoder for LlamaCpp {
    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        match field {
            STOP => self.stop = value.as_bool() == Some(true),
            PREDICTED => self.predicted = value.as_i64(),
            _ => self.evaluated = value.as_i64(),
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        response.is_recognised |= self.predicted.is_some() && self.evaluated.is_some();
        if response.is_recognised {
            response.choice(0, "");
        }
        response.done |= self.stop && whole && response.streamed;
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let response = &mut calls.current.response;
        if !response.is_recognised || response.streamed && !response.done {
            return;
        }
        for (count, which) in [(self.evaluated, Count::Input), (self.predicted, Count::Output)] {
            if let Some(n) = count.filter(|&n| n >= 0) {
                response.set_count_if_absent(which, n, API.usage);
            }
        }
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("prompt").or_else(|| sent.get("input_prefix")));
        return;
    }
    let index = sent.number("index");
    content.text(index.try_into().unwrap_or_default(), 0, sent.get("content"));
}
