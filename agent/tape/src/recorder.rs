//! Puts live frames onto a tape, masked.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter},
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokentap_abi::{Frame, Header, Kind, flags};

use crate::{ControlEvent, TapeWriter, file::create_private, redact::Masker};

/// Streams that are masked at the same time; of more, all data is withheld.
const MAX_STREAMS: usize = 65536;

/// What a recorder has done.
#[derive(Debug, Default)]
pub struct RecorderCounters {
    /// Frames that were written, pieces of masked ones each by itself.
    pub frames: AtomicU64,
    /// Frames that were not written because a write failed.
    pub unwritten_frames: AtomicU64,
    /// Bytes that nobody could mask, and that are not on the tape.
    pub withheld_bytes: AtomicU64,
}

/// Records to a file. Whatever was flushed survives a kill.
#[derive(Debug)]
pub struct Recorder {
    tape: TapeWriter<BufWriter<File>>,
    masking: Option<Masking>,
    counters: Arc<RecorderCounters>,
    /// The first write that failed; nothing is written after it.
    failed: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Masking {
    /// By stream, with the process that it is of.
    streams: HashMap<u64, (u32, Masker)>,
    buffer: Vec<u8>,
}

impl Recorder {
    /// Makes the file, readable by its owner only, in place of one that was there. `with_content`: nothing is
    /// masked. Frame times are relative to `boot_unix_nanos`.
    ///
    /// # Errors
    /// When the file cannot be made or written: the message says what to do.
    pub fn create(
        path: &Path,
        with_content: bool,
        boot_unix_nanos: u64,
        counters: &Arc<RecorderCounters>,
    ) -> io::Result<Self> {
        Self::onto(create_private(path)?, with_content, boot_unix_nanos, counters)
    }

    /// Records to an open file, which is empty.
    pub(super) fn onto(
        file: File,
        with_content: bool,
        boot_unix_nanos: u64,
        counters: &Arc<RecorderCounters>,
    ) -> io::Result<Self> {
        let tape = TapeWriter::new(BufWriter::with_capacity(256 << 10, file), boot_unix_nanos, with_content)?;
        let masking = (!with_content).then(Masking::default);
        Ok(Self { tape, masking, counters: Arc::clone(counters), failed: None })
    }

    /// Takes a frame.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        if self.failed.is_some() {
            self.counters.unwritten_frames.fetch_add(1, Relaxed);
            return;
        }
        let Self { tape, masking, counters, .. } = self;
        let mut write = |header: &Header, payload: &[u8]| {
            counters.frames.fetch_add(1, Relaxed);
            tape.frame(header, payload)
        };
        let written = match masking {
            None => write(&frame.header, frame.payload),
            Some(masking) => masking.frame(frame, counters, write),
        };
        self.check(written);
    }

    /// Takes what happened beside frames.
    pub fn event(&mut self, event: &ControlEvent) {
        if let (Some(masking), ControlEvent::Ended(key)) = (&mut self.masking, event) {
            masking.streams.retain(|_, (owner, _)| *owner != key.pid);
        }
        if self.failed.is_none() {
            let written = self.tape.event(event);
            self.check(written);
        }
    }

    /// Hands what was taken to the operating system.
    pub fn flush(&mut self) {
        if self.failed.is_none() {
            let written = self.tape.flush();
            self.check(written);
        }
    }

    /// Ends the tape.
    ///
    /// # Errors
    /// The first write that failed: the tape is whole up to there.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush();
        match self.failed {
            Some(error) => Err(error),
            None => self.tape.into_inner().get_ref().sync_all(),
        }
    }

    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::error!("the tape cannot be written any further: {error}");
            self.counters.unwritten_frames.fetch_add(1, Relaxed);
            self.failed = Some(error);
        }
    }
}

impl Masking {
    /// Gives a frame on, masked, in as many pieces as withheld bytes make of it.
    fn frame(
        &mut self,
        frame: &Frame<'_>,
        counters: &RecorderCounters,
        mut write: impl FnMut(&Header, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let header = &frame.header;
        match frame.kind {
            Kind::Data => {}
            Kind::Loss => {
                if let Some((_, masker)) = self.streams.get_mut(&header.stream) {
                    masker.lost(frame.dir, header.offset, u64::from(header.orig));
                }
                return write(header, &[]);
            }
            Kind::Close => {
                self.streams.remove(&header.stream);
                return write(header, frame.payload);
            }
            _ => return write(header, frame.payload),
        }
        let withheld = self.mask(frame);
        let bytes: usize = withheld.iter().map(ExactSizeIterator::len).sum();
        counters.withheld_bytes.fetch_add(bytes as u64, Relaxed);
        pieces(header, &self.buffer, &withheld, write)
    }

    /// Fills the buffer with the masked payload, and says which ranges of it must not be written.
    fn mask(&mut self, frame: &Frame<'_>) -> Vec<Range<usize>> {
        let header = &frame.header;
        if self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&header.stream) {
            self.buffer.clear();
            self.buffer.resize(frame.payload.len(), 0);
            return std::iter::once(0..frame.payload.len()).collect();
        }
        let (_, masker) =
            self.streams.entry(header.stream).or_insert_with(|| (header.tgid, Masker::default()));
        masker.data(frame.dir, header.offset, frame.payload, &mut self.buffer)
    }
}

/// Cuts a data frame so that withheld ranges become losses of the same length.
fn pieces(
    header: &Header,
    payload: &[u8],
    withheld: &[Range<usize>],
    mut write: impl FnMut(&Header, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut cuts: Vec<(Range<usize>, Kind)> = Vec::with_capacity(withheld.len() * 2 + 1);
    let mut at = 0;
    for range in withheld {
        cuts.push((at..range.start, Kind::Data));
        cuts.push((range.clone(), Kind::Loss));
        at = range.end;
    }
    cuts.push((at..payload.len(), Kind::Data));
    cuts.retain(|(range, _)| !range.is_empty());
    // What the kernel side could not deliver of this call follows the last piece.
    let undelivered = header.orig.saturating_sub(header.len);
    let last = cuts.len().saturating_sub(1);
    if cuts.is_empty() {
        return write(header, payload);
    }
    for (i, (range, kind)) in cuts.into_iter().enumerate() {
        // A frame's length is 32 bits wide, and this is part of one.
        let len = range.len() as u32;
        let piece = Header {
            kind: kind as u8,
            flags: if i == 0 { header.flags } else { header.flags & !flags::SKIPPED },
            offset: header.offset.saturating_add(range.start as u64),
            orig: if i == last { len.saturating_add(undelivered) } else { len },
            ..*header
        };
        write(&piece, if kind == Kind::Data { &payload[range] } else { &[] })?;
    }
    Ok(())
}
