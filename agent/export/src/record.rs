//! A finished span on its way out.

use std::sync::Arc;

use serde_json::Value as Json;
use tokentap_genai::{Attribute, Resource, Span, SpanStatus, Value};

/// The scope of every span.
pub(crate) const SCOPE_NAME: &str = "tokentap";
/// Its version.
pub(crate) const SCOPE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// The conventions that span attributes follow: the GenAI ones have a registry of their own.
pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev";
/// The conventions that resource attributes follow.
pub(crate) const RESOURCE_SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// A finished span with what it takes to export it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The process that made or served the call.
    pub resource: Arc<Resource>,
    /// Of the parent when there is one, else random; never zero.
    pub trace_id: [u8; 16],
    /// Random, never zero.
    pub span_id: [u8; 8],
    /// `span.start` on the wall clock.
    pub start_unix_nanos: u64,
    /// `span.end` on the wall clock.
    pub end_unix_nanos: u64,
    /// The call.
    pub span: Span,
    /// The calls that it follows.
    pub links: Vec<Link>,
    /// The process, for people.
    pub pid: u32,
}

/// Another span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its id there.
    pub span_id: [u8; 8],
}

impl Record {
    /// An upper bound of its bytes on the wire when it is sent alone, resource included; about what it takes
    /// in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        // Ids, times, tags and lengths of an OTLP span, and its share of the scope when it comes alone.
        const SPAN: usize = 256;
        const LINK: usize = 48;
        let parent = self.span.parent.as_ref().map_or(0, |parent| parent.state.len());
        let attributes: usize = self.span.attributes.iter().map(attribute_size).sum();
        let status = match &self.span.status {
            SpanStatus::Unset => 0,
            SpanStatus::Error(description) => description.len(),
        };
        let resource: usize = self.resource.attributes().iter().map(attribute_size).sum();
        let content: usize =
            self.span.event_content.iter().map(|(key, json)| PAIR + key.len() + json_size(json, 0)).sum();
        SPAN + self.span.name.len()
            + parent
            + status
            + attributes
            + resource
            + content
            + self.links.len() * LINK
    }

    /// Whether it has what logs are made of.
    pub(crate) fn has_event(&self) -> bool {
        !self.span.event_content.is_empty()
    }
}

/// Content that is nested more deeply is sent as JSON text: many parsers of Protocol Buffers refuse a message of more than 100
/// levels, of which a level of JSON takes three, and all that is sent with it.
pub(crate) const DEEPEST_JSON: usize = 24;

fn json_size(json: &Json, depth: usize) -> usize {
    // Tag and length of a value, and of the variant in it.
    const VALUE: usize = 12;
    let inner = match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 10,
        Json::String(text) => text.len(),
        json if depth == DEEPEST_JSON => json.to_string().len(),
        Json::Array(list) => list.iter().map(|item| json_size(item, depth + 1)).sum(),
        Json::Object(fields) => {
            fields.iter().map(|(key, value)| PAIR + key.len() + json_size(value, depth + 1)).sum()
        }
    };
    VALUE + inner
}

/// Tags and lengths of a pair, its key, its value, and the value's variant.
const PAIR: usize = 24;

fn attribute_size(attribute: &Attribute) -> usize {
    // Tag and length of an element of a list.
    const ELEMENT: usize = 12;
    let value = match &attribute.value {
        Value::Str(text) => text.len(),
        Value::StrList(list) => list.iter().map(|text| text.len() + ELEMENT).sum(),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => 10,
    };
    PAIR + attribute.key.len() + value
}
