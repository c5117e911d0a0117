//! The Model Context Protocol over streamable HTTP: JSON-RPC 2.0 in POSTs to any path, answered by a document or by
//! server-sent events.
//!
//! Each request is a call of its own, also in a batch; its answer has its id. Notifications, answers to requests of the
//! server, and requests whose answer comes in another exchange (202) give no span.

use std::{fmt::Write as _, sync::LazyLock};

use tokentap_wire::{
    Headers, RequestHead, ResponseHead, Role, Version,
    json::{Schema, Value},
};

use crate::{
    api::{self, ApiSpec, Field, Wanted, own},
    content::{Content, Sent},
    decoder::{Decoder, Event, OpenCalls},
    facts::{Extra, Facts, read},
    route::Captures,
    trace_context,
};

pub(crate) static API: ApiSpec = ApiSpec {
    decoder: || Box::<Mcp>::default(),
    is_request: |_| false,
    content: Some(read_content),
    ..ApiSpec::new("mcp", "", &[], &REQUEST, &RESPONSE)
};

/// Whether a POST may be one of the protocol: it has a header field of the protocol, or takes a document and events for an
/// answer, as § Streamable HTTP demands. Goes through the fields once: every POST of other software pays for it.
pub(crate) fn may_be(headers: &Headers<'_>) -> bool {
    let (mut document, mut events) = (false, false);
    headers.iter().any(|(name, value)| match name.len() {
        6 if value.len() > MEDIA_TYPE && name.eq_ignore_ascii_case(b"accept") => {
            document |= has(value, b"application/json");
            events |= has(value, b"text/event-stream");
            document && events
        }
        10 | 14 | 20 => is_own(name),
        _ => false,
    })
}

/// A value of `Accept` up to this length names neither, in bytes.
const MEDIA_TYPE: usize = 15;

fn has(accept: &[u8], kind: &[u8]) -> bool {
    accept.windows(kind.len()).any(|window| window.eq_ignore_ascii_case(kind))
}

/// Whether only requests of the protocol have this header field.
fn is_own(name: &[u8]) -> bool {
    let own: &[u8] = match name.len() {
        10 => b"mcp-method",
        14 => b"mcp-session-id",
        20 => b"mcp-protocol-version",
        _ => return false,
    };
    name.eq_ignore_ascii_case(own)
}

/// Whether a method shows that a JSON-RPC request is one of the protocol, where no header field does. Other protocols have
/// methods named `tasks/…` and `message/…`.
fn is_method(method: &str) -> bool {
    let group = method.split('/').next().unwrap_or_default();
    ["initialize", "ping", "tools", "resources", "prompts", "completion", "logging"].contains(&group)
}

const VERSION: u8 = 0;
const ID: u8 = 1;
const METHOD: u8 = 2;
const NAME: u8 = 3;
const URI: u8 = 4;
const PROTOCOL: u8 = 5;
const PARENT: u8 = 6;
const STATE: u8 = 7;
const RESULT: u8 = 8;
const IS_ERROR: u8 = 9;
const ERROR: u8 = 10;
const ERROR_CODE: u8 = 11;

const RPC_REQUEST: &[Wanted] = &[
    own("jsonrpc", VERSION),
    own("id", ID),
    own("method", METHOD),
    own("params.name", NAME),
    own("params.ref.name", NAME),
    own("params.uri", URI),
    own("params.protocolVersion", PROTOCOL),
    own("params._meta.traceparent", PARENT),
    own("params._meta.tracestate", STATE),
];

const RPC_RESPONSE: &[Wanted] = &[
    own("jsonrpc", VERSION),
    own("id", ID),
    own("method", METHOD),
    own("result", RESULT),
    own("result.isError", IS_ERROR),
    own("result.protocolVersion", PROTOCOL),
    own("error", ERROR),
    own("error.code", ERROR_CODE),
];

/// Batches are arrays.
const ITEM: &[Wanted] = &[Wanted::new("", Field::Item)];

static REQUEST: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", RPC_REQUEST), ("[]", ITEM), ("[]", RPC_REQUEST)]));

static RESPONSE: LazyLock<Schema<Field>> =
    LazyLock::new(|| api::schema(&[("", RPC_RESPONSE), ("[]", ITEM), ("[]", RPC_RESPONSE)]));

/// The message that is read, and what the header fields say.
#[derive(Debug, Default)]
struct Mcp {
    /// A header field of the protocol was there.
    named: bool,
    http: &'static str,
    session: Option<String>,
    protocol: Option<String>,
    message: Message,
}

/// A JSON-RPC message.
#[derive(Debug, Default)]
struct Message {
    from_server: bool,
    version_2: bool,
    id: String,
    method: String,
    name: String,
    uri: String,
    protocol: String,
    parent: String,
    state: String,
    result: bool,
    tool_failed: bool,
    error: bool,
    error_code: Option<i64>,
}

impl Message {
    /// For the next one: keeps the memory of the texts.
    fn clear(&mut self, from_server: bool) {
        let Self { id, method, name, uri, protocol, parent, state, .. } = self;
        for text in [id, method, name, uri, protocol, parent, state] {
            text.clear();
        }
        self.from_server = from_server;
        (self.version_2, self.result, self.tool_failed, self.error) = (false, false, false, false);
        self.error_code = None;
    }
}

impl Decoder for Mcp {
    fn request_head(&mut self, head: &RequestHead<'_>, _captures: &Captures<'_>, calls: &mut OpenCalls) {
        calls.many = true;
        self.http = match head.version {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        };
        self.named = head.headers.iter().any(|(name, _)| is_own(name));
        self.session = field(&head.headers, "mcp-session-id");
        self.protocol = field(&head.headers, "mcp-protocol-version");
    }

