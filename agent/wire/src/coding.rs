//! Content codings, undone incrementally: gzip, deflate, br, zstd and lists of them (RFC 9110 §8.4, RFC 7932,
//! RFC 8878), with a bound on size and growth.

mod brotli;
mod deflate;
mod gzip;
mod progress;

use std::ops::ControlFlow;

use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation as _};

use crate::{Limits, Reason};
use brotli::Brotli;
use deflate::Deflate;
pub(crate) use deflate::inflate;
use gzip::Gzip;
pub(crate) use progress::Progress;

/// Undoes the codings of one body.
///
/// Memory: per coding 16 KiB of output, plus 48 KiB for gzip and deflate, at most 8 MiB for zstd (RFC 9659)
/// and at most 16 MiB for br (its largest window) besides its tables, as the encoder chose.
pub(crate) struct Decoder {
    /// The coding that was applied last is the first stage.
    stages: Vec<Stage>,
    limits: Limits,
    /// How many encoded bytes have come.
    taken: u64,
}

struct Stage {
    codec: Codec,
    out: Box<[u8]>,
    /// How many bytes the stage has given.
    given: u64,
}

enum Codec {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd { decoder: Zstd<'static>, whole: bool },
}

const OUT: usize = 16 << 10;
const MAX_STAGES: usize = 3;
/// Below this size a body may grow by any ratio.
pub(crate) const SMALL: u64 = 1 << 20;
/// 8 MiB, the most that RFC 9659 lets a content coding ask for.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Whether a name means that there is no coding: `identity`, and what servers write instead. `none` keeps proxies from
/// buffering; the others belong into other fields.
fn is_no_coding(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 10] =
        [b"identity", b"none", b"null", b"plain", b"text", b"utf-8", b"utf8", b"8bit", b"binary", b"chunked"];
    NAMES.iter().any(|none| name.eq_ignore_ascii_case(none))
}

