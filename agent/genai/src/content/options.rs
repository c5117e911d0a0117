//! What of the content is exported, and where.

use super::redaction::Redaction;

/// What of the content is exported, and where.
#[derive(Clone, Debug)]
pub struct ContentOptions {
    /// Where.
    pub destination: Destination,
    /// Most bytes of one attribute; longer ones are truncated, and stay JSON.
    pub max_bytes: usize,
    /// What is left out.
    pub hidden: Hidden,
    /// Secrets and personal data are replaced; `None`: nothing is.
    pub redaction: Option<Redaction>,
}

impl Default for ContentOptions {
    fn default() -> Self {
        Self {
            destination: Destination::Span,
            max_bytes: 64 << 10,
            hidden: Hidden::default(),
            redaction: Some(Redaction::default()),
        }
    }
}

/// Where content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Attributes of the span, as JSON text.
    Span,
    /// Attributes of the event `gen_ai.client.inference.operation.details`, structured.
    Event,
    /// Both.
    SpanAndEvent,
}

impl Destination {
    /// Whether content goes on spans.
    #[must_use]
    pub const fn has_span(self) -> bool {
        matches!(self, Self::Span | Self::SpanAndEvent)
    }

    /// Whether content goes on events.
    #[must_use]
    pub const fn has_event(self) -> bool {
        matches!(self, Self::Event | Self::SpanAndEvent)
    }
}

/// What is left out of content, or has [`Hidden::MARK`] in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// All that goes in.
    pub inputs: bool,
    /// All that comes out.
    pub outputs: bool,
    /// Messages that go in.
    pub input_messages: bool,
    /// Messages that come out.
    pub output_messages: bool,
    /// Text of messages that go in.
    pub input_text: bool,
    /// Text of messages that come out.
    pub output_text: bool,
    /// Images that go in.
    pub input_images: bool,
}

impl Hidden {
    /// What stands in the place of hidden text.
    pub const MARK: &'static str = "__REDACTED__";
}
