//! Field blocks and content, and what they mean for the stream that they belong to.

use super::{
    connection::Http2,
    frame::{BlockBytes, FieldBlock},
    head::{PlainFields, PseudoHeaders},
    hpack,
    stream::{Stream, StreamMessage},
    tunnel::{FinalResponse, Tunnel},
};
use crate::{
    Direction, Ending, ExchangeId, Headers, Nanos, Reason, RequestHead, ResponseHead, Role, Sink, Version,
    body::BodyUse,
    progress::MessageProgress,
    runs::{HeldRuns, Run},
};

/// A field block after its fields were decoded.
#[derive(Clone, Copy)]
struct DecodedBlock<'a> {
    stream: u32,
    /// This side of the stream ends with the block.
    ends_stream: bool,
    pseudo: &'a PseudoHeaders<'a>,
    headers: Headers<'a>,
    /// When its first byte passed.
    started: Nanos,
    /// When its last byte passed.
    at: Nanos,
}

impl Http2 {
    /// The first block that can only come from a client, or only from a server, tells the direction of the requests.
    pub(super) fn learn_roles(&mut self, dir: Direction, block: &FieldBlock<'_>) {
        if self.requests.is_none()
            && let Some(bytes) = block.fields.bytes()
        {
            let request = block.is_promise.then_some(false).or_else(|| hpack::begins_request(bytes));
            self.requests = request.map(|request| if request { dir } else { dir.opposite() });
        }
    }

    /// A field block is complete.
    pub(super) fn block<S: Sink>(&mut self, dir: Direction, block: FieldBlock<'_>, at: Nanos, sink: &mut S) {
        let mut fields = std::mem::take(&mut self.fields);
        let half = &mut self.halves[dir.index()];
        let len = block.fields.len();
        let decoded = match &block.fields {
            BlockBytes::Lost(reason, _) => {
                fields.clear();
                half.fields.lose();
                Err(*reason)
            }
            BlockBytes::Whole(bytes) => half.fields.decode(bytes, &mut fields),
            BlockBytes::Joined(bytes) => half.fields.decode(bytes, &mut fields),
        };
        if let Err(reason) = decoded
            && len > 0
        {
            sink.dropped(reason, len as u64);
        }
        let mut plain: PlainFields<'_> = std::mem::take(&mut self.plain);
        let message = DecodedBlock {
            stream: block.stream,
            ends_stream: block.ends_stream,
            pseudo: &PseudoHeaders::split(&fields, &mut plain),
            headers: Headers::new(&plain, fields.complete),
            started: block.started,
            at,
        };
        let read = match self.requests {
            _ if block.is_promise || block.stream.is_multiple_of(2) => Err(Reason::PushedResponse),
            None => Err(Reason::OutOfSync),
            Some(requests) if requests == dir => self.request(dir, message, sink),
            Some(_) => self.response(message, sink),
        };
        match read {
            Ok(()) if block.ends_stream => self.message_end(self.sender(dir), block.stream, at, sink),
            Ok(()) => {}
            Err(_) if decoded.is_err() => {}
            Err(reason) => sink.dropped(reason, len as u64),
        }
        plain.clear();
        // Keeps the allocation: there is nothing left to convert.
        self.plain = plain.into_iter().map(|_| (&b""[..], &b""[..])).collect();
        self.fields = fields;
        if let BlockBytes::Joined(buffer) = block.fields {
            self.halves[dir.index()].framer.reuse_buffer(buffer);
        }
    }

