//! Reported values: borrowed from the input, and decoded only when they are read.

use memchr::memchr;

/// A reported value. Borrowed for the duration of the call.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number<'a>),
    /// A string.
    Str(Str<'a>),
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The object or array of this field ends. Missing where the document is cut.
    End,
}

impl<'a> Value<'a> {
    /// As an integer, in all forms that serializers use: `12`, `12.0`, `1.2e1` and, in protobuf's JSON mapping of
    /// int64, `"12"`.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            Self::Str(text) if !text.cut => Number { raw: text.raw }.as_i64(),
            _ => None,
        }
    }

    /// As a finite double.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            Self::Str(text) if text.plain && !text.cut => Number { raw: text.raw }.as_f64(),
            _ => None,
        }
    }

    /// As a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// As a string.
    #[must_use]
    pub fn as_str(&self) -> Option<Str<'a>> {
        match self {
            Self::Str(text) => Some(*text),
            _ => None,
        }
    }

    /// The bytes of a number or string as they were written.
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Number(Number { raw }) | Self::Str(Str { raw, .. }) => Some(raw),
            _ => None,
        }
    }
}

/// A number as it was written, or `NaN` and `Infinity`, which Python's `json` writes.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    pub(super) raw: &'a [u8],
}

impl<'a> Number<'a> {
    /// A number in the form of JSON that comes from another format.
    pub(crate) const fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The value, when it is an integer in range, also when written with a fraction or exponent.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        // Exactly representable, so that the cast below is exact.
        const LIMIT: f64 = (1_u64 << 53) as f64;
        if let Some(value) = self.short() {
            return Some(value);
        }
        let text = self.text()?;
        text.parse().ok().or_else(|| {
            let value: f64 = text.parse().ok()?;
            (value.fract() == 0.0 && value.abs() <= LIMIT).then_some(value as i64)
        })
    }

    /// The value; `None` when it overflows a double.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.text()?.parse().ok().filter(|value: &f64| value.is_finite())
    }

    /// The value of a few digits, which nearly all numbers are.
    #[inline]
    fn short(&self) -> Option<i64> {
        const DIGITS: usize = 18;
        if self.raw.is_empty() || self.raw.len() > DIGITS || self.raw[0] == b'0' && self.raw.len() > 1 {
            return None;
        }
        self.raw.iter().try_fold(0, |value: i64, byte| {
            byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
        })
    }

    /// Rust also parses `inf`, `nan`, a leading `+` and leading zeros: not numbers here (RFC 8259 §6).
    fn text(&self) -> Option<&str> {
        if self.raw.len() > MAX_NUMBER {
            return None;
        }
        let known = self.raw.iter().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let digits = match self.raw.strip_prefix(b"-").unwrap_or(self.raw) {
            [b'0', b'0'..=b'9', ..] => false,
            [first, ..] => first.is_ascii_digit(),
            [] => false,
        };
        str::from_utf8(self.raw).ok().filter(|_| known && digits)
    }
}

/// Longest number that is read, in bytes: 17 digits and an exponent are all that a double can hold.
pub(super) const MAX_NUMBER: usize = 64;

/// A string as it was written, escapes and all, up to its cap.
#[derive(Clone, Copy, Debug)]
pub struct Str<'a> {
    pub(super) raw: &'a [u8],
    /// There are no escapes: a backslash is one.
    pub(super) plain: bool,
    /// Limit of the decoded length in bytes.
    pub(super) cap: u16,
    /// The string is longer than `raw`.
    pub(super) cut: bool,
}

impl<'a> Str<'a> {
    /// Text that does not come from a JSON document, of which at most 256 bytes are kept: the value of a form field or
    /// a part of a path.
    #[must_use]
    pub fn plain(text: &'a [u8]) -> Self {
        const CAP: u16 = 256;
        let kept = text.len().min(usize::from(CAP));
        Self { raw: &text[..kept], plain: true, cap: CAP, cut: kept < text.len() }
    }

    /// Whether it is `""`. This is known also where nothing of the string is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty() && !self.cut
    }

    /// Replaces the contents of `out` by the decoded text, at most the cap's number of bytes. Escaped lone
    /// surrogates, unknown escapes and invalid UTF-8 become U+FFFD. Returns whether the text was cut to its cap.
    pub fn read_into(&self, out: &mut String) -> bool {
        out.clear();
        let whole = unescape(self.raw, self.plain, |piece| {
            let room = usize::from(self.cap) - out.len();
            out.push_str(&piece[..piece.floor_char_boundary(room)]);
            piece.len() <= room
        });
        !whole || self.cut
    }

    /// The decoded text: see [`Str::read_into`].
    #[must_use]
    pub fn decode(&self) -> String {
        let mut out = String::new();
        self.read_into(&mut out);
        out
    }

    /// Whether the whole string is `text`, which has no U+FFFD.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        // Valid escapes make a string longer, so that only one that is longer can have some and still be `text`.
        if self.cut || self.plain || self.raw.len() <= text.len() || memchr(b'\\', self.raw).is_none() {
            return !self.cut && self.raw == text.as_bytes();
        }
        let mut rest = text;
        let same = unescape(self.raw, false, |piece| rest.strip_prefix(piece).map(|r| rest = r).is_some());
        same && rest.is_empty()
    }
}

