//! Sans-IO LLM API semantics: HTTP exchanges in, GenAI spans out.

mod span;

pub use span::{Attribute, SpanKind, SpanStatus, Span, TraceContext, Value};
