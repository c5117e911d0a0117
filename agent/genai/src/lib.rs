//! Sans-IO LLM API semantics: HTTP exchanges in, GenAI spans out.

mod anthropic;
mod call;
mod calls;
mod facts;
mod family;
mod openai_chat;
mod options;
mod provider;
mod recognition;
pub mod semconv;
mod span;
mod trace_context;

pub use calls::{Calls, Traffic, Transport};
pub use family::Api;
pub use options::{Include, Options, Rule, RuleError};
pub use span::{Attribute, Span, SpanKind, SpanStatus, TraceContext, Value};
