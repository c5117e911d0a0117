//! One LLM call in flight, and the span that it becomes.
//!
//! ```text
//!     head of a request that may be a call
//!                  │  one reader for each API that it may belong to
//!                  ▼
//!   ┌─────────────────────────────┐ ◄─┐ bodies, gaps: every reader takes them
//!   │ in flight                   │ ──┘
//!   └──┬──────────────────────┬───┘
//!      │                      │ last event of the API's own stream (`[DONE]`, `message_stop`)
//!      │                      ▼
//!      │       ┌─────────────────────────────┐  the wire engine is told that the response is
//!      │       │ response complete           │  complete, and ends the exchange
//!      │       └──────┬──────────────────────┘
//!      ▼              ▼
//!   end of the exchange (complete, cut, lost, …)
//!      ├─ no reader recognised its API, or the response is a redirect or 101 ─► no span
//!      └─ one did ─► span, with an `IncompleteReason` unless the call was seen completely
//! ```

use std::borrow::Cow;

use tokentap_wire::{Ending, Nanos, Reason, RequestHead, ResponseHead, Role};

use crate::{
    Attribute, IncompleteReason, Span, SpanKind, SpanStatus, TraceContext, Transport, Value,
    family::{ApiInfo, BodyReader},
    provider,
    recognition::{self, CallCandidate, Destination},
    request_facts::RequestFacts,
    response_facts::ResponseFacts,
    semconv, trace_context,
};

/// A call whose request head was seen.
#[derive(Debug)]
pub(crate) struct Call {
    kind: SpanKind,
    start: Nanos,
    parent: Option<TraceContext>,
    destination: Destination,
    provider: Option<&'static str>,
    /// The head of the request was enough to recognise the call.
    certain: bool,
    /// One for each API that the call may belong to.
    readers: Vec<Box<dyn BodyReader>>,
    /// 0 before the head of the response, and where that could not be resolved.
    status: u16,
    /// When the first bytes of the response body came.
    first_chunk: Option<Nanos>,
    /// When the last event of the API's own stream came.
    done: Option<Nanos>,
    request_gap: bool,
    response_gap: bool,
    /// Some header fields could not be resolved.
    unresolved: bool,
}

impl Call {
    pub(crate) fn new(head: &RequestHead<'_>, candidate: CallCandidate, at: Nanos) -> Self {
        let path = recognition::path(head.target);
        Self {
            kind: match head.role {
                Role::Client => SpanKind::Client,
                Role::Server => SpanKind::Server,
            },
            start: at,
            parent: trace_context::parse(&head.headers),
            provider: provider::by_host(&candidate.destination.host, path),
            destination: candidate.destination,
            certain: candidate.certain,
            readers: candidate.apis.iter().map(|api| api.reader(path)).collect(),
            status: 0,
            first_chunk: None,
            done: None,
            request_gap: false,
            response_gap: false,
            unresolved: !head.headers.complete || head.target.is_empty(),
        }
    }

    pub(crate) fn request_body(&mut self, bytes: &[u8]) {
        for reader in &mut self.readers {
            reader.request_body(bytes);
        }
    }

    pub(crate) fn request_end(&mut self) {
        for reader in &mut self.readers {
            reader.request_end();
        }
    }

