//! Field blocks and content: what they do to the stream that they belong to.

use super::{
    connection::Http2,
    frame::{BlockBytes, FieldBlock},
    head::{PlainFields, PseudoHeaders},
    hpack,
    stream::{MessageProgress, Stream, StreamMessage},
    tunnel::{FinalResponse, Tunnel},
};
use crate::{
    Direction, Ending, ExchangeId, Headers, Nanos, Reason, RequestHead, ResponseHead, Role, Sink, Version,
    body::BodyUse, held::HeldRuns,
};

impl Http2 {
    /// The first block that tells by itself which side asks decides.
    pub(super) fn learn_roles(&mut self, dir: Direction, block: &FieldBlock<'_>) {
        if self.requests.is_none()
            && let Some(bytes) = block.fields.bytes()
        {
            let request = block.promise.then_some(false).or_else(|| hpack::begins_request(bytes));
            self.requests = request.map(|request| if request { dir } else { dir.opposite() });
        }
    }

    pub(super) fn block<S: Sink>(&mut self, dir: Direction, block: FieldBlock<'_>, at: Nanos, sink: &mut S) {
        let mut fields = std::mem::take(&mut self.fields);
        let half = &mut self.halves[dir.index()];
        let len = block.fields.len();
        let read = match &block.fields {
            BlockBytes::Lost(reason, _) => {
                fields.clear();
                half.fields.lose();
                Err(*reason)
            }
            BlockBytes::Whole(bytes) => half.fields.decode(bytes, &mut fields),
            BlockBytes::Joined(bytes) => half.fields.decode(bytes, &mut fields),
        };
        if let Err(reason) = read
            && len > 0
        {
            sink.dropped(reason, len as u64);
        }
        let mut plain: PlainFields<'_> = std::mem::take(&mut self.plain);
        let pseudo = PseudoHeaders::split(&fields, &mut plain);
        let headers = Headers::new(&plain, fields.complete);
        let known = match self.requests {
            _ if block.promise || block.stream.is_multiple_of(2) => Err(Reason::PushedResponse),
            None => Err(Reason::OutOfSync),
            Some(requests) if requests == dir => self.request(dir, &block, &pseudo, headers, at, sink),
            Some(_) => self.response(&block, &pseudo, headers, at, sink),
        };
        match known {
            Ok(()) if block.end => self.message_end(self.requests == Some(dir), block.stream, at, sink),
            Ok(()) => {}
            Err(_) if read.is_err() => {}
            Err(reason) => sink.dropped(reason, len as u64),
        }
        plain.clear();
        // Reuses the allocation: there is nothing left to convert.
        self.plain = plain.into_iter().map(|_| (&b""[..], &b""[..])).collect();
        self.fields = fields;
        if let BlockBytes::Joined(buffer) = block.fields {
            self.halves[dir.index()].framer.reuse_buffer(buffer);
        }
    }

    fn request<S: Sink>(
        &mut self,
        dir: Direction,
        block: &FieldBlock<'_>,
        pseudo: &PseudoHeaders<'_>,
        headers: Headers<'_>,
        at: Nanos,
        sink: &mut S,
    ) -> Result<(), Reason> {
        if block.stream <= self.highest_request {
            // Trailers.
            return Ok(());
        }
        if headers.complete && pseudo.method.is_none() {
            return Err(Reason::OutOfSync);
        }
        self.highest_request = block.stream;
        if self.streams.len() == self.limits.streams {
            return Err(Reason::TooManyStreams);
        }
        let id = ExchangeId(self.next_id);
        self.next_id += 1;
        let head = RequestHead {
            role: if dir == Direction::Write { Role::Client } else { Role::Server },
            version: Version::Http2,
            method: pseudo.method.unwrap_or_default(),
            target: pseudo.target(),
            authority: pseudo.authority.or_else(|| headers.get("host")),
            headers,
        };
        let interest = sink.request(id, &head, block.began);
        let tunnel = Tunnel::asked(pseudo, headers.complete).map(Box::new);
        let mut request = StreamMessage::new(MessageProgress::Open);
        let mut undecodable = None;
        match tunnel.as_deref() {
            None => (request.body, undecodable) = BodyUse::new(interest, headers, &self.limits),
            Some(Tunnel::Requested { .. }) => {
                // What the client sends from here on is no part of it.
                sink.request_end(id, at);
                request.part = MessageProgress::Done;
            }
            Some(_) => {}
        }
        let response = StreamMessage::new(MessageProgress::Awaited);
        let stream = Stream {
            id,
            last: at,
            request,
            response,
            response_ended: None,
            remaining: None,
            undecodable,
            tunnel,
        };
        self.streams.insert(block.stream, stream);
        Ok(())
    }

