//! Inference of the Open Inference Protocol (KServe v2, Triton): `/v2/models/{model}/infer`, and `ModelInfer` over gRPC.
//!
//! Any model may be behind it. It is a call of a language model only where the names of the tensors say so: those of the
//! vLLM and TensorRT-LLM backends, text in and text out.

use std::sync::LazyLock;

use tokentap_wire::{
    Headers, ResponseHead,
    json::{Schema, Value},
    protobuf,
};

use super::grpc::{NO_JSON, status};
use crate::{
    api::{self, ApiSpec, Field, Wanted, own, request, response},
    decoder::{Decoder, OpenCalls},
    facts::{RequestField, ResponseField},
    provider,
    route::{Confidence, Route},
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

/// `ModelStreamInfer` holds many calls: it is not read.
const GRPC_ROUTES: &[Route] = &[Route::grpc("/inference.GRPCInferenceService/ModelInfer", "text_completion")
    .confidence(Confidence::ByBodies)];

static GRPC_REQUEST: LazyLock<protobuf::Schema<Field>> =
    LazyLock::new(|| protobuf::Schema::new(&[request("1", RequestField::Model), own("5.1", INPUT)]));

static GRPC_RESPONSE: LazyLock<protobuf::Schema<Field>> =
    LazyLock::new(|| protobuf::Schema::new(&[response("1", ResponseField::Model), own("5.1", OUTPUT)]));

/// Takes from the names of the tensors whether text goes in and comes out.
#[derive(Debug, Default)]
struct Tensors {
    grpc: bool,
    text_in: bool,
    text_out: bool,
    /// The status code says that the call failed.
    refused: bool,
}

impl Decoder for Tensors {
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
        let Value::Str(name) = value else { return };
        if field == OUTPUT {
            self.text_out |= name.is("text_output");
            calls.current.response.is_recognised |= self.text_in && self.text_out;
        } else {
            // Models that make images take a `prompt` too: their answer tells.
            self.text_in |= name.is("text_input") || name.is("prompt");
            calls.current.request.evidence |= name.is("text_input");
        }
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        // A model that answered has shown what it is.
        call.request.evidence &= self.refused || call.response.failure.seen;
    }
}
