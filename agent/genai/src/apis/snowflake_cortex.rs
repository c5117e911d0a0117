//! Snowflake Cortex's own API: `inference:complete` and `inference:embed`.
//!
//! The answer may stand as text, and as a list of parts beside it.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};
use tokentap_wire::json::Schema;

use super::openai_chat::{FAILURE, SAMPLING, USAGE};
use crate::{
    api::{self, ApiSpec, Field, Wanted, content, counted, once, request, response},
    content::{Content, Sent, choice_index},
    facts::{Count, RequestFacts, RequestField, ResponseField, UsageRule},
    provider,
    route::Route,
};

pub(crate) static COMPLETE: ApiSpec = ApiSpec {
    usage: UsageRule { cumulative: true, ..UsageRule::PLAIN },
    is_request: RequestFacts::has_evidence,
    content: Some(read_content),
    ..ApiSpec::new(
        "snowflake-cortex",
        provider::SNOWFLAKE,
        COMPLETE_ROUTES,
        &COMPLETE_REQUEST,
        &COMPLETE_RESPONSE,
    )
};

const COMPLETE_ROUTES: &[Route] = &[Route::post("/cortex/inference:complete", "chat")];

static COMPLETE_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", SAMPLING),
        (
            "",
            &[
                request("messages", RequestField::Evidence),
                request("messages[].role", RequestField::MessageRole),
                request("messages[].content_list[].tool_results.tool_use_id", RequestField::ToolResultId),
                request("response_format.type", RequestField::FormatName),
            ],
        ),
    ])
});

static COMPLETE_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        ("usage", USAGE),
        (
            "",
            &[
                once("id", ResponseField::Id),
                once("model", ResponseField::Model),
                // Most streams have no reason, so that no choice waits for one.
                response("choices", ResponseField::Evidence),
                response("choices[].finish_reason", ResponseField::FinishReason),
                response("error_code", ResponseField::ErrorCode),
            ],
        ),
        (
            "choices[].delta",
            &[
                content("content"),
                content("text"),
                content("input"),
                response("tool_use_id", ResponseField::ToolCallId),
                response("name", ResponseField::ToolCallName),
            ],
        ),
        ("choices[].message.content_list[]", TOOL_CALL),
        ("choices[].message.content_list[].tool_use", TOOL_CALL),
    ])
});

const TOOL_CALL: &[Wanted] =
    &[response("tool_use_id", ResponseField::ToolCallId), response("name", ResponseField::ToolCallName)];

pub(crate) static EMBED: ApiSpec = ApiSpec {
    usage: UsageRule::INPUT_ONLY,
    is_request: RequestFacts::has_evidence,
    ..ApiSpec::new(
        "snowflake-cortex-embed",
        provider::SNOWFLAKE,
        EMBED_ROUTES,
        &EMBED_REQUEST,
        &EMBED_RESPONSE,
    )
};

const EMBED_ROUTES: &[Route] = &[Route::post("/cortex/inference:embed", "embeddings")];

static EMBED_REQUEST: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[("", &[request("model", RequestField::Model), request("text", RequestField::Evidence)])])
});

static EMBED_RESPONSE: LazyLock<Schema<Field>> = LazyLock::new(|| {
    api::schema(&[
        ("", FAILURE),
        (
            "",
            &[
                response("model", ResponseField::Model),
                Wanted::presence("data[].embedding", Field::Response(ResponseField::Evidence)),
                response("usage", ResponseField::Usage),
                counted("usage.prompt_tokens", Count::Input),
                counted("usage.total_tokens", Count::Total),
                response("error_code", ResponseField::ErrorCode),
            ],
        ),
    ])
});

fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() {
        for message in sent.list("messages") {
            content.input(Some(&with_parts(message)));
        }
        let tools: Vec<Json> =
            sent.list("tools").iter().filter_map(|tool| tool.get("tool_spec").cloned()).collect();
        content.tools(Some(&Json::Array(tools)));
        return;
    }
    for (position, choice) in (0..).zip(sent.list("choices")) {
        let index = choice_index(choice, position);
        content.message(index, choice.get("message").map(with_parts).as_ref());
        let Some(delta) = choice.get("delta") else { continue };
        content.text(index, TEXT, delta.get("content").or_else(|| delta.get("text")));
        if delta.get("type").is_some_and(|kind| kind == "tool_use") {
            content.tool_call(index, TOOL, &tool_call(delta));
        }
    }
}

/// Numbers of the parts of a choice. One tool is called at a time.
const TEXT: u64 = 0;
const TOOL: u64 = 1;

/// A call of a tool in the common form.
pub(super) fn tool_call(part: &Json) -> Json {
    let call = part.get("tool_use").unwrap_or(part);
    let input = call.get("input").cloned().unwrap_or_else(|| "".into());
    json!({ "type": "tool_use", "id": call["tool_use_id"], "name": call["name"], "input": input })
}

/// A message with its list of parts as the content, in the common form.
fn with_parts(message: &Json) -> Json {
    let Some(list) = message["content_list"].as_array().filter(|list| !list.is_empty()) else {
        return message.clone();
    };
    let text = message["content"].as_str().filter(|text| !text.is_empty());
    let has_text = list.iter().any(|part| part["type"] == "text");
    let text = text.filter(|_| !has_text).map(|text| json!({ "type": "text", "text": text }));
    let parts = list.iter().map(|part| match part["type"].as_str() {
        Some("tool_use") => tool_call(part),
        Some("tool_results") => {
            let found = &part["tool_results"];
            json!({ "type": "tool_result", "tool_use_id": found["tool_use_id"], "content": found["content"] })
        }
        _ => part.clone(),
    });
    json!({ "role": message["role"], "content": text.into_iter().chain(parts).collect::<Vec<_>>() })
}
