//! One connection: its directions cut into frames, in the order in which they can be understood.

use super::{
    frame::{self, Block, Framer, Gap, PREFACE, Step},
    head::Plain,
    hpack::{self, Fields},
    join::Candidate,
    stream::{Message, Part, Stream, Streams},
};
use crate::{Direction, Ending, Limits, Nanos, Reason, Sink, held::Held, http1::Upgrade};

/// Frames in a row by which a connection is known to speak HTTP/2.
pub(crate) const PROOF: u32 = 3;
/// The same for a direction of one that is known to.
const RESUME: u32 = 2;

/// Follows a connection that speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2 {
    pub(super) limits: Limits,
    pub(super) lanes: [Lane; 2],
    /// The direction of the requests, once known.
    pub(super) requests: Option<Direction>,
    pub(super) streams: Streams,
    /// The highest stream on which a request was seen, and on which a response was without its request.
    pub(super) opened: u32,
    pub(super) passed: u32,
    pub(super) next_id: u64,
    /// Bytes passed over since the last frame.
    pub(super) searched: u64,
    /// At least what tunnels keep for want of an answer, in bytes.
    pub(super) early: usize,
    pub(super) fields: Fields,
    /// Kept for its memory; always empty.
    pub(super) plain: Plain<'static>,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) framer: Framer,
    pub(super) fields: hpack::Decoder,
    pub(super) in_step: bool,
    pub(super) candidate: Candidate,
    pub(super) waiting: Option<Waiting>,
    /// What came after the block that waits.
    pub(super) held: Held,
    /// The time of the last bytes.
    pub(super) latest: Nanos,
}

/// A response that overtook its request on its way here.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) block: Block<'static>,
    pub(super) at: Nanos,
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

    pub(super) fn end<S: Sink>(&mut self, number: u32, ending: Ending, at: Nanos, sink: &mut S) {
        if let Some(stream) = self.streams.remove(&number) {
            stream.end(ending, at, sink);
        }
    }

    pub(super) fn end_where<S: Sink>(
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
