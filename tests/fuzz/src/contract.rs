//! What a [`Sink`] may rely on, whatever the bytes were.

use std::collections::BTreeMap;

use tokentap_wire::{
    Ending, ExchangeId, Headers, Interest, MessageKind, MessagePart, Nanos, RequestHead, ResponseHead, Role,
    Sink, Version,
};

/// Panics when the calls that it is given break what [`Sink`] promises. Keeps nothing of what is over.
#[derive(Debug)]
pub struct Contract {
    /// What is answered to heads.
    policy: BodyPolicy,
    /// Most exchanges that may be open at once.
    most_open: usize,
    open: BTreeMap<u64, Open>,
    begun: u64,
}

/// Which bodies a [`Contract`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPolicy {
    /// All of them.
    Bodies,
    /// Those that need no decoder.
    PlainBodies,
}

#[derive(Debug)]
struct Open {
    /// `None`: it has ended.
    request: Option<Interest>,
    /// `None`: it has not begun.
    response: Option<Interest>,
    /// The request may open a WebSocket on a stream of HTTP/2 (RFC 8441 §4).
    connects: bool,
    /// The response has opened a WebSocket, or may have.
    tunnel: bool,
    /// The messages that are passing, of the client and of the server; and whether bytes of theirs are missing.
    messages: [(Option<MessageKind>, bool); 2],
    /// The last calls about the request and about the response: the two may come in any order.
    at: [Nanos; 2],
}

impl Contract {
    /// For a connection with these limits.
    #[must_use]
    pub fn new(policy: BodyPolicy, limits: &tokentap_wire::Limits) -> Self {
        let most_open = limits.in_flight.max(limits.streams);
        Self { policy, most_open, open: BTreeMap::new(), begun: 0 }
    }

    /// After the connection was closed: every exchange has ended.
    pub fn check_over(&self) {
        assert!(self.open.is_empty(), "exchanges without an end: {:?}", self.open);
    }

    fn wants(&self, headers: &Headers<'_>) -> Interest {
        let coded = ["content-encoding", "transfer-encoding", "sec-websocket-extensions"]
            .iter()
            .any(|name| headers.all(name).any(|value| !value.trim_ascii().eq_ignore_ascii_case(b"chunked")));
        if coded && self.policy == BodyPolicy::PlainBodies { Interest::Skip } else { Interest::Body }
    }

    #[track_caller]
    fn open(&mut self, id: ExchangeId) -> &mut Open {
        self.open.get_mut(&id.0).expect("a call for an exchange that is not open")
    }

    #[track_caller]
    fn request_at(&mut self, id: ExchangeId, at: Nanos) -> &mut Option<Interest> {
        let Open { request, at: [last, _], .. } = self.open(id);
        assert!(at >= std::mem::replace(last, at), "time runs backwards");
        request
    }

    #[track_caller]
    fn response_at(&mut self, id: ExchangeId, at: Nanos) -> &mut Option<Interest> {
        let Open { response, at: [_, last], .. } = self.open(id);
        assert!(at >= std::mem::replace(last, at), "time runs backwards");
        response
    }
}

impl Sink for Contract {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest {
        assert_eq!(id.0, self.begun, "exchanges are numbered in the order of the requests");
        self.begun += 1;
        let interest = self.wants(&head.headers);
        let open = Open {
            request: Some(interest),
            response: None,
            connects: head.version == Version::Http2 && matches!(head.method, b"CONNECT" | b""),
            tunnel: false,
            messages: [(None, false); 2],
            at: [at, Nanos(0)],
        };
        self.open.insert(id.0, open);
        assert!(self.open.len() <= self.most_open, "more exchanges than the limits allow");
        interest
    }

    fn request_body(&mut self, id: ExchangeId, _bytes: &[u8], at: Nanos) {
        assert_eq!(*self.request_at(id, at), Some(Interest::Body), "a body that nobody wants");
    }

    fn request_end(&mut self, id: ExchangeId, at: Nanos) {
        assert!(self.request_at(id, at).take().is_some(), "a request ended twice");
    }

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, at: Nanos) -> Interest {
        // 101 is the last response of its connection; what is below 100 is no status, but was sent as one.
        assert!(!matches!(head.status, 100 | 102..200), "not a final response: {}", head.status);
        let interest = self.wants(&head.headers);
        let open = self.open(id);
        open.tunnel = head.status == 101 || (open.connects && matches!(head.status, 200..300));
        let before = self.response_at(id, at).replace(interest);
        assert_eq!(before, None, "a second response");
        interest
    }

    fn response_body(&mut self, id: ExchangeId, _bytes: &[u8], at: Nanos) {
        assert_eq!(*self.response_at(id, at), Some(Interest::Body), "a body that nobody wants");
    }

    fn message(&mut self, id: ExchangeId, part: &MessagePart<'_>, at: Nanos) {
        let side = part.from.index();
        let open = self.open(id);
        assert!(open.tunnel && open.response == Some(Interest::Body), "a message that nobody wants");
        assert!(at >= std::mem::replace(&mut open.at[side], at), "time runs backwards");
        let (passing, gap) = &mut open.messages[side];
        assert!(!part.first || passing.is_none() || *gap, "a message inside another");
        assert!(part.first || *passing == Some(part.kind), "a message without its beginning");
        *passing = (!part.last).then_some(part.kind);
        *gap &= !part.first;
    }

    fn trailers(&mut self, id: ExchangeId, _fields: Headers<'_>, at: Nanos) {
        assert!(self.response_at(id, at).is_some(), "trailers before the response");
    }

    fn gap(&mut self, id: ExchangeId, from: Role, _missing: Option<u64>) {
        let open = self.open(id);
        let may_come = from == Role::Server || open.request.is_some() || open.tunnel;
        assert!(may_come, "a gap in a request that has ended");
        open.messages[from.index()].1 = true;
    }

    fn end(&mut self, id: ExchangeId, ending: Ending, _at: Nanos) {
        let open = self.open(id);
        assert!(ending != Ending::Complete || open.response.is_some(), "complete without a response");
        self.open.remove(&id.0);
    }
}
