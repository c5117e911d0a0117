//! The span model: what one LLM call becomes, before it is anybody's wire format.

use std::borrow::Cow;

use tokentap_wire::Nanos;

use crate::{IncompleteReason, Measurements, Relations};

/// One finished LLM call.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `{operation} {request model}`, or just the operation.
    pub name: String,
    /// CLIENT where the observed process is the caller, SERVER where it is the server.
    pub kind: SpanKind,
    /// The trace context of the request, if it has a valid one.
    pub parent: Option<TraceContext>,
    /// First byte of the request, boot time.
    pub start: Nanos,
    /// Last byte of the response, boot time.
    pub end: Nanos,
    /// Unset, or an error with its description.
    pub status: SpanStatus,
    /// Attributes, each key once.
    pub attributes: Vec<Attribute>,
    /// Why the call is incomplete, if it is. The attributes say the same: this field is for counters.
    pub incomplete: Option<IncompleteReason>,
    /// Content for the event `gen_ai.client.inference.operation.details`, in the form of the conventions' schemas; empty:
    /// there is no event.
    pub event_content: Vec<(&'static str, serde_json::Value)>,
    /// What connects it to other calls.
    pub relations: Relations,
    /// The request asks for its trace to be kept, and has no parent that decides.
    pub forced: bool,
    /// What metrics are made of.
    pub measurements: Measurements,
}

impl Span {
    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|a| a.key == key).map(|a| &a.value)
    }
}

/// The OpenTelemetry span kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// The observed process made the call.
    Client,
    /// The observed process served the call.
    Server,
    /// The observed process ran the tool of the call, as a server of tools.
    Internal,
}

/// OpenTelemetry span status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanStatus {
    /// The call did not fail, as far as is known.
    Unset,
    /// The call failed.
    Error(Cow<'static, str>),
}

/// A W3C trace context, as found in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero: the parent of our span.
    pub span_id: [u8; 8],
    /// Trace flags; bit 0 is "sampled".
    pub flags: u8,
    /// `tracestate` as sent (joined by commas when repeated), empty when there is none.
    pub state: String,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Semantic convention name.
    pub key: Cow<'static, str>,
    /// Its value.
    pub value: Value,
}

/// Types that attributes have.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    Str(Cow<'static, str>),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// A list of strings.
    StrList(Vec<String>),
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Str(Cow::Borrowed(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(Cow::Owned(value))
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(value: Cow<'static, str>) -> Self {
        Self::Str(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Self {
        Self::StrList(value)
    }
}
