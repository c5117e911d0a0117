//! The character encoding of a body: UTF-8, or what its byte order mark says. What stands behind the text of a body is
//! not text.

/// Skips a byte order mark, and turns UTF-16 that begins with one into UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// These are the first bytes so far: the start of a mark.
    Start {
        seen: [u8; 2],
        len: u8,
    },
    Utf8,
    /// UTF-16 in the byte order of the mark, with the first byte of a unit and the first unit of a pair.
    Utf16 {
        little: bool,
        byte: Option<u8>,
        high: Option<u16>,
    },
    /// UTF-8 up to this many bytes from here; raw tensors follow (KServe's binary data extension).
    Prefix {
        left: u64,
    },
}

impl Default for Encoding {
    fn default() -> Self {
        Self::Start { seen: [0; 2], len: 0 }
    }
}

impl Encoding {
    /// Bytes are missing here.
    pub(super) fn gap(&mut self, missing: Option<u64>) {
        match self {
            Self::Start { .. } => *self = Self::Utf8,
            Self::Prefix { left } => *left = left.saturating_sub(missing.unwrap_or(u64::MAX)),
            Self::Utf8 | Self::Utf16 { .. } => {}
        }
    }

    /// Gives the bytes as UTF-8.
    pub(super) fn decode(&mut self, mut bytes: &[u8], give: &mut dyn FnMut(&[u8])) {
        while let Self::Start { seen, len } = self {
            let Some((&first, rest)) = bytes.split_first() else { return };
            let next = match (&seen[..usize::from(*len)], first) {
                ([], 0xef) | ([], 0xff) | ([], 0xfe) | ([0xef], 0xbb) => {
                    seen[usize::from(*len)] = first;
                    *len += 1;
                    bytes = rest;
                    continue;
                }
                ([0xef, 0xbb], 0xbf) => Self::Utf8,
                ([mark @ (0xff | 0xfe)], second) if u16::from(*mark) + u16::from(second) == 0x1fd => {
                    Self::Utf16 { little: *mark == 0xff, byte: None, high: None }
                }
                (kept, _) => {
                    if !kept.is_empty() {
                        give(kept);
                    }
                    *self = Self::Utf8;
                    break;
                }
            };
            *self = next;
            bytes = rest;
        }
        match self {
            Self::Utf16 { little, byte, high } => {
                for &next in bytes {
                    let Some(first) = byte.take() else {
                        *byte = Some(next);
                        continue;
                    };
                    let unit = if *little {
                        u16::from_le_bytes([first, next])
                    } else {
                        u16::from_be_bytes([first, next])
                    };
                    let pair = high.take();
                    if pair.is_none() && (0xd800..0xdc00).contains(&unit) {
                        *high = Some(unit);
                        continue;
                    }
                    for char in char::decode_utf16(pair.into_iter().chain([unit])) {
                        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
                        give(char.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
            Self::Prefix { left } => {
                let text = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= text as u64;
                if text > 0 {
                    give(&bytes[..text]);
                }
            }
            _ if bytes.is_empty() => {}
            _ => give(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8], size: usize) -> Vec<u8> {
        let (mut encoding, mut out) = (Encoding::default(), Vec::new());
        for piece in bytes.chunks(size) {
            encoding.decode(piece, &mut |bytes| out.extend_from_slice(bytes));
        }
        out
    }

    #[test]
    fn marks_are_skipped_and_utf_16_becomes_utf_8() {
        let text = "{\"a\":\"ä😀\"}";
        let utf16 = |mark: [u8; 2], bytes: &dyn Fn(u16) -> [u8; 2]| {
            let units = text.encode_utf16().flat_map(bytes);
            mark.into_iter().chain(units).collect::<Vec<u8>>()
        };
        for body in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            utf16([0xff, 0xfe], &u16::to_le_bytes),
            utf16([0xfe, 0xff], &u16::to_be_bytes),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(decoded(&body, size), text.as_bytes(), "{body:?} in pieces of {size}");
            }
        }
        for odd in [&b"\xef\xbbx"[..], b"\xff\xffx", b"\xefx", b""] {
            assert_eq!(decoded(odd, 1), odd);
            assert_eq!(decoded(odd, 9), odd);
        }
    }
}
