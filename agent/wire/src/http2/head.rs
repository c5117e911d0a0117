//! Heads of messages (RFC 9113 §8.3).

use super::hpack::Fields;

/// Header fields as (name, value) pairs.
pub(super) type PlainFields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The pseudo-header fields of a block.
#[derive(Debug, Default)]
pub(super) struct PseudoHeaders<'a> {
    pub(super) method: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) authority: Option<&'a [u8]>,
    /// RFC 8441 §4
    pub(super) protocol: Option<&'a [u8]>,
    pub(super) status: Option<u16>,
}

impl<'a> PseudoHeaders<'a> {
    /// Takes the pseudo-header fields of a block; the other fields go to `plain`.
    pub(super) fn split(fields: &'a Fields, plain: &mut PlainFields<'a>) -> Self {
        let mut pseudo = Self::default();
        for (name, value) in fields.iter() {
            match name {
                b":method" => pseudo.method = Some(value),
                b":path" => pseudo.path = Some(value),
                b":authority" => pseudo.authority = Some(value),
                b":protocol" => pseudo.protocol = Some(value),
                b":status" => pseudo.status = status(value),
                [b':', ..] => {}
                _ => plain.push((name, value)),
            }
        }
        pseudo
    }

    /// The request target as in HTTP/1, where that of CONNECT is the authority.
    pub(super) fn target(&self) -> &'a [u8] {
        match self.method {
            Some(b"CONNECT") => self.path.or(self.authority).unwrap_or_default(),
            _ => self.path.unwrap_or_default(),
        }
    }
}

fn status(value: &[u8]) -> Option<u16> {
    match value {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}
