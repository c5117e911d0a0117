//! Decodes base64 (RFC 4648 §4) incrementally.

use crate::Reason;

/// Decodes base64 that comes in pieces. Padding ends a group of digits, and another one may follow, as where
/// parts were encoded each for itself and put together (gRPC-Web).
///
/// Memory: none but itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// The digits of the current group, and how many there are.
    word: u32,
    have: u8,
    /// The first of two padding characters has come.
    padding: bool,
    /// The text was invalid or had a gap: no more bytes are given.
    over: bool,
}

/// How many digits are decoded before the bytes are given.
const PIECE: usize = 1024;

impl Decoder {
    /// A decoder at the start of a text.
    #[must_use]
    pub const fn new() -> Self {
        Self { word: 0, have: 0, padding: false, over: false }
    }

    /// Takes text and gives the decoded bytes to `give`.
    ///
    /// # Errors
    /// [`Reason::Base64Invalid`] when the text is not base64, once. The bytes before the error are given.
    pub fn feed(&mut self, text: &[u8], mut give: impl FnMut(&[u8])) -> Result<(), Reason> {
        let mut out = [0; PIECE / 4 * 3 + 3];
        for piece in text.chunks(PIECE) {
            if self.over {
                return Ok(());
            }
            let mut len = 0;
            let groups = if self.have == 0 { piece.as_chunks::<4>().0 } else { &[] };
            let mut whole = 0;
            for &group in groups {
                let Some(word) = group_of_digits(group) else { break };
                out[len..len + 3].copy_from_slice(&word.to_be_bytes()[1..]);
                len += 3;
                whole += 4;
            }
            for &byte in &piece[whole..] {
                let Some(bytes) = self.digit(byte) else {
                    self.over = true;
                    break;
                };
                out[len..len + 3].copy_from_slice(&self.word.to_be_bytes()[1..]);
                len += bytes;
                if bytes > 0 {
                    self.word = 0;
                }
            }
            if len > 0 {
                give(&out[..len]);
            }
            if self.over {
                return Err(Reason::Base64Invalid);
            }
        }
        Ok(())
    }

    /// Bytes of the text are missing here: no more bytes are given.
    pub const fn gap(&mut self) {
        self.over = true;
    }

    /// Whether the text can end here: no group of digits is incomplete.
    #[cfg(test)]
    const fn is_whole(&self) -> bool {
        self.have == 0 && !self.over
    }

    /// Takes a digit or padding; returns how many bytes of `word`, from its second on, are known now.
    fn digit(&mut self, byte: u8) -> Option<usize> {
        let value = match DIGITS[usize::from(byte)] {
            NO_DIGIT if byte == b'=' => return self.pad(),
            NO_DIGIT => return None,
            value => value,
        };
        if self.padding {
            return None;
        }
        self.word = self.word << 6 | u32::from(value);
        self.have = (self.have + 1) % 4;
        Some(if self.have == 0 { 3 } else { 0 })
    }

    fn pad(&mut self) -> Option<usize> {
        match (self.have, self.padding) {
            (2, false) => {
                self.padding = true;
                Some(0)
            }
            (2, true) => {
                self.word <<= 12;
                (self.have, self.padding) = (0, false);
                Some(1)
            }
            (3, false) => {
                self.word <<= 6;
                self.have = 0;
                Some(2)
            }
            _ => None,
        }
    }
}

/// The values of digits.
static DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value = 0;
    while value < alphabet.len() {
        digits[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = 0x80;

/// Four digits as the low three bytes; `None` when they are not all digits.
fn group_of_digits(group: [u8; 4]) -> Option<u32> {
    let [a, b, c, d] = group.map(|byte| DIGITS[usize::from(byte)]);
    let word = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
    ((a | b | c | d) & NO_DIGIT == 0).then_some(word)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn decode(text: &str, size: usize) -> (Vec<u8>, Result<(), Reason>, bool) {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        let fed = text
            .as_bytes()
            .chunks(size)
            .try_for_each(|piece| decoder.feed(piece, |bytes| out.extend_from_slice(bytes)));
        (out, fed, decoder.is_whole())
    }

    fn encode(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let word = group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for at in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
                text.push(if at > group.len() { '=' } else { digit.into() });
            }
        }
        text
    }

    #[test]
    fn rfc_4648_10_the_examples_of_the_standard() {
        for (text, want) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zg==Zm8=Zm9v", "ffofoo"),
        ] {
            for size in [1, 2, 3, 100] {
                assert_eq!(decode(text, size), (want.into(), Ok(()), true), "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_named() {
        for (text, want) in
            [("Zm9v!Zm9v", "foo"), ("=", ""), ("Z=", ""), ("Zg=a", ""), ("Zm9v====", "foo"), ("Zm 9v", "")]
        {
            for size in [1, 100] {
                assert_eq!(decode(text, size), (want.into(), Err(Reason::Base64Invalid), false), "{text}");
            }
        }
        for text in ["Z", "Zg", "Zg=", "Zm8"] {
            assert_eq!(decode(text, 1), (vec![], Ok(()), false), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_come_back_however_they_are_encoded_and_cut(
            parts in vec(vec(any::<u8>(), 0..900), 0..5), size in 1..2000_usize,
        ) {
            let text: String = parts.iter().map(|part| encode(part)).collect();
            prop_assert_eq!(decode(&text, size), (parts.concat(), Ok(()), true));
        }
    }
}
