//! The seam between what all LLM APIs share and what one API family knows.

use std::fmt::Debug;

use tokentap_wire::{
    Headers, Nanos, Reason,
    json::{Extractor, Schema, Status, Value},
    sse,
};

use crate::{
    ask::{Ask, Asked},
    reply::Reply,
};

/// How sure a path makes it that this is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing else has such a path.
    Certain,
    /// Only if the bodies look like it.
    Likely,
}

/// What one API family knows: which requests are its own, which fields of its bodies matter, and what they
/// mean. State of the body being read lives in `Self`; what it comes to, in [`Ask`] and [`Reply`].
pub(crate) trait Family: Debug + Default + Send + 'static {
    /// Fields of responses and of the events of streamed ones.
    type Said: Copy + Debug + Send + Sync;

    const INFO: Info;

    fn claim(path: &str, headers: &Headers<'_>) -> Option<Claim>;
    /// Takes what the path says.
    fn path(&mut self, _path: &str) {}
    fn request_schema() -> &'static Schema<Asked>;
    fn response_schema() -> &'static Schema<Self::Said>;
    fn said(&mut self, reply: &mut Reply, field: Self::Said, indices: &[u32], value: Value<'_>);
    /// A response, or an event of a streamed one, begins.
    fn begin(&mut self) {}
    /// It ends, maybe before its value did.
    fn end(&mut self, _reply: &mut Reply) {}
    /// The call is over: settles what only the whole response can tell.
    fn conclude(&mut self, ask: &mut Ask, reply: &mut Reply);
}

/// What is the same for all calls of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Info {
    /// `gen_ai.operation.name`
    pub(crate) operation: &'static str,
    /// `gen_ai.provider.name` of a server that nothing gives away.
    pub(crate) provider: &'static str,
    /// `openai.api.type`
    pub(crate) openai_api_type: Option<&'static str>,
}

/// The bodies of one call as one family reads them.
pub(crate) trait Read: Debug + Send {
    fn info(&self) -> Info;
    fn request(&mut self, bytes: &[u8]);
    fn request_gap(&mut self);
    /// All of the request has passed.
    fn request_end(&mut self);
    /// The response's `Content-Type` is that of server-sent events.
    fn announce_events(&mut self);
    fn response(&mut self, bytes: &[u8], at: Nanos);
    fn response_gap(&mut self);
    /// The call is over; `whole`: with the end of the response. Returns what is wrong with the response, if
    /// it is not what it should be.
    fn conclude(&mut self, whole: bool) -> Option<Reason>;
    fn facts(&mut self) -> (&mut Ask, &mut Reply);
    fn reply(&self) -> &Reply;
}

#[derive(Debug)]
pub(crate) struct Bodies<F: Family> {
    family: F,
    ask: Ask,
    reply: Reply,
    request: Extractor<Asked>,
    response: Extractor<F::Said>,
    framing: Framing,
}

/// How a response body is put together.
#[derive(Debug)]
enum Framing {
    /// No byte that tells was seen.
    Unknown {
        events: bool,
    },
    Document,
    Events(Box<sse::Parser>),
}

/// Longest event that is put together before it is read, in bytes: longer ones are read in pieces.
const EVENT_PIECE: usize = 4 << 10;

impl<F: Family> Bodies<F> {
    pub(crate) fn new(path: &str) -> Self {
        let mut family = F::default();
        family.path(path);
        Self {
            family,
            ask: Ask::default(),
            reply: Reply::default(),
            request: Extractor::new(F::request_schema()),
            response: Extractor::new(F::response_schema()),
            framing: Framing::Unknown { events: false },
        }
    }

    /// Decides by the first byte, whatever was announced: errors are documents also where a stream was asked
    /// for, some servers send documents as `text/event-stream`, and some streams come without that type.
    fn frame(&mut self, bytes: &[u8]) {
        let Framing::Unknown { events } = self.framing else { return };
        let Some(first) = bytes.iter().find(|b| !b.is_ascii_whitespace()) else { return };
        let stream = match first {
            b'{' | b'[' | b'<' => false,
            // `data:`, `event:`, `id:`, `retry:`, a comment, or a byte order mark before one.
            b'd' | b'e' | b'i' | b'r' | b':' | 0xef => events || self.ask.stream,
            _ => events,
        };
        self.framing = if stream { self.events() } else { Framing::Document };
        self.family.begin();
    }

    fn events(&mut self) -> Framing {
        self.reply.streamed = true;
        Framing::Events(Box::new(sse::Parser::new(EVENT_PIECE)))
    }
}

impl<F: Family> Read for Bodies<F> {
    fn info(&self) -> Info {
        F::INFO
    }

    fn request(&mut self, bytes: &[u8]) {
        let Self { ask, request, .. } = self;
        request.push(bytes, |field, _, value| ask.read(field, value));
    }

    fn request_gap(&mut self) {
        self.request.gap();
    }

    fn request_end(&mut self) {
        let Self { ask, request, .. } = self;
        request.finish(|field, _, value| ask.read(field, value));
    }

    fn announce_events(&mut self) {
        self.framing = Framing::Unknown { events: true };
    }

    fn response(&mut self, bytes: &[u8], at: Nanos) {
        self.frame(bytes);
        let Self { family, reply, response, framing, .. } = self;
        reply.now = at;
        match framing {
            Framing::Unknown { .. } => {}
            Framing::Document => {
                response.push(bytes, |field, indices, value| family.said(reply, field, indices, value))
            }
            Framing::Events(parser) => parser.feed(bytes, |event| {
                if event.first {
                    if event.data.starts_with(b"[DONE]") {
                        reply.done = true;
                        return;
                    }
                    reply.failure.seen |= event.name == b"error";
                    response.reset();
                    family.begin();
                }
                response.push(event.data, |field, indices, value| family.said(reply, field, indices, value));
                if event.last {
                    family.end(reply);
                }
            }),
        }
    }

    fn response_gap(&mut self) {
        self.reply.gapped = true;
        if let Framing::Unknown { events } = self.framing {
            self.framing = if events { self.events() } else { Framing::Document };
        }
        match &mut self.framing {
            Framing::Events(parser) => parser.gap(),
            _ => self.response.gap(),
        }
    }

    fn conclude(&mut self, whole: bool) -> Option<Reason> {
        let Self { family, ask, reply, response, framing, .. } = self;
        let mut odd = None;
        if let Framing::Document = framing {
            if !whole {
                response.gap();
            }
            odd = match response.finish(|field, indices, value| family.said(reply, field, indices, value)) {
                Status::Malformed(why) => Some(why),
                Status::Partial => Some(Reason::JsonTruncated),
                Status::Empty | Status::Complete | Status::Gapped => None,
            };
            family.end(reply);
        }
        family.conclude(ask, reply);
        odd
    }

    fn facts(&mut self) -> (&mut Ask, &mut Reply) {
        (&mut self.ask, &mut self.reply)
    }

    fn reply(&self) -> &Reply {
        &self.reply
    }
}
