//! HTTP/2 on bytes as they would pass.

mod loss;
mod properties;
mod recorded;
mod rules;

use super::*;
use crate::{Connection, Direction, Ending, Limits, Nanos, Protocol, Reason, Role, recorder::Recorder};
use Direction::{Read, Write};

/// A frame, or the preface.
type Bytes = Vec<u8>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals; those that begin with `+` are inserted into the table.
fn block(fields: &[(&str, &str)]) -> Bytes {
    let mut block = Vec::new();
    for (name, value) in fields {
        let (first, name) = name.strip_prefix('+').map_or((0, *name), |name| (0x40, name));
        match name {
            ":method" => block.push(first | 2),
            ":path" => block.push(first | 4),
            ":status" => block.push(first | 8),
            _ => {
                block.extend([first, name.len() as u8]);
                block.extend(name.bytes());
            }
        }
        block.push(value.len() as u8);
        block.extend(value.bytes());
    }
    block
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn settings() -> Bytes {
    frame(4, 0, 0, &[0, 1, 0, 0, 16, 0])
}

fn ask(stream: u32, path: &str, end: bool) -> Bytes {
    let fields = block(&[(":method", "POST"), (":path", path), ("+host", "h")]);
    frame(1, END_HEADERS | u8::from(end), stream, &fields)
}

fn answer(stream: u32, status: &str, end: bool) -> Bytes {
    frame(1, END_HEADERS | u8::from(end), stream, &block(&[(":status", status), ("+server", "s")]))
}

fn data(stream: u32, text: &str, end: bool) -> Bytes {
    frame(0, u8::from(end), stream, text.as_bytes())
}

/// What a connection tells when it sees calls, directions as the client sees them.
struct Watch {
    connection: Connection,
    recorder: Recorder,
    offsets: [u64; 2],
    now: u64,
    role: Role,
}

impl Watch {
    fn new(role: Role) -> Self {
        Self {
            connection: Connection::new(Limits::default()),
            recorder: Recorder::default(),
            offsets: [0; 2],
            now: 0,
            role,
        }
    }

    /// One that has seen both sides begin.
    fn begun() -> Self {
        let mut watch = Self::new(Role::Client);
        watch.call(Write, [PREFACE, &settings()].concat()).call(Read, settings());
        watch
    }

    fn side(&self, dir: Direction) -> Direction {
        if self.role == Role::Client { dir } else { dir.opposite() }
    }

    fn call(&mut self, dir: Direction, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.now += 1;
        self.piece(dir, bytes.as_ref())
    }

    fn piece(&mut self, dir: Direction, bytes: &[u8]) -> &mut Self {
        let dir = self.side(dir);
        let offset = &mut self.offsets[dir.index()];
        self.connection.data(dir, *offset, bytes, Nanos(self.now), &mut self.recorder);
        *offset += bytes.len() as u64;
        self
    }

    fn lose(&mut self, dir: Direction, len: u64) -> &mut Self {
        let dir = self.side(dir);
        self.now += 1;
        self.offsets[dir.index()] += len;
        self
    }

    fn close(&mut self) -> &mut Self {
        self.now += 1;
        self.connection.close(Ending::Cut, Nanos(self.now), &mut self.recorder);
        self
    }

    #[track_caller]
    fn expect(&mut self, want: &[&str]) -> &mut Self {
        assert_eq!(self.recorder.lines(), want);
        self
    }
}

/// Checks the exchanges in calls after both sides have begun, which both ends must see alike, however they are
/// cut.
#[track_caller]
fn check(calls: &[(Direction, Bytes)], want: &[&str]) {
    let first = [(Write, [PREFACE, &settings()].concat()), (Read, settings())];
    for (role, size) in [(Role::Client, usize::MAX), (Role::Server, usize::MAX), (Role::Client, 1)] {
        let mut watch = Watch::new(role);
        for (dir, bytes) in first.iter().chain(calls) {
            watch.now += 1;
            for piece in bytes.chunks(size.min(bytes.len())) {
                watch.piece(*dir, piece);
            }
        }
        // The client's leave is the observed process's own only where that is the client.
        let want: Vec<String> = match role {
            Role::Client => want.iter().map(|&line| line.to_owned()).collect(),
            Role::Server => want.iter().map(|line| line.replace("ClosedLocally", "Cut")).collect(),
        };
        assert_eq!(watch.recorder.lines(), want, "{role:?} in pieces of {size}");
        assert!(watch.recorder.seen.values().all(|seen| seen.role == Some(role)));
        assert_eq!(watch.connection.protocol(), Protocol::Http2);
    }
}
