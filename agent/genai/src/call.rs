//! One LLM call in flight, and the span that it becomes.

use std::borrow::Cow;

use tokentap_wire::{Ending, Nanos, Reason, RequestHead, ResponseHead, Role};

use crate::{
    Attribute, IncompleteReason, Span, SpanKind, SpanStatus, TraceContext, Transport, Value,
    ask::Ask,
    family::{Info, Read},
    provider,
    recognition::{self, Candidate, Destination},
    reply::Reply,
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
    certain: bool,
    /// One for each API that it may be.
    readers: Vec<Box<dyn Read>>,
    /// 0 until the response's head came, or when that did not tell.
    status: u16,
    first_chunk: Option<Nanos>,
    /// When the API's own end of stream came.
    done: Option<Nanos>,
    request_gap: bool,
    response_gap: bool,
    /// Some header fields are not known.
    unresolved: bool,
}

impl Call {
    pub(crate) fn new(head: &RequestHead<'_>, candidate: Candidate, at: Nanos) -> Self {
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
            readers: candidate.apis.iter().map(|api| api.open(path)).collect(),
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
            reader.request(bytes);
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
            reader.response(bytes, at);
            if self.done.is_none() && reader.reply().done {
                self.done = Some(at);
            }
        }
    }

    pub(crate) fn gap(&mut self, request: bool) {
        for reader in &mut self.readers {
            if request {
                self.request_gap = true;
                reader.request_gap();
            } else {
                self.response_gap = true;
                reader.response_gap();
            }
        }
    }

    pub(crate) const fn finished(&self) -> bool {
        self.done.is_some()
    }

    /// The exchange is over. `None`: it was not a call after all, or a redirect, which answers none.
    pub(crate) fn end(mut self, ending: Ending, at: Nanos, transport: &Transport) -> Option<Span> {
        let whole = ending == Ending::Complete;
        let odd: Vec<_> = self.readers.iter_mut().map(|reader| reader.conclude(whole)).collect();
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
        let (ask, reply) = reader.facts();
        let ending = self.settle(ending, reply);
        let incomplete = self.incomplete(ending, odd[index]);
        let error = self.error(ending, reply);
        let status =
            error.as_ref().map_or(SpanStatus::Unset, |error| SpanStatus::Error(error.description.clone()));
        let mut attributes = Attributes(Vec::with_capacity(32));
        let name = if ask.model.is_empty() {
            info.operation.to_owned()
        } else {
            format!("{} {}", info.operation, ask.model)
        };
        let provider = self.provider.or(reply.server).unwrap_or(info.provider);
        attributes.put(semconv::OPERATION_NAME, info.operation);
        attributes.put(semconv::PROVIDER_NAME, provider);
        // A choice that was not told why it ended, because the call failed, ended by that error.
        let unknown = error.as_ref().filter(|_| self.status < 400 && !self.response_gap).map(|_| "error");
        attributes.refine(provider, info, ask, reply);
        attributes.ask(ask, reply.streamed);
        attributes.reply(reply, unknown);
        attributes.times(reply, self.start, self.first_chunk);
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

    /// The API that it turned out to be.
    fn confirmed(&mut self) -> Option<usize> {
        if self.certain {
            return Some(0);
        }
        let answered = self.readers.iter_mut().position(|reader| reader.facts().1.fits);
        answered.or_else(|| self.readers.iter_mut().position(|reader| reader.facts().0.fits()))
    }

    /// How the call ended, which is not always how its exchange did.
    fn settle(&self, ending: Ending, reply: &Reply) -> Ending {
        // Who watches a server sees both its own end of the connection, and its client's leave.
        let ending = match ending {
            Ending::ClosedLocally if self.kind == SpanKind::Server => Ending::Cut,
            ending => ending,
        };
        let told = self.response_gap || reply.failure.seen || !reply.unfinished();
        match ending {
            _ if self.done.is_some() => Ending::Complete,
            // HTTP cannot tell where a body without length was cut; a stream can, and some servers end their
            // HTTP in good order when what is behind them fails.
            Ending::Complete if reply.streamed && !told => Ending::Cut,
            ending => ending,
        }
    }

    /// Why the call is incomplete, if it is.
    fn incomplete(&self, ending: Ending, odd: Option<Reason>) -> Option<IncompleteReason> {
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
            Ending::Complete => match odd.filter(|_| self.status < 400) {
                Some(reason) => IncompleteReason::Malformed(reason),
                None if self.unresolved => IncompleteReason::LateJoin,
                None => return None,
            },
        })
    }

    fn error(&self, ending: Ending, reply: &Reply) -> Option<Failed> {
        let name = reply.failure.name().map(|name| Cow::Owned(name.to_owned()));
        if self.status >= 400 {
            let name = name.unwrap_or_else(|| self.status.to_string().into());
            return Some(Failed { name, description: format!("HTTP {}", self.status).into() });
        }
        if reply.failure.seen {
            let code =
                Some(&reply.failure.code).filter(|code| !code.is_empty()).map(|code| code.clone().into());
            let name = name.or(code).unwrap_or(Cow::Borrowed("_OTHER"));
            return Some(Failed { name, description: "the response says that the call failed".into() });
        }
        let (name, description) = match ending {
            Ending::Cut => ("connection_closed", "the connection was closed before the response was whole"),
            // It had all that it came for.
            Ending::ClosedLocally if reply.finished() => return None,
            Ending::ClosedLocally => {
                ("cancelled", "the caller closed the connection before the response was whole")
            }
            Ending::ProcessExit => ("process_exit", "the process ended before the response was whole"),
            Ending::Malformed(_) => ("malformed_response", "the bytes stopped being HTTP"),
            _ => return None,
        };
        Some(Failed { name: name.into(), description: description.into() })
    }
}

