//! The LLM calls of one connection.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use tokentap_wire::{Ending, ExchangeId, Interest, Nanos, RequestHead, ResponseHead, Sink};

use crate::{Options, Span};

/// What is known of the connection below HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// The bytes came out of a TLS library.
    pub tls: bool,
    /// The server's address, when the connection was seen or could be looked up.
    pub peer: Option<SocketAddr>,
}

/// What a connection has carried so far: what a decision to go on watching it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Exchanges that are, or may yet turn out to be, LLM calls.
    pub llm: u64,
    /// Exchanges since the last of those.
    pub others_in_a_row: u64,
}

/// Finds the LLM calls in the exchanges of one connection and turns each into a [`Span`].
#[derive(Debug)]
pub struct Calls {
    options: Arc<Options>,
    transport: Transport,
    traffic: Traffic,
    finished: VecDeque<Span>,
}

impl Calls {
    /// For a new connection.
    #[must_use]
    pub fn new(options: Arc<Options>, transport: Transport) -> Self {
        Self { options, transport, traffic: Traffic::default(), finished: VecDeque::new() }
    }

    /// The server's address became known.
    pub fn set_peer(&mut self, peer: SocketAddr) {
        self.transport.peer = Some(peer);
    }

    /// The next finished call, oldest first.
    pub fn take(&mut self) -> Option<Span> {
        self.finished.pop_front()
    }

    /// What the connection has carried so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }
}

impl Sink for Calls {
    fn request(&mut self, _id: ExchangeId, _head: &RequestHead<'_>, _at: Nanos) -> Interest {
        self.traffic.others_in_a_row += u64::from(self.options.include.is_empty());
        Interest::Skip
    }
    fn request_body(&mut self, _id: ExchangeId, _bytes: &[u8], _at: Nanos) {}
    fn request_end(&mut self, _id: ExchangeId, _at: Nanos) {}
    fn response(&mut self, _id: ExchangeId, _head: &ResponseHead<'_>, _at: Nanos) -> Interest {
        Interest::Skip
    }
    fn response_body(&mut self, _id: ExchangeId, _bytes: &[u8], _at: Nanos) {}
    fn gap(&mut self, _id: ExchangeId, _request: bool, _missing: Option<u64>) {}
    fn end(&mut self, _id: ExchangeId, _ending: Ending, _at: Nanos) {}
}