impl Decoder {
    /// A decoder for codings in the order in which they were applied; `None` when there is nothing to undo.
    pub(crate) fn new<'a>(
        codings: impl Iterator<Item = &'a [u8]>,
        limits: Limits,
    ) -> Result<Option<Self>, Reason> {
        let mut stages = Vec::new();
        for coding in codings.filter(|coding| !is_no_coding(coding)) {
            if stages.len() == MAX_STAGES {
                return Err(Reason::TooManyContentCodings);
            }
            stages.insert(0, Stage { codec: Codec::new(coding)?, out: vec![0; OUT].into(), given: 0 });
        }
        Ok((!stages.is_empty()).then_some(Self { stages, limits, taken: 0 }))
    }

    /// Takes encoded bytes, and gives the decoded ones to `give` until that wants no more.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        give: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Reason> {
        self.taken += bytes.len() as u64;
        let most = self.taken.saturating_mul(self.limits.ratio).max(SMALL);
        run(&mut self.stages, bytes, Bound { size: self.limits.decoded, growth: most }, give)
    }

    /// Prepares the decoder for another message with the same codings.
    pub(crate) fn reset(&mut self) -> Result<(), Reason> {
        self.taken = 0;
        self.stages.iter_mut().try_for_each(|stage| {
            stage.given = 0;
            stage.codec.reset()
        })
    }

    /// The message is over: an error if its codings are not.
    pub(crate) fn finish(&self) -> Result<(), Reason> {
        let whole = self.taken == 0 || self.stages.iter().all(|stage| stage.codec.is_whole());
        if whole { Ok(()) } else { Err(Reason::ContentCodingTruncated) }
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
    give: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Reason> {
    let Some((stage, later)) = stages.split_first_mut() else { return Ok(give(input)) };
    loop {
        let Progress { taken, given } = stage.codec.step(input, &mut stage.out)?;
        input = &input[taken..];
        if given > 0 {
            stage.given += given as u64;
            if stage.given > bound.size {
                return Err(Reason::DecodedTooLarge);
            }
            if stage.given > bound.growth {
                return Err(Reason::DecodedRatioTooHigh);
            }
            if run(later, &stage.out[..given], bound, give)? == ControlFlow::Break(()) {
                return Ok(ControlFlow::Break(()));
            }
        }
        // A full buffer may mean that there is more to give without more input.
        if given < OUT && (input.is_empty() || taken == 0) {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

impl Codec {
    fn new(coding: &[u8]) -> Result<Self, Reason> {
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        if is(b"gzip") || is(b"x-gzip") {
            Ok(Self::Gzip(Gzip::new()))
        } else if is(b"deflate") {
            Ok(Self::Deflate(Deflate::new()))
        } else if is(b"br") {
            Ok(Self::Brotli(Box::new(Brotli::new())))
        } else if is(b"zstd") {
            let mut decoder = Zstd::new().map_err(|_| Reason::ContentCodingCorrupt)?;
            decoder
                .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
                .map_err(|_| Reason::ContentCodingCorrupt)?;
            Ok(Self::Zstd { decoder, whole: false })
        } else {
            Err(Reason::ContentCodingUnknown)
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, Reason> {
        match self {
            Self::Gzip(gzip) => gzip.step(input, out),
            Self::Deflate(deflate) => deflate.step(input, out),
            Self::Brotli(brotli) => brotli.step(input, out),
            Self::Zstd { decoder, whole } => {
                let status = decoder.run_on_buffers(input, out).map_err(|_| Reason::ContentCodingCorrupt)?;
                if status.bytes_read > 0 || status.bytes_written > 0 {
                    *whole = status.remaining == 0;
                }
                Ok(Progress { taken: status.bytes_read, given: status.bytes_written })
            }
        }
    }

    /// Begins another message, with the same memory unless that depends on the message (br).
    fn reset(&mut self) -> Result<(), Reason> {
        match self {
            Self::Gzip(gzip) => gzip.reset(),
            Self::Deflate(deflate) => deflate.reset(),
            Self::Brotli(brotli) => **brotli = Brotli::new(),
            Self::Zstd { decoder, whole } => {
                *whole = false;
                decoder.reinit().map_err(|_| Reason::ContentCodingCorrupt)?;
            }
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Gzip(gzip) => gzip.is_whole(),
            Self::Deflate(deflate) => deflate.is_whole(),
            Self::Brotli(brotli) => brotli.is_whole(),
            Self::Zstd { whole, .. } => *whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    /// Two events, the first flushed before the second was written; the length of what that gave comes first.
    const BR: (usize, &[u8]) =
        (19, b"\x0b\x06\x00\x00\x24\x15\x40\x74\x72\x10\x49\x26\x29\xe9\x14\x59\x3e\x86\x01\xd1\x00\x00\x40\x42\xa1\x08\x91\xa4\x1a\x0d\xbb");
    /// 8 MiB of zeros.
    const BR_BOMB: &[u8] = b"\x9b\xff\xff\x7f\xf8\x27\x00\xe2\xb1\x40\x20\xf7\xfe\x0f";
    const FIRST: &[u8] = b"data: first\n\n";
    const BOTH: &[u8] = b"data: first\n\ndata: second\n\n";

    fn decoder(codings: &str, limits: Limits) -> Result<Option<Decoder>, Reason> {
        Decoder::new(codings.split(',').map(|coding| coding.trim().as_bytes()), limits)
    }

    /// What a body yields when it comes in pieces of `size`, and how it ends.
    fn decode(codings: &str, body: &[u8], size: usize, limits: Limits) -> (Vec<u8>, Result<(), Reason>) {
        let mut decoder = decoder(codings, limits).unwrap().unwrap();
        let mut out = Vec::new();
        for piece in body.chunks(size) {
            let fed = decoder.feed(piece, &mut |bytes| {
                out.extend_from_slice(bytes);
                ControlFlow::Continue(())
            });
            if let Err(reason) = fed {
                return (out, Err(reason));
            }
        }
        (out, decoder.finish())
    }

    #[track_caller]
    fn check(codings: &str, body: &[u8], want: &[u8], end: Result<(), Reason>) {
        for size in [1, 2, 7, 1 << 20] {
            let (got, ended) = decode(codings, body, size, Limits::default());
            assert_eq!((ended, got.len()), (end, want.len()), "{codings} in pieces of {size}");
            assert!(got == want, "{codings} in pieces of {size}");
        }
    }

    macro_rules! coded {
        ($coder:expr, $($part:expr),+) => {{
            let mut coder = $coder;
            $(coder.write_all($part).unwrap(); coder.flush().unwrap();)+
            coder.finish().unwrap()
        }};
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        coded!(GzEncoder::new(Vec::new(), Compression::best()), bytes)
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        coded!(zstd::stream::Encoder::new(Vec::new(), 3).unwrap(), bytes)
    }

    #[test]
    fn rfc_9110_8_4_1_every_coding_is_undone() {
        let large: Vec<u8> = (0..20_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for text in [&b""[..], BOTH, &large] {
            check("gzip", &gzip(text), text, Ok(()));
            check("X-GZIP", &gzip(text), text, Ok(()));
            check("deflate", &coded!(ZlibEncoder::new(Vec::new(), Compression::best()), text), text, Ok(()));
            check(
                "deflate",
                &coded!(DeflateEncoder::new(Vec::new(), Compression::fast()), text),
                text,
                Ok(()),
            );
            check("zstd", &zstd(text), text, Ok(()));
            check("gzip, zstd", &zstd(&gzip(text)), text, Ok(()));
            check("identity, zstd, gzip", &gzip(&zstd(text)), text, Ok(()));
        }
        check("br", BR.1, BOTH, Ok(()));
        check("br, gzip", &gzip(BR.1), BOTH, Ok(()));
        for none in ["identity", "none", "UTF-8", "identity, none"] {
            assert!(decoder(none, Limits::default()).unwrap().is_none(), "{none}");
        }
        check("gzip", b"", b"", Ok(()));
    }

    #[test]
    fn what_a_sender_flushes_is_given_at_once() {
        for (codings, whole, flushed) in [
            ("gzip", coded!(GzEncoder::new(Vec::new(), Compression::best()), FIRST, &BOTH[13..]), None),
            ("deflate", coded!(ZlibEncoder::new(Vec::new(), Compression::best()), FIRST, &BOTH[13..]), None),
            ("zstd", coded!(zstd::stream::Encoder::new(Vec::new(), 3).unwrap(), FIRST, &BOTH[13..]), None),
            ("br", BR.1.to_vec(), Some(BR.0)),
        ] {
            check(codings, &whole, BOTH, Ok(()));
            let first = (0..=whole.len())
                .find(|len| decode(codings, &whole[..*len], 1, Limits::default()).0 == FIRST);
            let first = first.unwrap_or_else(|| panic!("{codings} gave the first event with the second"));
            assert!(flushed.is_none_or(|flushed| first <= flushed), "{codings}");
            assert!(first < whole.len() - 4, "{codings} gave the first event at its end");
        }
    }

    #[test]
    fn rfc_1952_2_2_a_gzip_body_may_have_many_members_and_any_header() {
        let two = [gzip(FIRST), gzip(&BOTH[13..])].concat();
        check("gzip", &two, BOTH, Ok(()));
        check("gzip", &[&two[..], b"\0\0\0"].concat(), BOTH, Ok(()));
        let builder = flate2::GzBuilder::new().extra(b"extra".to_vec()).filename("name").comment("comment");
        let named = coded!(builder.write(Vec::new(), Compression::fast()), BOTH);
        check("gzip", &named, BOTH, Ok(()));
        let mut summed = gzip(BOTH);
        summed[3] |= 2;
        summed.splice(10..10, [1, 2]);
        check("gzip", &summed, BOTH, Ok(()));
    }

    #[test]
    fn a_coding_that_is_cut_or_corrupt_or_unknown_is_named() {
        for (codings, whole) in [("gzip", gzip(BOTH)), ("zstd", zstd(BOTH)), ("br", BR.1.to_vec())] {
            let cut = decode(codings, &whole[..whole.len() - 1], 3, Limits::default());
            assert_eq!(cut.1, Err(Reason::ContentCodingTruncated), "{codings}");
        }
        for codings in ["gzip", "deflate", "zstd", "br"] {
            assert_eq!(
                decode(codings, &[0xfe; 99], 3, Limits::default()),
                (vec![], Err(Reason::ContentCodingCorrupt)),
                "{codings}"
            );
        }
        assert_eq!(decoder("gzip, lzw", Limits::default()).unwrap_err(), Reason::ContentCodingUnknown);
        assert_eq!(
            decoder("gzip, br, zstd, gzip", Limits::default()).unwrap_err(),
            Reason::TooManyContentCodings
        );
    }

    #[test]
    fn a_bomb_ends_within_its_bounds() {
        let zeros = vec![0; 8 << 20];
        let limits = Limits { decoded: 3 << 20, ratio: 1 << 30, ..Limits::default() };
        for (codings, bomb) in [
            ("gzip", gzip(&zeros)),
            ("zstd", zstd(&zeros)),
            ("br", BR_BOMB.to_vec()),
            ("gzip, gzip", gzip(&gzip(&zeros))),
        ] {
            let (out, end) = decode(codings, &bomb, 1 << 20, Limits::default());
            assert_eq!(end, Err(Reason::DecodedRatioTooHigh), "{codings}");
            assert!(out.len() as u64 <= SMALL.max(256 * bomb.len() as u64), "{codings}");
            let (out, end) = decode(codings, &bomb, 1 << 20, limits);
            assert_eq!(end, Err(Reason::DecodedTooLarge), "{codings}");
            assert!(out.len() <= 3 << 20, "{codings}");
        }
        // A body that is merely long and dull is read.
        let dull = zeros[..1 << 20].to_vec();
        assert_eq!(decode("gzip", &gzip(&dull), 99, Limits::default()), (dull, Ok(())));
        // A window above 8 MiB is not allotted.
        let mut wide = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        wide.include_contentsize(false).unwrap();
        assert_eq!(
            decode("zstd", &coded!(wide, BOTH), 99, Limits::default()).1,
            Err(Reason::ContentCodingCorrupt)
        );
    }

    #[test]
    fn nothing_more_is_given_than_is_wanted() {
        let body = gzip(&vec![7; 100_000]);
        let mut given = 0;
        let mut decoder = decoder("gzip", Limits::default()).unwrap().unwrap();
        let fed = decoder.feed(&body, &mut |bytes| {
            given += bytes.len();
            ControlFlow::Break(())
        });
        assert_eq!((fed, given), (Ok(ControlFlow::Break(())), OUT));
    }
}
