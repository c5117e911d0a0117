//! Tapes read back: what each stream carried, and the same tape cut and mixed in another way.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::BufWriter,
    path::Path,
};

use tokentap_abi::{Close, Direction, Header, Kind, flags};
use tokentap_tape::{ControlEvent, Entry, TapeReader, TapeWriter};

use crate::random::Random;

/// What was captured of one stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Whether it is the plaintext of a TLS connection.
    pub tls: bool,
    /// Both directions, by [`Direction::index`].
    pub directions: [Bytes; 2],
    /// How often it turned to the other direction: as its frames say, and as they came.
    pub turns: [u32; 2],
    /// The direction of the last frame.
    latest: Option<Direction>,
    /// What its end says, when it was seen.
    pub close: Option<Close>,
}

/// What was captured of one direction of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// What was delivered, in order.
    pub delivered: Vec<u8>,
    /// How many bytes of the stream are missing among it.
    pub lost: u64,
}

impl Stream {
    /// One direction.
    #[must_use]
    pub const fn direction(&self, direction: Direction) -> &Bytes {
        &self.directions[direction.index()]
    }

    /// Bytes that passed, delivered or lost; where the end was seen, it has the last word.
    ///
    /// # Panics
    /// When more is said to be missing at its end than in all.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        let bytes = self.direction(direction);
        let seen = bytes.delivered.len() as u64 + bytes.lost;
        let end = self.close.map_or(seen, |close| close.offsets[direction.index()]);
        assert!(seen <= end, "{seen} bytes of a stream of {end}");
        end
    }
}

/// The streams of a tape that carried anything.
///
/// # Panics
/// When it cannot be read, or bytes are out of order in it.
#[must_use]
pub fn streams(tape: &Path) -> Vec<Stream> {
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    for entry in entries(tape) {
        let Owned::Frame { header, kind, direction, payload, close } = entry else { continue };
        let stream = streams.entry(header.stream).or_default();
        match kind {
            Kind::Data | Kind::Loss => {
                stream.turns[1] += u32::from(stream.latest.replace(direction) != Some(direction));
                let [a, b, c] = header.turns;
                stream.turns[0] = u32::from_le_bytes([a, b, c, 0]);
                stream.tls = header.flags & flags::TLS != 0;
                let bytes = &mut stream.directions[direction.index()];
                let at = bytes.delivered.len() as u64 + bytes.lost;
                assert!(header.offset >= at, "bytes from {} follow those up to {at}", header.offset);
                bytes.lost += header.offset - at + u64::from(header.orig) - payload.len() as u64;
                bytes.delivered.extend_from_slice(&payload);
            }
            Kind::Close => stream.close = close,
            _ => {}
        }
    }
    streams.into_values().filter(|stream| stream.directions != [const { Bytes::new() }; 2]).collect()
}

impl Bytes {
    const fn new() -> Self {
        Self { delivered: Vec::new(), lost: 0 }
    }
}

/// Writes the same tape with its data cut into other pieces and its streams mixed in another order. What
/// belongs to one stream, and what belongs to no stream, stays in order.
///
/// # Panics
/// When one cannot be read or the other not be written.
pub fn recut(tape: &Path, seed: u64, to: &Path) {
    let mut random = Random::new(seed, 0);
    let head = TapeReader::open(tape).expect("a tape").head().clone();
    let out = BufWriter::new(File::create(to).expect("a file for a tape"));
    let mut out = TapeWriter::new(out, head.boot_unix_nanos, head.unmasked).expect("a tape is begun");
    let mut lanes: BTreeMap<u64, VecDeque<Owned>> = BTreeMap::new();
    for entry in entries(tape) {
        match entry.stream() {
            Some(stream) => lanes.entry(stream).or_default().extend(entry.cut(&mut random)),
            None => {
                mix(&mut lanes, &mut random, &mut out);
                entry.write(&mut out);
            }
        }
    }
    mix(&mut lanes, &mut random, &mut out);
    out.flush().expect("a tape is written");
}

type Writer = TapeWriter<BufWriter<File>>;

fn mix(lanes: &mut BTreeMap<u64, VecDeque<Owned>>, random: &mut Random, out: &mut Writer) {
    while !lanes.is_empty() {
        let at = usize::try_from(random.below(lanes.len() as u64)).unwrap_or(0);
        let Some((&stream, lane)) = lanes.iter_mut().nth(at) else { continue };
        match lane.pop_front() {
            Some(entry) => entry.write(out),
            None => drop(lanes.remove(&stream)),
        }
    }
}

enum Owned {
    Frame { header: Header, kind: Kind, direction: Direction, payload: Vec<u8>, close: Option<Close> },
    Event(ControlEvent),
}

fn entries(tape: &Path) -> Vec<Owned> {
    let mut reader = TapeReader::open(tape).unwrap_or_else(|e| panic!("{}: {e}", tape.display()));
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap_or_else(|e| panic!("{}: {e}", tape.display())) {
        entries.push(match entry {
            Entry::Frame(frame, _) => Owned::Frame {
                header: frame.header,
                kind: frame.kind,
                direction: frame.dir,
                payload: frame.payload.to_vec(),
                close: frame.close(),
            },
            Entry::Event(event) => Owned::Event(event),
        });
    }
    assert!(reader.cut() == 0, "{} is cut", tape.display());
    entries
}

impl Owned {
    const fn stream(&self) -> Option<u64> {
        match self {
            Self::Frame { header, .. } if header.stream != 0 => Some(header.stream),
            Self::Event(ControlEvent::Peer(stream, _)) => Some(*stream),
            _ => None,
        }
    }

    /// Data in one to four pieces.
    fn cut(self, random: &mut Random) -> Vec<Self> {
        let Self::Frame { header, kind: Kind::Data, direction, payload, close } = self else {
            return vec![self];
        };
        if payload.len() < 2 || header.orig != header.len {
            return vec![Self::Frame { header, kind: Kind::Data, direction, payload, close }];
        }
        let mut cuts: Vec<usize> = (0..random.below(4))
            .map(|_| usize::try_from(random.below(payload.len() as u64)).unwrap_or(0))
            .chain([0, payload.len()])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2)
            .map(|cut| {
                let piece = &payload[cut[0]..cut[1]];
                let mut header = Header { offset: header.offset + cut[0] as u64, ..header };
                header.orig = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                if cut[0] > 0 {
                    header.flags &= !flags::SKIPPED;
                }
                Self::Frame { header, kind: Kind::Data, direction, payload: piece.to_vec(), close: None }
            })
            .collect()
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Frame { header, payload, .. } => out.frame(header, payload),
            Self::Event(event) => out.event(event),
        }
        .expect("an entry is written");
    }
}