    fn response_head(&mut self, head: &ResponseHead<'_>, _calls: &mut OpenCalls) {
        self.session = field(&head.headers, "mcp-session-id").or_else(|| self.session.take());
    }

    fn begin(&mut self, event: &Event<'_>, _calls: &mut OpenCalls) {
        self.message.clear(event.from == Role::Server);
    }

    fn field(&mut self, field: u8, _indices: &[u32], value: Value<'_>, _calls: &mut OpenCalls) {
        let message = &mut self.message;
        match field {
            VERSION => message.version_2 |= value.as_str().is_some_and(|version| version.is("2.0")),
            ID => match value {
                Value::Number(number) => {
                    message.id.clear();
                    if let Some(id) = number.as_i64() {
                        // Writing to a string cannot fail.
                        let _ = write!(message.id, "{id}");
                    }
                }
                value => read(value, &mut message.id),
            },
            METHOD => read(value, &mut message.method),
            NAME => read(value, &mut message.name),
            URI => read(value, &mut message.uri),
            PROTOCOL => read(value, &mut message.protocol),
            PARENT => read(value, &mut message.parent),
            STATE => read(value, &mut message.state),
            RESULT => message.result = true,
            IS_ERROR => message.tool_failed |= value.as_bool() == Some(true),
            ERROR => message.error |= matches!(value, Value::Object),
            _ => message.error_code = value.as_i64(),
        }
    }

    fn end(&mut self, whole: bool, calls: &mut OpenCalls) {
        let message = &self.message;
        let content = calls.current.content.take();
        let has_id = !message.id.is_empty();
        match (message.from_server, message.method.is_empty()) {
            _ if !message.version_2 => {}
            (false, false) if has_id && (self.named || is_method(&message.method)) => {
                self.request(message, content, calls);
            }
            (true, true) if message.result && has_id || message.error => {
                self.response(message, whole, content, calls);
            }
            _ => {}
        }
        // A batch ends after its last message.
        self.message.clear(false);
    }
}

impl Mcp {
    fn request(&self, message: &Message, content: Option<Box<Content>>, calls: &mut OpenCalls) {
        let mut call = Facts::default();
        call.content = content;
        let target = match message.method.as_str() {
            "tools/call" => {
                call.operation = Some("execute_tool");
                call.runs_tool = true;
                call.set(Extra::ToolName, message.name.as_str());
                message.name.as_str()
            }
            "prompts/get" | "completion/complete" if !message.name.is_empty() => {
                call.set(Extra::PromptName, message.name.as_str());
                message.name.as_str()
            }
            _ => "",
        };
        call.name = Some(match target {
            "" => message.method.clone(),
            target => format!("{} {target}", message.method),
        });
        if !message.uri.is_empty() {
            call.set(Extra::McpResourceUri, message.uri.as_str());
        }
        call.set(Extra::NetworkProtocol, "http");
        call.set(Extra::NetworkProtocolVersion, self.http);
        call.set(Extra::McpMethod, message.method.as_str());
        call.set(Extra::JsonRpcRequestId, message.id.as_str());
        if let Some(session) = &self.session {
            call.set(Extra::McpSessionId, session.as_str());
        }
        let version = self.protocol.as_ref().unwrap_or(&message.protocol);
        if !version.is_empty() {
            call.set(Extra::McpProtocolVersion, version.as_str());
        }
        call.parent = trace_context::of(&message.parent, &message.state);
        // Times are those of the exchange: the request began with its first byte.
        calls.open_with_exchange(message.id.clone(), call);
    }

    fn response(&self, message: &Message, whole: bool, content: Option<Box<Content>>, calls: &mut OpenCalls) {
        // A server that could not read the id of a request answers without (JSON-RPC 2.0 § 5).
        let id = match message.id.as_str() {
            "" => calls.only().filter(|_| whole),
            id => Some(id),
        };
        let Some(id) = id.map(str::to_owned) else { return };
        let Some(call) = calls.get(&id) else { return };
        // With bytes missing, it may answer another one.
        if message.id.is_empty() && call.response.gapped {
            return;
        }
        call.response.is_recognised = true;
        call.response.gapped |= !whole;
        if let (true, Some(content)) = (call.runs_tool, content) {
            call.content.get_or_insert_default().absorb(*content);
        }
        if let Some(session) = &self.session {
            call.set(Extra::McpSessionId, session.as_str());
        }
        if !message.protocol.is_empty() {
            call.set(Extra::McpProtocolVersion, message.protocol.as_str());
        }
        let failure = &mut call.response.failure;
        if message.error {
            failure.seen = true;
            failure.code = message.error_code.map(|code| code.to_string()).unwrap_or_default();
        } else if message.tool_failed {
            failure.seen = true;
            "tool_error".clone_into(&mut failure.kind);
        }
        if let Some(code) = message.error_code.filter(|_| message.error) {
            call.set(Extra::RpcStatusCode, code.to_string());
        }
        calls.close(&id);
    }
}

fn field(headers: &Headers<'_>, name: &str) -> Option<String> {
    const LONGEST: usize = 256;
    let value = str::from_utf8(headers.get(name)?).ok()?.trim();
    (!value.is_empty() && value.len() <= LONGEST).then(|| value.to_owned())
}

/// Arguments and results of tools. Those of batches are not kept.
fn read_content(sent: &Sent<'_>, content: &mut Content) {
    if sent.is_request() && sent.get("method").and_then(serde_json::Value::as_str) == Some("tools/call") {
        content.arguments(sent.at("/params/arguments"));
    } else if !sent.is_request() {
        content.result(sent.get("result"));
    }
}
