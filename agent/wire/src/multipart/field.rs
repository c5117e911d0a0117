//! Fields in the head of a part, and the boundary in the type of the body.

use memchr::memchr;

/// The head of a part. Names and values are as they were sent: clients write a quotation mark in a name as `%22`
/// or `\"`, and other characters in UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// The name of the field.
    pub name: Option<&'a [u8]>,
    /// The name of the file, when the part is one. In the form of RFC 8187 (`utf-8''a%20b`) where only that was
    /// sent.
    pub filename: Option<&'a [u8]>,
    /// The type of the content.
    pub content_type: Option<&'a [u8]>,
    /// The part is a file: it has a file name, which may be empty.
    pub file: bool,
}

/// Longest boundary (RFC 2046 §5.1.1), in bytes.
const MAX_BOUNDARY: usize = 70;

impl<'a> Part<'a> {
    pub(super) fn parse(head: &'a [u8]) -> Self {
        let mut part = Self::default();
        for line in head.split(|&b| b == b'\n') {
            let Some(colon) = memchr(b':', line) else { continue };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-disposition") {
                part.name = parameter(value, "name");
                part.filename = parameter(value, "filename").or_else(|| parameter(value, "filename*"));
                part.file = part.filename.is_some();
            } else if name.eq_ignore_ascii_case(b"content-type") {
                part.content_type = Some(value);
            }
        }
        part
    }
}

/// The boundary that the value of a Content-Type field gives, if that is one of a multipart body and the
/// boundary is one that can be (RFC 2046 §5.1.1).
#[must_use]
pub fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    const KIND: &[u8] = b"multipart/";
    if !content_type.get(..KIND.len())?.eq_ignore_ascii_case(KIND) {
        return None;
    }
    let boundary = parameter(content_type, "boundary")?;
    let valid = boundary.iter().all(|&b| b == b' ' || b.is_ascii_graphic());
    (valid && (1..=MAX_BOUNDARY).contains(&boundary.len()) && !boundary.ends_with(b" ")).then_some(boundary)
}

/// A parameter of a field's value (RFC 9110 §5.6.6), by its name in lower case: what is between the quotation
/// marks, escapes and all, or a token.
pub(super) fn parameter<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = value;
    loop {
        rest = rest[memchr(b';', rest)? + 1..].trim_ascii_start();
        let end = rest.iter().position(|&b| matches!(b, b'=' | b';'))?;
        if rest[end] == b';' {
            continue;
        }
        let key = rest[..end].trim_ascii_end();
        rest = rest[end + 1..].trim_ascii_start();
        let value = match rest.split_first() {
            Some((b'"', quoted)) => {
                let (value, after) = quoted.split_at(quoted_end(quoted));
                rest = after;
                value
            }
            _ => rest[..memchr(b';', rest).unwrap_or(rest.len())].trim_ascii_end(),
        };
        if key.eq_ignore_ascii_case(name.as_bytes()) {
            return Some(value);
        }
    }
}

/// The length of a quoted string (RFC 9110 §5.6.4) of which the first quotation mark has passed: all there is if
/// the other one does not come.
fn quoted_end(quoted: &[u8]) -> usize {
    let mut escaped = false;
    let end = quoted.iter().position(|&b| {
        let end = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        end
    });
    end.unwrap_or(quoted.len())
}
