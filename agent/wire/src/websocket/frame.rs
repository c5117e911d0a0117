//! Cuts one direction of a WebSocket into frames (RFC 6455 §5.2). Nothing of a payload is kept.

use crate::{Reason, reassembly::take};

/// Opcodes (RFC 6455 §11.8).
pub(super) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PONG: u8 = 0xa;
}

/// The first reserved bit: a compressed message (RFC 7692 §6).
pub(super) const RSV1: u8 = 0x40;
/// All three of them.
pub(super) const RESERVED: u8 = 0x70;

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const SHORT: u8 = 0x7f;

/// Two bytes, a length of 8 bytes and a masking key.
const MAX_HEAD: usize = 14;
/// Most bytes in a control frame (RFC 6455 §5.5).
const MAX_CONTROL: u64 = 125;

/// The header of a frame without its masking key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WsFrameHeader {
    first: u8,
    pub(super) masked: bool,
    /// Bytes of payload.
    pub(super) length: u64,
    /// The length is written in as few bytes as it needs.
    pub(super) minimal: bool,
}

/// The next piece of a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WsFrameStep<'a> {
    /// The input is used up.
    More,
    /// A frame begins. Its payload follows, also when it is empty.
    Header(WsFrameHeader),
    Payload(WsPayload<'a>),
    /// The frame breaks a rule: it is not known where the next one begins.
    Malformed(Reason),
}

/// Bytes of a frame's payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WsPayload<'a> {
    /// As they were sent: masked.
    pub(super) bytes: &'a [u8],
    /// The masking key, rotated so that its first byte is that of the first payload byte; zeros where there is none.
    pub(super) key: [u8; 4],
    /// The frame ends with these bytes.
    pub(super) end: bool,
}

/// What missing bytes did to a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WsFrameGap {
    /// All of them belong to the current payload. `end`: that ends with them.
    Inside { end: bool },
    /// They hide the header of a frame.
    Lost,
}

/// One direction of a connection, in sync.
#[derive(Debug)]
pub(super) struct Framer {
    state: WsFrameState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WsFrameState {
    Header { bytes: [u8; MAX_HEAD], have: usize },
    Payload { left: u64, key: [u8; 4] },
}

const START: WsFrameState = WsFrameState::Header { bytes: [0; MAX_HEAD], have: 0 };

impl Framer {
    /// A direction whose next byte begins a frame.
    pub(super) const fn new() -> Self {
        Self { state: START }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, WsFrameState::Header { have: 0, .. })
    }

    /// Takes the next piece off `input`.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> WsFrameStep<'a> {
        match &mut self.state {
            WsFrameState::Payload { left, key } => {
                if input.is_empty() && *left > 0 {
                    return WsFrameStep::More;
                }
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let payload = WsPayload { bytes: take(input, len), key: *key, end: *left == len as u64 };
                self.pass(len as u64);
                WsFrameStep::Payload(payload)
            }
            WsFrameState::Header { bytes, have } => {
                for part in 0..2 {
                    let whole = if part == 0 { 2 } else { head_len(bytes[1]) };
                    let len = input.len().min(whole.saturating_sub(*have));
                    bytes[*have..*have + len].copy_from_slice(take(input, len));
                    *have += len;
                    if *have < whole {
                        return WsFrameStep::More;
                    }
                }
                let (head, key) = WsFrameHeader::read(bytes);
                // The length has 63 bits.
                if i64::try_from(head.length).is_err() {
                    return WsFrameStep::Malformed(Reason::WebSocketLengthInvalid);
                }
                self.state = WsFrameState::Payload { left: head.length, key };
                WsFrameStep::Header(head)
            }
        }
    }

    /// Passes over missing bytes.
    pub(super) fn gap(&mut self, missing: u64) -> WsFrameGap {
        match self.state {
            WsFrameState::Payload { left, .. } if missing <= left => {
                self.pass(missing);
                WsFrameGap::Inside { end: missing == left }
            }
            _ => WsFrameGap::Lost,
        }
    }

    /// `len` bytes of the payload have passed.
    fn pass(&mut self, len: u64) {
        if let WsFrameState::Payload { left, key } = &mut self.state {
            *left -= len;
            key.rotate_left((len % 4) as usize);
            if *left == 0 {
                self.state = START;
            }
        }
    }
}

impl WsFrameHeader {
    /// Reads a complete header and its masking key.
    fn read(bytes: &[u8; MAX_HEAD]) -> (Self, [u8; 4]) {
        let [first, second, a, b, c, d, e, f, g, h, ..] = *bytes;
        let (length, after, least) = match second & SHORT {
            126 => (u64::from(u16::from_be_bytes([a, b])), 4, 126),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10, 1 << 16),
            short => (u64::from(short), 2, 0),
        };
        let masked = second & MASKED != 0;
        let mut key = [0; 4];
        if masked {
            key.copy_from_slice(&bytes[after..after + 4]);
        }
        (Self { first, masked, length, minimal: length >= least }, key)
    }

    pub(super) const fn opcode(self) -> u8 {
        self.first & OPCODE
    }

    /// Whether it is the last frame of its message.
    pub(super) const fn is_final(self) -> bool {
        self.first & FIN != 0
    }

    pub(super) const fn has(self, bits: u8) -> bool {
        self.first & bits != 0
    }

    /// Whether it is a control frame: no fragment of a message.
    pub(super) const fn is_control(self) -> bool {
        self.opcode() >= opcode::CLOSE
    }

    /// Checks the header by itself (RFC 6455 §5.2, §5.5). `reserved`: the reserved bits that may be set, RSV1 at the
    /// start of a message only (RFC 7692 §6), all three of them anywhere. Masking is not checked: some peers accept
    /// frames that are masked or not against the rules.
    pub(super) fn check(self, reserved: u8) -> Result<(), Reason> {
        let starts = matches!(self.opcode(), opcode::TEXT | opcode::BINARY);
        let reserved = if starts || reserved == RESERVED { reserved } else { 0 };
        match self.opcode() {
            opcode::CONTINUATION..=opcode::BINARY | opcode::CLOSE..=opcode::PONG => {}
            _ => return Err(Reason::WebSocketOpcodeUnknown),
        }
        if self.has(RESERVED & !reserved) {
            return Err(Reason::WebSocketReservedBits);
        }
        if self.is_control() && !(self.is_final() && self.length <= MAX_CONTROL) {
            return Err(Reason::WebSocketControlFrameInvalid);
        }
        Ok(())
    }
}

/// Removes the mask (RFC 6455 §5.3).
pub(super) fn unmask(bytes: &[u8], key: [u8; 4], into: &mut [u8]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (from, from_rest) = bytes.as_chunks::<8>();
    let (to, to_rest) = into.as_chunks_mut::<8>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = (u64::from_ne_bytes(*from) ^ wide).to_ne_bytes();
    }
    for ((to, from), key) in to_rest.iter_mut().zip(from_rest).zip(key.iter().cycle()) {
        *to = from ^ key;
    }
}

/// The length of a header, by its second byte.
const fn head_len(second: u8) -> usize {
    let length = match second & SHORT {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let key = if second & MASKED != 0 { 4 } else { 0 };
    2 + length + key
}
