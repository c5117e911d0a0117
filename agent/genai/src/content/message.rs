//! Messages as the conventions' schemas have them (`gen-ai-input-messages`, `gen-ai-output-messages`,
//! `gen-ai-system-instructions`).

use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

/// A message of the conversation that the request carries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Message {
    pub(crate) role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) parts: Vec<Part>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Part {
    Text {
        content: String,
    },
    Reasoning {
        content: String,
    },
    ToolCall {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        name: String,
        arguments: Arguments,
    },
    ToolCallResponse {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        response: Json,
    },
    /// A tool that the provider runs.
    ServerToolCall {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        name: String,
        server_tool_call: Json,
    },
    ServerToolCallResponse {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        server_tool_call_response: Json,
    },
    /// Media in the body, of which type and size are kept.
    Blob {
        modality: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
        /// Says the size.
        content: String,
    },
    File {
        modality: &'static str,
        file_id: String,
    },
    Uri {
        modality: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<String>,
        uri: String,
    },
    /// What the conventions have no part for, under its own type.
    #[serde(untagged)]
    Other(Map<String, Json>),
}

/// The arguments of a call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arguments {
    /// JSON text, which may still grow and may never become whole.
    Text(String),
    Json(Json),
}

impl Arguments {
    fn to_json(&self) -> Json {
        match self {
            Self::Json(Json::Null) => Json::Object(Map::new()),
            Self::Json(json) => json.clone(),
            Self::Text(text) if text.trim().is_empty() => Json::Object(Map::new()),
            Self::Text(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
        }
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl Part {
    pub(crate) fn text(content: impl Into<String>) -> Self {
        Self::Text { content: content.into() }
    }

    pub(crate) fn reasoning(content: impl Into<String>) -> Self {
        Self::Reasoning { content: content.into() }
    }

    /// How much of it is kept, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text { content } | Self::Reasoning { content } => content.len(),
            Self::ToolCall { name, arguments: Arguments::Text(text), .. } => name.len() + text.len(),
            _ => 64,
        }
    }

    /// Whether it is the same part as `known`, which may have grown since.
    pub(super) fn begins_with(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Text { content }, Self::Text { content: known })
            | (Self::Reasoning { content }, Self::Reasoning { content: known }) => content.starts_with(known),
            (
                Self::ToolCall { id, arguments: Arguments::Text(text), .. },
                Self::ToolCall { id: known_id, arguments: Arguments::Text(known), .. },
            ) => id.is_some() && id == known_id && text.starts_with(known),
            _ => false,
        }
    }

    /// Takes the next piece of the same part; `false` where the two are of different kinds.
    pub(super) fn append(&mut self, piece: &Self) -> bool {
        match (self, piece) {
            (Self::Text { content }, Self::Text { content: more })
            | (Self::Reasoning { content }, Self::Reasoning { content: more }) => content.push_str(more),
            (
                Self::ToolCall { id, name, arguments },
                Self::ToolCall { id: new_id, name: new_name, arguments: more },
            ) => {
                if new_id.is_some() {
                    id.clone_from(new_id);
                }
                if !new_name.is_empty() {
                    name.clone_from(new_name);
                }
                match (arguments, more) {
                    (Arguments::Text(text), Arguments::Text(more)) => text.push_str(more),
                    // Anthropic announces an empty object before the text.
                    (arguments @ Arguments::Json(_), Arguments::Text(more)) => {
                        *arguments = Arguments::Text(more.clone());
                    }
                    (arguments, more) => *arguments = more.clone(),
                }
            }
            // The arguments of a tool that the provider runs come as those of any.
            (
                Self::ServerToolCall { server_tool_call, .. },
                Self::ToolCall { arguments: Arguments::Text(more), .. },
            ) => {
                let known = server_tool_call["content"].as_str().unwrap_or_default();
                server_tool_call["content"] = format!("{known}{more}").into();
            }
            _ => return false,
        }
        true
    }
}

/// What came out as one choice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) index: u32,
    pub(super) role: String,
    /// Each with the number that its pieces are known by.
    parts: Vec<(u64, Part)>,
}

impl Choice {
    pub(super) fn new(index: u32) -> Self {
        Self { index, role: "assistant".into(), parts: Vec::new() }
    }

    /// The part that this number is for.
    pub(super) fn part(&mut self, number: u64) -> Option<&mut Part> {
        self.parts.iter_mut().rev().find(|(known, _)| *known == number).map(|(_, part)| part)
    }

    pub(super) fn last_number(&self) -> Option<u64> {
        self.parts.last().map(|(number, _)| *number)
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().map(|(_, part)| part)
    }

    /// Adds a piece to the part that this number is for, or begins that part.
    pub(super) fn piece(&mut self, number: u64, piece: Part) {
        let known = self.parts.iter_mut().rev().find(|(known, _)| *known == number);
        if !known.is_some_and(|(_, part)| part.append(&piece)) {
            self.parts.push((number, piece));
        }
    }

    /// Replaces the parts whose numbers are `numbers` by whole ones.
    pub(super) fn replace(&mut self, numbers: std::ops::Range<u64>, parts: Vec<Part>) {
        self.parts.retain(|(known, _)| !numbers.contains(known));
        self.parts.extend(parts.into_iter().map(|part| (numbers.start, part)));
        self.parts.sort_by_key(|(number, _)| *number);
    }
}
