//! APIs over gRPC: Gemini at AI Studio and Vertex AI, whose messages number their fields differently, and xAI, whose chunks
//! number theirs differently from whole responses.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers, RequestHead, ResponseHead,
    json::{self, Value, WantedField},
    protobuf::Schema,
};

use super::gemini;
use crate::{
    api::{ApiSpec, Field, Wanted, content, counted, own, request, response},
    decoder::{Decoder, OpenCalls},
    facts::{Count, Extra, Reasoning, RequestFacts, RequestField, ResponseField, UsageRule},
    provider,
    route::{Captures, Route},
};

/// No body is JSON.
pub(super) static NO_JSON: LazyLock<json::Schema<Field>> =
    LazyLock::new(|| json::Schema::new(&[WantedField::new("error", Field::Response(ResponseField::Error))]));

const fn over_grpc(
    name: &'static str,
    provider: &'static str,
    routes: &'static [Route],
    protobuf: [&'static LazyLock<Schema<Field>>; 2],
    finish_reason: fn() -> Box<dyn Decoder>,
) -> ApiSpec {
    ApiSpec {
        protobuf: Some(protobuf),
        usage: UsageRule { reasoning: Reasoning::Apart, cumulative: true, ..UsageRule::PLAIN },
        decoder: finish_reason,
        is_request: RequestFacts::has_evidence,
        ..ApiSpec::new(name, provider, routes, &NO_JSON, &NO_JSON)
    }
}

const FINISH_REASON: u8 = 0;
const MODEL: u8 = 1;

pub(crate) static GEMINI: ApiSpec =
    over_grpc("gemini-grpc", provider::GEMINI, GEMINI_ROUTES, [&GEMINI_REQUEST, &GEMINI_RESPONSE], || {
        Box::new(Grpc { finish_reason: gemini::finish_reason })
    });

const GEMINI_ROUTES: &[Route] = &[
    Route::grpc("/google.ai.generativelanguage.v1.GenerativeService/GenerateContent", "generate_content"),
    Route::grpc(
        "/google.ai.generativelanguage.v1.GenerativeService/StreamGenerateContent",
        "generate_content",
    ),
    Route::grpc("/google.ai.generativelanguage.v1beta.GenerativeService/GenerateContent", "generate_content"),
    Route::grpc(
        "/google.ai.generativelanguage.v1beta.GenerativeService/StreamGenerateContent",
        "generate_content",
    ),
    Route::grpc(
        "/google.ai.generativelanguage.v1alpha.GenerativeService/GenerateContent",
        "generate_content",
    ),
    Route::grpc(
        "/google.ai.generativelanguage.v1alpha.GenerativeService/StreamGenerateContent",
        "generate_content",
    ),
];

static GEMINI_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        own("1", MODEL),
        request("2", RequestField::Evidence),
        request("4.1", RequestField::Choices),
        request("4.2", RequestField::Stop),
        request("4.4", RequestField::MaxTokens),
        request("4.5", RequestField::Temperature),
        request("4.6", RequestField::TopP),
        request("4.7", RequestField::TopK),
        request("4.8", RequestField::Seed),
        request("4.13", RequestField::FormatMediaType),
        request("4.15", RequestField::PresencePenalty),
        request("4.16", RequestField::FrequencyPenalty),
    ])
});

static GEMINI_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        response("1", ResponseField::Choice),
        response("1.3", ResponseField::ChoiceIndex),
        own("1.2", FINISH_REASON),
        content("1.1.1.2"),
        response("3", ResponseField::Usage),
        counted("3.1", Count::Input),
        counted("3.2", Count::Output),
        counted("3.3", Count::Total),
        counted("3.4", Count::CacheRead),
        counted("3.10", Count::Reasoning),
        response("4", ResponseField::Model),
        response("5", ResponseField::Id),
    ])
});

pub(crate) static VERTEX: ApiSpec =
    over_grpc("vertex-grpc", provider::VERTEX, VERTEX_ROUTES, [&VERTEX_REQUEST, &VERTEX_RESPONSE], || {
        Box::new(Grpc { finish_reason: gemini::finish_reason })
    });

const VERTEX_ROUTES: &[Route] = &[
    Route::grpc("/google.cloud.aiplatform.v1.PredictionService/GenerateContent", "generate_content"),
    Route::grpc("/google.cloud.aiplatform.v1.PredictionService/StreamGenerateContent", "generate_content"),
    Route::grpc("/google.cloud.aiplatform.v1beta1.PredictionService/GenerateContent", "generate_content"),
    Route::grpc(
        "/google.cloud.aiplatform.v1beta1.PredictionService/StreamGenerateContent",
        "generate_content",
    ),
];

static VERTEX_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        own("5", MODEL),
        request("2", RequestField::Evidence),
        request("4.1", RequestField::Temperature),
        request("4.2", RequestField::TopP),
        own("4.3", TOP_K),
        request("4.4", RequestField::Choices),
        request("4.5", RequestField::MaxTokens),
        request("4.6", RequestField::Stop),
        request("4.8", RequestField::PresencePenalty),
        request("4.9", RequestField::FrequencyPenalty),
        request("4.12", RequestField::Seed),
    ])
});

/// A floating-point number at Vertex AI.
const TOP_K: u8 = 2;