/// Hands the decoded text over in pieces until `push` returns false; returns whether it never did.
pub(super) fn unescape(mut raw: &[u8], plain: bool, mut push: impl FnMut(&str) -> bool) -> bool {
    loop {
        let plain = memchr(b'\\', raw).filter(|_| !plain).unwrap_or(raw.len());
        for chunk in raw[..plain].utf8_chunks() {
            if !(push(chunk.valid()) && (chunk.invalid().is_empty() || push("\u{fffd}"))) {
                return false;
            }
        }
        raw = &raw[plain..];
        if raw.is_empty() {
            return true;
        }
        let (char, used) = escape(raw);
        if !push(char.encode_utf8(&mut [0; 4])) {
            return false;
        }
        raw = &raw[used..];
    }
}

/// Decodes the escape at the start of `raw` (a backslash) and says how long it is.
fn escape(raw: &[u8]) -> (char, usize) {
    let simple = match raw.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(&c @ (b'"' | b'\\' | b'/')) => char::from(c),
        Some(b'u') => {
            let Some(high) = code_unit(raw) else { return (char::REPLACEMENT_CHARACTER, 2) };
            let low = code_unit(&raw[6..]).filter(|_| (0xd800..0xdc00).contains(&high));
            let pair = low.and_then(|low| char::decode_utf16([high, low]).next()?.ok());
            return match pair {
                Some(char) => (char, 12),
                None => (char::from_u32(u32::from(high)).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
            };
        }
        Some(_) => return (char::REPLACEMENT_CHARACTER, 2),
        None => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (simple, 2)
}

/// The value of `\uXXXX` at the start of `raw`.
fn code_unit(raw: &[u8]) -> Option<u16> {
    let digits = raw.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)? as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_decode_as_rfc_8259_says_and_never_fail() {
        for (raw, cap, text, cut) in [
            ("plain", 99, "plain", false),
            ("", 99, "", false),
            (r#"\"\\\/\b\f\n\r\t"#, 99, "\"\\/\u{8}\u{c}\n\r\t", false),
            (r"a\u00e9z", 99, "aéz", false),
            (r"\ud83d\ude00!", 99, "😀!", false),
            (r"\ud83d!", 99, "\u{fffd}!", false),
            (r"\ud83d\n", 99, "\u{fffd}\n", false),
            (r"\ude00\ud83d", 99, "\u{fffd}\u{fffd}", false),
            (r"\x41", 99, "\u{fffd}41", false),
            (r"\u12", 99, "\u{fffd}12", false),
            ("tail\\", 99, "tail\u{fffd}", false),
            ("exactly", 7, "exactly", false),
            ("too long", 7, "too lon", true),
            ("héllo", 2, "h", true),
            ("x", 0, "", true),
        ] {
            let mut out = String::from("old");
            let value = Str { raw: raw.as_bytes(), cap, cut: false, plain: false };
            assert_eq!((value.read_into(&mut out), out.as_str()), (cut, text), "{raw}");
            let valid = !text.contains(char::REPLACEMENT_CHARACTER);
            assert_eq!(valid && value.is(text), valid && !cut, "{raw}");
            assert!(!value.is("other") && !value.is("other, and longer than it"));
        }
        let invalid = Str { raw: b"a\xff\xe2\x82z", cap: 99, cut: false, plain: false };
        assert_eq!(invalid.decode(), "a\u{fffd}\u{fffd}z");
    }

    #[test]
    fn integers_are_read_however_they_are_written() {
        for (raw, integer, double) in [
            ("12", Some(12), Some(12.0)),
            ("-7", Some(-7), Some(-7.0)),
            ("12.0", Some(12), Some(12.0)),
            ("1.2e1", Some(12), Some(12.0)),
            ("12.5", None, Some(12.5)),
            ("9223372036854775807", Some(i64::MAX), Some(9.223_372_036_854_776e18)),
            ("9223372036854775808", None, Some(9.223_372_036_854_776e18)),
            ("1e400", None, None),
            ("-inf", None, None),
            ("1_000", None, None),
            ("+5", None, None),
            ("0", Some(0), Some(0.0)),
            ("-0", Some(0), Some(0.0)),
            ("-0.0", Some(0), Some(0.0)),
            ("007", None, None),
            ("-01", None, None),
            ("0.5", None, Some(0.5)),
            ("1e999", None, None),
            ("-1e999", None, None),
            ("1e-999", Some(0), Some(0.0)),
            ("18446744073709551616", None, Some(18_446_744_073_709_551_616.0)),
            ("1e15", Some(1_000_000_000_000_000), Some(1e15)),
            ("1E+2", Some(100), Some(100.0)),
            ("NaN", None, None),
            ("Infinity", None, None),
            ("-Infinity", None, None),
            ("-", None, None),
            ("1-2", None, None),
            ("1e5e5", None, None),
        ] {
            let number = Number { raw: raw.as_bytes() };
            assert_eq!((number.as_i64(), number.as_f64()), (integer, double), "{raw}");
        }
        let int64 = Value::Str(Str { raw: b"12", cap: 9, cut: false, plain: false });
        assert_eq!((int64.as_i64(), int64.as_f64()), (Some(12), None));
    }
}
