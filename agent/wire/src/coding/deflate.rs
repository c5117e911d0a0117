//! The content coding `deflate` (RFC 9110 §8.4.1.2).

use flate2::{Decompress, FlushDecompress, Status};

use super::progress::Progress;
use crate::Reason;

/// One step of raw or zlib-wrapped deflate; the flag says whether its stream ended.
pub(crate) fn inflate(
    inflate: &mut Decompress,
    input: &[u8],
    out: &mut [u8],
) -> Result<(Progress, bool), Reason> {
    let (taken, given) = (inflate.total_in(), inflate.total_out());
    let status =
        inflate.decompress(input, out, FlushDecompress::Sync).map_err(|_| Reason::ContentCodingCorrupt)?;
    // Both are at most the lengths of the slices.
    let taken = (inflate.total_in() - taken) as usize;
    let given = (inflate.total_out() - given) as usize;
    Ok((Progress { taken, given }, status == Status::StreamEnd))
}

/// The coding `deflate`: the zlib format (RFC 1950). Some senders leave its header and checksum out.
pub(super) struct Deflate {
    inflate: Decompress,
    /// The first two bytes have shown whether there is a zlib header.
    known: bool,
    first: Option<u8>,
    over: bool,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(true), known: false, first: None, over: false }
    }

    pub(super) const fn reset(&mut self) {
        self.known = false;
        self.first = None;
        self.over = false;
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, Reason> {
        if self.over {
            return Ok(Progress { taken: input.len(), given: 0 });
        }
        if !self.known {
            let Some(&byte) = input.first() else { return Ok(Progress { taken: 0, given: 0 }) };
            let Some(first) = self.first else {
                self.first = Some(byte);
                return Ok(Progress { taken: 1, given: 0 });
            };
            let wrapped = first & 0x0f == 8 && u16::from_be_bytes([first, byte]) % 31 == 0;
            self.known = true;
            self.inflate.reset(wrapped);
            // The first byte alone gives nothing yet: even an empty block is longer.
            inflate(&mut self.inflate, &[first], out)?;
        }
        let (progress, over) = inflate(&mut self.inflate, input, out)?;
        self.over = over;
        Ok(progress)
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.over
    }
}
