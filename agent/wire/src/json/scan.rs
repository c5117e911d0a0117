//! Finds the bytes that structure JSON.

/// Position of the first `"` or `\` at or after `from`.
///
/// Most strings are short, so the first words are looked at in place and only the rest is worth a call.
#[inline]
pub(super) fn quote_or_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    const INLINE_WORDS: usize = 6;
    let rest = bytes.get(from..)?;
    let mut at = from;
    for word in rest.as_chunks().0.iter().take(INLINE_WORDS) {
        let word = u64::from_le_bytes(*word);
        let hits = zero_bytes(word ^ splat(b'"')) | zero_bytes(word ^ splat(b'\\'));
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|n| at + n)
}

/// Position of the first `"`, `{`, `}`, `[` or `]` at or after `from`.
#[inline]
pub(super) fn quote_or_bracket(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let (words, rest) = bytes.get(from..)?.as_chunks();
    for word in words {
        // Setting bit 5 makes `[` a `{` and `]` a `}`, and no other printable byte one of the three.
        let word = u64::from_le_bytes(*word) | splat(0x20);
        let mut hits =
            zero_bytes(word ^ splat(b'{')) | zero_bytes(word ^ splat(b'}')) | zero_bytes(word ^ splat(b'"'));
        while hits != 0 {
            let hit = at + (hits.trailing_zeros() / 8) as usize;
            if is_quote_or_bracket(bytes[hit]) {
                return Some(hit);
            }
            hits &= hits - 1;
        }
        at += 8;
    }
    rest.iter().position(|&b| is_quote_or_bracket(b)).map(|n| at + n)
}

/// Position of the first byte that cannot be part of a number or literal, at or after `from`.
#[inline]
pub(super) fn scalar_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|&b| b <= b' ' || matches!(b, b',' | b']' | b'}')).map(|n| from + n)
}

/// Position of the first byte that is not white space, at or after `from`.
#[inline]
pub(super) fn not_space(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.iter().position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t')).map(|n| from + n)
}

fn is_quote_or_bracket(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')
}

const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Sets the high bit of each byte that is zero. Bytes above a zero one may be set wrongly, the lowest set one
/// is always right ("Bit Twiddling Hacks", Determine if a word has a zero byte).
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(splat(0x01)) & !word & splat(0x80)
}