    fn request<S: Sink>(
        &mut self,
        dir: Direction,
        block: DecodedBlock<'_>,
        sink: &mut S,
    ) -> Result<(), Reason> {
        let DecodedBlock { pseudo, headers, at, .. } = block;
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
            role: Role::of_requests(dir),
            version: Version::Http2,
            method: pseudo.method.unwrap_or_default(),
            target: pseudo.target(),
            authority: pseudo.authority.or_else(|| headers.get("host")),
            headers,
        };
        let interest = sink.request(id, &head, block.started);
        let tunnel = Tunnel::requested(pseudo, headers.complete).map(Box::new);
        let mut request = StreamMessage::new(MessageProgress::Open);
        let mut undecodable = None;
        match tunnel.as_deref() {
            None => (request.body, undecodable) = BodyUse::new(interest, headers, &self.limits),
            Some(Tunnel::Requested { .. }) => {
                // What the client sends from here on is content of the tunnel.
                sink.request_end(id, at);
                request.progress = MessageProgress::Done;
            }
            Some(_) => {}
        }
        let response = StreamMessage::new(MessageProgress::Awaited);
        let stream = Stream {
            id,
            last_byte: at,
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

    fn response<S: Sink>(&mut self, block: DecodedBlock<'_>, sink: &mut S) -> Result<(), Reason> {
        let DecodedBlock { pseudo, headers, at, .. } = block;
        let may_inflate = self.may_inflate(block.stream);
        let Some(stream) = self.streams.get_mut(&block.stream) else {
            // The exchange of a lower stream is over, and its further blocks are no loss.
            return if block.stream <= self.highest_request {
                Ok(())
            } else {
                Err(Reason::ResponseWithoutRequest)
            };
        };
        stream.last_byte = at;
        if stream.response.progress == MessageProgress::Awaited {
            if pseudo.status.is_some_and(|status| status < 200) {
                if block.ends_stream {
                    let ending = Ending::Malformed(Reason::InterimResponseEndsStream);
                    self.end(block.stream, ending, at, sink);
                }
                return Ok(());
            }
            if pseudo.status.is_none() && headers.complete {
                // These are trailers: the head was lost.
                stream.start_without_head(block.started, sink);
            } else {
                let status = pseudo.status.unwrap_or_default();
                let head = ResponseHead { version: Version::Http2, status, headers };
                let interest = sink.response(stream.id, &head, block.started);
                let limits = &self.limits;
                let response = FinalResponse { status, headers, interest, limits, may_inflate, at };
                stream.final_response(&response, sink);
                return Ok(());
            }
        }
        if block.ends_stream && stream.response_ended.is_none() {
            sink.trailers(stream.id, headers, at);
        }
        Ok(())
    }

    /// Takes content of a stream.
    pub(super) fn body<S: Sink>(&mut self, from: Role, number: u32, run: Run<'_>, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else {
            let reason = match number {
                _ if number.is_multiple_of(2) => Reason::PushedResponse,
                // The exchange is over, or was rejected.
                _ if number <= self.highest_request && self.requests.is_some() => return,
                _ => Reason::OutOfSync,
            };
            sink.dropped(reason, run.bytes.len() as u64);
            return;
        };
        stream.last_byte = run.at;
        if from == Role::Server && stream.response.progress == MessageProgress::Awaited {
            stream.start_without_head(run.at, sink);
        }
        if from == Role::Client && stream.is_held() {
            return self.hold(number, run, sink);
        }
        stream.data(from, run, sink);
        if stream.is_over() {
            self.end(number, Ending::Complete, run.at, sink);
        }
    }

    /// Content of a stream is missing.
    pub(super) fn data_gap<S: Sink>(&mut self, from: Role, number: u32, missing: u64, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.gap(from, Some(missing), sink);
        if stream.is_over() {
            let at = stream.last_byte;
            self.end(number, Ending::Complete, at, sink);
        }
    }

    /// One side of a stream has ended.
    pub(super) fn message_end<S: Sink>(&mut self, from: Role, number: u32, at: Nanos, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.last_byte = at;
        if from == Role::Server && stream.response.progress == MessageProgress::Awaited {
            stream.start_without_head(at, sink);
        }
        stream.message_end(from, at, sink);
        if stream.is_over() {
            self.end(number, Ending::Complete, at, sink);
        }
    }

    /// Whether the messages of this stream are decompressed if it becomes a WebSocket.
    fn may_inflate(&self, number: u32) -> bool {
        self.streams.get(&number).is_none_or(|stream| stream.tunnel.is_none())
            || self.streams.values().filter(|stream| stream.inflates()).count() < self.limits.inflating
    }

    /// Whether `more` bytes can be held until the server responds to their tunnel.
    fn has_room(&mut self, more: usize) -> bool {
        if self.held_bytes + more > self.limits.held {
            self.held_bytes = self.streams.values().map(Stream::held_bytes).sum();
        }
        self.held_bytes + more <= self.limits.held
    }

    /// Takes what a client sends before the server responds to its tunnel.
    fn hold<S: Sink>(&mut self, number: u32, run: Run<'_>, sink: &mut S) {
        let more = run.bytes.len() + HeldRuns::RUN_COST;
        let fits = self.has_room(more);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if fits {
            self.held_bytes += more;
        } else {
            stream.gap(Role::Client, None, sink);
        }
        stream.data(Role::Client, run, sink);
    }
}