struct Failed {
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

    /// What the conventions of one provider add.
    fn refine(&mut self, provider: &str, info: Info, ask: &mut Ask, reply: &mut Reply) {
        match provider {
            provider::OPENAI => {
                self.put_some(semconv::OPENAI_API_TYPE, info.openai_api_type);
                if ask.service_tier != "auto" {
                    self.put_text(semconv::OPENAI_REQUEST_SERVICE_TIER, &mut ask.service_tier);
                }
                self.put_text(semconv::OPENAI_RESPONSE_SERVICE_TIER, &mut reply.service_tier);
                self.put_text(semconv::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, &mut reply.fingerprint);
            }
            provider::AZURE_INFERENCE => {
                self.put(semconv::AZURE_RESOURCE_PROVIDER_NAMESPACE, "Microsoft.CognitiveServices");
            }
            _ => {}
        }
    }

    fn ask(&mut self, ask: &mut Ask, streamed: bool) {
        self.put_text(semconv::REQUEST_MODEL, &mut ask.model);
        self.put_some(semconv::REQUEST_MAX_TOKENS, ask.max_tokens());
        self.put_some(semconv::REQUEST_CHOICE_COUNT, ask.choices.filter(|&n| n != 1));
        self.put_some(semconv::REQUEST_TEMPERATURE, ask.temperature);
        self.put_some(semconv::REQUEST_TOP_P, ask.top_p);
        self.put_some(semconv::REQUEST_TOP_K, ask.top_k);
        self.put_some(semconv::REQUEST_FREQUENCY_PENALTY, ask.frequency_penalty);
        self.put_some(semconv::REQUEST_PRESENCE_PENALTY, ask.presence_penalty);
        self.put_some(semconv::REQUEST_SEED, ask.seed);
        if !ask.stop.is_empty() {
            self.put(semconv::REQUEST_STOP_SEQUENCES, std::mem::take(&mut ask.stop));
        }
        if ask.stream || streamed {
            self.put(semconv::REQUEST_STREAM, true);
        }
        self.put_text(semconv::REQUEST_REASONING_LEVEL, &mut ask.reasoning_level);
        self.put_some(semconv::OUTPUT_TYPE, ask.output_type());
    }

    fn reply(&mut self, reply: &mut Reply, unknown: Option<&str>) {
        self.put_text(semconv::RESPONSE_ID, &mut reply.id);
        self.put_text(semconv::RESPONSE_MODEL, &mut reply.model);
        let reasons = reply.finish_reasons(unknown);
        if !reasons.is_empty() {
            self.put(semconv::RESPONSE_FINISH_REASONS, reasons);
        }
        let usage = reply.usage;
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

    fn times(&mut self, reply: &Reply, start: Nanos, first_chunk: Option<Nanos>) {
        let since_start =
            |at: Nanos| std::time::Duration::from_nanos(at.0.saturating_sub(start.0)).as_secs_f64();
        if reply.streamed {
            self.put_some(semconv::RESPONSE_TIME_TO_FIRST_CHUNK, first_chunk.map(since_start));
            self.put_some(semconv::TIME_TO_FIRST_TOKEN, reply.first_token.map(since_start));
        }
    }
}
