//! Conversations over WebSocket around fuzzed bytes, on a connection of their own or on a stream of HTTP/2.
//!
//! Of a step's code, bit 0 is the direction (0: the client's), bits 1 and 2 say what passes, bits 3 and 4 which
//! conversation it belongs to.

use std::io::Write as _;

use flate2::{Compression, write::DeflateEncoder};
use tokentap_wire::{Connection, Direction, Ending, Limits, Nanos, Sink};

use crate::{
    http2, replay,
    script::{self, ScriptStep},
};

/// Setting: messages may be compressed (RFC 7692), each with reference to those before it.
pub const DEFLATE: u8 = 1;
/// Setting: as [`DEFLATE`], each for itself.
pub const DEFLATE_EACH: u8 = 1 << 1;

/// Conversations of an input.
pub const CONVERSATIONS: usize = 3;

/// What passes in a step.
mod what {
    /// A frame: its first byte is that of the step, its payload the rest.
    pub(super) const FRAME: u8 = 1;
    /// A compressed message.
    pub(super) const PACKED: u8 = 2;
    /// As many bytes as it has are lost.
    pub(super) const LOSS: u8 = 3;
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;

/// What passes, step by step.
#[derive(Debug)]
pub struct Script {
    /// The extensions that were agreed upon.
    extensions: &'static str,
    steps: Vec<Passing>,
}

/// What passes in one direction of one conversation.
#[derive(Debug)]
struct Passing {
    conversation: usize,
    dir: Direction,
    bytes: Vec<u8>,
    lost: bool,
}

impl Script {
    /// Reads an input.
    #[must_use]
    pub fn new(input: &[u8]) -> Self {
        let (&settings, script) = input.split_first().unwrap_or((&0, &[]));
        let extensions = match (settings & DEFLATE != 0, settings & DEFLATE_EACH != 0) {
            (_, true) => "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            (true, _) => "permessage-deflate",
            _ => "",
        };
        let mut coders = [const { None }; 2 * CONVERSATIONS];
        let mut steps = Vec::new();
        for ScriptStep { code, bytes } in script::read(script) {
            let conversation = usize::from(code >> 3 & 3) % CONVERSATIONS;
            let dir = replay::direction(code);
            let mask = (dir == Direction::Write).then_some(KEY);
            let coder = &mut coders[2 * conversation + usize::from(code & 1)];
            let what = code >> 1 & 3;
            let bytes = match (what, bytes.split_first()) {
                (what::FRAME, Some((&first, payload))) => frame(first, mask, payload),
                (what::PACKED, _) => {
                    coder.take_if(|_| settings & DEFLATE_EACH != 0);
                    frame(0xc1, mask, &packed(coder.get_or_insert_with(self::coder), &bytes))
                }
                _ => bytes,
            };
            steps.push(Passing { conversation, dir, bytes, lost: what == what::LOSS });
        }
        steps.retain(|step| !step.bytes.is_empty());
        Self { extensions, steps }
    }

    /// Whether nothing is lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.steps.iter().all(|step| !step.lost)
    }

    /// Whether messages may be compressed.
    #[must_use]
    pub fn compresses(&self) -> bool {
        !self.extensions.is_empty()
    }

    /// What one side says in a conversation, losses left out.
    #[must_use]
    pub fn said(&self, conversation: usize, dir: Direction) -> Vec<u8> {
        let of_it = self.of(conversation).filter(|step| step.dir == dir && !step.lost);
        of_it.flat_map(|step| step.bytes.clone()).collect()
    }

    /// Plays one conversation after an upgrade of HTTP/1.
    pub fn play_http1<S: Sink>(&self, conversation: usize, limits: Limits, sink: &mut S) {
        let mut player = Player::new(limits, sink);
        let switch = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        player.pass(Direction::Write, format!("GET / HTTP/1.1\r\n{switch}\r\n").as_bytes());
        let answer = match self.extensions {
            "" => format!("HTTP/1.1 101 \r\n{switch}\r\n"),
            some => format!("HTTP/1.1 101 \r\n{switch}Sec-WebSocket-Extensions: {some}\r\n\r\n"),
        };
        player.pass(Direction::Read, answer.as_bytes());
        for step in self.of(conversation) {
            player.now.0 += 1;
            match step.lost {
                true => player.lose(step.dir, step.bytes.len()),
                false => player.pass(step.dir, &step.bytes),
            }
        }
        player.close();
    }

    /// Plays all conversations on streams of one HTTP/2 connection: what passes in a step as one DATA frame.
    pub fn play_http2<S: Sink>(&self, limits: Limits, sink: &mut S) {
        let mut player = self.open(limits, sink);
        for step in &self.steps {
            player.now.0 += 1;
            let frame = data(step.conversation, &step.bytes);
            let (head, content) = frame.split_at(frame.len() - step.bytes.len());
            if step.lost {
                player.pass(step.dir, head);
                player.lose(step.dir, content.len());
            } else {
                player.pass(step.dir, &frame);
            }
        }
        player.close();
    }

