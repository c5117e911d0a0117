//! One connection: its directions cut into frames, in the order in which they can be understood.

use super::{
    frame::{self, FieldBlock, FrameGap, FrameStep, Framer, PREFACE},
    head::PlainFields,
    hpack::{self, Fields},
    search::FrameSearch,
    stream::{Stream, StreamMessage, Streams},
};
use crate::{
    Direction, Ending, Limits, Nanos, Reason, Role, Sink,
    http1::Upgrade,
    progress::MessageProgress,
    runs::{HeldRuns, Run},
};

/// How many frames in a row prove that a connection speaks HTTP/2.
pub(crate) const PROOF: u32 = 3;
/// How many prove that a direction of an HTTP/2 connection is in sync again.
const RESUME: u32 = 2;

/// Follows a connection that speaks HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2 {
    pub(super) limits: Limits,
    pub(super) halves: [Http2Half; 2],
    /// The direction of the requests, once known.
    pub(super) requests: Option<Direction>,
    pub(super) streams: Streams,
    /// The highest stream with a request.
    pub(super) highest_request: u32,
    /// The highest stream whose response was read although its request had not come.
    pub(super) highest_orphan: u32,
    pub(super) next_id: u64,
    /// Bytes skipped since the last frame.
    pub(super) searched: u64,
    /// What tunnels without a response hold, in bytes, or more: some may have been released since it was counted.
    pub(super) held_bytes: usize,
    pub(super) fields: Fields,
    /// Always empty: kept for its allocation.
    pub(super) plain: PlainFields<'static>,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Http2Half {
    pub(super) framer: Framer,
    pub(super) fields: hpack::Decoder,
    pub(super) in_sync: bool,
    /// The search for frames while the direction is out of sync.
    pub(super) search: FrameSearch,
    pub(super) waiting: Option<WaitingBlock>,
    /// The bytes behind the block that waits.
    pub(super) held: HeldRuns,
    /// The time of the last bytes.
    pub(super) latest: Nanos,
}

/// The head of a response that came here before its request.
#[derive(Debug)]
pub(super) struct WaitingBlock {
    pub(super) block: FieldBlock<'static>,
    pub(super) at: Nanos,
}

impl Http2 {
    /// A connection that was open before it was first seen.
    pub(crate) fn joined(limits: Limits, next_id: u64) -> Self {
        let half = || Http2Half {
            framer: Framer::new(limits.head),
            fields: hpack::Decoder::new(&limits, false),
            in_sync: false,
            search: FrameSearch::default(),
            waiting: None,
            held: HeldRuns::new(),
            latest: Nanos(0),
        };
        Self {
            limits,
            halves: [half(), half()],
            requests: None,
            streams: Streams::new(),
            highest_request: 0,
            highest_orphan: 0,
            next_id,
            searched: 0,
            held_bytes: 0,
            fields: Fields::default(),
            plain: Vec::new(),
        }
    }

    /// A connection whose preface comes next in this direction. `responses_in_sync`: the other direction is seen from
    /// its first byte, too.
    pub(crate) fn opened(limits: Limits, requests: Direction, responses_in_sync: bool, next_id: u64) -> Self {
        let mut http2 = Self::joined(limits, next_id);
        http2.requests = Some(requests);
        for half in &mut http2.halves {
            half.fields = hpack::Decoder::new(&limits, true);
        }
        http2.halves[requests.index()].in_sync = true;
        http2.halves[requests.index()].framer.expect_preface();
        http2.halves[requests.opposite().index()].in_sync = responses_in_sync;
        http2
    }

    /// An HTTP/1 connection that continues as HTTP/2 (RFC 7540 §3.2).
    pub(crate) fn upgraded(limits: Limits, upgrade: &Upgrade, next_id: u64) -> Self {
        let mut http2 = Self::opened(limits, upgrade.requests, true, next_id);
        http2.highest_request = 1;
        http2.streams.insert(
            1,
            Stream {
                id: upgrade.exchange,
                last_byte: upgrade.last_byte,
                request: StreamMessage::new(MessageProgress::Done),
                response: StreamMessage::new(MessageProgress::Awaited),
                response_ended: None,
                remaining: None,
                undecodable: None,
                tunnel: None,
            },
        );
        http2
    }

