//! Inputs to begin with: the golden tapes as each target reads them, cut where the captured calls were; for what no
//! tape has, examples of the standards.

mod elf;
mod literals;

use std::{collections::BTreeMap, fs, io, path::Path};

use tokentap_abi::{Frame, Kind, decode, flags};
use tokentap_wire::{
    Connection, Direction, Ending, ExchangeId, Interest, Limits, Nanos, RequestHead, ResponseHead, Role, Sink,
};

use crate::{replay::Writer, script};

pub use literals::CODINGS;

/// Longest input to begin with: what is longer is changed too seldom where it matters.
const MAX_SEED: usize = 32 << 10;

/// Writes inputs made of the tapes in one folder, and of literals, into another, in a folder for each target.
///
/// # Errors
/// When a tape cannot be read or an input not written.
pub fn write(tapes: &Path, to: &Path) -> io::Result<()> {
    let mut seeds = Seeds { to, written: 0 };
    let mut files: Vec<_> = fs::read_dir(tapes)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "tape"));
    files.sort();
    for file in files {
        let bytes = fs::read(file)?;
        seeds.add("tape", &bytes)?;
        of_tape(&mut seeds, &frames(&bytes))?;
    }
    for (target, input) in literals::all() {
        seeds.add(target, &input)?;
    }
    seeds.add("elf", &elf::library())
}

struct Seeds<'a> {
    to: &'a Path,
    written: usize,
}

impl Seeds<'_> {
    fn add(&mut self, target: &str, input: &[u8]) -> io::Result<()> {
        if input.len() > MAX_SEED {
            return Ok(());
        }
        let folder = self.to.join(target);
        fs::create_dir_all(&folder)?;
        self.written += 1;
        fs::write(folder.join(format!("seed-{:03}", self.written)), input)
    }
}

fn of_tape(seeds: &mut Seeds<'_>, frames: &[Frame<'_>]) -> io::Result<()> {
    let mut kinds = Vec::new();
    for frame in frames.iter().filter(|frame| frame.payload.len() < 1 << 10) {
        if !kinds.contains(&frame.kind) {
            kinds.push(frame.kind);
            seeds.add("abi_frame", &[&tokentap_abi::encode(&frame.header)[..], frame.payload].concat())?;
        }
    }
    for (_, frames) in streams(frames) {
        let input = connection(&frames);
        for target in ["connection", "recut", "genai"] {
            seeds.add(target, &input)?;
        }
        // The same steps without the settings.
        for target in ["splitter", "redact"] {
            seeds.add(target, &input[1..])?;
        }
        for body in bodies(&frames) {
            let target = if body.events { "sse" } else { "json" };
            seeds.add(target, &body.input)?;
            seeds.add("coding", &literals::coded(seeds.written, &body.bytes))?;
        }
    }
    Ok(())
}

/// The frames of a tape, up to the first thing in it that is none; the format is in `agent/tape/src/lib.rs`.
fn frames(tape: &[u8]) -> Vec<Frame<'_>> {
    let text = |at: usize| at + 2 + usize::from(u16::from_le_bytes([tape[at], tape[at + 1]]));
    let mut rest = &tape[text(text(20))..];
    let mut frames = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (entry, after) = tail.split_at(u32::from_le_bytes(*len) as usize);
        if let Some((1, frame)) = entry.split_first() {
            frames.extend(decode(frame));
        }
        rest = after;
    }
    frames
}

fn streams<'a, 'b>(frames: &'a [Frame<'b>]) -> BTreeMap<u64, Vec<&'a Frame<'b>>> {
    let mut streams: BTreeMap<u64, Vec<&Frame<'_>>> = BTreeMap::new();
    for frame in frames {
        if matches!(frame.kind, Kind::Data | Kind::Loss | Kind::HalfClose) {
            streams.entry(frame.header.stream).or_default().push(frame);
        }
    }
    streams
}

