//! Content codings, undone as the bytes come: gzip, deflate, br, zstd and lists of them (RFC 9110 §8.4,
//! RFC 7932, RFC 8878), with a bound on size and growth.

mod gzip;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation as _};

use crate::{Limits, reason};
use gzip::Gzip;

/// Undoes the codings of one body.
///
/// Memory: per coding 16 KiB of output, plus 48 KiB for gzip and deflate, at most 8 MiB for zstd (RFC 9659)
/// and at most 16 MiB for br (its largest window), as the encoder chose.
pub(crate) struct Decoder {
    /// The coding that was applied last comes first.
    stages: Vec<Stage>,
    limits: Limits,
    /// Encoded bytes so far.
    taken: u64,
}

/// Whether more of a body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    More,
    Nothing,
}

struct Stage {
    codec: Codec,
    out: Box<[u8]>,
    /// Bytes that it gave.
    given: u64,
}

enum Codec {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd { decoder: Zstd<'static>, whole: bool },
}

/// What a codec did in one step.
struct Progress {
    taken: usize,
    given: usize,
}

const OUT: usize = 16 << 10;
const MAX_STAGES: usize = 3;
/// Below this size a body may grow by any ratio.
const SMALL: u64 = 1 << 20;
/// 8 MiB, the most that RFC 9659 lets a content coding ask for.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Decoder {
    /// A decoder for codings in the order in which they were applied; `None` when there is nothing to undo.
    pub(crate) fn new<'a>(
        codings: impl Iterator<Item = &'a [u8]>,
        limits: Limits,
    ) -> Result<Option<Self>, &'static str> {
        let mut stages = Vec::new();
        for coding in codings.filter(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            if stages.len() == MAX_STAGES {
                return Err(reason::TOO_MANY_CODINGS);
            }
            stages.insert(0, Stage { codec: Codec::new(coding)?, out: vec![0; OUT].into(), given: 0 });
        }
        Ok((!stages.is_empty()).then_some(Self { stages, limits, taken: 0 }))
    }

    /// Takes encoded bytes; gives everything that they yield to `give`, until that wants nothing more.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        give: &mut dyn FnMut(&[u8]) -> Want,
    ) -> Result<Want, &'static str> {
        self.taken += bytes.len() as u64;
        let most = self.taken.saturating_mul(self.limits.ratio).max(SMALL);
        run(&mut self.stages, bytes, Bound { size: self.limits.decoded, growth: most }, give)
    }

    /// The message is over: its codings must be, too.
    pub(crate) fn finish(&self) -> Result<(), &'static str> {
        let whole = self.taken == 0 || self.stages.iter().all(|stage| stage.codec.is_whole());
        if whole { Ok(()) } else { Err(reason::CODING_CUT) }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("stages", &self.stages.len()).field("taken", &self.taken).finish()
    }
}

#[derive(Clone, Copy)]
struct Bound {
    size: u64,
    growth: u64,
}

fn run(
    stages: &mut [Stage],
    mut input: &[u8],
    bound: Bound,
    give: &mut dyn FnMut(&[u8]) -> Want,
) -> Result<Want, &'static str> {
    let Some((stage, later)) = stages.split_first_mut() else { return Ok(give(input)) };
    loop {
        let Progress { taken, given } = stage.codec.step(input, &mut stage.out)?;
        input = &input[taken..];
        if given > 0 {
            stage.given += given as u64;
            if stage.given > bound.size {
                return Err(reason::DECODED_SIZE);
            }
            if stage.given > bound.growth {
                return Err(reason::DECODED_RATIO);
            }
            if run(later, &stage.out[..given], bound, give)? == Want::Nothing {
                return Ok(Want::Nothing);
            }
        }
        // A full buffer may mean that there is more to give without more input.
        if given < OUT && (input.is_empty() || taken == 0) {
            return Ok(Want::More);
        }
    }
}

