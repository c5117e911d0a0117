//! Flows of AWS Bedrock: `InvokeFlow`, whose events are the outputs of nodes and, last, why the flow ended.

use std::sync::LazyLock;

use tokentap_wire::{
    RequestHead,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, own, request},
    content::{Content, Sent},
    decoder::{Decoder, OpenCalls},
    facts::{Extra, RequestField},
    provider,
    route::{Captures, Framing, Route},
};

pub(crate) static API: ApiSpec = ApiSpec {
    decoder: || Box::<Flow>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("bedrock-flow", provider::BEDROCK, ROUTES, &REQUEST, &RESPONSE)
};

const ROUTES: &[Route] = &[Route::post("/flows/{flow}/aliases/{alias}", "invoke_workflow")
    .likely()
    .response(Framing::EventStream)];

const OUTPUT: u8 = 0;
const COMPLETED: u8 = 1;

static REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", &[request("inputs[].nodeName", RequestField::Evidence)])]));

static RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[own("content.document", OUTPUT), own("completionReason", COMPLETED)])])
});

/// Takes the flow from the path.
#[derive(Debug, Default)]
struct Flow;

impl Decoder for Flow {
    fn request_head(&mut self, _head: &RequestHead<'_>, captures: &Captures<'_>, calls: &mut OpenCalls) {
        if let Some(flow) = captures.get("flow") {
            calls.current.set(Extra::AgentId, flow);
        }
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, calls: &mut OpenCalls) {
        let call = &mut calls.current;
        match field {
            COMPLETED => {
                if let Value::Str(reason) = value {
                    call.response.in_last_event = true;
                    call.response.finish_reason(&reason.decode());
                }
            }
            _ if matches!(value, Value::Null | Value::End) => return,
            _ => {
                call.response.choice(0, "");
                call.response.content();
            }
        }
        call.response.is_recognised |= call.request.has_evidence();
    }
}

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        for input in sent.list("inputs") {
            content.prompt(input.pointer("/content/document"));
        }
        return;
    }
    content.text(0, 0, sent.at("/content/document"));
}
