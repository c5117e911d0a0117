//! Captured bytes to play to a connection, and what reads the bodies in them.

use std::{hint::black_box, ops::Range, rc::Rc};

use tokentap_wire::{
    Connection, Direction, Ending, ExchangeId, Interest, Limits, MessagePart, Nanos, Reason, RequestHead,
    ResponseHead, Role, Sink,
};

use crate::harness::Load;

/// The kernel side hands on what a call moves in frames of at most this size.
const FRAME: usize = 16 << 10;

/// What calls of the observed process moved, in order.
pub(crate) struct Tape {
    bytes: Vec<u8>,
    frames: Vec<(Direction, Range<usize>)>,
    exchanges: usize,
    chunks: usize,
    /// What its bytes become when a compression is undone, if they are compressed.
    pub(crate) measured: usize,
}

impl Tape {
    /// An empty tape of this many exchanges, with this many chunks in each.
    pub(crate) const fn new(exchanges: usize, chunks: usize) -> Self {
        Self { bytes: Vec::new(), frames: Vec::new(), exchanges, chunks: exchanges * chunks, measured: 0 }
    }

    /// One call moved these bytes.
    pub(crate) fn call(&mut self, dir: Direction, bytes: &[u8]) {
        for frame in bytes.chunks(FRAME) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(frame);
            self.frames.push((dir, start..self.bytes.len()));
        }
    }

    /// The load of playing it, each round to a new connection and with a new reader.
    pub(crate) fn load<R: Reader + 'static>(self, reader: impl Fn() -> R + 'static) -> Load {
        let bytes = if self.measured > 0 { self.measured } else { self.bytes.len() };
        let (exchanges, chunks) = (self.exchanges, self.chunks);
        let tape = Rc::new(self);
        Load { bytes, exchanges, chunks, round: Box::new(move || tape.play(reader())) }
    }

    fn play<R: Reader>(&self, reader: R) {
        let mut feed = Feed { reader, ended: 0 };
        let mut connection = Connection::new(Limits::default());
        let mut offsets = [0; 2];
        for (at, (dir, frame)) in self.frames.iter().enumerate() {
            let (offset, at) = (&mut offsets[dir.index()], Nanos(at as u64));
            connection.data(*dir, *offset, black_box(&self.bytes[frame.clone()]), at, &mut feed);
            *offset += frame.len() as u64;
        }
        connection.close(Ending::Cut, Nanos(self.frames.len() as u64), &mut feed);
        assert_eq!(feed.ended, self.exchanges);
        let read = feed.reader.read();
        assert!(
            [Work::Nothing, Work::Chunks(self.chunks), Work::Bytes(self.measured)].contains(&read),
            "{read:?}"
        );
    }
}

/// Reads the bodies of every exchange of a connection, one after the other.
pub(crate) trait Reader {
    /// What it wants.
    const INTEREST: Interest = Interest::Body;
    fn request_head(&mut self, _head: &RequestHead<'_>) {}
    fn request(&mut self, _bytes: &[u8]) {}
    fn response(&mut self, _bytes: &[u8]) {}
    fn message(&mut self, _part: &MessagePart<'_>) {}
    fn end(&mut self) {}
    /// What it has read, to see that the work was done.
    fn read(&self) -> Work;
}

/// What a reader has read of all bodies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Nothing,
    Chunks(usize),
    Bytes(usize),
}

struct Feed<R> {
    reader: R,
    ended: usize,
}

impl<R: Reader> Sink for Feed<R> {
    fn request(&mut self, _: ExchangeId, head: &RequestHead<'_>, _: Nanos) -> Interest {
        assert!(head.headers.complete);
        self.reader.request_head(head);
        R::INTEREST
    }
    fn request_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
        self.reader.request(bytes);
    }
    fn request_end(&mut self, _: ExchangeId, _: Nanos) {}
    fn response(&mut self, _: ExchangeId, head: &ResponseHead<'_>, _: Nanos) -> Interest {
        assert!(head.headers.complete);
        R::INTEREST
    }
    fn response_body(&mut self, _: ExchangeId, bytes: &[u8], _: Nanos) {
        self.reader.response(bytes);
    }
    fn message(&mut self, _: ExchangeId, part: &MessagePart<'_>, _: Nanos) {
        self.reader.message(part);
    }
    fn gap(&mut self, _: ExchangeId, _: Role, _: Option<u64>) {
        panic!("nothing is missing");
    }
    fn end(&mut self, _: ExchangeId, ending: Ending, _: Nanos) {
        assert_eq!(ending, Ending::Complete);
        self.ended += 1;
        self.reader.end();
    }
    fn dropped(&mut self, reason: Reason, bytes: u64) {
        panic!("{bytes} bytes dropped: {reason}");
    }
}
