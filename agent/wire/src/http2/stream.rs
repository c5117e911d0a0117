//! A stream: one request and its response (RFC 9113 §5.1, §8.1).

use std::collections::BTreeMap;

use crate::{
    Ending, ExchangeId, Headers, Interest, Nanos, ResponseHead, Sink, Version, body::BodyUse, coding::Want,
};

/// The streams that carry exchanges which are not over, by number.
pub(super) type Streams = BTreeMap<u32, Stream>;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: ExchangeId,
    /// Time of the last byte of either message.
    pub(super) last: Nanos,
    pub(super) request: Message,
    pub(super) response: Message,
    /// When the response ended, by protocol or because the sink said so.
    pub(super) answered: Option<Nanos>,
    /// Bytes of the response's content to come, where its length is known.
    pub(super) due: Option<u64>,
    pub(super) undecodable: Option<&'static str>,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) part: Part,
    pub(super) body: BodyUse,
    /// Frames were lost in which it may have ended.
    pub(super) unsure: bool,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Awaited,
    /// Its head was seen.
    Open,
    Done,
}

impl Message {
    pub(super) const fn new(part: Part) -> Self {
        Self { part, body: BodyUse::Skip, unsure: false }
    }
}

impl Stream {
    pub(super) fn message(&mut self, request: bool) -> &mut Message {
        if request { &mut self.request } else { &mut self.response }
    }

    /// The response goes on although its head was lost.
    pub(super) fn headless<S: Sink>(&mut self, at: Nanos, sink: &mut S) {
        let head = ResponseHead { version: Version::Http2, status: 0, headers: Headers::new(&[], false) };
        let interest = sink.response(self.id, &head, at);
        self.response.part = Part::Open;
        if interest == Interest::Body {
            self.response.body = BodyUse::Plain;
        }
        self.gap(false, None, sink);
    }

    /// Takes content of a message.
    pub(super) fn data<S: Sink>(&mut self, request: bool, bytes: &[u8], at: Nanos, sink: &mut S) {
        let id = self.id;
        if !request {
            self.due = self.due.and_then(|due| due.checked_sub(bytes.len() as u64));
        }
        let fed = if request {
            self.request.body.feed(bytes, |bytes| {
                sink.request_body(id, bytes, at);
                Want::More
            })
        } else if self.answered.is_none() {
            let answered = &mut self.answered;
            self.response.body.feed(bytes, |bytes| {
                sink.response_body(id, bytes, at);
                if sink.finished(id) {
                    *answered = Some(at);
                    return Want::Nothing;
                }
                Want::More
            })
        } else {
            Ok(())
        };
        self.undecodable = self.undecodable.or_else(|| fed.err());
    }

    /// Content of a message is missing.
    pub(super) fn gap<S: Sink>(&mut self, request: bool, missing: Option<u64>, sink: &mut S) {
        let id = self.id;
        if !request {
            self.due = self.due.and_then(|due| due.checked_sub(missing?));
        }
        if request || self.answered.is_none() {
            let message = self.message(request);
            if message.body.is_wanted() || missing.is_none() {
                sink.gap(id, request, missing);
            }
            message.body.gap();
        }
    }

    /// One side of the stream has ended.
    pub(super) fn message_end<S: Sink>(&mut self, request: bool, at: Nanos, sink: &mut S) {
        if self.message(request).part == Part::Done {
            return;
        }
        let finished = self.message(request).body.finish();
        self.message(request).part = Part::Done;
        self.undecodable = self.undecodable.or_else(|| finished.err());
        if request {
            sink.request_end(self.id, at);
        } else {
            self.answered = self.answered.or(Some(at));
        }
    }

    /// Frames of one side were lost.
    pub(super) fn lose<S: Sink>(&mut self, request: bool, sink: &mut S) {
        if self.message(request).part != Part::Done {
            self.message(request).unsure = true;
            if self.message(request).part == Part::Open {
                self.gap(request, None, sink);
            }
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.answered.is_some() && (self.request.part == Part::Done || self.request.unsure)
    }

    /// Tells the end of the exchange: with `ending` unless it was whole, or may have been.
    pub(super) fn end<S: Sink>(mut self, ending: Ending, at: Nanos, sink: &mut S) {
        // Some clients leave once they have what was announced, before the server says that it was all.
        if self.due == Some(0) && !matches!(ending, Ending::Malformed(_)) {
            self.message_end(false, self.last, sink);
        }
        match (self.answered, ending) {
            (Some(answered), _) => {
                let ending = self.undecodable.map_or(Ending::Complete, Ending::Undecodable);
                sink.end(self.id, ending, answered);
            }
            (None, Ending::Cut | Ending::Left) if self.response.unsure => sink.end(self.id, Ending::Lost, at),
            (None, _) => sink.end(self.id, ending, at),
        }
    }
}
