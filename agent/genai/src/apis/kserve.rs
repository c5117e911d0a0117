//! Inference of the Open Inference Protocol (KServe v2, Triton): `/v2/models/{model}/infer`, and `ModelInfer` and
//! `ModelStreamInfer` over gRPC.
//!
//! Any model may be behind it. It is a call of a language model only where the names of the tensors say so: those of the
//! vLLM and TensorRT-LLM backends, text in and text out.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers, RequestHead, ResponseHead, Role,
    json::{Schema, Value},
    protobuf,
};

use super::grpc::{NO_JSON, status};
use crate::{
    api::{self, ApiSpec, Field, Wanted, own, request, response},
    decoder::{Decoder, Event, OpenCalls},
    facts::{RequestField, ResponseField},
    provider,
    route::{Captures, Confidence, Route},
};

pub(crate) static HTTP: ApiSpec = ApiSpec {
    decoder: || Box::<Tensors>::default(),
    is_request: |request| request.evidence,
    ..ApiSpec::new("kserve", provider::TRITON, HTTP_ROUTES, &REQUEST, &RESPONSE)
};

const HTTP_ROUTES: &[Route] = &[
    Route::post("/v2/models/{model}/versions/{version}/infer", "text_completion")
        .confidence(Confidence::ByBodies),
    Route::post("/v2/models/{model}/infer", "text_completion").confidence(Confidence::ByBodies),
];

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
/// The name of a parameter, and its value where that is a boolean.
const PARAMETER: u8 = 2;
const FLAG: u8 = 3;

static REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[own("inputs[].name", INPUT)])]));

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[(
        "",
        &[
            response("model_name", ResponseField::Model),
            own("outputs[].name", OUTPUT),
            Wanted::presence("error", Field::Response(ResponseField::Error)),
        ],
    )])
});

pub(crate) static GRPC: ApiSpec = ApiSpec {
    protobuf: Some([&GRPC_REQUEST, &GRPC_RESPONSE]),
    decoder: || Box::new(Tensors { grpc: true, ..Tensors::default() }),
    is_request: |request| request.evidence,
    ..ApiSpec::new("kserve-grpc", provider::TRITON, GRPC_ROUTES, &NO_JSON, &NO_JSON)
};

const GRPC_ROUTES: &[Route] = &[Route::grpc("/inference.GRPCInferenceService/ModelInfer", "text_completion")
    .confidence(Confidence::ByBodies)];

static GRPC_REQUEST: LazyLock<protobuf::Schema<Field>> =
    LazyLock::new(|| protobuf::Schema::new(&[request("1", RequestField::Model), own("5.1", INPUT)]));

static GRPC_RESPONSE: LazyLock<protobuf::Schema<Field>> =
    LazyLock::new(|| protobuf::Schema::new(&[response("1", ResponseField::Model), own("5.1", OUTPUT)]));

/// A stream of requests and one of responses. With one request, they are a call whose response is streamed.
pub(crate) static GRPC_STREAM: ApiSpec = ApiSpec {
    protobuf: Some([&GRPC_REQUEST, &GRPC_STREAM_RESPONSE]),
    decoder: || Box::new(Tensors { grpc: true, stream: true, ..Tensors::default() }),
    is_request: |request| request.evidence,
    ..ApiSpec::new("kserve-grpc-stream", provider::TRITON, GRPC_STREAM_ROUTES, &NO_JSON, &NO_JSON)
};

const GRPC_STREAM_ROUTES: &[Route] =
    &[Route::grpc("/inference.GRPCInferenceService/ModelStreamInfer", "text_completion")
        .confidence(Confidence::ByBodies)];

static GRPC_STREAM_RESPONSE: LazyLock<protobuf::Schema<Field>> = LazyLock::new(|| {
    protobuf::Schema::new(&[
        response("1", ResponseField::Error),
        response("2.1", ResponseField::Model),
        own("2.4.1", PARAMETER),
        own("2.4.2.1", FLAG),
        own("2.5.1", OUTPUT),
    ])
});

/// Takes from the names of the tensors whether text goes in and comes out.
#[derive(Debug, Default)]
struct Tensors {
    grpc: bool,
    stream: bool,
    requests: u32,
    /// Responses that are the last one to a request.
    answers: u32,
    /// The parameter that is read says whether the response is the last one.
    says_last: bool,
    text_in: bool,
    text_out: bool,
    /// The status code says that the call failed.
    refused: bool,
}

impl Decoder for Tensors {
    fn request_head(&mut self, _head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.current.request.stream = self.stream;
        calls.current.response.streamed = self.stream;
    }

    fn begin(&mut self, event: &Event<'_>, _calls: &mut OpenCalls) {
        self.requests += u32::from(event.from == Role::Client);
    }

    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        self.refused = head.status >= 400;
        if self.grpc {
            status(head.headers, calls);
        }
    }

    fn trailers(&mut self, fields: Headers<'_>, calls: &mut OpenCalls) {
        if self.grpc {
            status(fields, calls);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        if field == FLAG {
            self.answers += u32::from(self.says_last && value.as_i64() == Some(1));
            return;
        }
        let Value::Str(name) = value else { return };
        if field == PARAMETER {
            self.says_last = name.is("triton_final_response");
        } else if field == OUTPUT {
            self.text_out |= name.is("text_output");
            if self.text_out {
                calls.current.response.content();
            }
            calls.current.response.is_recognised |= self.text_in && self.text_out;
        } else {
            // Models that make images take a `prompt` too: their answer tells.
            self.text_in |= name.is("text_input") || name.is("prompt");
            calls.current.request.evidence |= name.is("text_input");
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        // Which of many requests a response answers is not known.
        let one = self.requests == 1 && self.answers <= 1;
        call.response.is_recognised &= one;
        // A model that answered has shown what it is.
        call.request.evidence &= self.refused || call.response.failure.seen;
        call.request.evidence &= one;
    }
}
