//! Sans-IO LLM API semantics: HTTP exchanges in, GenAI spans out.
//!
//! [`Calls`] is the [`tokentap_wire::Sink`] of one connection. It recognises LLM calls without configuration,
//! reads a few fields of their bodies as they stream, and gives one [`Span`] per call. Retries are calls of
//! their own; redirects answer none and give no span.
//!
//! # What is on a span
//!
//! Attributes follow OpenTelemetry's GenAI conventions: [`semconv`] lists them. Prompts, completions, tool
//! arguments, header values and credentials are never on a span: they are not even kept while they pass.
//! What follows is where the conventions leave a choice.
//!
//! - **Recognition**: by method and the end of the path, under any prefix. Where other software has such a path, the host, a
//!   header field or the bodies have to confirm it: an application's own `/api/chat` is no call. A request whose target
//!   is not known (joined in mid-connection) is recognised by its bodies, for the APIs that most connections have.
//!   [`Options`] adds and excludes.
//! - **Calls and exchanges**: an exchange is one call, but many in a WebSocket (each response or turn of the model, and each
//!   transcription of what the user said by another model) and in JSON-RPC (each request).
//! - **`gen_ai.provider.name`**: by host, else by what the response shows of the server software
//!   (`vllm`, `sglang`, `llama_cpp`, `ollama`, `tgi`, …), else the name of the format: `openai`, `anthropic`.
//!   `openai.*` attributes are there only with `openai`.
//! - **`gen_ai.request.model`**: what the path names (the deployment at Azure, the model at Gemini and Bedrock), else the body.
//! - **Model Context Protocol**: a span is named by method and target, and has an operation only for calls of tools.
//! - **Usage**: the last that the provider reported, never a sum and never an estimate. An object of which only a part
//!   was seen is ignored, and so are cumulative counts before a gap. llama.cpp's `timings` replace usage that the request did
//!   not ask for. Input includes cached tokens, output includes reasoning, whatever the provider's own numbers do.
//! - **`gen_ai.response.time_to_first_chunk`**: from the first byte of the request to the first event of a
//!   streamed body; comments are none. **`tokentap.time_to_first_token`**: to the first piece with generated content.
//! - **End of a span**: the stream's own last event (`[DONE]`, `message_stop`), else the end of the response
//!   by HTTP.
//! - **`error.type`**: the provider's error code, else its error type, else the HTTP status; of an error
//!   inside a successful response without either, `_OTHER`. When no whole response came:
//!   `cancelled` (the caller closed first), `connection_closed` (the server did, or it is not known who),
//!   `process_exit`, `malformed_response`. A finish reason that says `error` is one as well.
//! - **`gen_ai.response.finish_reasons`**: the provider's own words; of OpenAI Responses and Realtime, which have none, what the
//!   conventions derive from the status. `error` for a choice without a finish reason when the call failed in
//!   mid-stream; otherwise the attribute is left out where a choice has none.
//! - **`tokentap.incomplete.reason`**, when part of the call was not seen: see [`IncompleteReason`]. Only the first
//!   three and malformed HTTP are failures of the call, the others are limits of the observation. A stream that HTTP
//!   ends regularly, but without its last event and without finish reasons, is `cut` as well. A successful response in
//!   which nothing of the API was found is `unrecognized`.
//!
//! # Adding an API
//!
//! One file in `apis/` with an `ApiSpec`: its routes, the tables of the fields that matter in its bodies, how its usage is
//! to be read, and a `Decoder` for what the tables cannot say; one line in `registry.rs`; one folder of tests. Framing,
//! gaps, times, errors and attributes are shared.

mod api;
mod apis;
mod calls;
mod content;
mod context;
mod decoder;
mod exchange;
mod facts;
mod framing;
mod identity;
mod incomplete;
mod measurements;
mod options;
mod outcome;
mod propagation;
mod provider;
mod reader;
mod recognition;
mod registry;
mod relations;
mod render;
mod resource;
mod route;
mod span;
mod trace_context;
mod transport;

pub use calls::{Calls, Traffic};
pub use content::{ContentOptions, Destination, Hidden, PatternError, Redaction};
pub use identity::{IdentityField, IdentityRules, IdentitySource};
pub use incomplete::IncompleteReason;
pub use measurements::{CHUNK_TIME_BOUNDS, ChunkTimes, HttpMeasurements, Measurements, TokenUsage};
pub use options::{Include, Options, Rule, RuleError, glob};
pub use propagation::Propagator;
pub use registry::{Api, DocumentedRoute};
pub use relations::Relations;
pub use render::{Dialect, semconv};
pub use resource::Resource;
pub use span::{Attribute, Span, SpanKind, SpanStatus, TraceContext, Value};
pub use transport::Transport;
