//! Reads entries, and trusts none of them.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use tokentap_abi::{ABI_VERSION, DecodeError, OLDEST_ABI_VERSION, decode};
use tokentap_genai::{Attribute, Resource, Value};

use crate::{ControlEvent, Entry, FORMAT_VERSION, MAGIC, MAX_ENTRY, Process, ProcessKey, entry};

/// Why a tape cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// It does not begin as one.
    #[error("this is no tape: record one with `tokentap record --out FILE`")]
    NotATape,
    /// Another format.
    #[error("tape format {0}, this build reads {FORMAT_VERSION}: use the tokentap that recorded it")]
    Format(u8),
    /// Frames of another kernel side.
    #[error(
        "frames of ABI version {0}, this build reads {OLDEST_ABI_VERSION} to {ABI_VERSION}: use the tokentap that recorded it"
    )]
    Abi(u8),
    /// An entry that no writer makes.
    #[error("damaged at byte {at}: {why}")]
    Damaged {
        /// Where the entry begins.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a tape says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Wall clock at boot of the machine that it was recorded on, Unix nanoseconds.
    pub boot_unix_nanos: u64,
    /// Nothing in it is masked: it holds prompts, completions and keys.
    pub unmasked: bool,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub machine: String,
}

/// Reads a tape from anything.
#[derive(Debug)]
pub struct TapeReader<R = BufReader<File>> {
    input: R,
    head: Head,
    /// Bytes read so far.
    at: u64,
    entry: Vec<u8>,
    /// Of an entry that means two events, the second.
    second: Option<ControlEvent>,
    cut: u64,
}

impl TapeReader {
    /// Opens a tape file.
    ///
    /// # Errors
    /// [`TapeError`] when there is none, or one of another version.
    pub fn open(path: &Path) -> Result<Self, TapeError> {
        Self::new(BufReader::with_capacity(256 << 10, File::open(path)?))
    }
}

impl<R: Read> TapeReader<R> {
    /// Reads the beginning of a tape.
    ///
    /// # Errors
    /// [`TapeError`] when it is none, or one of another version.
    pub fn new(mut input: R) -> Result<Self, TapeError> {
        let mut fixed = [0; 20];
        input.read_exact(&mut fixed).map_err(not_a_tape_when_short)?;
        let (magic, rest) = fixed.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(TapeError::NotATape);
        }
        let [format, abi, unmasked, _, boot @ ..] = rest else { return Err(TapeError::NotATape) };
        if *format != FORMAT_VERSION {
            return Err(TapeError::Format(*format));
        }
        if !(OLDEST_ABI_VERSION..=ABI_VERSION).contains(abi) {
            return Err(TapeError::Abi(*abi));
        }
        let boot_unix_nanos = boot.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let unmasked = *unmasked != 0;
        let mut text = || -> Result<String, TapeError> {
            let mut len = [0; 2];
            input.read_exact(&mut len).map_err(not_a_tape_when_short)?;
            let mut text = vec![0; usize::from(u16::from_le_bytes(len))];
            input.read_exact(&mut text).map_err(not_a_tape_when_short)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let (kernel, machine) = (text()?, text()?);
        let at = (fixed.len() + 2 + kernel.len() + 2 + machine.len()) as u64;
        let head = Head { boot_unix_nanos, unmasked, kernel, machine };
        Ok(Self { input, head, at, entry: Vec::new(), second: None, cut: 0 })
    }

    /// What the tape says of itself.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Wall clock at boot of the machine that it was recorded on, Unix nanoseconds.
    pub const fn boot_unix_nanos(&self) -> u64 {
        self.head.boot_unix_nanos
    }

