//! HTTP/2 (RFC 9113), watched from outside.
//!
//! Each direction is cut into frames by its own `Framer`, or looked through by a `Candidate` while it is out of
//! step; `Http2` puts the frames of each stream together.

mod frame;
mod head;
mod hpack;
mod join;
mod stream;
#[cfg(test)]
mod tests;
mod tunnel;

use crate::{
    Direction, Ending, ExchangeId, Headers, Limits, Nanos, Reason, RequestHead, ResponseHead, Role, Sink,
    Version, body::BodyUse, held::Held, http1::Upgrade,
};
pub(crate) use frame::PREFACE;
use frame::{Block, Fragment, Framer, Gap, Step};
use head::{Plain, Pseudo};
use hpack::Fields;
pub(crate) use join::Candidate;
use stream::{Message, Part, Stream, Streams};
use tunnel::{Answer, Tunnel};

/// Frames in a row by which a connection is known to speak HTTP/2.
pub(crate) const PROOF: u32 = 3;
/// The same for a direction of one that is known to.
const RESUME: u32 = 2;

/// Follows a connection that speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2 {
    limits: Limits,
    lanes: [Lane; 2],
    /// The direction of the requests, once known.
    requests: Option<Direction>,
    streams: Streams,
    /// The highest stream on which a request was seen, and on which a response was without its request.
    opened: u32,
    passed: u32,
    next_id: u64,
    /// Bytes passed over since the last frame.
    searched: u64,
    /// At least what tunnels keep for want of an answer, in bytes.
    early: usize,
    fields: Fields,
    /// Kept for its memory; always empty.
    plain: Plain<'static>,
}

#[derive(Debug)]
struct Lane {
    framer: Framer,
    fields: hpack::Decoder,
    in_step: bool,
    candidate: Candidate,
    waiting: Option<Waiting>,
    /// What came after the block that waits.
    held: Held,
    /// The time of the last bytes.
    latest: Nanos,
}

/// A response that overtook its request on its way here.
#[derive(Debug)]
struct Waiting {
    block: Block<'static>,
    at: Nanos,
}

impl Http2 {
    /// A connection that was open before it was first seen.
    pub(crate) fn joined(limits: Limits, next_id: u64) -> Self {
        let lane = || Lane {
            framer: Framer::new(limits.head),
            fields: hpack::Decoder::new(&limits, false),
            in_step: false,
            candidate: Candidate::default(),
            waiting: None,
            held: Held::new(),
            latest: Nanos(0),
        };
        Self {
            limits,
            lanes: [lane(), lane()],
            requests: None,
            streams: Streams::new(),
            opened: 0,
            passed: 0,
            next_id,
            searched: 0,
            early: 0,
            fields: Fields::default(),
            plain: Vec::new(),
        }
    }

    /// A connection whose preface comes next in this direction. `answers`: the other direction will be seen from
    /// its first byte, too.
    pub(crate) fn opened(limits: Limits, requests: Direction, answers: bool, next_id: u64) -> Self {
        let mut http2 = Self::joined(limits, next_id);
        http2.requests = Some(requests);
        for lane in &mut http2.lanes {
            lane.fields = hpack::Decoder::new(&limits, true);
        }
        http2.lanes[requests.index()].in_step = true;
        http2.lanes[requests.index()].framer.expect_preface();
        http2.lanes[requests.opposite().index()].in_step = answers;
        http2
    }

    /// A connection that goes on as HTTP/2 (RFC 7540 §3.2).
    pub(crate) fn upgraded(limits: Limits, upgrade: &Upgrade, next_id: u64) -> Self {
        let mut http2 = Self::opened(limits, upgrade.requests, true, next_id);
        http2.opened = 1;
        http2.streams.insert(
            1,
            Stream {
                id: upgrade.exchange,
                last: upgrade.last,
                request: Message::new(Part::Done),
                response: Message::new(Part::Awaited),
                answered: None,
                due: None,
                undecodable: None,
                tunnel: None,
            },
        );
        http2
    }

    /// Whether it turned out to be nothing that can be read.
    pub(crate) const fn is_over(&self) -> bool {
        self.searched > self.limits.search
    }

