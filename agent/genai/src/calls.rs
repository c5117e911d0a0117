//! The LLM calls of one connection.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use tokentap_wire::{
    Ending, ExchangeId, Headers, Interest, MessagePart, Nanos, Reason, RequestHead, ResponseHead, Role, Sink,
};

use crate::{Options, Span, Transport, exchange::Exchange, recognition::recognise};

/// How many exchanges a connection has carried: the agent decides by it whether to copy more of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Exchanges that are LLM calls, or may be as far as their request head tells.
    pub llm: u64,
    /// Other exchanges since the last LLM call. An exchange that only its bodies rule out counts when it ends.
    pub others_in_a_row: u64,
}

/// Finds the LLM calls in the exchanges of one connection and turns each into a [`Span`]: see the
/// [crate documentation](crate) for what is in it.
///
/// ```
/// use std::sync::Arc;
///
/// use tokentap_genai::{Calls, Options, Transport, Value, semconv};
/// use tokentap_wire::{Connection, Direction, Limits, Nanos};
///
/// let mut calls = Calls::new(Arc::new(Options::default()), Transport { tls: true, peer: None });
/// let mut connection = Connection::new(Limits::default());
/// let (body, answer) = (
///     r#"{"model":"gpt-5","messages":[{"role":"user","content":"Hi"}]}"#,
///     r#"{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":2}}"#,
/// );
/// let request = format!(
///     "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: {}\r\n\r\n{body}",
///     body.len(),
/// );
/// connection.data(Direction::Write, 0, request.as_bytes(), Nanos(1), &mut calls);
/// let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
/// connection.data(Direction::Read, 0, response.as_bytes(), Nanos(2), &mut calls);
///
/// let span = calls.take().expect("the call is complete");
/// assert_eq!(span.name, "chat gpt-5");
/// assert_eq!(span.get(semconv::USAGE_INPUT_TOKENS), Some(&Value::Int(8)));
/// assert_eq!(span.incomplete, None);
/// ```
///
/// Memory: nothing for exchanges that are not LLM calls. A call in flight costs about 4 KiB, and never more
/// than 100 KiB however long its bodies are (for each API that is tried). Finished spans wait until
/// they are taken. Once its first events were seen, a stream costs no more allocations.
#[derive(Debug)]
pub struct Calls {
    options: Arc<Options>,
    transport: Transport,
    traffic: Traffic,
    /// Searched linearly: HTTP/1 has one call in flight, and HTTP/2 connections to LLM APIs seldom more than a few.
    in_flight: Vec<(ExchangeId, Box<Exchange>)>,
    finished_spans: VecDeque<Span>,
    /// At most one entry for each reason.
    dropped: Vec<(Reason, u64)>,
}

impl Calls {
    /// For a new connection.
    #[must_use]
    pub fn new(options: Arc<Options>, transport: Transport) -> Self {
        Self {
            options,
            transport,
            traffic: Traffic::default(),
            in_flight: Vec::new(),
            finished_spans: VecDeque::new(),
            dropped: Vec::new(),
        }
    }

    /// Sets the address of the peer, once it is known.
    pub fn set_peer(&mut self, peer: SocketAddr) {
        self.transport.peer = Some(peer);
    }

    /// The next finished call, oldest first.
    pub fn take(&mut self) -> Option<Span> {
        self.finished_spans.pop_front()
    }

    /// Captured bytes that belong to no exchange, by reason, since the last call: one reason at a time.
    pub fn take_dropped(&mut self) -> Option<(Reason, u64)> {
        self.dropped.pop()
    }

    /// How many exchanges the connection has carried.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Takes the spans of calls that have ended before their exchange.
    #[inline]
    fn take_ended(&mut self, id: ExchangeId) {
        let Some((_, call)) = self.in_flight.iter_mut().find(|(known, _)| *known == id) else { return };
        if call.holds_many() {
            call.take_ended(&mut |span| self.finished_spans.push_back(span));
        }
    }

    #[inline]
    fn call(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.in_flight.iter_mut().find(|(known, _)| *known == id).map(|(_, call)| &mut **call)
    }
}

impl Sink for Calls {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest {
        let Some(candidate) = recognise(&self.options, head, &self.transport) else {
            self.traffic.others_in_a_row += 1;
            return Interest::Skip;
        };
        self.traffic.llm += 1;
        self.traffic.others_in_a_row = 0;
        self.in_flight
            .push((id, Box::new(Exchange::new(head, candidate, at, &self.options, &self.transport))));
        Interest::Body
    }

    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos) {
        if let Some(call) = self.call(id) {
            call.request_body(bytes, at);
        }
    }

    fn request_end(&mut self, id: ExchangeId, at: Nanos) {
        if let Some(call) = self.call(id) {
            call.request_end(at);
        }
    }

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, _at: Nanos) -> Interest {
        match self.call(id) {
            Some(call) => {
                if call.response(head) {
                    Interest::Body
                } else {
                    Interest::Skip
                }
            }
            None => Interest::Skip,
        }
    }

    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], at: Nanos) {
        if let Some(call) = self.call(id) {
            call.response_body(bytes, at);
            self.take_ended(id);
        }
    }

    fn message(&mut self, id: ExchangeId, part: &MessagePart<'_>, at: Nanos) {
        if let Some(call) = self.call(id) {
            call.message(part, at);
            if part.last {
                self.take_ended(id);
            }
        }
    }

    fn trailers(&mut self, id: ExchangeId, fields: Headers<'_>, _at: Nanos) {
        if let Some(call) = self.call(id) {
            call.trailers(fields);
        }
    }

    fn gap(&mut self, id: ExchangeId, from: Role, missing: Option<u64>) {
        if let Some(call) = self.call(id) {
            call.gap(from, missing);
        }
    }

    fn end(&mut self, id: ExchangeId, ending: Ending, at: Nanos) {
        let Some(at_index) = self.in_flight.iter().position(|(known, _)| *known == id) else { return };
        let (_, call) = self.in_flight.swap_remove(at_index);
        let mut is_call = call.had_calls();
        call.end(ending, at, &self.transport, &mut |span| {
            is_call = true;
            self.finished_spans.push_back(span);
        });
        if !is_call {
            self.traffic.others_in_a_row += 1;
        }
    }

    fn is_response_complete(&self, id: ExchangeId) -> bool {
        self.in_flight.iter().any(|(known, call)| *known == id && call.is_response_complete())
    }

    fn dropped(&mut self, reason: Reason, bytes: u64) {
        match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += bytes,
            None => self.dropped.push((reason, bytes)),
        }
    }
}
