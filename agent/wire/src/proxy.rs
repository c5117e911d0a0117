//! The PROXY protocol: the header that a load balancer puts in front of a connection to name its client (HAProxy's
//! `proxy-protocol.txt`, version 1 in §2.1, version 2 in §2.2). It is skipped.

use crate::{Nanos, Reason, reassembly::take};

/// How a header of version 1 begins.
const V1: &[u8] = b"PROXY ";
/// Longest header of version 1, with its line end.
const V1_MAX: usize = 107;
/// How a header of version 2 begins.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of version 2: the signature, version and command, family, and a length of two bytes.
const V2_FIXED: usize = V2.len() + 4;

/// Finds a header in the first bytes of a direction.
#[derive(Debug, Default)]
pub(crate) struct ProxyHeader {
    state: ProxyState,
    /// When the first byte came.
    started: Nanos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ProxyState {
    /// Before the first byte.
    #[default]
    Start,
    /// In the signature of a header, of which this many bytes have matched.
    Signature(&'static [u8], usize),
    /// In a header of version 1, of which this many bytes have come.
    Line(usize),
    /// In the fixed part of version 2: how many bytes have come, and the length as far as it is known.
    Fixed(usize, u16),
    /// In the variable part of version 2, with this many bytes to come.
    Rest(u16),
    /// After the header, or there is none.
    Past,
}

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyMatch {
    /// All of the input belongs to a header, or may begin one.
    More,
    /// There is no header. Earlier bytes matched a part of the signature: these, since that time.
    Neither(&'static [u8], Nanos),
    /// A header has ended: the connection begins with the rest of the input.
    Ended,
    /// The header is invalid. This many bytes of it came before the input.
    Malformed(Reason, usize),
}

impl ProxyHeader {
    /// Whether no header can come any more.
    pub(crate) fn is_past(&self) -> bool {
        self.state == ProxyState::Past
    }

    /// Whether a header has begun, which these first bytes have to show completely. If they do not, none is looked
    /// for any more.
    pub(crate) fn is_started_by(&mut self, input: &[u8]) -> bool {
        if self.state == ProxyState::Start && !input.starts_with(V1) && !input.starts_with(V2) {
            self.state = ProxyState::Past;
        }
        !self.is_past()
    }

    /// Takes the bytes of a header off `input`.
    pub(crate) fn skip(&mut self, input: &mut &[u8], at: Nanos) -> ProxyMatch {
        if self.state == ProxyState::Start {
            self.started = at;
            self.state = match input.first() {
                Some(&first) if first == V1[0] => ProxyState::Signature(V1, 0),
                Some(&first) if first == V2[0] => ProxyState::Signature(V2, 0),
                _ => ProxyState::Past,
            };
        }
        loop {
            match self.state {
                ProxyState::Start | ProxyState::Past => return ProxyMatch::Neither(b"", self.started),
                ProxyState::Signature(signature, have) => {
                    let same = signature[have..].iter().zip(input.iter()).take_while(|(a, b)| a == b).count();
                    if have + same < signature.len() && same < input.len() {
                        self.state = ProxyState::Past;
                        return ProxyMatch::Neither(&signature[..have], self.started);
                    }
                    take(input, same);
                    self.state = match signature {
                        _ if have + same < signature.len() => ProxyState::Signature(signature, have + same),
                        V1 => ProxyState::Line(V1.len()),
                        _ => ProxyState::Fixed(V2.len(), 0),
                    };
                }
                ProxyState::Line(len) => {
                    let end = memchr::memchr(b'\n', input).map(|lf| lf + 1);
                    let more = end.unwrap_or(input.len());
                    if len + more > V1_MAX {
                        return self.malformed(len);
                    }
                    take(input, more);
                    self.state = ProxyState::Line(len + more);
                    if end.is_some() {
                        return self.ended();
                    }
                }
                ProxyState::Fixed(len, length) => {
                    let Some(&byte) = input.first() else { return ProxyMatch::More };
                    // The version, which is the upper half of the byte, is 2.
                    if len == V2.len() && byte >> 4 != 2 {
                        return self.malformed(len);
                    }
                    take(input, 1);
                    let length = if len >= V2_FIXED - 2 { length << 8 | u16::from(byte) } else { 0 };
                    self.state = match len + 1 {
                        V2_FIXED => ProxyState::Rest(length),
                        len => ProxyState::Fixed(len, length),
                    };
                }
                ProxyState::Rest(remaining) => {
                    let len = usize::from(remaining).min(input.len());
                    take(input, len);
                    if len == usize::from(remaining) {
                        return self.ended();
                    }
                    self.state = ProxyState::Rest(remaining - len as u16);
                }
            }
            if input.is_empty() && self.state != ProxyState::Rest(0) {
                return ProxyMatch::More;
            }
        }
    }

    /// Bytes are missing, or the connection is over. Returns the bytes that have matched a signature so far, and
    /// when they began.
    pub(crate) fn take_unmatched(&mut self) -> (&'static [u8], Nanos) {
        match std::mem::replace(&mut self.state, ProxyState::Past) {
            ProxyState::Signature(signature, have) => (&signature[..have], self.started),
            _ => (b"", self.started),
        }
    }

    fn ended(&mut self) -> ProxyMatch {
        self.state = ProxyState::Past;
        ProxyMatch::Ended
    }

    fn malformed(&mut self, before: usize) -> ProxyMatch {
        self.state = ProxyState::Past;
        ProxyMatch::Malformed(Reason::ProxyHeaderInvalid, before)
    }
}
