//! An exchange that is, or may be, one LLM call or many, and the spans that come of it.
//!
//! ```text
//!     head of a request that may be a call
//!                  │  one reader for each API that it may belong to
//!                  ▼
//!   ┌─────────────────────────────┐ ◄─┐ bodies, messages, gaps: every reader takes them
//!   │ in flight                   │ ──┘
//!   └──┬──────────────────────┬───┘ ──► a call of many (WebSocket, JSON-RPC) ends: span
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

use std::sync::Arc;

use tokentap_wire::{Ending, Headers, MessagePart, Nanos, RequestHead, ResponseHead, Role, Version};

use crate::{
    HttpMeasurements, IdentityRules, Options, Span, SpanKind, Transport,
    context::ExchangeContext,
    identity::Identity,
    outcome::{Outcome, Seen},
    propagation, provider,
    reader::Reader,
    recognition::{self, CallCandidate},
    render::{self, semconv},
};

/// An exchange whose request head was seen.
#[derive(Debug)]
pub(crate) struct Exchange {
    context: ExchangeContext,
    /// The head of the request was enough to recognise the call.
    certain: bool,
    /// One for each API that the call may belong to.
    readers: Vec<Reader>,
    request_gap: bool,
    /// Some header fields could not be resolved.
    unresolved: bool,
    /// When the last event of the API's own stream came.
    done: Option<Nanos>,
    /// A call of many has ended.
    had_calls: bool,
}

impl Exchange {
    pub(crate) fn new(
        head: &RequestHead<'_>,
        candidate: CallCandidate<'_>,
        at: Nanos,
        options: &Arc<Options>,
        transport: &Transport,
    ) -> Self {
        let path = recognition::path(head.target);
        let readers = candidate
            .readers
            .iter()
            .map(|(api, route, captures)| Reader::new(*api, *route, head, captures, options));
        Self {
            readers: readers.collect(),
            context: ExchangeContext {
                options: Arc::clone(options),
                identity: (options.identity != IdentityRules::default())
                    .then(|| Box::new(Identity::of(&options.identity, &head.headers))),
                kind: match head.role {
                    Role::Client => SpanKind::Client,
                    Role::Server => SpanKind::Server,
                },
                start: at,
                parent: propagation::extract(&options.propagators, &head.headers),
                provider: provider::by_host(&candidate.destination.host, path),
                destination: candidate.destination,
                status: 0,
                response_gap: false,
                response_ids: Box::default(),
                forced: is_forced(options, head),
                http: http(head, transport),
            },
            certain: candidate.certain,
            request_gap: false,
            unresolved: !head.headers.complete || head.target.is_empty(),
            done: None,
            had_calls: false,
        }
    }

    pub(crate) fn request_body(&mut self, bytes: &[u8], at: Nanos) {
        for reader in &mut self.readers {
            reader.body(Role::Client, bytes, at);
        }
    }

    pub(crate) fn request_end(&mut self, at: Nanos) {
        for reader in &mut self.readers {
            reader.request_end(at);
        }
    }

    /// Whether what follows the head is read.
    pub(crate) fn response(&mut self, head: &ResponseHead<'_>) -> bool {
        let context = &mut self.context;
        context.status = head.status;
        self.unresolved |= !head.headers.complete || head.status == 0;
        context.provider = context.provider.or_else(|| provider::by_headers(&head.headers));
        context.response_ids = response_ids(&head.headers);
        for reader in &mut self.readers {
            reader.response_head(head);
        }
        // What is spoken after a switch of protocols is known only of a WebSocket that was expected.
        head.status != 101 || self.readers.iter().any(|reader| reader.web_socket)
    }

    pub(crate) fn response_body(&mut self, bytes: &[u8], at: Nanos) {
        for reader in &mut self.readers {
            reader.body(Role::Server, bytes, at);
            if self.done.is_none() && reader.facts().response.done && !reader.calls.many {
                self.done = Some(at);
            }
        }
        if self.readers.len() > 1 {
            self.rule_out();
        }
    }

    /// Where several APIs were possible and the response shows one, the others need not read on.
    fn rule_out(&mut self) {
        let answered = self.readers.iter().position(|reader| reader.facts().response.is_recognised);
        if let Some(answered) = answered {
            self.readers.swap(0, answered);
            self.readers.truncate(1);
        }
    }

    pub(crate) fn message(&mut self, part: &MessagePart<'_>, at: Nanos) {
        for reader in self.readers.iter_mut().filter(|reader| reader.web_socket) {
            reader.message(part, at);
        }
    }

    pub(crate) fn trailers(&mut self, fields: Headers<'_>) {
        for reader in &mut self.readers {
            reader.trailers(fields);
        }
    }

    /// Bytes of the body that this peer sends are missing.
    pub(crate) fn gap(&mut self, from: Role, missing: Option<u64>) {
        match from {
            Role::Client => self.request_gap = true,
            Role::Server => self.context.response_gap = true,
        }
        for reader in &mut self.readers {
            reader.gap(from, missing);
        }
    }

    pub(crate) const fn is_response_complete(&self) -> bool {
        self.done.is_some()
    }

