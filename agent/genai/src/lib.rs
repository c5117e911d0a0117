//! Sans-IO LLM API semantics: HTTP exchanges in, GenAI spans out.

mod calls;
mod options;
mod span;

pub use calls::{Calls, Traffic, Transport};
pub use options::{Api, Include, Options, Rule};
pub use span::{Attribute, Span, SpanKind, SpanStatus, TraceContext, Value};