/// The frames of one stream as an input for [`crate::replay::Replay`].
fn connection(frames: &[&Frame<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(!frames.iter().any(|frame| frame.has(flags::LATE)));
    let mut offsets = [0; 2];
    for frame in frames {
        let offset = &mut offsets[frame.dir.index()];
        if frame.header.offset > *offset {
            writer.lost(frame.dir, frame.header.offset - *offset);
        }
        *offset = frame.header.offset + u64::from(frame.header.orig);
        match frame.kind {
            Kind::Data => writer.data(frame.dir, frame.payload),
            Kind::HalfClose => writer.half_close(frame.dir),
            _ => {}
        }
    }
    writer.finish()
}

/// A body in the pieces in which it came.
struct Body {
    events: bool,
    bytes: Vec<u8>,
    input: Vec<u8>,
}

fn bodies(frames: &[&Frame<'_>]) -> Vec<Body> {
    let mut connection = Connection::opened(Limits::default());
    let mut bodies = Bodies::default();
    for frame in frames.iter().filter(|frame| frame.kind == Kind::Data) {
        connection.data(frame.dir, frame.header.offset, frame.payload, Nanos(frame.header.time), &mut bodies);
    }
    connection.close(Ending::AgentStop, Nanos(u64::MAX), &mut bodies);
    bodies.0.into_values().filter(|body| !body.bytes.is_empty()).collect()
}

#[derive(Default)]
struct Bodies(BTreeMap<(ExchangeId, Direction), Body>);

impl Bodies {
    fn piece(&mut self, key: (ExchangeId, Direction), bytes: &[u8]) {
        if let Some(body) = self.0.get_mut(&key) {
            body.bytes.extend_from_slice(bytes);
            script::write(&mut body.input, 0, bytes);
        }
    }

    fn begin(&mut self, key: (ExchangeId, Direction), kind: Option<&[u8]>) -> Interest {
        let events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        self.0.insert(key, Body { events, bytes: Vec::new(), input: Vec::new() });
        Interest::Body
    }
}

impl Sink for Bodies {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, _at: Nanos) -> Interest {
        self.begin((id, Direction::Write), head.headers.get("content-type"))
    }

    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], _at: Nanos) {
        self.piece((id, Direction::Write), bytes);
    }

    fn request_end(&mut self, _id: ExchangeId, _at: Nanos) {}

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, _at: Nanos) -> Interest {
        self.begin((id, Direction::Read), head.headers.get("content-type"))
    }

    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], _at: Nanos) {
        self.piece((id, Direction::Read), bytes);
    }

    fn gap(&mut self, _id: ExchangeId, _from: Role, _missing: Option<u64>) {}

    fn end(&mut self, _id: ExchangeId, _ending: Ending, _at: Nanos) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{recorder::Recorder, replay::Replay};

    /// What the exchanges of a tape become when they are played as inputs.
    fn endings(name: &str) -> Vec<(u16, usize, Option<Ending>)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tapes").join(name);
        let tape = fs::read(path).unwrap();
        let mut endings = Vec::new();
        for frames in streams(&frames(&tape)).into_values() {
            let replay = Replay::new(&connection(&frames));
            let mut recorder = Recorder::new(&replay.limits);
            replay.play(&mut recorder);
            recorder.check_over();
            endings.extend(recorder.exchanges.into_values().map(|exchange| {
                let status = exchange.response.map_or(0, |(status, _)| status);
                (status, exchange.response_body.0.len(), exchange.ending)
            }));
        }
        endings
    }

    #[test]
    fn a_tape_plays_as_an_input_what_it_plays_as_a_tape() {
        let plain = endings("openai-plain.tape");
        assert!(!plain.is_empty());
        for (status, len, ending) in plain {
            assert!(
                status == 200 && len > 100 && ending == Some(Ending::Complete),
                "{status} {len} {ending:?}"
            );
        }
        assert!(endings("openai-cut.tape").iter().any(|(_, _, ending)| *ending == Some(Ending::Cut)));
    }

    #[test]
    fn every_target_has_inputs_to_begin_with() {
        let to = std::env::temp_dir().join(format!("tokentap-fuzz-seeds-{}", std::process::id()));
        write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tapes"), &to).unwrap();
        let targets = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets")).unwrap();
        let without: Vec<_> = targets
            .map(|file| file.unwrap().path().file_stem().unwrap().to_owned())
            .filter(|target| !to.join(target).is_dir())
            .collect();
        fs::remove_dir_all(&to).unwrap();
        assert!(without.is_empty(), "{without:?}");
    }
}
