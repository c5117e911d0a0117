//! Inputs that are a captured connection.
//!
//! The first byte is settings ([`OPENED`], [`SMALL`]); the rest is a [`script`]. Of a step's code, bit 0 is the
//! direction (0: written), bits 1 to 3 say what happens, bits 4 to 7 are a number.

use tokentap_wire::{Connection, Direction, Ending, Limits, Nanos, Sink};

use crate::{
    http2,
    recorder::Recorder,
    script::{self, ScriptStep},
};

/// Setting: the connection is seen from its first byte.
pub const OPENED: u8 = 1;
/// Setting: small [limits](Replay::limits).
pub const SMALL: u8 = 1 << 1;

/// What a step does, in bits 1 to 3 of its code; 0 to 3: its bytes pass. With a number, they begin that many
/// bytes before what was seen already.
mod action {
    /// As many bytes as it has are lost, times two to the power of the number, and nobody tells.
    pub(super) const LOSE: u8 = 4;
    /// As [`LOSE`], and it is told.
    pub(super) const TELL_LOSS: u8 = 5;
    /// Its bytes pass and are the last ones in this direction.
    pub(super) const HALF_CLOSE: u8 = 6;
    /// As much time passes as the number says, and old exchanges end; then its bytes pass.
    pub(super) const SWEEP: u8 = 7;
}

/// Time of the first step; each takes a nanosecond.
const FIRST: Nanos = Nanos(2);

/// A captured connection.
#[derive(Debug)]
pub struct Replay {
    /// What the connection may cost.
    pub limits: Limits,
    opened: bool,
    steps: Vec<ScriptStep>,
}

impl Replay {
    /// Reads an input.
    #[must_use]
    pub fn new(input: &[u8]) -> Self {
        let (&settings, script) = input.split_first().unwrap_or((&0, &[]));
        let mut limits = Limits { decoded: 1 << 20, ratio: 64, ..Limits::default() };
        if settings & SMALL != 0 {
            limits = Limits {
                head: 2 << 10,
                held: 1 << 10,
                in_flight: 8,
                streams: 8,
                table: 2 << 10,
                search: 4 << 10,
                ..limits
            };
        }
        Self { limits, opened: settings & OPENED != 0, steps: script::read(script) }
    }

    /// Whether the connection is seen from its first byte to its last.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let whole =
            |step: &ScriptStep| !matches!(action(step), action::LOSE | action::TELL_LOSS | action::SWEEP);
        self.opened && self.steps.iter().all(whole)
    }

    /// Whether the first bytes are those of the first exchange, or of HTTP/2.
    #[must_use]
    pub fn begins_with(&self, played: &Recorder) -> bool {
        let preface = &http2::PREFACE[..24];
        let first = played.exchanges.get(&0).and_then(|exchange| exchange.times[0]);
        first.is_some_and(|at| {
            at == FIRST || self.steps.iter().take(1).any(|step| step.bytes.starts_with(preface))
        })
    }

    /// Whether what comes before the first head is whole can begin no frame of HTTP/2: as long as that is open, a
    /// call that begins with one of the lowest control characters may.
    #[must_use]
    pub fn is_text(&self) -> bool {
        let preface = &http2::PREFACE[..24];
        let first = self.steps.first();
        if first.is_some_and(|step| step.bytes.starts_with(preface)) {
            return true;
        }
        let asks = first.map(|step| direction(step.code));
        let mut head = Vec::new();
        for step in &self.steps {
            if step.bytes.iter().any(|&byte| byte <= 8) {
                return false;
            }
            if Some(direction(step.code)) == asks {
                head.extend_from_slice(&step.bytes);
                if head.windows(2).any(|end| end == b"\n\n") || head.windows(3).any(|end| end == b"\n\r\n") {
                    break;
                }
            }
        }
        true
    }

    /// Plays it as it was captured.
    pub fn play<S: Sink>(&self, sink: &mut S) {
        self.play_cut(sink, std::iter::once);
    }

    /// Plays it with each run of bytes cut again.
    pub fn play_recut<S: Sink>(&self, sink: &mut S) {
        self.play_cut(sink, script::recut);
    }

    fn play_cut<'a, S: Sink, I: Iterator<Item = &'a [u8]>>(
        &'a self,
        sink: &mut S,
        cut: impl Fn(&'a [u8]) -> I,
    ) {
        let start = if self.opened { Connection::opened } else { Connection::new };
        let mut connection = start(self.limits);
        let mut offsets = [0_u64; 2];
        let mut now = Nanos(FIRST.0 - 1);
        let mut turns = (None, 0);
        for step in &self.steps {
            now.0 += 1;
            let dir = direction(step.code);
            turns.1 += u32::from(turns.0.replace(dir) != Some(dir));
            connection.set_turns(Some(turns.1));
            let offset = &mut offsets[dir.index()];
            let number = step.code >> 4;
            let lost = (step.bytes.len() as u64) << number;
            match action(step) {
                action::LOSE => *offset += lost,
                action::TELL_LOSS => {
                    connection.lost(dir, *offset, lost, now, sink);
                    *offset += lost;
                }
                what => {
                    if what == action::SWEEP {
                        now.0 += u64::from(number);
                        connection.sweep(now, Nanos(8), sink);
                    } else {
                        *offset = offset.saturating_sub(u64::from(number));
                    }
                    for piece in cut(&step.bytes) {
                        connection.data(dir, *offset, piece, now, sink);
                        *offset += piece.len() as u64;
                    }
                    if what == action::HALF_CLOSE {
                        connection.half_close(dir, now, sink);
                    }
                }
            }
        }
        connection.close(Ending::Cut, Nanos(now.0 + 1), sink);
    }
}

/// The direction in a step's code.
#[must_use]
pub fn direction(code: u8) -> Direction {
    if code & 1 == 0 { Direction::Write } else { Direction::Read }
}

fn action(step: &ScriptStep) -> u8 {
    step.code >> 1 & 7
}

/// Writes captured connections as inputs.
#[derive(Clone, Debug)]
pub struct Writer {
    input: Vec<u8>,
}

impl Writer {
    /// A connection that is seen from its first byte, or not.
    #[must_use]
    pub fn new(opened: bool) -> Self {
        Self { input: vec![if opened { OPENED } else { 0 }] }
    }

    /// With the setting [`SMALL`].
    #[must_use]
    pub fn small(mut self) -> Self {
        self.input[0] |= SMALL;
        self
    }

    /// Bytes passed.
    pub fn data(&mut self, dir: Direction, bytes: &[u8]) {
        script::write(&mut self.input, dir as u8, bytes);
    }

    /// So many bytes are lost.
    pub fn lost(&mut self, dir: Direction, len: u64) {
        // The nearest that the format can say.
        let number = (64 - len.leading_zeros()).saturating_sub(6).min(15) as u8;
        let bytes = vec![b'-'; usize::try_from(len >> number).unwrap_or(1)];
        script::write(&mut self.input, number << 4 | action::TELL_LOSS << 1 | dir as u8, &bytes);
    }

    /// A direction ended.
    pub fn half_close(&mut self, dir: Direction) {
        script::write(&mut self.input, action::HALF_CLOSE << 1 | dir as u8, b"");
    }

    /// The input.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.input
    }
}