    /// The exchange holds many calls.
    pub(crate) fn holds_many(&self) -> bool {
        self.readers.iter().any(|reader| reader.calls.many)
    }

    /// A call of many has ended before the exchange.
    pub(crate) const fn had_calls(&self) -> bool {
        self.had_calls
    }

    /// The calls that have ended although the exchange has not.
    pub(crate) fn take_ended(&mut self, give: &mut dyn FnMut(Span)) {
        for reader in self.readers.iter_mut().filter(|reader| reader.calls.has_closed()) {
            self.had_calls = true;
            for facts in reader.calls.take_closed() {
                let seen = Seen { gap: facts.response.gapped, ..Seen::default() };
                let outcome = Outcome::new(Ending::Complete, &self.context, &facts.response, seen);
                give(render::span(&self.context, reader, facts, outcome, self.context.start));
            }
        }
    }

    /// The exchange is over. Gives no span if it turned out to be no call, or was answered by a redirect.
    pub(crate) fn end(
        mut self,
        ending: Ending,
        at: Nanos,
        transport: &Transport,
        give: &mut dyn FnMut(Span),
    ) {
        let complete = ending == Ending::Complete;
        let malformed: Vec<_> = self.readers.iter_mut().map(|reader| reader.finish(complete, at)).collect();
        // The peer may have become known since the request.
        let peer = transport
            .peer
            .filter(|_| self.context.kind == SpanKind::Client && self.context.destination.host.is_empty());
        if let Some(peer) = peer {
            let destination = &mut self.context.destination;
            (destination.host, destination.port) = recognition::by_address(peer);
        }
        self.take_ended(give);
        let Some(index) = self.confirmed() else { return };
        if (300..400).contains(&self.context.status) {
            return;
        }
        let mut reader = self.readers.swap_remove(index);
        if self.had_calls && !reader.calls.many {
            return;
        }
        let at = self.done.unwrap_or(at);
        if reader.calls.many {
            for mut facts in reader.calls.take_open() {
                let status = self.context.status;
                // An answer in another exchange is not waited for.
                if status == 202 && ending == Ending::Complete {
                    continue;
                }
                let ending = match ending {
                    // The end of the call may have been among the lost bytes, long before that of the WebSocket.
                    _ if status == 101 && facts.response.gapped => Ending::Lost,
                    // The WebSocket may have ended in good order, but this call has not.
                    Ending::Complete if status == 101 => Ending::Cut,
                    ending => ending,
                };
                if status != 101 || !facts.response.gapped {
                    facts.end = None;
                }
                let seen = Seen { gap: facts.response.gapped, ..Seen::default() };
                let outcome = Outcome::new(ending, &self.context, &facts.response, seen);
                give(render::span(&self.context, &reader, facts, outcome, at));
            }
        } else if self.context.status != 101 {
            let facts = std::mem::take(&mut reader.calls.current);
            let seen = Seen {
                gap: self.request_gap || self.context.response_gap,
                unresolved: self.unresolved,
                malformed: malformed[index],
            };
            let outcome = Outcome::new(ending, &self.context, &facts.response, seen);
            give(render::span(&self.context, &reader, facts, outcome, at));
        }
    }

    /// The index of the reader whose API the call belongs to.
    fn confirmed(&self) -> Option<usize> {
        if self.certain {
            return Some(0);
        }
        if let Some(open) = self.readers.iter().position(|reader| reader.calls.has_open()) {
            return Some(open);
        }
        let answered = self.readers.iter().position(|reader| reader.facts().response.is_recognised);
        answered.or_else(|| {
            self.readers.iter().position(|reader| (reader.api.is_request)(&reader.facts().request))
        })
    }
}

/// Whether the request asks for its trace to be kept.
fn is_forced(options: &Options, head: &RequestHead<'_>) -> bool {
    let value = options.force_header.as_ref().and_then(|name| head.headers.get(name));
    value.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"true"))
}

/// The exchange as HTTP, as far as the head of the request tells. A method that the conventions do not know is `_OTHER`.
fn http(head: &RequestHead<'_>, transport: &Transport) -> HttpMeasurements {
    const KNOWN: [&str; 10] =
        ["POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY"];
    HttpMeasurements {
        method: KNOWN.into_iter().find(|known| known.as_bytes() == head.method).unwrap_or("_OTHER"),
        status: 0,
        tls: transport.tls,
        http2: head.version == Version::Http2,
    }
}

/// What the server knows the response by: for its support, or its own traces.
fn response_ids(headers: &Headers<'_>) -> Box<[(&'static str, String)]> {
    /// Longer values are no ids, in bytes.
    const LONGEST: usize = 128;
    let ids = semconv::RESPONSE_HEADERS.iter().filter_map(|key| {
        let (_, name) = key.rsplit_once('.')?;
        let value = str::from_utf8(headers.get(name)?).ok()?.trim();
        let is_id =
            !value.is_empty() && value.len() <= LONGEST && value.bytes().all(|byte| byte.is_ascii_graphic());
        is_id.then(|| (*key, value.to_owned()))
    });
    ids.collect()
}
