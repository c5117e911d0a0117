//! Writes entries.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use serde_json::json;
use tokentap_abi::{ABI_VERSION, Header, encode};
use tokentap_genai::{Attribute, Value};

use crate::{ControlEvent, FORMAT_VERSION, MAGIC, Process, ProcessKey, entry};

/// Writes a tape to anything.
#[derive(Debug)]
pub struct TapeWriter<W> {
    out: W,
}

impl<W: Write> TapeWriter<W> {
    /// Begins a tape of frames whose times are relative to `boot_unix_nanos`. `unmasked`: it holds what was
    /// said.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W, boot_unix_nanos: u64, unmasked: bool) -> io::Result<Self> {
        let uname = rustix::system::uname();
        out.write_all(MAGIC)?;
        out.write_all(&[FORMAT_VERSION, ABI_VERSION, u8::from(unmasked), 0])?;
        out.write_all(&boot_unix_nanos.to_le_bytes())?;
        for text in [uname.release(), uname.machine()] {
            let text = text.to_string_lossy();
            let len = u16::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            out.write_all(&len.to_le_bytes())?;
            out.write_all(text.as_bytes())?;
        }
        Ok(Self { out })
    }

    /// Adds a frame; `header.len` is taken from the payload.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn frame(&mut self, header: &Header, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.entry(entry::FRAME, &[&encode(&Header { len, ..*header }), payload])
    }

    /// Adds what happened beside frames.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn event(&mut self, event: &ControlEvent) -> io::Result<()> {
        match event {
            ControlEvent::Observed(key) => self.process(entry::OBSERVED, *key),
            ControlEvent::Described(process) => {
                self.entry(entry::DESCRIBED, &[described(process).as_bytes()])
            }
            ControlEvent::Ended(key) => self.process(entry::ENDED, *key),
            ControlEvent::Peer(stream, peer) => self.peer(*stream, peer),
        }
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// The writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn process(&mut self, kind: u8, ProcessKey { pid, generation }: ProcessKey) -> io::Result<()> {
        self.entry(kind, &[&pid.to_le_bytes(), &generation.to_le_bytes()])
    }

    fn peer(&mut self, stream: u64, peer: &SocketAddr) -> io::Result<()> {
        self.entry(entry::PEER, &[&stream.to_le_bytes(), peer.to_string().as_bytes()])
    }

    fn entry(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        let len = u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&[kind])?;
        parts.iter().try_for_each(|part| self.out.write_all(part))
    }
}

fn described(process: &Process) -> String {
    let attributes: Vec<_> = process
        .resource
        .attributes()
        .iter()
        .map(|Attribute { key, value }| match value {
            Value::Str(text) => json!([key, text]),
            Value::Bool(value) => json!([key, value]),
            Value::Int(value) => json!([key, value]),
            Value::Double(value) => json!([key, value]),
            Value::StrList(list) => json!([key, list]),
        })
        .collect();
    let ProcessKey { pid, generation } = process.key;
    json!({ "pid": pid, "generation": generation, "attributes": attributes }).to_string()
}
