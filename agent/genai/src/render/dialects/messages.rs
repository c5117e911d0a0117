//! Messages of content as the dialects flatten them.

use serde_json::Value as Json;

/// One message in the terms of the dialects.
pub(super) struct Flat {
    pub(super) role: String,
    /// All text parts, one after the other.
    pub(super) text: String,
    pub(super) tool_calls: Vec<FlatToolCall>,
    /// The call whose result the message has.
    pub(super) tool_call_id: String,
    pub(super) finish_reason: String,
    /// Locations of media.
    pub(super) uris: Vec<(String, String)>,
}

pub(super) struct FlatToolCall {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

/// The messages of a list of them.
pub(super) fn flatten(messages: Option<&Json>) -> Vec<Flat> {
    messages.and_then(Json::as_array).into_iter().flatten().map(message).collect()
}

/// Instructions as a message.
pub(super) fn system(parts: Option<&Json>) -> Option<Flat> {
    let parts = parts?;
    Some(message(&serde_json::json!({ "role": "system", "parts": parts })))
}

/// The text of messages, if there is one message and nothing but text in it; the text of what is text itself.
pub(super) fn only_text(json: &Json) -> Option<String> {
    if let Json::String(text) = json {
        return Some(text.clone());
    }
    let [message] = json.as_array()?.as_slice() else { return None };
    let parts = message.get("parts")?.as_array()?;
    let texts: Option<Vec<&str>> =
        parts.iter().map(|part| part["content"].as_str().filter(|_| part["type"] == "text")).collect();
    texts.map(|texts| texts.concat())
}

fn message(message: &Json) -> Flat {
    let mut flat = Flat {
        role: text(&message["role"]),
        text: String::new(),
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
        finish_reason: text(&message["finish_reason"]),
        uris: Vec::new(),
    };
    for part in message["parts"].as_array().into_iter().flatten() {
        match part["type"].as_str().unwrap_or_default() {
            "text" => flat.text.push_str(part["content"].as_str().unwrap_or_default()),
            "tool_call" => flat.tool_calls.push(FlatToolCall {
                id: text(&part["id"]),
                name: text(&part["name"]),
                arguments: text(&part["arguments"]),
            }),
            "tool_call_response" => {
                flat.tool_call_id = text(&part["id"]);
                flat.text.push_str(&text(&part["response"]));
            }
            "uri" => flat.uris.push((text(&part["modality"]), text(&part["uri"]))),
            _ => {}
        }
    }
    flat
}

/// Text as it is, null as nothing, anything else as JSON.
pub(super) fn text(json: &Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        json => json.to_string(),
    }
}
