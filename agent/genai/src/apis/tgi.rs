//! Text Generation Inference: `/generate`, `/generate_stream`, and the same at the root at Hugging Face, or behind
//! SageMaker. Header fields count the tokens where the body does not.

use std::sync::LazyLock;

use tokentap_wire::{
    ResponseHead,
    json::{Schema, Value},
};

use super::openai_chat::FAILURE;
use crate::{
    api::{self, ApiSpec, Field, Wanted, content, counted, own, request, response},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Count, RequestField, ResponseField, UsageRule},
    provider,
    route::{Confidence, Framing, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::PLAIN },
    decoder: || Box::<Tgi>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("tgi", provider::TGI, ROUTES, &REQUEST, &RESPONSE)
};

const HUGGING_FACE: Confidence = Confidence::At(&[
    ".endpoints.huggingface.cloud",
    "api-inference.huggingface.co",
    "router.huggingface.co",
]);

const ROUTES: &[Route] = &[
    Route::post("/generate", "text_completion").likely(),
    Route::post("/generate_stream", "text_completion").likely(),
    Route::post("/", "text_completion").confidence(HUGGING_FACE),
    Route::post("/endpoints/{model}/invocations", "text_completion").confidence(Confidence::ByBodies),
    Route::post("/endpoints/{model}/invocations-response-stream", "text_completion")
        .confidence(Confidence::ByBodies)
        .response(Framing::EventStreamOfEvents),
];

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", &[request("inputs", RequestField::Evidence), request("stream", RequestField::Stream)]),
        ("parameters", PARAMETERS),
    ])
});

pub(super) const PARAMETERS: &[Wanted] = &[
    request("max_new_tokens", RequestField::MaxTokens),
    request("temperature", RequestField::Temperature),
    request("top_p", RequestField::TopP),
    request("top_k", RequestField::TopK),
    request("frequency_penalty", RequestField::FrequencyPenalty),
    request("seed", RequestField::Seed),
    request("stop[]", RequestField::Stop),
    request("grammar", RequestField::FormatSchema),
];

const TEXT: u8 = 0;
const TOKEN: u8 = 1;

pub(super) const GENERATED: &[Wanted] = &[
    own("generated_text", TEXT),
    own("token.id", TOKEN),
    content("token.text"),
    response("details.finish_reason", ResponseField::FinishReason),
    counted("details.generated_tokens", Count::Output),
    counted("details.input_length", Count::Input),
];

static RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", FAILURE), ("", GENERATED), ("[]", GENERATED)]));

/// Reads the counts of header fields.
#[derive(Debug, Default)]
pub(super) struct Tgi {
    counts: [Option<i64>; 2],
    text: bool,
}

impl Decoder for Tgi {
    fn response_head(&mut self, head: &ResponseHead<'_>, _calls: &mut OpenCalls) {
        let count = |name: &str| {
            let value = str::from_utf8(head.headers.get(name)?).ok()?;
            value.trim().parse().ok().filter(|&n: &i64| n >= 0)
        };
        self.counts = ["x-prompt-tokens", "x-generated-tokens"].map(count);
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        if !matches!(value, Value::Null) {
            calls.current.response.is_recognised = true;
            calls.current.response.choice(0, "");
        }
        self.text |= field == TEXT && matches!(value, Value::Str(_));
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        // The last event of a stream has the whole text.
        calls.current.response.done |= self.text && whole && calls.current.response.streamed;
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        for (count, which) in self.counts.into_iter().zip([Count::Input, Count::Output]) {
            if let Some(n) = count {
                calls.current.response.set_count_if_absent(which, n, API.usage);
            }
        }
    }
}

pub(super) fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        content.prompt(sent.get("inputs"));
        return;
    }
    let token = sent.get("token");
    if token.is_some_and(|token| token["special"] != true) {
        content.text(0, 0, sent.at("/token/text"));
    }
    // The last event of a stream has the whole text.
    let one = sent.json.as_array().and_then(|list| list.first()).unwrap_or(sent.json);
    if let Some(text) = one.get("generated_text").filter(|text| text.is_string()) {
        content.restart_output();
        content.text(0, 0, Some(text));
    }
}
