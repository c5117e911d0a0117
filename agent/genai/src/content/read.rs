//! Reading messages: one reader for all formats, whose parts name themselves by `type` or by their only field.

use serde_json::{Map, Value as Json};

use super::{
    document::{cut_bytes, cut_mark},
    message::{Arguments, Message, Part},
};

type Object = Map<String, Json>;

/// Reads a message: an object with role and content, or an item that stands alone (OpenAI Responses).
pub(super) fn message(json: &Json) -> Option<Message> {
    let object = match json {
        Json::String(text) => {
            return Some(Message { role: "user".into(), name: None, parts: vec![Part::text(text.as_str())] });
        }
        Json::Object(object) => object,
        _ => return None,
    };
    let said = text(object, &["role"]).unwrap_or_default();
    let parts = message_parts(object);
    let name = text(object, &["name"]).filter(|_| !said.is_empty());
    let said = said.to_ascii_lowercase();
    let role = match said.as_str() {
        "" => parts.first().map_or("user", role_of),
        "model" | "chatbot" | "ai" => "assistant",
        "human" => "user",
        "function" => "tool",
        said => said,
    };
    Some(Message { role: role.to_owned(), name, parts })
}

const fn role_of(part: &Part) -> &'static str {
    match part {
        Part::ToolCall { .. } | Part::Reasoning { .. } | Part::ServerToolCall { .. } => "assistant",
        Part::ToolCallResponse { .. } => "tool",
        _ => "user",
    }
}

/// The parts of a message: its content, and what stands beside it.
pub(super) fn message_parts(object: &Object) -> Vec<Part> {
    let mut found = Vec::new();
    let tool = text(object, &["role"]).is_some_and(|role| role == "tool" || role == "function");
    let reasoning = ["reasoning_content", "reasoning", "thinking"].into_iter();
    let is_message = object.get("type").is_none_or(|kind| kind == "message");
    if is_message {
        found.extend(reasoning.filter_map(|key| text(object, &[key])).take(1).map(Part::reasoning));
    }
    let content = ["content", "parts", "message"].into_iter().find_map(|key| object.get(key));
    match (is_message, content) {
        (true, Some(response)) if tool => found
            .push(Part::ToolCallResponse { id: text(object, &["tool_call_id"]), response: response.clone() }),
        (true, content) => found.extend(content.into_iter().flat_map(parts)),
        (false, _) => return part(&Json::Object(object.clone())).into_iter().collect(),
    }
    found.extend(text(object, &["refusal"]).map(Part::text));
    let images = object.get("images").and_then(Json::as_array).into_iter().flatten();
    found.extend(images.filter_map(|image| media("image", None, image.as_str()?)));
    let calls = object.get("tool_calls").and_then(Json::as_array).into_iter().flatten();
    found.extend(calls.filter_map(tool_call));
    if let Some(call) = object.get("function_call") {
        found.extend(tool_call(call));
    }
    found
}

/// The parts of content: text, a part or a list of them.
pub(super) fn parts(content: &Json) -> Vec<Part> {
    match content {
        Json::Array(list) => list.iter().filter_map(part).collect(),
        Json::Null => Vec::new(),
        content => part(content).into_iter().collect(),
    }
}

/// A call of a tool: an object with name and arguments, or one that has such an object as its `function`.
pub(super) fn tool_call(json: &Json) -> Option<Part> {
    let object = json.as_object()?;
    let function = object.get("function").or_else(|| object.get("custom")).and_then(Json::as_object);
    let function = function.unwrap_or(object);
    let arguments = ["arguments", "input", "args", "parameters"].into_iter();
    Some(Part::ToolCall {
        id: text(object, &["id", "call_id"]),
        name: text(function, &["name"]).unwrap_or_default(),
        arguments: match arguments.filter_map(|key| function.get(key)).next() {
            Some(Json::String(text)) => Arguments::Text(text.clone()),
            Some(json) => Arguments::Json(json.clone()),
            None => Arguments::Text(String::new()),
        },
    })
}

/// A part.
pub(super) fn part(json: &Json) -> Option<Part> {
    let object = match json {
        Json::String(text) if text.is_empty() => return None,
        Json::String(text) => return Some(Part::text(text.as_str())),
        Json::Object(object) => object,
        _ => return None,
    };
    match object.get("type").and_then(Json::as_str) {
        Some(kind) => typed(kind, object),
        None => untyped(object),
    }
}

