//! A document of a body, kept while it passes: bounded, and whole JSON also where the document is not.

use serde_json::Value as Json;

/// Most bytes that are kept of a document; what follows is cut off.
const MOST: usize = 1 << 20;
/// Most bytes that are kept of a string: prompts are shorter, and of media only type and size count.
const LONGEST_STRING: usize = 64 << 10;

/// The bytes of a document, as far as they are kept.
#[derive(Debug, Default)]
pub(super) struct Document {
    bytes: Vec<u8>,
    in_string: bool,
    /// After a backslash.
    escaped: bool,
    /// Bytes of the string that is read.
    length: usize,
    /// How many of them are not kept.
    cut: usize,
    /// Nothing more is kept: the document is too long, or bytes are missing.
    ended: bool,
}

impl Document {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.ended {
                return;
            }
            self.byte(byte);
            self.ended = self.bytes.len() >= MOST;
        }
    }

    fn byte(&mut self, byte: u8) {
        if !self.in_string {
            self.in_string = byte == b'"';
            (self.length, self.cut) = (0, 0);
            return self.bytes.push(byte);
        }
        if byte == b'"' && !self.escaped {
            self.in_string = false;
            if self.cut > 0 {
                self.bytes.extend_from_slice(cut_mark(self.cut).as_bytes());
            }
            return self.bytes.push(byte);
        }
        self.length += 1;
        if self.cut > 0 || self.length > LONGEST_STRING && self.may_cut_before(byte) {
            self.cut += 1;
        } else {
            self.bytes.push(byte);
        }
        self.escaped = byte == b'\\' && !self.escaped;
    }

    /// Whether a string may end before this byte: not within a character or an escape sequence.
    fn may_cut_before(&self, byte: u8) -> bool {
        let is_continuation = byte & 0xc0 == 0x80;
        let tail = &self.bytes[self.bytes.len().saturating_sub(12)..];
        !self.escaped && !is_continuation && !ends_in_escape(tail)
    }

    /// Bytes are missing here: what follows cannot be read.
    pub(super) fn gap(&mut self) {
        self.ended = true;
    }

    /// The document, whose end has come if it is `whole`; begins the next one. `None`: nothing of it is JSON.
    pub(super) fn take(&mut self, whole: bool) -> Option<Json> {
        let Self { bytes, ended, .. } = std::mem::take(self);
        let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into());
        if whole
            && !ended
            && let Ok(json) = serde_json::from_str(&text)
        {
            return Some(json);
        }
        serde_json::from_str(&closed(text)).ok()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What stands at the end of text of which bytes are left out.
pub(super) fn cut_mark(bytes: usize) -> String {
    format!("…[+{bytes} bytes]")
}

/// How many bytes of the text are left out, and the text that is there.
pub(super) fn cut_bytes(text: &str) -> (&str, usize) {
    let Some((kept, mark)) = text.rsplit_once("…[+") else { return (text, 0) };
    match mark.strip_suffix(" bytes]").map(str::parse) {
        Some(Ok(bytes)) => (kept, bytes),
        _ => (text, 0),
    }
}

/// Whether the bytes of a string end in a `\uXXXX` that is not whole, or that is the first of two (RFC 8259 § 7).
fn ends_in_escape(tail: &[u8]) -> bool {
    let Some(at) = tail.iter().rposition(|&byte| byte == b'\\') else { return false };
    let backslashes = tail[..=at].iter().rev().take_while(|&&byte| byte == b'\\').count();
    match &tail[at..] {
        [_] => backslashes % 2 == 1,
        [_, b'u', digits @ ..] if digits.len() < 4 => true,
        [_, b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', _, _] => true,
        _ => false,
    }
}

/// Where a scan of JSON stands.
#[derive(Default)]
struct Scan {
    /// What closes the open arrays and objects, innermost last.
    closers: Vec<u8>,
    in_string: bool,
    is_key: bool,
    /// The text up to here is whole but for the closers.
    whole: usize,
}

fn scan(text: &str) -> Scan {
    let mut scan = Scan::default();
    let (mut escaped, mut expects_key) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        if scan.in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => scan.in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => (scan.in_string, scan.is_key) = (true, expects_key),
            b'{' | b'[' => {
                scan.closers.push(byte + 2);
                expects_key = byte == b'{';
                scan.whole = at + 1;
            }
            b'}' | b']' => {
                scan.closers.pop();
                scan.whole = at + 1;
            }
            b',' => {
                expects_key = scan.closers.last() == Some(&b'}');
                scan.whole = at;
            }
            b':' => expects_key = false,
            _ => {}
        }
    }
    scan
}

/// JSON that is cut off, closed where it is cut, or after the last whole value.
fn closed(mut text: String) -> String {
    let mut at_end = scan(&text);
    if at_end.in_string && !at_end.is_key {
        while text.ends_with('\u{fffd}') {
            text.pop();
        }
        while ends_in_escape(&text.as_bytes()[text.len().saturating_sub(12)..]) {
            text.pop();
        }
        text.push_str("…\"");
    } else {
        text.truncate(at_end.whole);
        at_end = scan(&text);
    }
    text.extend(at_end.closers.iter().rev().map(|&closer| char::from(closer)));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn kept(text: &str, whole: bool) -> Option<Json> {
        let mut document = Document::default();
        document.push(text.as_bytes());
        document.take(whole)
    }

    #[test]
    fn long_strings_are_cut_and_say_so() {
        let long = "é\\u00e9\\ud83d\\ude00\\\\".repeat(20_000);
        let json = kept(&format!(r#"{{"a":"{long}","b":[1,"x"]}}"#), true).expect("JSON");
        let (text, cut) = cut_bytes(json["a"].as_str().expect("text"));
        assert!((LONGEST_STRING / 4..=LONGEST_STRING).contains(&text.len()), "{}", text.len());
        assert_eq!(cut, 440_000 - LONGEST_STRING);
        assert_eq!(json["b"], json!([1, "x"]));
    }

    #[test]
    fn long_documents_end_after_the_last_whole_value() {
        let items = r#"{"role":"user","n":12345},"#.repeat(60_000);
        let json = kept(&format!(r#"{{"messages":[{items}null]}}"#), true).expect("JSON");
        let messages = json["messages"].as_array().expect("an array");
        assert!(messages.len() > 30_000 && messages[30_000]["n"] == 12345);
    }

    proptest! {
        /// Wherever a document is cut, what is kept is JSON of which every whole value is right.
        #[test]
        fn cut_documents_are_json(end in 1_usize..130) {
            let text = r#"{"m":[{"r":"\ud83d\ude00é\\","c":[{"t":"a\"b"},1.5e3,true,null]},"xé"],"z":{"k":"v"}}"#;
            let end = end.min(text.len());
            let mut document = Document::default();
            document.push(&text.as_bytes()[..end]);
            let json = document.take(false).expect("JSON");
            if text[..].as_bytes()[..end].ends_with(b"1.5e3,") {
                prop_assert_eq!(&json["m"][0]["c"][0]["t"], "a\"b");
            }
            if end == text.len() {
                prop_assert_eq!(&json["z"]["k"], "v");
            }
        }
    }
}