    /// Takes the next bytes of a direction. `starts_call`: they begin where a captured call began.
    pub(crate) fn data<S: Sink>(
        &mut self,
        dir: Direction,
        bytes: &[u8],
        starts_call: bool,
        at: Nanos,
        sink: &mut S,
    ) {
        let lane = &mut self.lanes[dir.index()];
        lane.latest = lane.latest.max(at);
        if !lane.in_step && starts_call && lane.candidate.is_empty() && bytes.starts_with(PREFACE) {
            // The server's first frames came here before it.
            lane.in_step = true;
            lane.framer.expect_preface();
            lane.fields = hpack::Decoder::new(&self.limits, true);
            self.requests = Some(dir);
        }
        if self.lanes[dir.index()].in_step {
            self.run(dir, bytes, at, sink);
        } else {
            let lane = &mut self.lanes[dir.index()];
            let found = lane.candidate.look(bytes, starts_call, at, RESUME, self.limits.head);
            self.reject(found.rejected, sink);
            if let Some(frames) = found.frames {
                self.resume(dir, &frames, sink);
            }
        }
        self.release(sink);
    }

    /// Takes what was found in a direction, to be read now or when it is proven.
    pub(crate) fn adopt<S: Sink>(&mut self, dir: Direction, mut candidate: Candidate, sink: &mut S) {
        let lane = &mut self.lanes[dir.index()];
        let frames = if lane.in_step { 0 } else { RESUME };
        match candidate.take(frames) {
            Some(held) => self.resume(dir, &held, sink),
            None => lane.candidate = candidate,
        }
    }

    /// The direction goes on with these bytes, which begin a frame.
    pub(crate) fn resume<S: Sink>(&mut self, dir: Direction, frames: &Held, sink: &mut S) {
        self.searched = 0;
        self.lanes[dir.index()].in_step = true;
        for (bytes, _, at) in frames.runs() {
            let lane = &mut self.lanes[dir.index()];
            lane.latest = lane.latest.max(at);
            self.run(dir, bytes, at, sink);
        }
    }