fn typed(kind: &str, object: &Object) -> Option<Part> {
    let content = match kind {
        "text" | "input_text" | "output_text" | "text_delta" | "summary_text" => {
            return Some(Part::text(text(object, &["text"])?));
        }
        "refusal" => return Some(Part::text(text(object, &["refusal"])?)),
        "thinking" => return Some(Part::reasoning(text(object, &["thinking"]).or_else(|| joined(object))?)),
        "reasoning" => return joined(object).map(Part::reasoning),
        "reasoning_text" => return Some(Part::reasoning(text(object, &["text"])?)),
        "tool_use" | "function_call" | "custom_tool_call" | "tool_call" => return tool_call_of(object),
        "tool_result" | "function_call_output" | "custom_tool_call_output" | "tool_response" => {
            return Some(Part::ToolCallResponse {
                id: text(object, &["tool_use_id", "call_id", "tool_call_id", "id"]),
                response: ["content", "output", "result"]
                    .into_iter()
                    .find_map(|key| object.get(key))
                    .cloned()
                    .unwrap_or_default(),
            });
        }
        "server_tool_use" | "mcp_tool_use" => {
            return Some(Part::ServerToolCall {
                id: text(object, &["id"]),
                name: text(object, &["name"])?,
                server_tool_call: named(kind, object.get("input")),
            });
        }
        _ if kind.ends_with("_tool_result") => {
            return Some(Part::ServerToolCallResponse {
                id: text(object, &["tool_use_id"]),
                server_tool_call_response: named(kind, object.get("content")),
            });
        }
        "image_url" | "input_image" | "image" | "input_audio" | "audio" | "audio_url" | "video_url"
        | "video" | "document" | "file" | "input_file" | "document_url" => media_of(kind, object),
        _ => None,
    };
    content.or_else(|| Some(Part::Other(object.clone())))
}

fn tool_call_of(object: &Object) -> Option<Part> {
    match tool_call(&Json::Object(object.clone()))? {
        // What the model names is the id of the call, not that of the item.
        Part::ToolCall { id, name, arguments } => {
            Some(Part::ToolCall { id: text(object, &["call_id"]).or(id), name, arguments })
        }
        other => Some(other),
    }
}

fn untyped(object: &Object) -> Option<Part> {
    if let Some(said) = text(object, &["text"]) {
        let thought = object.get("thought").and_then(Json::as_bool) == Some(true);
        return Some(if thought { Part::reasoning(said) } else { Part::text(said) });
    }
    let (key, value) = object.iter().find(|(key, value)| {
        value.is_object() && !key.to_ascii_lowercase().contains("signature") || *key == "json"
    })?;
    let inner = value.as_object();
    match (key.as_str(), inner) {
        ("functionCall" | "function_call", Some(_)) => tool_call(value),
        ("functionResponse" | "function_response", Some(inner)) => Some(Part::ToolCallResponse {
            id: text(inner, &["id"]),
            response: inner.get("response").cloned().unwrap_or_default(),
        }),
        ("toolUse", Some(inner)) => Some(Part::ToolCall {
            id: text(inner, &["toolUseId"]),
            name: text(inner, &["name"])?,
            arguments: match inner.get("input") {
                Some(Json::String(text)) => Arguments::Text(text.clone()),
                input => Arguments::Json(input.cloned().unwrap_or_default()),
            },
        }),
        ("toolResult", Some(inner)) => Some(Part::ToolCallResponse {
            id: text(inner, &["toolUseId"]),
            response: inner.get("content").cloned().unwrap_or_default(),
        }),
        ("reasoningContent", Some(inner)) => {
            let inner = inner.get("reasoningText").and_then(Json::as_object).unwrap_or(inner);
            Some(Part::reasoning(text(inner, &["text"])?))
        }
        ("inlineData" | "inline_data", Some(inner)) => {
            let kind = text(inner, &["mimeType", "mime_type"]).unwrap_or_default();
            let data = inner.get("data").and_then(Json::as_str)?;
            media(modality(&kind), Some(kind), data)
        }
        ("fileData" | "file_data", Some(inner)) => {
            let kind = text(inner, &["mimeType", "mime_type"]);
            Some(Part::Uri {
                modality: modality(kind.as_deref().unwrap_or_default()),
                mime_type: kind,
                uri: text(inner, &["fileUri", "file_uri"])?,
            })
        }
        ("image" | "document" | "video" | "audio", Some(inner)) => media_of(key, inner),
        ("cachePoint", _) => None,
        _ => {
            let mut other = object.clone();
            other.insert("type".into(), key.as_str().into());
            Some(Part::Other(other))
        }
    }
}