    fn response<S: Sink>(
        &mut self,
        block: &FieldBlock<'_>,
        pseudo: &PseudoHeaders<'_>,
        headers: Headers<'_>,
        at: Nanos,
        sink: &mut S,
    ) -> Result<(), Reason> {
        let inflates = self.may_inflate(block.stream);
        let Some(stream) = self.streams.get_mut(&block.stream) else {
            // What follows on an exchange that is over is no loss.
            return if block.stream <= self.highest_request {
                Ok(())
            } else {
                Err(Reason::ResponseWithoutRequest)
            };
        };
        stream.last = at;
        if stream.response.part == MessageProgress::Awaited {
            if pseudo.status.is_some_and(|status| status < 200) {
                if block.end {
                    self.end(block.stream, Ending::Malformed(Reason::InterimResponseEndsStream), at, sink);
                }
                return Ok(());
            }
            if pseudo.status.is_none() && headers.complete {
                // Trailers: the head is lost.
                stream.start_without_head(block.began, sink);
            } else {
                let status = pseudo.status.unwrap_or_default();
                let head = ResponseHead { version: Version::Http2, status, headers };
                let interest = sink.response(stream.id, &head, block.began);
                let answer = FinalResponse { status, headers, interest, limits: &self.limits, inflates, at };
                stream.final_response(&answer, sink);
                return Ok(());
            }
        }
        if block.end && stream.response_ended.is_none() {
            sink.trailers(stream.id, headers, at);
        }
        Ok(())
    }

    pub(super) fn body<S: Sink>(
        &mut self,
        request: bool,
        number: u32,
        bytes: &[u8],
        starts: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        let Some(stream) = self.streams.get_mut(&number) else {
            let reason = match number {
                _ if number.is_multiple_of(2) => Reason::PushedResponse,
                // The exchange is over, or was passed over.
                _ if number <= self.highest_request && self.requests.is_some() => return,
                _ => Reason::OutOfSync,
            };
            sink.dropped(reason, bytes.len() as u64);
            return;
        };
        stream.last = at;
        if !request && stream.response.part == MessageProgress::Awaited {
            stream.start_without_head(at, sink);
        }
        if request && stream.is_held() {
            return self.hold(number, bytes, starts, at, sink);
        }
        stream.data(request, bytes, starts, at, sink);
        if stream.is_over() {
            self.end(number, Ending::Complete, at, sink);
        }
    }

    pub(super) fn data_gap<S: Sink>(&mut self, request: bool, number: u32, missing: u64, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.gap(request, Some(missing), sink);
        if stream.is_over() {
            let last = stream.last;
            self.end(number, Ending::Complete, last, sink);
        }
    }

    pub(super) fn message_end<S: Sink>(&mut self, request: bool, number: u32, at: Nanos, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.last = at;
        if !request && stream.response.part == MessageProgress::Awaited {
            stream.start_without_head(at, sink);
        }
        stream.message_end(request, at, sink);
        if stream.is_over() {
            self.end(number, Ending::Complete, at, sink);
        }
    }

    /// Whether messages of this stream, if it becomes a WebSocket, may be compressed.
    fn may_inflate(&self, number: u32) -> bool {
        self.streams.get(&number).is_none_or(|stream| stream.tunnel.is_none())
            || self.streams.values().filter(|stream| stream.inflates()).count() < self.limits.inflating
    }

    /// Whether so many more bytes can be kept until their tunnel is answered.
    fn has_room(&mut self, more: usize) -> bool {
        if self.held_bytes + more > self.limits.held {
            self.held_bytes = self.streams.values().map(Stream::held).sum();
        }
        self.held_bytes + more <= self.limits.held
    }

    /// Takes what a client sends before its tunnel is answered.
    fn hold<S: Sink>(&mut self, number: u32, bytes: &[u8], starts: bool, at: Nanos, sink: &mut S) {
        let more = bytes.len() + HeldRuns::RUN;
        let fits = self.has_room(more);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if fits {
            self.held_bytes += more;
        } else {
            stream.gap(true, None, sink);
        }
        stream.data(true, bytes, starts, at, sink);
    }
}
