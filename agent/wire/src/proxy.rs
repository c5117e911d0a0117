//! The PROXY protocol: what a load balancer puts in front of a connection to say whose it is (HAProxy's
//! `proxy-protocol.txt`, version 1 in §2.1, version 2 in §2.2). It is passed over.

use crate::{Nanos, Reason, reassembly::take};

/// How a header of version 1 begins.
const V1: &[u8] = b"PROXY ";
/// Longest header of version 1, with its line end.
const V1_MAX: usize = 107;
/// How a header of version 2 begins.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What comes then: version and command, family, and a length of two bytes.
const V2_FIXED: usize = V2.len() + 4;

/// Looks for a header in the first bytes of a direction.
#[derive(Debug, Default)]
pub(crate) struct ProxyHeader {
    state: ProxyState,
    /// When the first byte came.
    began: Nanos,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ProxyState {
    /// Before the first byte.
    #[default]
    Start,
    /// So many bytes were as this start of a header.
    Like(&'static [u8], usize),
    /// In a header of version 1 of which so many bytes have come.
    Line(usize),
    /// In the fixed part of version 2: the bytes so far, and the length as far as it is known.
    Fixed(usize, u16),
    /// So much is left of version 2.
    Rest(u16),
    /// What comes now is what the connection is for.
    Past,
}

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyMatch {
    /// All of them are used up: a header, or what may begin one.
    More,
    /// No header begins here, but bytes that came before, first at that time, looked like one.
    Neither(&'static [u8], Nanos),
    /// A header has ended: the connection begins with what is left of them.
    Ended,
    /// What began like a header is none.
    Malformed(Reason, usize),
}

impl ProxyHeader {
    /// Whether no header can come any more.
    pub(crate) fn is_past(&self) -> bool {
        self.state == ProxyState::Past
    }

    /// Whether it is clear from these bytes that there is a header; if not, none is looked for any more.
    pub(crate) fn is_told_by(&mut self, input: &[u8]) -> bool {
        if self.state == ProxyState::Start && !input.starts_with(V1) && !input.starts_with(V2) {
            self.state = ProxyState::Past;
        }
        !self.is_past()
    }

    /// Takes off `input` what belongs to a header.
    pub(crate) fn look(&mut self, input: &mut &[u8], at: Nanos) -> ProxyMatch {
        if self.state == ProxyState::Start {
            self.began = at;
            self.state = match input.first() {
                Some(&first) if first == V1[0] => ProxyState::Like(V1, 0),
                Some(&first) if first == V2[0] => ProxyState::Like(V2, 0),
                _ => ProxyState::Past,
            };
        }
        loop {
            match self.state {
                ProxyState::Start | ProxyState::Past => return ProxyMatch::Neither(b"", self.began),
                ProxyState::Like(start, have) => {
                    let same = start[have..].iter().zip(input.iter()).take_while(|(a, b)| a == b).count();
                    if have + same < start.len() && same < input.len() {
                        self.state = ProxyState::Past;
                        return ProxyMatch::Neither(&start[..have], self.began);
                    }
                    take(input, same);
                    self.state = match start {
                        _ if have + same < start.len() => ProxyState::Like(start, have + same),
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
                ProxyState::Rest(left) => {
                    let len = usize::from(left).min(input.len());
                    take(input, len);
                    if len == usize::from(left) {
                        return self.ended();
                    }
                    self.state = ProxyState::Rest(left - len as u16);
                }
            }
            if input.is_empty() && self.state != ProxyState::Rest(0) {
                return ProxyMatch::More;
            }
        }
    }

    /// Bytes are missing, or the connection is over. Gives back what only looked like a header so far, and when
    /// that began.
    pub(crate) fn take_unmatched(&mut self) -> (&'static [u8], Nanos) {
        match std::mem::replace(&mut self.state, ProxyState::Past) {
            ProxyState::Like(start, have) => (&start[..have], self.began),
            _ => (b"", self.began),
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
