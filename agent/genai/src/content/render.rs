//! Content as attributes: hidden, redacted, truncated, in the form of the conventions' schemas.

use serde_json::{Value as Json, json};

use super::{
    Content, ContentOptions, Hidden,
    document::cut_mark,
    message::{Arguments, Message, Part},
};
use crate::render::semconv;

/// The finish reason of a choice, by its index.
type FinishReasons<'a> = &'a dyn Fn(u32) -> String;

/// The attributes of content that are not empty.
pub(crate) fn render(
    mut content: Content,
    options: &ContentOptions,
    finish_reason: FinishReasons<'_>,
) -> Vec<(&'static str, Json)> {
    let hidden = &options.hidden;
    if hidden.inputs {
        (content.system, content.tools) = (Vec::new(), Vec::new());
        (content.arguments, content.query) = (None, None);
    }
    if hidden.inputs || hidden.input_messages {
        content.input = Vec::new();
    }
    if hidden.outputs {
        (content.result, content.documents) = (None, Vec::new());
    }
    if hidden.outputs || hidden.output_messages {
        content.choices = Vec::new();
    }
    for message in &mut content.input {
        message.parts.iter_mut().for_each(|part| hide(part, hidden.input_text, hidden.input_images));
    }
    content.system.iter_mut().for_each(|part| hide(part, hidden.input_text, hidden.input_images));
    // The conventions have instructions as text, and as parts of a type of their own.
    let output = output(&content, hidden, finish_reason);
    let some = |list: Json| (!list.as_array().is_some_and(Vec::is_empty)).then_some(list);
    let found = [
        (semconv::SYSTEM_INSTRUCTIONS, some(json!(content.system))),
        (semconv::INPUT_MESSAGES, some(json!(content.input))),
        (semconv::OUTPUT_MESSAGES, some(output)),
        (semconv::TOOL_DEFINITIONS, some(content.tools.into())),
        (semconv::TOOL_CALL_ARGUMENTS, content.arguments.map(as_object)),
        (semconv::TOOL_CALL_RESULT, content.result.map(as_object)),
        (semconv::RETRIEVAL_QUERY_TEXT, content.query.map(Json::String)),
        (semconv::RETRIEVAL_DOCUMENTS, some(content.documents.into())),
    ];
    let found = found.into_iter().filter_map(|(key, json)| Some((key, json?)));
    found
        .map(|(key, mut json)| {
            if let Some(redaction) = &options.redaction {
                texts(&mut json, &mut |text| {
                    if let std::borrow::Cow::Owned(redacted) = redaction.apply(text) {
                        *text = redacted;
                    }
                });
            }
            truncate(&mut json, options.max_bytes);
            (key, json)
        })
        .collect()
}

fn output(content: &Content, hidden: &Hidden, finish_reason: FinishReasons<'_>) -> Json {
    let mut choices: Vec<_> = content.choices.iter().collect();
    choices.sort_by_key(|choice| choice.index);
    let messages = choices.into_iter().map(|choice| {
        let mut parts: Vec<Part> = choice.parts().cloned().collect();
        parts.iter_mut().for_each(|part| hide(part, hidden.output_text, false));
        let message = Message { role: choice.role.clone(), name: None, parts };
        let mut message = json!(message);
        message["finish_reason"] = word(&finish_reason(choice.index)).into();
        message
    });
    messages.collect()
}

/// A finish reason in the conventions' words, where they have one (`gen-ai-output-messages`).
fn word(reason: &str) -> &str {
    match reason.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "stop_sequence" | "complete" | "completed" | "eos" | "eos_token"
        | "finish_reason_stop" | "reason_stop" => "stop",
        "length" | "max_tokens" | "max_output_tokens" | "model_length" | "reason_max_len" => "length",
        "tool_call" | "tool_calls" | "tool_use" | "function_call" | "reason_tool_calls" => "tool_call",
        "content_filter"
        | "content_filtered"
        | "safety"
        | "refusal"
        | "guardrail_intervened"
        | "prohibited_content"
        | "blocklist"
        | "spii"
        | "recitation"
        | "image_safety" => "content_filter",
        "error" | "malformed_function_call" => "error",
        // The schema wants a word.
        "" => "unknown",
        _ => reason,
    }
}

