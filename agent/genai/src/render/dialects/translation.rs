//! What all dialects make their attributes of.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::messages;
use crate::{Attribute, Value, render::semconv};

/// The attributes of a span in one dialect, while they are made.
pub(super) struct Translation<'a> {
    from: &'a [Attribute],
    content: &'a [(&'static str, Json)],
    pub(super) attributes: Vec<Attribute>,
}

impl<'a> Translation<'a> {
    pub(super) const fn new(from: &'a [Attribute], content: &'a [(&'static str, Json)]) -> Self {
        Self { from, content, attributes: Vec::new() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.from.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// Content, structured.
    pub(super) fn content(&self, key: &str) -> Option<&Json> {
        self.content.iter().find(|(known, _)| *known == key).map(|(_, json)| json)
    }

    pub(super) fn put(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.attributes.push(Attribute { key: key.into(), value: value.into() });
    }

    /// Puts text that is not empty.
    pub(super) fn put_text(&mut self, key: impl Into<Cow<'static, str>>, text: &str) {
        if !text.is_empty() {
            self.put(key, text.to_owned());
        }
    }

    /// The same values under other names: ours, and theirs.
    pub(super) fn rename(&mut self, names: &[(&str, &'static str)]) {
        for (ours, theirs) in names {
            if let Some(value) = self.get(ours).cloned() {
                self.put(*theirs, value);
            }
        }
    }

    /// Puts the sum of tokens that went in and came out, where both are known.
    pub(super) fn put_total(&mut self, key: &'static str) {
        let [input, output] =
            [semconv::USAGE_INPUT_TOKENS, semconv::USAGE_OUTPUT_TOKENS].map(|key| self.int(key));
        if let (Some(input), output) = (input, output.unwrap_or(0)) {
            self.put(key, input.saturating_add(output));
        }
    }

    /// The kind of the span, in the words that two of the dialects share.
    pub(super) fn kind(&self) -> &'static str {
        match self.text(semconv::OPERATION_NAME).unwrap_or_default() {
            "chat" | "text_completion" | "generate_content" | "fetch_response" | "transcription"
            | "speech" => "LLM",
            "embeddings" => "EMBEDDING",
            "rerank" => "RERANKER",
            "retrieval" => "RETRIEVER",
            "execute_tool" => "TOOL",
            "invoke_agent" | "create_agent" => "AGENT",
            "moderation" => "GUARDRAIL",
            _ => "UNKNOWN",
        }
    }

    /// What the request asks for, as a JSON object.
    pub(super) fn parameters(&self) -> Option<Json> {
        const PREFIX: &str = "gen_ai.request.";
        const NAMES: [&str; 8] = [
            semconv::REQUEST_MAX_TOKENS,
            semconv::REQUEST_TEMPERATURE,
            semconv::REQUEST_TOP_P,
            semconv::REQUEST_TOP_K,
            semconv::REQUEST_FREQUENCY_PENALTY,
            semconv::REQUEST_PRESENCE_PENALTY,
            semconv::REQUEST_SEED,
            semconv::REQUEST_STOP_SEQUENCES,
        ];
        let found = NAMES.iter().filter_map(|name| {
            let value = match self.get(name)? {
                Value::Int(value) => (*value).into(),
                Value::Double(value) => (*value).into(),
                Value::StrList(list) => list.clone().into(),
                Value::Str(text) => text.as_ref().into(),
                Value::Bool(value) => (*value).into(),
            };
            Some((name.trim_start_matches(PREFIX).to_owned(), value))
        });
        let found: serde_json::Map<String, Json> = found.collect();
        (!found.is_empty()).then(|| found.into())
    }

    /// `input.value` and `output.value`: what two of the dialects show of any span.
    pub(super) fn put_values(&mut self) {
        const JSON: &str = "application/json";
        let input = [semconv::INPUT_MESSAGES, semconv::TOOL_CALL_ARGUMENTS, semconv::RETRIEVAL_QUERY_TEXT];
        let output = [semconv::OUTPUT_MESSAGES, semconv::TOOL_CALL_RESULT, semconv::RETRIEVAL_DOCUMENTS];
        for (value, mime_type, keys) in
            [("input.value", "input.mime_type", input), ("output.value", "output.mime_type", output)]
        {
            let Some(json) = keys.iter().find_map(|key| self.content(key)).cloned() else { continue };
            match messages::only_text(&json) {
                Some(text) => {
                    self.put(value, text);
                    self.put(mime_type, "text/plain");
                }
                None => {
                    self.put(value, json.to_string());
                    self.put(mime_type, JSON);
                }
            }
        }
    }
}
