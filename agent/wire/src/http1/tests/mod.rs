//! HTTP/1 on bytes as they would pass.

mod life;
mod loss;
mod properties;
mod rules;

use super::*;
use crate::{Connection, Direction, Ending, Limits, Nanos, Protocol, Reason, Role, recorder::Recorder};
use Direction::{Read, Write};

/// A captured call: its direction, seen from the client, and its bytes.
type Call<'a> = (Direction, &'a str);

/// What a connection tells when it sees these calls.
struct Watch {
    connection: Connection,
    recorder: Recorder,
    offsets: [u64; 2],
    now: u64,
    /// Which end is watched.
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

    fn tell_loss(&mut self, dir: Direction, len: u64) -> &mut Self {
        let offset = self.offsets[self.side(dir).index()];
        self.lose(dir, len);
        self.connection.lost(self.side(dir), offset, len, Nanos(self.now), &mut self.recorder);
        self
    }

    /// Bytes that come now do so after as many turns of the connection.
    fn turned(&mut self, turns: u32) -> &mut Self {
        self.connection.set_turns(Some(turns));
        self
    }

    fn half_close(&mut self, dir: Direction) -> &mut Self {
        let dir = self.side(dir);
        self.now += 1;
        self.connection.half_close(dir, Nanos(self.now), &mut self.recorder);
        self
    }

    fn close(&mut self, ending: Ending) -> &mut Self {
        self.now += 1;
        self.connection.close(ending, Nanos(self.now), &mut self.recorder);
        self
    }

    #[track_caller]
    fn expect(&mut self, want: &[&str]) -> &mut Self {
        assert_eq!(self.recorder.lines(), want);
        self
    }
}

/// Checks the exchanges in calls that are cut as given, which both ends must see alike.
#[track_caller]
fn check_calls(calls: &[Call<'_>], want: &[&str]) {
    for role in [Role::Client, Role::Server] {
        let mut watch = Watch::new(role);
        for (dir, bytes) in calls {
            watch.call(*dir, bytes);
        }
        assert_eq!(watch.recorder.lines(), want, "{role:?}");
        assert!(watch.recorder.seen.values().all(|seen| seen.role == Some(role)));
    }
}

/// The same, also when the bytes come one at a time.
#[track_caller]
fn check(calls: &[Call<'_>], want: &[&str]) {
    check_calls(calls, want);
    let mut watch = Watch::new(Role::Client);
    for (dir, bytes) in calls {
        watch.now += 1;
        for byte in bytes.as_bytes().chunks(1) {
            watch.piece(*dir, byte);
        }
    }
    assert_eq!(watch.recorder.lines(), want, "byte by byte");
}