static VERTEX_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        response("2", ResponseField::Choice),
        response("2.1", ResponseField::ChoiceIndex),
        own("2.3", FINISH_REASON),
        content("2.2.2.1"),
        response("4", ResponseField::Usage),
        counted("4.1", Count::Input),
        counted("4.2", Count::Output),
        counted("4.3", Count::Total),
        counted("4.5", Count::CacheRead),
        counted("4.14", Count::Reasoning),
        response("11", ResponseField::Model),
        response("13", ResponseField::Id),
    ])
});

pub(crate) static XAI: ApiSpec =
    over_grpc("xai-grpc", provider::XAI, XAI_ROUTES, [&XAI_REQUEST, &XAI_RESPONSE], xai_decoder);

pub(crate) static XAI_CHUNKS: ApiSpec =
    over_grpc("xai-grpc-stream", provider::XAI, XAI_CHUNK_ROUTES, [&XAI_REQUEST, &XAI_CHUNK], xai_decoder);

fn xai_decoder() -> Box<dyn Decoder> {
    Box::new(Grpc { finish_reason: xai_finish_reason })
}

const XAI_ROUTES: &[Route] = &[Route::grpc("/xai_api.Chat/GetCompletion", "chat")];
const XAI_CHUNK_ROUTES: &[Route] = &[Route::grpc("/xai_api.Chat/GetCompletionChunk", "chat")];

static XAI_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    Schema::new(&[
        request("1", RequestField::Evidence),
        request("2", RequestField::Model),
        request("3", RequestField::FrequencyPenalty),
        request("7", RequestField::MaxTokens),
        request("8", RequestField::Choices),
        request("9", RequestField::PresencePenalty),
        request("11", RequestField::Seed),
        request("12", RequestField::Stop),
        request("14", RequestField::Temperature),
        request("15", RequestField::TopP),
        Wanted::new("22", Field::Extra(Extra::PreviousResponseId)),
    ])
});

/// `SamplingUsage`
macro_rules! usage {
    ($at:literal) => {
        [
            response($at, ResponseField::Usage),
            counted(concat!($at, ".1"), Count::Output),
            counted(concat!($at, ".2"), Count::Input),
            counted(concat!($at, ".3"), Count::Total),
            counted(concat!($at, ".4"), Count::TextInput),
            counted(concat!($at, ".5"), Count::ImageInput),
            counted(concat!($at, ".6"), Count::Reasoning),
            counted(concat!($at, ".7"), Count::CacheRead),
        ]
    };
}

static XAI_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    let mut wants = vec![
        response("1", ResponseField::Id),
        response("2", ResponseField::Choice),
        own("2.1", FINISH_REASON),
        response("2.2", ResponseField::ChoiceIndex),
        response("6", ResponseField::Model),
    ];
    wants.extend(usage!("9"));
    Schema::new(&wants)
});

static XAI_CHUNK: LazyLock<Schema<Field>> = LazyLock::new(|| {
    let mut wants = vec![
        response("1", ResponseField::Id),
        response("2", ResponseField::Choice),
        content("2.1.1"),
        content("2.1.4"),
        content("2.1.3.10.1"),
        own("2.3", FINISH_REASON),
        response("2.4", ResponseField::ChoiceIndex),
        response("4", ResponseField::Model),
    ];
    wants.extend(usage!("6"));
    Schema::new(&wants)
});

/// `FinishReason` of xAI.
fn xai_finish_reason(number: i64) -> Option<&'static str> {
    match number {
        1 => Some("REASON_MAX_LEN"),
        2 => Some("REASON_MAX_CONTEXT"),
        3 => Some("REASON_STOP"),
        4 => Some("REASON_TOOL_CALLS"),
        5 => Some("REASON_TIME_LIMIT"),
        _ => None,
    }
}

/// Reads enums, the name of the model, and the status, which stands in the trailers, or in the head where there is no body.
#[derive(Debug)]
struct Grpc {
    finish_reason: fn(i64) -> Option<&'static str>,
}

impl Decoder for Grpc {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        let streams = [&b"/StreamGenerateContent"[..], b"/GetCompletionChunk"];
        let stream = streams.iter().any(|method| head.target.ends_with(method));
        calls.current.request.stream = stream;
        calls.current.response.streamed = stream;
    }

    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        status(head.headers, calls);
    }

    fn trailers(&mut self, fields: Headers<'_>, calls: &mut OpenCalls) {
        status(fields, calls);
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match field {
            FINISH_REASON => {
                if let Some(name) = value.as_i64().and_then(self.finish_reason) {
                    call.response.finish_reason(name);
                }
            }
            TOP_K => call.request.top_k = value.as_f64().map(|k| k as i64),
            _ => {
                // `models/gemini-x`, or with project and location at Vertex AI.
                if let Value::Str(name) = value {
                    let name = name.decode();
                    name.rsplit('/').next().unwrap_or_default().clone_into(&mut call.request.model);
                }
            }
        }
    }
}

/// `grpc-status`: 0 is success.
pub(super) fn status(fields: Headers<'_>, calls: &mut OpenCalls) {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let Some(status) = fields.get("grpc-status").and_then(|value| str::from_utf8(value).ok()) else { return };
    let name = status.trim().parse().ok().and_then(|code: usize| NAMES.get(code)).copied();
    let call = &mut calls.current;
    call.set(Extra::RpcStatusCode, name.unwrap_or("UNKNOWN"));
    if name != Some("OK") {
        call.response.failure.seen = true;
        name.unwrap_or("UNKNOWN").clone_into(&mut call.response.failure.kind);
    }
}