    /// The same with each step cut into frames, and those cut again. Nothing may be lost.
    pub fn play_http2_recut<S: Sink>(&self, limits: Limits, sink: &mut S) {
        let mut player = self.open(limits, sink);
        for step in &self.steps {
            player.now.0 += 1;
            for content in script::recut(&step.bytes) {
                let frame = data(step.conversation, content);
                script::recut(&frame).for_each(|piece| player.pass(step.dir, piece));
            }
        }
        player.close();
    }

    fn of(&self, conversation: usize) -> impl Iterator<Item = &Passing> {
        self.steps.iter().filter(move |step| step.conversation == conversation)
    }

    /// A connection on which every conversation has begun (RFC 8441 §5).
    fn open<'a, S: Sink>(&self, limits: Limits, sink: &'a mut S) -> Player<'a, S> {
        let mut player = Player::new(limits, sink);
        player.pass(Direction::Write, http2::PREFACE);
        let field = |name: &str, value: &str| {
            [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
        };
        // The method and the status are in the static table, by name and as a whole.
        let ask = [&b"\x02\x07CONNECT"[..], &field(":protocol", "websocket"), &field(":path", "/")].concat();
        let mut tell = vec![0x88];
        if self.compresses() {
            tell.extend(field("sec-websocket-extensions", self.extensions));
        }
        for conversation in 0..CONVERSATIONS {
            let head = |block: &[u8]| http2::frame(HEADERS, END_HEADERS, number(conversation), block);
            player.pass(Direction::Write, &head(&ask));
            player.pass(Direction::Read, &head(&tell));
        }
        player
    }
}

/// A connection and how far its directions are.
struct Player<'a, S> {
    connection: Connection,
    offsets: [u64; 2],
    now: Nanos,
    sink: &'a mut S,
}

impl<'a, S: Sink> Player<'a, S> {
    fn new(limits: Limits, sink: &'a mut S) -> Self {
        Self { connection: Connection::opened(limits), offsets: [0; 2], now: Nanos(1), sink }
    }

    fn pass(&mut self, dir: Direction, bytes: &[u8]) {
        let offset = &mut self.offsets[dir.index()];
        self.connection.data(dir, *offset, bytes, self.now, self.sink);
        *offset += bytes.len() as u64;
    }

    fn lose(&mut self, dir: Direction, len: usize) {
        let offset = &mut self.offsets[dir.index()];
        self.connection.lost(dir, *offset, len as u64, self.now, self.sink);
        *offset += len as u64;
    }

    fn close(mut self) {
        self.now.0 += 1;
        self.connection.close(Ending::Cut, self.now, self.sink);
    }
}

/// The stream of a conversation.
const fn number(conversation: usize) -> u32 {
    2 * conversation as u32 + 1
}

fn data(conversation: usize, content: &[u8]) -> Vec<u8> {
    http2::frame(0, 0, number(conversation), content)
}

fn coder() -> DeflateEncoder<Vec<u8>> {
    DeflateEncoder::new(Vec::new(), Compression::fast())
}

/// A compressed message without its last bytes, which are the same in all (RFC 7692 §7.2.1).
fn packed(coder: &mut DeflateEncoder<Vec<u8>>, message: &[u8]) -> Vec<u8> {
    let in_memory = "writing to memory";
    coder.write_all(message).expect(in_memory);
    coder.flush().expect(in_memory);
    let mut bytes = std::mem::take(coder.get_mut());
    bytes.truncate(bytes.len().saturating_sub(4));
    bytes
}

/// A frame (RFC 6455 §5.2), masked when there is a key.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ ..=125 => out.push(masked | len as u8),
        len @ ..=0xffff => {
            out.push(masked | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(masked | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    out.extend(mask.iter().flatten());
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;

    #[test]
    fn a_script_is_the_same_conversation_over_both_protocols() {
        for settings in [0, DEFLATE, DEFLATE_EACH] {
            let mut input = vec![settings];
            script::write(&mut input, what::FRAME << 1, b"\x81ask");
            script::write(&mut input, what::FRAME << 1 | 1, b"\x82tell");
            if settings != 0 {
                script::write(&mut input, what::PACKED << 1, b"again");
                script::write(&mut input, what::PACKED << 1, b"again");
            }
            script::write(&mut input, 1 << 3 | what::FRAME << 1, b"\x81other");
            let script = Script::new(&input);
            let want =
                if settings == 0 { vec!["ask", "tell"] } else { vec!["ask", "tell", "again", "again"] };
            let limits = Limits::default();
            let said = |play: &dyn Fn(&mut Recorder), exchange| {
                let mut recorder = Recorder::new(&limits);
                play(&mut recorder);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let messages = recorder.exchanges[&exchange].messages.iter();
                messages.map(|message| text(&message.bytes.0)).collect::<Vec<_>>()
            };
            assert_eq!(said(&|sink| script.play_http1(0, limits, sink), 0), want);
            assert_eq!(said(&|sink| script.play_http2(limits, sink), 0), want);
            assert_eq!(said(&|sink| script.play_http2_recut(limits, sink), 0), want);
            assert_eq!(said(&|sink| script.play_http2(limits, sink), 1), ["other"]);
        }
    }
}
