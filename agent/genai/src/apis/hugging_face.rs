//! Hugging Face's inference by model, `/models/{owner}/{name}`: all kinds of tasks have that path, and only generation of text
//! and embeddings are calls. Bodies are those of Text Generation Inference, or vectors.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead, ResponseHead,
    json::{Schema, Value},
};

use super::{
    openai_chat::FAILURE,
    tgi::{GENERATED, PARAMETERS},
};
use crate::{
    api::{self, ApiSpec, Field, own, request},
    decoder::{Decoder, Event, OpenCalls},
    facts::{RequestField, UsageRule},
    provider,
    route::{Captures, Confidence, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    usage: UsageRule { flat: true, ..UsageRule::PLAIN },
    decoder: || Box::<HuggingFace>::default(),
    is_request: |_| false,
    content: Some(super::tgi::read_content),
    ..ApiSpec::new("hugging-face", provider::HUGGING_FACE, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[
    Route::post("/models/{owner}/{name}/pipeline/{task}", "text_completion").confidence(Confidence::ByBodies),
    Route::post("/models/{owner}/{name}", "text_completion").confidence(Confidence::ByBodies),
];

const INPUTS: u8 = 16;
const VECTOR: u8 = 17;

static REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", &[own("inputs", INPUTS), request("stream", RequestField::Stream)]),
        ("parameters", PARAMETERS),
    ])
});

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        ("", GENERATED),
        ("[]", GENERATED),
        ("", &[own("[]", VECTOR), own("[][]", VECTOR), own("[][][]", VECTOR)]),
    ])
});

/// Tells the task by the path, by the parameters and by the answer.
#[derive(Debug, Default)]
struct HuggingFace {
    tgi: super::tgi::Tgi,
    task: Option<Task>,
    /// The input is a text or a list, as of the tasks that are read.
    asked: bool,
    vector: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Generation,
    Embeddings,
    Other,
}

impl Decoder for HuggingFace {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let (Some(owner), Some(name)) = (captures.get("owner"), captures.get("name")) {
            calls.current.request.model = format!("{owner}/{name}");
        }
        self.task = captures.raw("task").map(|task| match task {
            "text-generation" => Task::Generation,
            "feature-extraction" => Task::Embeddings,
            _ => Task::Other,
        });
    }

    fn response_head(&mut self, head: &ResponseHead<'_>, calls: &mut OpenCalls) {
        self.tgi.response_head(head, calls);
    }

    fn begin(&mut self, event: &Event<'_>, calls: &mut OpenCalls) {
        self.tgi.begin(event, calls);
    }

    fn field(&mut self, field: u8, indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        match field {
            INPUTS => self.asked |= matches!(value, Value::Str(_) | Value::Array),
            VECTOR => self.vector |= matches!(value, Value::Number(_)),
            _ if self.asked && self.task.is_none_or(|task| task == Task::Generation) => {
                self.task = Some(Task::Generation);
                self.tgi.field(field, indices, value, calls);
            }
            _ => {}
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        self.tgi.end(whole, calls);
    }

    fn finish(&mut self, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        if self.task.is_none() && call.request.max_tokens().is_some() {
            self.task = Some(Task::Generation);
        }
        if self.vector && self.task.is_none_or(|task| task == Task::Embeddings) {
            self.task = Some(Task::Embeddings);
            call.response.is_recognised |= self.asked;
        }
        let known = matches!(self.task, Some(Task::Generation | Task::Embeddings));
        call.response.is_recognised |= known && self.asked && call.response.failure.seen;
        if self.task == Some(Task::Embeddings) {
            call.operation = Some("embeddings");
        } else {
            self.tgi.finish(calls);
        }
    }
}