    /// The next entry; `None` at the end, which may be [cut](Self::cut).
    ///
    /// # Errors
    /// [`TapeError`] when it is damaged or cannot be read. Nothing after that can be trusted.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, TapeError> {
        if let Some(event) = self.second.take() {
            return Ok(Some(Entry::Event(event)));
        }
        loop {
            let at = self.at;
            if !self.read_entry()? {
                return Ok(None);
            }
            let [kind, ..] = self.entry[..] else { return Err(damaged(at, "empty entry")) };
            match kind {
                entry::DESCRIBED => {
                    let (process, observed) = described(&self.entry[1..]).map_err(|why| damaged(at, why))?;
                    let key = process.key;
                    let event = ControlEvent::Described(Arc::new(process));
                    if observed {
                        return Ok(Some(Entry::Event(event)));
                    }
                    self.second = Some(event);
                    return Ok(Some(Entry::Event(ControlEvent::Observed(key))));
                }
                entry::FRAME | entry::OBSERVED | entry::ENDED | entry::PEER => {
                    return self.parse(kind).map(Some).map_err(|why| damaged(at, why));
                }
                _ => {}
            }
        }
    }

    /// How many bytes at the end are of an entry that was not written whole.
    pub const fn cut(&self) -> u64 {
        self.cut
    }

    /// Reads an entry into `self.entry`; false at the end.
    fn read_entry(&mut self) -> Result<bool, TapeError> {
        self.entry.clear();
        let got = (&mut self.input).take(4).read_to_end(&mut self.entry)?;
        let Ok(len) = <[u8; 4]>::try_from(&self.entry[..]) else {
            self.cut = got as u64;
            return Ok(false);
        };
        let len = u32::from_le_bytes(len);
        if len > MAX_ENTRY {
            return Err(damaged(self.at, format!("an entry of {len} bytes")));
        }
        self.entry.clear();
        // Grows as bytes come: a length that lies costs nothing.
        let got = (&mut self.input).take(u64::from(len)).read_to_end(&mut self.entry)? as u64;
        self.at += 4 + got;
        if got < u64::from(len) {
            self.cut = 4 + got;
            return Ok(false);
        }
        Ok(true)
    }

    fn parse(&self, kind: u8) -> Result<Entry<'_>, String> {
        let payload = &self.entry[1..];
        match kind {
            entry::FRAME => {
                let frame = decode(payload).map_err(|e: DecodeError| e.to_string())?;
                Ok(Entry::Frame(frame, payload))
            }
            entry::OBSERVED => Ok(Entry::Event(ControlEvent::Observed(process_key(payload)?))),
            entry::ENDED => Ok(Entry::Event(ControlEvent::Ended(process_key(payload)?))),
            _ => {
                let (stream, peer) = payload.split_first_chunk().ok_or("a stream id of the wrong size")?;
                let peer =
                    str::from_utf8(peer).ok().and_then(|peer| peer.parse().ok()).ok_or("a bad address")?;
                Ok(Entry::Event(ControlEvent::Peer(u64::from_le_bytes(*stream), peer)))
            }
        }
    }
}

fn damaged(at: u64, why: impl Into<String>) -> TapeError {
    TapeError::Damaged { at, why: why.into() }
}

fn not_a_tape_when_short(error: io::Error) -> TapeError {
    if error.kind() == io::ErrorKind::UnexpectedEof { TapeError::NotATape } else { error.into() }
}

/// Id and generation; the latter is 0 where it is not on the tape.
fn process_key(payload: &[u8]) -> Result<ProcessKey, String> {
    let (pid, rest) = payload.split_first_chunk().ok_or("a process id of the wrong size")?;
    let generation = match rest {
        [] => 0,
        rest => u64::from_le_bytes(rest.try_into().map_err(|_| "a process generation of the wrong size")?),
    };
    Ok(ProcessKey { pid: u32::from_le_bytes(*pid), generation })
}

#[derive(Deserialize)]
struct Described {
    pid: u32,
    generation: Option<u64>,
    attributes: Vec<(String, Scalar)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Str(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    StrList(Vec<String>),
}

/// A process, and whether that it is observed is an entry of its own.
fn described(json: &[u8]) -> Result<(Process, bool), String> {
    let Described { pid, generation, attributes } =
        serde_json::from_slice(json).map_err(|e| format!("a process that is not described right: {e}"))?;
    let attributes = attributes
        .into_iter()
        .map(|(key, value)| Attribute {
            key: key.into(),
            value: match value {
                Scalar::Str(text) => Value::Str(text.into()),
                Scalar::Bool(value) => Value::Bool(value),
                Scalar::Int(value) => Value::Int(value),
                Scalar::Double(value) => Value::Double(value),
                Scalar::StrList(list) => Value::StrList(list),
            },
        })
        .collect();
    let key = ProcessKey { pid, generation: generation.unwrap_or(0) };
    Ok((Process { key, resource: Arc::new(Resource::new(attributes)) }, generation.is_some()))
}