/// Media: a URL, the id of a file, or bytes in base64, wherever the formats have them.
fn media_of(kind: &str, object: &Object) -> Option<Part> {
    let modality = ["image", "audio", "video"].into_iter().find(|known| kind.contains(known));
    let modality = modality.unwrap_or("document");
    // The object that says where the media is: under the name of the part, or as a source.
    let inner = [kind, "source", "image_url", "audio_url", "video_url", "input_audio", "file"];
    let inner = inner.into_iter().find_map(|key| object.get(key)).unwrap_or(&Json::Null);
    let source = inner.get("source").unwrap_or(inner);
    let find = |keys: &[&str]| {
        let places = [source.as_object(), inner.as_object(), Some(object)].into_iter().flatten();
        places.filter_map(|place| text(place, keys)).next()
    };
    let mime_type = find(&["media_type", "mime_type", "mimeType", "format"]);
    let mime_type =
        mime_type.map(|kind| if kind.contains('/') { kind } else { format!("{modality}/{kind}") });
    if let Some(url) = source.as_str().map(str::to_owned).or_else(|| find(&["url", "uri", "file_url"])) {
        return media(modality, mime_type, &url);
    }
    if let Some(file_id) = find(&["file_id"]) {
        return Some(Part::File { modality, file_id });
    }
    media(modality, mime_type, &find(&["data", "bytes", "file_data", "image_data"])?)
}

/// Media by URL, or by bytes in base64 or in a `data:` URL (RFC 2397), of which type and size are kept.
fn media(modality: &'static str, mime_type: Option<String>, data: &str) -> Option<Part> {
    if data.is_empty() {
        return None;
    }
    let (mime_type, data) = match data.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
        Some((kind, data)) => {
            let kind = kind.split(';').next().unwrap_or_default();
            (Some(kind.to_owned()).filter(|kind| !kind.is_empty()).or(mime_type), data)
        }
        None if data.contains("://") => {
            return Some(Part::Uri { modality, mime_type, uri: data.to_owned() });
        }
        None => (mime_type, data),
    };
    let (kept, cut) = cut_bytes(data);
    let padding = kept.bytes().rev().take_while(|&byte| byte == b'=').count();
    let size = (kept.len() + cut) * 3 / 4 - padding.min((kept.len() + cut) * 3 / 4);
    Some(Part::Blob { modality, mime_type, content: format!("[{size} bytes]") })
}

fn modality(mime_type: &str) -> &'static str {
    let kind = mime_type.split('/').next().unwrap_or_default();
    ["image", "audio", "video"].into_iter().find(|known| *known == kind).unwrap_or("document")
}

/// The texts of what an item says in a list or in plain.
fn joined(object: &Object) -> Option<String> {
    let list = ["summary", "content", "thinking"].into_iter();
    let texts = list.filter_map(|key| object.get(key)).flat_map(|list| match list {
        Json::Array(list) => list.iter().filter_map(|item| item.get("text")?.as_str()).collect(),
        Json::String(text) => vec![text.as_str()],
        _ => Vec::new(),
    });
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn named(kind: &str, value: Option<&Json>) -> Json {
    let mut object = Object::new();
    object.insert("type".into(), kind.into());
    if let Some(value) = value {
        object.insert("content".into(), value.clone());
    }
    Json::Object(object)
}

/// The first of these fields that is text and not empty. Of text that was cut, the last word may be half a secret, which
/// no pattern finds: it is left out.
pub(super) fn text(object: &Object, keys: &[&str]) -> Option<String> {
    let text = keys.iter().find_map(|key| object.get(*key)?.as_str().filter(|text| !text.is_empty()))?;
    Some(without_half_word(text))
}

fn without_half_word(text: &str) -> String {
    match cut_bytes(text) {
        (_, 0) => text.to_owned(),
        (kept, cut) => {
            let end = kept.rfind(char::is_whitespace).unwrap_or(kept.len());
            format!("{}{}", &kept[..end], cut_mark(cut + kept.len() - end))
        }
    }
}