    pub(crate) fn response(&mut self, head: &ResponseHead<'_>) {
        self.status = head.status;
        self.unresolved |= !head.headers.complete || head.status == 0;
        self.provider = self.provider.or_else(|| provider::by_headers(&head.headers));
        let kind = head.headers.get("content-type").unwrap_or_default();
        if kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream")) {
            for reader in &mut self.readers {
                reader.announce_events();
            }
        }
    }

    pub(crate) fn response_body(&mut self, bytes: &[u8], at: Nanos) {
        if self.first_chunk.is_none() && !bytes.is_empty() {
            self.first_chunk = Some(at);
        }
        for reader in &mut self.readers {
            reader.response_body(bytes, at);
            if self.done.is_none() && reader.response_facts().done {
                self.done = Some(at);
            }
        }
    }

    /// Bytes of the body that this peer sends are missing.
    pub(crate) fn gap(&mut self, from: Role) {
        for reader in &mut self.readers {
            match from {
                Role::Client => {
                    self.request_gap = true;
                    reader.request_gap();
                }
                Role::Server => {
                    self.response_gap = true;
                    reader.response_gap();
                }
            }
        }
    }

    pub(crate) const fn is_response_complete(&self) -> bool {
        self.done.is_some()
    }

    /// The exchange is over. `None` if it turned out to be no call, or was answered by a redirect.
    pub(crate) fn end(mut self, ending: Ending, at: Nanos, transport: &Transport) -> Option<Span> {
        let complete = ending == Ending::Complete;
        let malformed: Vec<_> = self.readers.iter_mut().map(|reader| reader.conclude(complete)).collect();
        let index = self.confirmed()?;
        if (300..400).contains(&self.status) || self.status == 101 {
            return None;
        }
        // The peer may have become known since the request.
        let peer =
            transport.peer.filter(|_| self.kind == SpanKind::Client && self.destination.host.is_empty());
        if let Some(peer) = peer {
            (self.destination.host, self.destination.port) = recognition::by_address(peer);
        }
        let mut reader = self.readers.swap_remove(index);
        let info = reader.info();
        let (request, response) = reader.facts();
        let ending = self.call_ending(ending, response);
        let incomplete = self.incomplete(ending, malformed[index]);
        let error = self.error(ending, response);
        let status =
            error.as_ref().map_or(SpanStatus::Unset, |error| SpanStatus::Error(error.description.clone()));
        let mut attributes = Attributes(Vec::with_capacity(32));
        let name = if request.model.is_empty() {
            info.operation.to_owned()
        } else {
            format!("{} {}", info.operation, request.model)
        };
        let provider = self.provider.or(response.server).unwrap_or(info.provider);
        attributes.put(semconv::OPERATION_NAME, info.operation);
        attributes.put(semconv::PROVIDER_NAME, provider);
        // Where the call failed, the error is the finish reason of a choice without one.
        let unknown = error.as_ref().filter(|_| self.status < 400 && !self.response_gap).map(|_| "error");
        attributes.provider_attributes(provider, info, request, response);
        attributes.request_attributes(request, response.streamed);
        attributes.response_attributes(response, unknown);
        attributes.time_attributes(response, self.start, self.first_chunk);
        if !self.destination.host.is_empty() {
            attributes.put(semconv::SERVER_ADDRESS, std::mem::take(&mut self.destination.host));
            attributes.put(semconv::SERVER_PORT, i64::from(self.destination.port));
        }
        if self.status != 0 {
            attributes.put(semconv::HTTP_RESPONSE_STATUS_CODE, i64::from(self.status));
        }
        if let Some(error) = error {
            attributes.put(semconv::ERROR_TYPE, error.name);
        }
        if let Some(reason) = incomplete {
            attributes.put(semconv::INCOMPLETE, true);
            attributes.put(semconv::INCOMPLETE_REASON, reason.text());
        }
        Some(Span {
            name,
            kind: self.kind,
            parent: self.parent,
            start: self.start,
            end: self.done.unwrap_or(at),
            status,
            attributes: attributes.0,
            incomplete,
        })
    }

    /// The index of the reader whose API the call belongs to.
    fn confirmed(&mut self) -> Option<usize> {
        if self.certain {
            return Some(0);
        }
        let answered = self.readers.iter_mut().position(|reader| reader.facts().1.is_recognised);
        answered.or_else(|| self.readers.iter_mut().position(|reader| reader.facts().0.is_recognised()))
    }

    /// How the call ended, which can differ from how its exchange ended.
    fn call_ending(&self, ending: Ending, response: &ResponseFacts) -> Ending {
        // In an observed server, the process that closed first is not the caller.
        let ending = match ending {
            Ending::ClosedLocally if self.kind == SpanKind::Server => Ending::Cut,
            ending => ending,
        };
        let explained = self.response_gap || response.failure.seen || !response.has_unfinished_choice();
        match ending {
            _ if self.done.is_some() => Ending::Complete,
            // A stream without its last event was cut, even if HTTP ended it regularly: a body without a length
            // has no other end, and gateways end HTTP regularly when the server behind them fails.
            Ending::Complete if response.streamed && !explained => Ending::Cut,
            ending => ending,
        }
    }

    /// Why the call is incomplete, if it is.
    fn incomplete(&self, ending: Ending, malformed: Option<Reason>) -> Option<IncompleteReason> {
        Some(match ending {
            Ending::Cut => IncompleteReason::Cut,
            Ending::ClosedLocally => IncompleteReason::Cancelled,
            Ending::Lost => IncompleteReason::Gap,
            Ending::ProcessExit => IncompleteReason::ProcessExit,
            Ending::AgentStop => IncompleteReason::AgentStop,
            Ending::Stale => IncompleteReason::Stale,
            Ending::Malformed(reason) => IncompleteReason::Malformed(reason),
            Ending::Undecodable(reason) => IncompleteReason::Undecodable(reason),
            Ending::Complete if self.request_gap || self.response_gap => IncompleteReason::Gap,
            Ending::Complete => match malformed.filter(|_| self.status < 400) {
                Some(reason) => IncompleteReason::Malformed(reason),
                None if self.unresolved => IncompleteReason::LateJoin,
                None => return None,
            },
        })
    }

    fn error(&self, ending: Ending, response: &ResponseFacts) -> Option<CallError> {
        let name = response.failure.name().map(|name| Cow::Owned(name.to_owned()));
        if self.status >= 400 {
            let name = name.unwrap_or_else(|| self.status.to_string().into());
            return Some(CallError { name, description: format!("HTTP {}", self.status).into() });
        }
        if response.failure.seen {
            let code =
                Some(&response.failure.code).filter(|code| !code.is_empty()).map(|code| code.clone().into());
            let name = name.or(code).unwrap_or(Cow::Borrowed("_OTHER"));
            return Some(CallError { name, description: "the response says that the call failed".into() });
        }
        let (name, description) = match ending {
            Ending::Cut => ("connection_closed", "the connection was closed before the response was whole"),
            // The caller had the whole response.
            Ending::ClosedLocally if response.is_finished() => return None,
            Ending::ClosedLocally => {
                ("cancelled", "the caller closed the connection before the response was whole")
            }
            Ending::ProcessExit => ("process_exit", "the process ended before the response was whole"),
            Ending::Malformed(_) => ("malformed_response", "the bytes stopped being HTTP"),
            _ => return None,
        };
        Some(CallError { name: name.into(), description: description.into() })
    }
}

