//! Replicate's predictions. What kind of model answers is not in the exchange.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, counted, extra, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, RequestField, ResponseField, UsageRule},
    provider,
    route::{Captures, Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::PLAIN },
    decoder: || Box::<Replicate>::default(),
    content: Some(read_content),
    ..ApiSpec::new("replicate", provider::REPLICATE, ROUTES, &REQUEST, &RESPONSE)
};

const HOST: Confidence = Confidence::At(&["api.replicate.com"]);

const ROUTES: &[Route] = &[
    Route::post("/models/{owner}/{name}/predictions", "generate_content").confidence(HOST),
    Route::post("/deployments/{owner}/{name}/predictions", "generate_content").confidence(HOST),
    Route::post("/predictions", "generate_content").confidence(HOST),
    Route::get("/predictions/{id}", "fetch_response").confidence(HOST),
];

const VERSION: u8 = 0;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        (
            "",
            &[
                request("input", RequestField::Evidence),
                request("stream", RequestField::Stream),
                own("version", VERSION),
            ],
        ),
        (
            "input",
            &[
                request("max_tokens", RequestField::MaxTokens),
                request("max_new_tokens", RequestField::MaxTokens),
                request("temperature", RequestField::Temperature),
                request("top_p", RequestField::TopP),
                request("top_k", RequestField::TopK),
                request("seed", RequestField::Seed),
            ],
        ),
    ])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("id", ResponseField::Id),
            response("model", ResponseField::Model),
            extra("status", Extra::ResponseStatus),
            counted("metrics.input_token_count", Count::Input),
            counted("metrics.output_token_count", Count::Output),
            response("error", ResponseField::Error),
        ],
    )])
});

/// Names the model by owner and name, or by its version.
#[derive(Debug, Default)]
struct Replicate {
    /// The id of the prediction that is fetched.
    fetched: Option<String>,
}

impl Decoder for Replicate {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let (Some(owner), Some(name)) = (captures.get("owner"), captures.get("name")) {
            calls.current.request.model = format!("{owner}/{name}");
        }
        self.fetched = captures.get("id");
    }

    fn field(&mut self, _field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        if calls.current.request.model.is_empty() {
            calls.current.request.read(RequestField::Model, &[], value);
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        calls.current.response.is_recognised |= !calls.current.response.id.is_empty();
        if let Some(id) = self.fetched.take() {
            // Only the failure of a prediction has an id beside it.
            let failed = !calls.current.response.id.is_empty();
            calls.current.response.fetched(id, failed);
        }
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.system(sent.at("/input/system_prompt"));
        content.prompt(sent.at("/input/prompt"));
        content.input(sent.at("/input/messages"));
        return;
    }
    match sent.get("output") {
        Some(serde_json::Value::Array(pieces)) => {
            pieces.iter().for_each(|piece| content.text(0, 0, Some(piece)))
        }
        text => content.text(0, 0, text),
    }
}