impl Codec {
    fn new(coding: &[u8]) -> Result<Self, &'static str> {
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        if is(b"gzip") || is(b"x-gzip") {
            Ok(Self::Gzip(Gzip::new()))
        } else if is(b"deflate") {
            Ok(Self::Deflate(Deflate::new()))
        } else if is(b"br") {
            Ok(Self::Brotli(Box::new(Brotli::new())))
        } else if is(b"zstd") {
            let mut decoder = Zstd::new().map_err(|_| reason::CORRUPT)?;
            decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(|_| reason::CORRUPT)?;
            Ok(Self::Zstd { decoder, whole: false })
        } else {
            Err(reason::UNKNOWN_CODING)
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, &'static str> {
        match self {
            Self::Gzip(gzip) => gzip.step(input, out),
            Self::Deflate(deflate) => deflate.step(input, out),
            Self::Brotli(brotli) => brotli.step(input, out),
            Self::Zstd { decoder, whole } => {
                let status = decoder.run_on_buffers(input, out).map_err(|_| reason::CORRUPT)?;
                if status.bytes_read > 0 || status.bytes_written > 0 {
                    *whole = status.remaining == 0;
                }
                Ok(Progress { taken: status.bytes_read, given: status.bytes_written })
            }
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_whole(),
            Self::Deflate(deflate) => deflate.over,
            Self::Brotli(brotli) => brotli.over,
            Self::Zstd { whole, .. } => *whole,
        }
    }
}

/// One step of raw or zlib-wrapped deflate; the flag says whether its stream ended.
fn inflate(inflate: &mut Decompress, input: &[u8], out: &mut [u8]) -> Result<(Progress, bool), &'static str> {
    let (taken, given) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, out, FlushDecompress::Sync).map_err(|_| reason::CORRUPT)?;
    // Both are at most the lengths of the slices.
    let taken = (inflate.total_in() - taken) as usize;
    let given = (inflate.total_out() - given) as usize;
    Ok((Progress { taken, given }, status == Status::StreamEnd))
}

/// The coding `deflate`: the zlib format (RFC 1950), which some senders leave away.
struct Deflate {
    /// `None` until two bytes have told which of both it is.
    inflate: Option<Decompress>,
    first: Option<u8>,
    over: bool,
}

impl Deflate {
    const fn new() -> Self {
        Self { inflate: None, first: None, over: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, &'static str> {
        if self.over {
            return Ok(Progress { taken: input.len(), given: 0 });
        }
        if self.inflate.is_none() {
            let Some(&byte) = input.first() else { return Ok(Progress { taken: 0, given: 0 }) };
            let Some(first) = self.first else {
                self.first = Some(byte);
                return Ok(Progress { taken: 1, given: 0 });
            };
            let wrapped = first & 0x0f == 8 && u16::from_be_bytes([first, byte]) % 31 == 0;
            // The first byte alone gives nothing yet: even an empty block is longer.
            inflate(self.inflate.insert(Decompress::new(wrapped)), &[first], out)?;
        }
        let Some(stream) = &mut self.inflate else { return Ok(Progress { taken: 0, given: 0 }) };
        let (progress, over) = inflate(stream, input, out)?;
        self.over = over;
        Ok(progress)
    }
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    total: usize,
    over: bool,
}

impl Brotli {
    fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self { state: BrotliState::new(alloc(), alloc(), alloc()), total: 0, over: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, &'static str> {
        if self.over {
            return Ok(Progress { taken: input.len(), given: 0 });
        }
        let (mut in_left, mut taken, mut out_left, mut given) = (input.len(), 0, out.len(), 0);
        let result = BrotliDecompressStream(
            &mut in_left,
            &mut taken,
            input,
            &mut out_left,
            &mut given,
            out,
            &mut self.total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(reason::CORRUPT),
            BrotliResult::ResultSuccess => self.over = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Progress { taken, given })
    }
}