    /// Whether too many bytes were skipped to read on.
    pub(crate) const fn is_over(&self) -> bool {
        self.searched > self.limits.search
    }

    /// Takes the next bytes of a direction.
    pub(crate) fn data<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        let half = &mut self.halves[dir.index()];
        half.latest = half.latest.max(run.at);
        if !half.in_sync && run.starts_call && half.search.is_empty() && run.bytes.starts_with(PREFACE) {
            // The first frames of the server came here before the preface.
            half.in_sync = true;
            half.framer.expect_preface();
            half.fields = hpack::Decoder::new(&self.limits, true);
            self.requests = Some(dir);
        }
        if self.halves[dir.index()].in_sync {
            self.read(dir, run, sink);
        } else {
            let half = &mut self.halves[dir.index()];
            let found = half.search.look(run, RESUME, self.limits.head);
            self.skipped(found.rejected, sink);
            if let Some(frames) = found.frames {
                self.resume(dir, &frames, sink);
            }
        }
        self.release(sink);
    }

    /// Takes over the search for frames in a direction; what it has found is read once it is proven.
    pub(crate) fn adopt_search<S: Sink>(&mut self, dir: Direction, mut search: FrameSearch, sink: &mut S) {
        let half = &mut self.halves[dir.index()];
        let frames = if half.in_sync { 0 } else { RESUME };
        match search.take(frames) {
            Some(held) => self.resume(dir, &held, sink),
            None => half.search = search,
        }
    }

    /// The direction is in sync: these bytes begin with a frame.
    pub(crate) fn resume<S: Sink>(&mut self, dir: Direction, frames: &HeldRuns, sink: &mut S) {
        self.searched = 0;
        self.halves[dir.index()].in_sync = true;
        for run in frames.iter() {
            let half = &mut self.halves[dir.index()];
            half.latest = half.latest.max(run.at);
            self.read(dir, run, sink);
        }
    }

    /// `missing` bytes of a direction are missing here.
    pub(crate) fn gap<S: Sink>(&mut self, dir: Direction, missing: u64, sink: &mut S) {
        self.process_all_waiting(dir, sink);
        let half = &mut self.halves[dir.index()];
        if !half.in_sync {
            let rejected = half.search.reject();
            self.skipped(rejected, sink);
            self.halves[dir.index()].lose_sync();
            return;
        }
        let sender = self.sender(dir);
        match self.halves[dir.index()].framer.gap(missing) {
            FrameGap::Hidden => {}
            FrameGap::Data(stream, len) => self.data_gap(sender, stream, len, sink),
            FrameGap::Lost(data) => {
                if let Some((stream, len, end)) = data {
                    self.data_gap(sender, stream, len, sink);
                    if end && let Some(at) = self.streams.get(&stream).map(|stream| stream.last_byte) {
                        self.message_end(sender, stream, at, sink);
                    }
                }
                self.lose_sync(dir, sink);
            }
        }
    }

    /// No more bytes come in this direction.
    pub(crate) fn half_close<S: Sink>(&mut self, dir: Direction, at: Nanos, sink: &mut S) {
        if self.halves[dir.index()].waiting.is_some() {
            self.halves[dir.index()].held.closed = Some(at);
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
            self.process_all_waiting(dir, sink);
            let rejected = self.halves[dir.index()].search.reject();
            self.skipped(rejected, sink);
        }
        self.end_where(|_, _| true, ending, at, sink);
    }

    /// Ends exchanges whose last byte passed before `oldest`.
    pub(crate) fn sweep<S: Sink>(&mut self, oldest: Nanos, sink: &mut S) {
        while let Some((&number, stream)) = self.streams.iter().find(|(_, stream)| stream.last_byte < oldest)
        {
            let at = stream.last_byte;
            self.end(number, Ending::Stale, at, sink);
        }
    }

    /// Who sends in this direction: the server, as long as no field block has told.
    pub(super) fn sender(&self, dir: Direction) -> Role {
        if self.requests == Some(dir) { Role::Client } else { Role::Server }
    }

    fn read<S: Sink>(&mut self, dir: Direction, run: Run<'_>, sink: &mut S) {
        let Run { bytes: mut input, at, .. } = run;
        loop {
            let sender = self.sender(dir);
            let half = &mut self.halves[dir.index()];
            if half.waiting.is_some() {
                if half.held.len() + input.len() <= self.limits.held {
                    half.held.push(Run { bytes: input, starts_call: false, at });
                    return;
                }
                self.process_waiting(dir, sink);
                continue;
            }
            if !half.in_sync {
                self.skipped(input.len(), sink);
                return;
            }
            match half.framer.next(&mut input, at) {
                FrameStep::More => return,
                FrameStep::Data { stream, bytes, starts } => {
                    self.body(sender, stream, Run { bytes, starts_call: starts, at }, sink);
                }
                FrameStep::End(stream) => self.message_end(sender, stream, at, sink),
                FrameStep::Block(block) => {
                    self.learn_roles(dir, &block);
                    if self.must_wait(dir, &block, at) {
                        self.halves[dir.index()].waiting =
                            Some(WaitingBlock { block: block.into_owned(), at });
                    } else {
                        self.block(dir, block, at, sink);
                    }
                }
                FrameStep::Reset(stream) => {
                    let ending = if dir == Direction::Write { Ending::ClosedLocally } else { Ending::Cut };
                    self.end(stream, ending, at, sink);
                }
                FrameStep::GoAway(last) if sender == Role::Server && self.requests.is_some() => {
                    self.end_where(|number, _| number > last, Ending::Cut, at, sink);
                }
                FrameStep::GoAway(_) => {}
                FrameStep::Malformed(reason) => {
                    sink.dropped(reason, frame::HEADER as u64);
                    self.lose_sync(dir, sink);
                }
            }
        }
    }

    /// Whether the request of this response may still come.
    fn must_wait(&self, dir: Direction, block: &FieldBlock<'_>, at: Nanos) -> bool {
        self.requests == Some(dir.opposite())
            && !block.is_promise
            && block.stream > self.highest_request.max(self.highest_orphan)
            && self.halves[dir.opposite().index()].latest <= at
    }

    /// Processes the heads of responses whose request has come, or cannot come any more.
    fn release<S: Sink>(&mut self, sink: &mut S) {
        for dir in Direction::ALL {
            while let Some(WaitingBlock { block, at }) = &self.halves[dir.index()].waiting
                && !self.must_wait(dir, block, *at)
            {
                self.process_waiting(dir, sink);
            }
        }
    }

    fn process_all_waiting<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        while self.halves[dir.index()].waiting.is_some() {
            self.process_waiting(dir, sink);
        }
    }

    /// Processes a block that waits, and the bytes behind it.
    fn process_waiting<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        let half = &mut self.halves[dir.index()];
        let Some(WaitingBlock { block, at }) = half.waiting.take() else { return };
        let held = std::mem::take(&mut half.held);
        self.highest_orphan = self.highest_orphan.max(block.stream);
        if block.stream <= self.highest_request && !self.streams.contains_key(&block.stream) {
            sink.dropped(Reason::ResponseWithoutRequest, block.fields.len() as u64);
        }
        self.block(dir, block, at, sink);
        for run in held.iter() {
            self.read(dir, run, sink);
        }
        if let Some(at) = held.closed {
            self.half_close(dir, at, sink);
        }
    }

    /// The next byte of a direction may be anywhere in a frame, and its dynamic table is not known.
    fn lose_sync<S: Sink>(&mut self, dir: Direction, sink: &mut S) {
        self.halves[dir.index()].lose_sync();
        if let Some(requests) = self.requests {
            let sender = Role::sender(dir, requests);
            self.streams.values_mut().for_each(|stream| stream.lose(sender, sink));
            self.end_where(|_, stream| stream.is_over(), Ending::Lost, Nanos(0), sink);
        }
    }

    /// Bytes that belong to no frame were skipped.
    fn skipped<S: Sink>(&mut self, len: usize, sink: &mut S) {
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

impl Http2Half {
    fn lose_sync(&mut self) {
        self.in_sync = false;
        self.framer.restart();
        self.fields.lose();
    }
}