    /// So many bytes of a direction are missing here.
    pub(crate) fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        self.pass_all(dir, sink);
        let lane = &mut self.lanes[dir.index()];
        if !lane.in_step {
            let rejected = lane.candidate.reject();
            self.reject(rejected, sink);
            lane_lost(&mut self.lanes[dir.index()]);
            return;
        }
        let request = self.requests == Some(dir);
        match lane.framer.gap(missing) {
            Gap::Hidden => {}
            Gap::Data(stream, len) => self.data_gap(request, stream, len, sink),
            Gap::Lost(data) => {
                if let Some((stream, len, end)) = data {
                    self.data_gap(request, stream, len, sink);
                    if end && let Some(last) = self.streams.get(&stream).map(|stream| stream.last) {
                        self.message_end(request, stream, last, sink);
                    }
                }
                self.lose_step(dir, sink);
            }
        }
    }

    /// Nothing more comes from the side that fills this direction.
    pub(crate) fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        if self.lanes[dir.index()].waiting.is_some() {
            self.lanes[dir.index()].held.closed = Some(at);
            return;
        }
        if self.requests == Some(dir) {
            self.streams.values_mut().for_each(|stream| stream.half_close(at, sink));
            self.end_where(|_, stream| stream.is_over(), Ending::Cut, at, sink);
        } else if self.requests.is_some() {
            self.end_where(|_, _| true, Ending::Cut, at, sink);
        }
    }

    /// The connection is over.
    pub(crate) fn close<S: Sink>(&mut self, ending: Ending, at: Nanos, sink: &mut S) {
        for dir in Direction::ALL {
            self.pass_all(dir, sink);
            let rejected = self.lanes[dir.index()].candidate.reject();
            self.reject(rejected, sink);
        }
        self.end_where(|_, _| true, ending, at, sink);
    }

    /// Ends exchanges whose last byte passed before `oldest`.
    pub(crate) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        while let Some((&number, stream)) = self.streams.iter().find(|(_, stream)| stream.last < oldest) {
            let last = stream.last;
            self.end(number, Ending::Stale, last, sink);
        }
    }

    fn run<S: Sink>(&mut self, dir: Direction, bytes: &[u8], at: Nanos, sink: &mut S) {
        let mut input = bytes;
        loop {
            let lane = &mut self.lanes[dir.index()];
            if lane.waiting.is_some() {
                if lane.held.len() + input.len() <= self.limits.held {
                    lane.held.push(input, false, at);
                    return;
                }
                self.pass(dir, sink);
                continue;
            }
            if !lane.in_step {
                self.reject(input.len(), sink);
                return;
            }
            let request = self.requests == Some(dir);
            match lane.framer.next(&mut input, at) {
                Step::More => return,
                Step::Data { stream, bytes, starts } => {
                    self.body(request, stream, bytes, starts, at, sink);
                }
                Step::End(stream) => self.message_end(request, stream, at, sink),
                Step::Block(block) => {
                    self.learn_role(dir, &block);
                    if self.must_wait(dir, &block, at) {
                        self.lanes[dir.index()].waiting = Some(Waiting { block: block.into_owned(), at });
                    } else {
                        self.block(dir, block, at, sink);
                    }
                }
                Step::Reset(stream) => {
                    let ending = if dir == Direction::Write { Ending::Left } else { Ending::Cut };
                    self.end(stream, ending, at, sink);
                }
                Step::GoAway(last) if !request && self.requests.is_some() => {
                    self.end_where(|number, _| number > last, Ending::Cut, at, sink);
                }
                Step::GoAway(_) => {}
                Step::Malformed(reason) => {
                    sink.dropped(reason, frame::HEADER as u64);
                    self.lose_step(dir, sink);
                }
            }
        }
    }

    /// Whether the request of this response is still on its way here.
    fn must_wait(&self, dir: Direction, block: &Block<'_>, at: Nanos) -> bool {
        self.requests == Some(dir.opposite())
            && !block.promise
            && block.stream > self.opened.max(self.passed)
            && self.lanes[dir.opposite().index()].latest <= at
    }

    /// Lets a response go on whose request has come, or cannot come any more.
    fn release<S: Sink>(&mut self, sink: &mut S) {
        for dir in Direction::ALL {
            while let Some(Waiting { block, at }) = &self.lanes[dir.index()].waiting
                && !self.must_wait(dir, block, *at)
            {
                self.pass(dir, sink);
            }
        }
    }

    fn pass_all<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        while self.lanes[dir.index()].waiting.is_some() {
            self.pass(dir, sink);
        }
    }

    /// Goes on with a block that waits.
    fn pass<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        let lane = &mut self.lanes[dir.index()];
        let Some(Waiting { block, at }) = lane.waiting.take() else { return };
        let held = std::mem::take(&mut lane.held);
        self.passed = self.passed.max(block.stream);
        if block.stream <= self.opened && !self.streams.contains_key(&block.stream) {
            sink.dropped(Reason::ResponseWithoutRequest, block.fields.len() as u64);
        }
        self.block(dir, block, at, sink);
        for (bytes, _, at) in held.runs() {
            self.run(dir, bytes, at, sink);
        }
        if let Some(at) = held.closed {
            self.half_close(dir, at, sink);
        }
    }

    /// The first block that tells by itself which side asks decides.
    fn learn_role(&mut self, dir: Direction, block: &Block<'_>) {
        if self.requests.is_none()
            && let Some(bytes) = block.fields.bytes()
        {
            let request = block.promise.then_some(false).or_else(|| hpack::begins_request(bytes));
            self.requests = request.map(|request| if request { dir } else { dir.opposite() });
        }
    }

    fn block<S: Sink>(&mut self, dir: Direction, block: Block<'_>, at: Nanos, sink: &mut S) {
        let mut fields = std::mem::take(&mut self.fields);
        let lane = &mut self.lanes[dir.index()];
        let len = block.fields.len();
        let read = match &block.fields {
            Fragment::Lost(reason, _) => {
                fields.clear();
                lane.fields.lose();
                Err(*reason)
            }
            Fragment::Whole(bytes) => lane.fields.decode(bytes, &mut fields),
            Fragment::Joined(bytes) => lane.fields.decode(bytes, &mut fields),
        };
        if let Err(reason) = read
            && len > 0
        {
            sink.dropped(reason, len as u64);
        }
        let mut plain: Plain<'_> = std::mem::take(&mut self.plain);
        let pseudo = Pseudo::split(&fields, &mut plain);
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
        if let Fragment::Joined(buffer) = block.fields {
            self.lanes[dir.index()].framer.recycle(buffer);
        }
    }

    fn request<S: Sink>(
        &mut self,
        dir: Direction,
        block: &Block<'_>,
        pseudo: &Pseudo<'_>,
        headers: Headers<'_>,
        at: Nanos,
        sink: &mut S,
    ) -> Result<(), Reason> {
        if block.stream <= self.opened {
            // Trailers.
            return Ok(());
        }
        if headers.complete && pseudo.method.is_none() {
            return Err(Reason::OutOfSync);
        }
        self.opened = block.stream;
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
        let mut request = Message::new(Part::Open);
        let mut undecodable = None;
        match tunnel.as_deref() {
            None => (request.body, undecodable) = BodyUse::new(interest, headers, &self.limits),
            Some(Tunnel::Asked { .. }) => {
                // What the client sends from here on is no part of it.
                sink.request_end(id, at);
                request.part = Part::Done;
            }
            Some(_) => {}
        }
        let response = Message::new(Part::Awaited);
        let stream =
            Stream { id, last: at, request, response, answered: None, due: None, undecodable, tunnel };
        self.streams.insert(block.stream, stream);
        Ok(())
    }

    fn response<S: Sink>(
        &mut self,
        block: &Block<'_>,
        pseudo: &Pseudo<'_>,
        headers: Headers<'_>,
        at: Nanos,
        sink: &mut S,
    ) -> Result<(), Reason> {
        let inflates = self.may_inflate(block.stream);
        let Some(stream) = self.streams.get_mut(&block.stream) else {
            // What follows on an exchange that is over is no loss.
            return if block.stream <= self.opened { Ok(()) } else { Err(Reason::ResponseWithoutRequest) };
        };
        stream.last = at;
        if stream.response.part == Part::Awaited {
            if pseudo.status.is_some_and(|status| status < 200) {
                if block.end {
                    self.end(block.stream, Ending::Malformed(Reason::InterimResponseEndsStream), at, sink);
                }
                return Ok(());
            }
            if pseudo.status.is_none() && headers.complete {
                // Trailers: the head is lost.
                stream.headless(block.began, sink);
            } else {
                let status = pseudo.status.unwrap_or_default();
                let head = ResponseHead { version: Version::Http2, status, headers };
                let interest = sink.response(stream.id, &head, block.began);
                let answer = Answer { status, headers, interest, limits: &self.limits, inflates, at };
                stream.answered(&answer, sink);
                return Ok(());
            }
        }
        if block.end && stream.answered.is_none() {
            sink.trailers(stream.id, headers, at);
        }
        Ok(())
    }

    fn body<S: Sink>(
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
                _ if number <= self.opened && self.requests.is_some() => return,
                _ => Reason::OutOfSync,
            };
            sink.dropped(reason, bytes.len() as u64);
            return;
        };
        stream.last = at;
        if !request && stream.response.part == Part::Awaited {
            stream.headless(at, sink);
        }
        if request && stream.is_held() {
            return self.hold(number, bytes, starts, at, sink);
        }
        stream.data(request, bytes, starts, at, sink);
        if stream.is_over() {
            self.end(number, Ending::Complete, at, sink);
        }
    }

    fn data_gap<S: Sink>(&mut self, request: bool, number: u32, missing: u64, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.gap(request, Some(missing), sink);
        if stream.is_over() {
            let last = stream.last;
            self.end(number, Ending::Complete, last, sink);
        }
    }

    fn message_end<S: Sink>(&mut self, request: bool, number: u32, at: Nanos, sink: &mut S) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.last = at;
        if !request && stream.response.part == Part::Awaited {
            stream.headless(at, sink);
        }
        stream.message_end(request, at, sink);
        if stream.is_over() {
            self.end(number, Ending::Complete, at, sink);
        }
    }

    /// The next byte of a direction may be anywhere in a frame, and what its blocks refer to is not known.
    fn lose_step<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        lane_lost(&mut self.lanes[dir.index()]);
        if let Some(requests) = self.requests {
            self.streams.values_mut().for_each(|stream| stream.lose(requests == dir, sink));
            self.end_where(|_, stream| stream.is_over(), Ending::Lost, Nanos(0), sink);
        }
    }

    fn reject<S: Sink>(&mut self, len: usize, sink: &mut S) {
        if len > 0 {
            self.searched += len as u64;
            sink.dropped(Reason::OutOfSync, len as u64);
        }
    }

    fn end<S: Sink>(&mut self, number: u32, ending: Ending, at: Nanos, sink: &mut S) {
        if let Some(stream) = self.streams.remove(&number) {
            stream.end(ending, at, sink);
        }
    }

    fn end_where<S: Sink>(
        &mut self,
        over: impl Fn(u32, &Stream) -> bool,
        ending: Ending,
        at: Nanos,
        sink: &mut S,
    ) {
        for (_, stream) in self.streams.extract_if(.., |number, stream| over(*number, stream)) {
            stream.end(ending, at, sink);
        }
    }
}

fn lane_lost(lane: &mut Lane) {
    lane.in_step = false;
    lane.framer.restart();
    lane.fields.lose();
}