fn hide(part: &mut Part, text: bool, images: bool) {
    let mark = || Hidden::MARK.to_owned();
    match part {
        Part::Blob { modality: "image", content, .. } if images => *content = mark(),
        Part::Uri { modality: "image", uri, .. } if images => *uri = mark(),
        Part::File { modality: "image", file_id } if images => *file_id = mark(),
        Part::Text { content } | Part::Reasoning { content } if text => *content = mark(),
        Part::ToolCall { arguments, .. } if text => *arguments = Arguments::Text(mark()),
        Part::ToolCallResponse { response, .. } if text => *response = mark().into(),
        Part::ServerToolCall { server_tool_call: hidden, .. }
        | Part::ServerToolCallResponse { server_tool_call_response: hidden, .. }
            if text =>
        {
            *hidden = json!({ "type": Hidden::MARK });
        }
        Part::Other(fields) if text => fields.retain(|key, _| key == "type"),
        _ => {}
    }
}

/// The schemas of arguments and results of tools take objects.
fn as_object(json: Json) -> Json {
    match json {
        Json::Object(_) => json,
        other => json!({ "value": other }),
    }
}

/// Goes through all text, names of fields included.
fn texts(json: &mut Json, each: &mut dyn FnMut(&mut String)) {
    match json {
        Json::String(text) => each(text),
        Json::Array(list) => list.iter_mut().for_each(|item| texts(item, each)),
        Json::Object(fields) => {
            let before = std::mem::take(fields);
            fields.extend(before.into_iter().map(|(mut key, mut value)| {
                each(&mut key);
                texts(&mut value, each);
                (key, value)
            }));
        }
        _ => {}
    }
}

/// Makes the JSON text of a value no longer than `most` bytes: cuts the longest texts, then leaves out the oldest items.
fn truncate(json: &mut Json, most: usize) {
    let whole = size(json);
    if whole <= most {
        return;
    }
    let mut longest = longest_text(json, whole, most);
    loop {
        cut_texts(json, longest);
        if size(json) <= most || longest <= SHORTEST_TEXT {
            break;
        }
        // Characters that JSON escapes take more than they have.
        longest = (longest * 3 / 4).max(SHORTEST_TEXT);
    }
    while size(json) > most {
        match json {
            Json::Array(list) if list.len() > 1 => drop(list.drain(..list.len().div_ceil(2))),
            Json::Array(list) => return list.clear(),
            Json::String(text) => {
                let end = text.floor_char_boundary(most.saturating_sub(2) / 6);
                return text.truncate(end);
            }
            other => return *other = json!({}),
        }
    }
}

/// Text up to this length, in bytes, is not cut before items are left out.
const SHORTEST_TEXT: usize = 64;

/// How long texts may be for all of them to fit, in bytes: the short ones as they are.
fn longest_text(json: &mut Json, whole: usize, most: usize) -> usize {
    const MARK: usize = 32;
    let mut lengths = Vec::new();
    texts(json, &mut |text| lengths.push(text.len()));
    lengths.sort_unstable();
    let beside = whole.saturating_sub(lengths.iter().sum());
    let mut left = most.saturating_sub(beside);
    for (at, length) in lengths.iter().enumerate() {
        let share = left / (lengths.len() - at);
        if *length > share {
            return share.saturating_sub(MARK).max(SHORTEST_TEXT);
        }
        left -= length;
    }
    most
}

fn cut_texts(json: &mut Json, longest: usize) {
    match json {
        Json::String(text) if text.len() > longest + SHORTEST_TEXT => {
            let end = text.floor_char_boundary(longest);
            let cut = text.len() - end;
            text.truncate(end);
            text.push_str(&cut_mark(cut));
        }
        Json::Array(list) => list.iter_mut().for_each(|item| cut_texts(item, longest)),
        Json::Object(fields) => fields.values_mut().for_each(|value| cut_texts(value, longest)),
        _ => {}
    }
}

fn size(json: &Json) -> usize {
    json.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_json_keeps_its_structure_and_the_newest_messages() {
        for most in [64, 200, 1000, 5000, 50_000] {
            let messages = (0..20).map(|n| json!({"role": "user", "parts": [{"type": "text", "content": format!("{n} {}", "é\"".repeat(n * 300))}]}));
            let mut json: Json = messages.collect();
            truncate(&mut json, most);
            let text = json.to_string();
            assert!(text.len() <= most, "{} > {most}", text.len());
            let list = json.as_array().expect("still a list");
            if let Some(last) = list.last() {
                assert!(last["parts"][0]["content"].as_str().is_some_and(|text| text.starts_with("19 ")));
            }
            assert_eq!(most < 100, list.is_empty(), "{most}");
        }
    }

    #[test]
    fn short_json_is_not_touched() {
        let json = json!([{"a": "b".repeat(500)}]);
        let mut same = json.clone();
        truncate(&mut same, 600);
        assert_eq!(same, json);
    }
}