/// How a call failed.
struct CallError {
    /// `error.type`
    name: Cow<'static, str>,
    description: Cow<'static, str>,
}

struct Attributes(Vec<Attribute>);

impl Attributes {
    fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(Attribute { key: Cow::Borrowed(key), value: value.into() });
    }

    fn put_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn put_text(&mut self, key: &'static str, text: &mut String) {
        if !text.is_empty() {
            self.put(key, std::mem::take(text));
        }
    }

    /// Attributes that the conventions of one provider add.
    fn provider_attributes(
        &mut self,
        provider: &str,
        info: ApiInfo,
        request: &mut RequestFacts,
        response: &mut ResponseFacts,
    ) {
        match provider {
            provider::OPENAI => {
                self.put_some(semconv::OPENAI_API_TYPE, info.openai_api_type);
                if request.service_tier != "auto" {
                    self.put_text(semconv::OPENAI_REQUEST_SERVICE_TIER, &mut request.service_tier);
                }
                self.put_text(semconv::OPENAI_RESPONSE_SERVICE_TIER, &mut response.service_tier);
                self.put_text(semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, &mut response.fingerprint);
            }
            provider::AZURE_INFERENCE => {
                self.put(semconv::AZURE_RESOURCE_PROVIDER_NAMESPACE, "Microsoft.CognitiveServices");
            }
            _ => {}
        }
    }

    fn request_attributes(&mut self, request: &mut RequestFacts, streamed: bool) {
        self.put_text(semconv::REQUEST_MODEL, &mut request.model);
        self.put_some(semconv::REQUEST_MAX_TOKENS, request.max_tokens());
        self.put_some(semconv::REQUEST_CHOICE_COUNT, request.choices.filter(|&n| n != 1));
        self.put_some(semconv::REQUEST_TEMPERATURE, request.temperature);
        self.put_some(semconv::REQUEST_TOP_P, request.top_p);
        self.put_some(semconv::REQUEST_TOP_K, request.top_k);
        self.put_some(semconv::REQUEST_FREQUENCY_PENALTY, request.frequency_penalty);
        self.put_some(semconv::REQUEST_PRESENCE_PENALTY, request.presence_penalty);
        self.put_some(semconv::REQUEST_SEED, request.seed);
        if !request.stop.is_empty() {
            self.put(semconv::REQUEST_STOP_SEQUENCES, std::mem::take(&mut request.stop));
        }
        if request.stream || streamed {
            self.put(semconv::REQUEST_STREAM, true);
        }
        self.put_text(semconv::REQUEST_REASONING_LEVEL, &mut request.reasoning_level);
        self.put_some(semconv::OUTPUT_TYPE, request.output_type());
    }

    fn response_attributes(&mut self, response: &mut ResponseFacts, unknown: Option<&str>) {
        self.put_text(semconv::RESPONSE_ID, &mut response.id);
        self.put_text(semconv::RESPONSE_MODEL, &mut response.model);
        let reasons = response.finish_reasons(unknown);
        if !reasons.is_empty() {
            self.put(semconv::RESPONSE_FINISH_REASONS, reasons);
        }
        let usage = response.usage;
        for (key, tokens) in [
            (semconv::USAGE_INPUT_TOKENS, usage.input),
            (semconv::USAGE_OUTPUT_TOKENS, usage.output),
            (semconv::USAGE_CACHE_READ_INPUT_TOKENS, usage.cache_read),
            (semconv::USAGE_CACHE_WRITE_INPUT_TOKENS, usage.cache_write),
            (semconv::USAGE_REASONING_OUTPUT_TOKENS, usage.reasoning),
        ] {
            self.put_some(key, tokens);
        }
        // Servers send zeros for modalities that the call did not use.
        for (key, tokens) in [
            (semconv::USAGE_TEXT_INPUT_TOKENS, usage.text_input),
            (semconv::USAGE_TEXT_OUTPUT_TOKENS, usage.text_output),
            (semconv::USAGE_IMAGE_INPUT_TOKENS, usage.image_input),
            (semconv::USAGE_IMAGE_OUTPUT_TOKENS, usage.image_output),
            (semconv::USAGE_AUDIO_INPUT_TOKENS, usage.audio_input),
            (semconv::USAGE_AUDIO_OUTPUT_TOKENS, usage.audio_output),
        ] {
            self.put_some(key, tokens.filter(|&n| n > 0));
        }
    }

    fn time_attributes(&mut self, response: &ResponseFacts, start: Nanos, first_chunk: Option<Nanos>) {
        let since_start =
            |at: Nanos| std::time::Duration::from_nanos(at.0.saturating_sub(start.0)).as_secs_f64();
        if response.streamed {
            self.put_some(semconv::RESPONSE_TIME_TO_FIRST_CHUNK, first_chunk.map(since_start));
            self.put_some(semconv::TIME_TO_FIRST_TOKEN, response.first_token.map(since_start));
        }
    }
}
