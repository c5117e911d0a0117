//! Compressed messages: permessage-deflate (RFC 7692), undone as the bytes come.

use flate2::Decompress;

use crate::{
    Headers, Limits, Reason, Role,
    coding::{Progress, SMALL, inflate},
};

/// The extensions that the server has accepted (RFC 6455 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extensions {
    None,
    /// Messages may be compressed: the parameters by [`Role::index`] of the sender.
    Deflate([Parameters; 2]),
    /// An unknown extension: messages have an unknown format.
    Unknown,
}

/// How one peer compresses (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// A message may refer to those before it.
    takeover: bool,
    /// The logarithm of the window size.
    window: u8,
}

const WINDOW: std::ops::RangeInclusive<u8> = 8..=15;
/// Smallest window of the decoder. It may be larger than that of the sender.
const LEAST_WINDOW: u8 = 9;

impl Extensions {
    /// Reads the fields of the response that opens a WebSocket.
    pub(crate) fn of(headers: Headers<'_>) -> Self {
        let mut found = Self::None;
        for extension in headers.members("sec-websocket-extensions") {
            found = match (found, deflate(extension)) {
                (Self::None, Some(parameters)) => Self::Deflate(parameters),
                _ => return Self::Unknown,
            };
        }
        if found == Self::None && !headers.complete { Self::Unknown } else { found }
    }
}

/// The parameters of an extension if it is permessage-deflate.
fn deflate(extension: &[u8]) -> Option<[Parameters; 2]> {
    let mut parts = extension.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut sides = [Parameters { takeover: true, window: *WINDOW.end() }; 2];
    for part in parts {
        let equals = part.iter().position(|&b| b == b'=');
        let (name, value) = part.split_at(equals.unwrap_or(part.len()));
        let (name, value) = (name.trim_ascii_end().to_ascii_lowercase(), value.get(1..));
        let (side, name) = match name.strip_prefix(b"client_") {
            Some(name) => (Role::Client, name),
            None => (Role::Server, name.strip_prefix(b"server_")?),
        };
        let side = &mut sides[side.index()];
        match (name, value) {
            (b"no_context_takeover", None) => side.takeover = false,
            (b"max_window_bits", Some(value)) => side.window = window_bits(value)?,
            _ => return None,
        }
    }
    Some(sides)
}

/// A number of bits, which may be in quotes (RFC 6455 §9.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    let value = str::from_utf8(value.trim_ascii()).ok()?.trim_matches('"');
    value.parse().ok().filter(|bits| WINDOW.contains(bits))
}

/// Decompresses the messages of one peer.
///
/// Memory: nothing before the first compressed message, then 48 KiB and 16 KiB of output.
#[derive(Debug)]
pub(super) struct Inflater {
    parameters: Parameters,
    limits: Limits,
    inflation: Option<Box<Inflation>>,
    /// Why no more messages can be decompressed.
    lost: Option<Reason>,
}

#[derive(Debug)]
struct Inflation {
    inflate: Decompress,
    out: Box<[u8]>,
    /// How many bytes of the current message have come, and how many they became.
    taken: u64,
    given: u64,
}

const OUT: usize = 16 << 10;
/// The end of a message, which its sender leaves out (RFC 7692 §7.2.1).
const TAIL: &[u8] = b"\x00\x00\xff\xff";

impl Inflater {
    pub(super) const fn new(parameters: Parameters, limits: Limits) -> Self {
        Self { parameters, limits, inflation: None, lost: None }
    }

    /// Whether a message that begins now can be decompressed.
    pub(super) fn begin(&self) -> Result<(), Reason> {
        self.lost.map_or(Ok(()), Err)
    }

    /// Takes bytes of a message and gives all that they become to `give`, with a flag for the end of the message.
    /// `last`: they are its last ones. After an error, no more messages can be decompressed.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        last: bool,
        give: &mut dyn FnMut(&[u8], bool),
    ) -> Result<(), Reason> {
        let inflation = self.inflation.get_or_insert_with(|| Box::new(Inflation::new(self.parameters)));
        let fed = inflation.feed(bytes, last, &self.limits, give);
        if last && fed.is_ok() && !self.parameters.takeover {
            inflation.inflate.reset(false);
        }
        if let Err(reason) = fed {
            self.fail(reason);
        }
        fed
    }

    /// No more messages can be decompressed.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.lost = self.lost.or(Some(reason));
        self.inflation = None;
    }

    /// Compressed bytes are missing here.
    pub(super) fn gap(&mut self) {
        if self.parameters.takeover {
            self.fail(Reason::WebSocketContextLost);
        } else if let Some(inflation) = &mut self.inflation {
            inflation.restart();
        }
    }
}

impl Inflation {
    fn new(parameters: Parameters) -> Self {
        let window = parameters.window.max(LEAST_WINDOW);
        let inflate = Decompress::new_with_window_bits(false, window);
        Self { inflate, out: vec![0; OUT].into(), taken: 0, given: 0 }
    }

    fn restart(&mut self) {
        self.inflate.reset(false);
        (self.taken, self.given) = (0, 0);
    }

    fn feed(
        &mut self,
        bytes: &[u8],
        last: bool,
        limits: &Limits,
        give: &mut dyn FnMut(&[u8], bool),
    ) -> Result<(), Reason> {
        self.taken += bytes.len() as u64;
        let most = self.taken.saturating_mul(limits.ratio).max(SMALL);
        let mut filled = 0;
        for mut input in [bytes, if last { TAIL } else { b"" }] {
            loop {
                let (Progress { taken, given }, over) =
                    inflate(&mut self.inflate, input, &mut self.out[filled..])?;
                input = &input[taken..];
                filled += given;
                self.given += given as u64;
                if self.given > limits.decoded {
                    return Err(Reason::DecodedTooLarge);
                }
                if self.given > most {
                    return Err(Reason::DecodedRatioTooHigh);
                }
                if over {
                    // A final block does not end the message: a new stream follows (RFC 7692 §7.2.3.5).
                    self.inflate.reset(false);
                }
                if filled == OUT {
                    give(&self.out, false);
                    filled = 0;
                } else if input.is_empty() {
                    break;
                } else if taken == 0 && given == 0 && !over {
                    return Err(Reason::ContentCodingCorrupt);
                }
            }
        }
        if last {
            (self.taken, self.given) = (0, 0);
        }
        if last || filled > 0 {
            give(&self.out[..filled], last);
        }
        Ok(())
    }
}
