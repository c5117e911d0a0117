//! Request bodies, as applications write them.

use serde_json::{Value, json};

use crate::ledger::Api;

/// A call with a model name that says what the mock does.
#[must_use]
pub fn call(api: Api, model: &str) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "What is a “tap”?"}], "model": model});
    if api == Api::AnthropicMessages {
        body["max_tokens"] = json!(256);
    }
    body
}

/// The same, streamed.
#[must_use]
pub fn stream(api: Api, model: &str) -> Value {
    with(call(api, model), &json!({"stream": true}))
}

/// A body with more members.
///
/// # Panics
/// When `more` is no object.
#[must_use]
pub fn with(mut body: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("an object of more members") {
        body[key] = value.clone();
    }
    body
}

/// A tool that the model may call.
#[must_use]
pub fn tools(api: Api) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    match api {
        Api::OpenaiChat => json!({"tools": [
            {"type": "function", "function": {"name": "weather", "parameters": schema}}]}),
        Api::AnthropicMessages => json!({"tools": [{"name": "weather", "input_schema": schema}]}),
    }
}

/// One of each kind of call that succeeds, and an error.
#[must_use]
pub fn assorted(api: Api) -> Vec<Value> {
    let common = [
        call(api, "mock"),
        stream(api, "mock-chunks40"),
        with(call(api, "mock"), &tools(api)),
        with(stream(api, "mock"), &tools(api)),
        call(api, "mock-chunked-gzip-size3000"),
        stream(api, "mock-gzip-cached"),
        call(api, "mock-429"),
    ];
    let own = match api {
        Api::OpenaiChat => [
            with(stream(api, "mock-chunks300"), &json!({"stream_options": {"include_usage": true}})),
            with(stream(api, "mock-cached"), &json!({"n": 3, "stream_options": {"include_usage": true}})),
        ],
        Api::AnthropicMessages => {
            [stream(api, "mock-thinking-cached-chunks300"), call(api, "mock-thinking-cached")]
        }
    };
    common.into_iter().chain(own).collect()
}
