//! Heads of messages (RFC 9112 §2 to §5), and what they say about the body (§6).

use memchr::memchr;

use crate::{Headers, Reason, Version, body::content_length, reassembly::take};

/// Header fields as (name, value) pairs.
pub(super) type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Most fields of a head. Where there are more, they are skipped and the head is incomplete.
const MAX_FIELDS: usize = 1024;

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartLine<'a> {
    Request { method: &'a [u8], target: &'a [u8], version: Version },
    Response { version: Version, status: u16 },
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// When the connection closes.
    UntilClose,
}

/// What the method of a request means for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MethodKind {
    Plain,
    /// Its response has no body.
    Head,
    /// After its response the connection is a tunnel.
    Connect,
}

impl MethodKind {
    pub(super) fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Plain,
        }
    }
}

/// What the first bytes of a possible message look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartKind {
    Request,
    Response,
    /// There are too few bytes to tell.
    More,
    Neither,
}

/// Methods by which a request is recognised out of sync: RFC 9110 §9.3, RFC 5789 and the safe ones of the IANA
/// registry. In sync, any token is a method.
const METHODS: [&[u8]; 10] =
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"QUERY"];

/// Longest method, in bytes, as far as a start line is not complete.
const MAX_METHOD: usize = 32;

impl StartKind {
    /// Looks at the first bytes. `strict`: the method has to be one of the list.
    pub(super) fn of(bytes: &[u8], strict: bool) -> Self {
        const NAME: &[u8] = b"HTTP/1.";
        if bytes.starts_with(NAME) {
            return Self::Response;
        }
        if NAME.starts_with(bytes) {
            return Self::More;
        }
        let token = bytes.iter().take(MAX_METHOD + 1).take_while(|&&b| is_token(b)).count();
        match bytes.get(token) {
            Some(b' ') if token > 0 && (!strict || METHODS.contains(&&bytes[..token])) => Self::Request,
            None if !strict || METHODS.iter().any(|method| method.starts_with(bytes)) => Self::More,
            _ => Self::Neither,
        }
    }
}

/// Whether a captured call begins with a message that has a known method or version.
pub(crate) fn begins_message(bytes: &[u8]) -> bool {
    matches!(StartKind::of(bytes, true), StartKind::Request | StartKind::Response)
}

impl<'a> StartLine<'a> {
    /// Parses a line without its end.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Reason> {
        Self::response(line).or_else(|| Self::request(line)).ok_or(Reason::StartLineInvalid)
    }

    fn response(line: &[u8]) -> Option<Self> {
        let (version, rest) = line.split_at_checked(8)?;
        let [b' ', status @ ..] = rest else { return None };
        let (digits, phrase) = status.split_at_checked(3)?;
        if !digits.iter().all(u8::is_ascii_digit) || !matches!(phrase, [] | [b' ', ..]) {
            return None;
        }
        let status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
        Some(StartLine::Response { version: http_version(version)?, status })
    }

    fn request(line: &'a [u8]) -> Option<Self> {
        let (rest, version) = line.split_at_checked(line.len().checked_sub(8)?)?;
        let version = http_version(version)?;
        let space = memchr(b' ', rest)?;
        let (method, target) = (&rest[..space], rest[space..].trim_ascii());
        let valid = !method.is_empty() && method.iter().all(|&b| is_token(b));
        let visible = !target.is_empty() && target.iter().all(|&b| b > b' ' && b != 0x7f);
        (valid && visible && rest.ends_with(b" ")).then_some(Self::Request { method, target, version })
    }
}

/// Splits a head (start line to blank line, no folded lines) into its start line and fields. The flag is false when
/// there were too many fields.
pub(super) fn parse<'a>(head: &'a [u8], fields: &mut Fields<'a>) -> Result<(StartLine<'a>, bool), Reason> {
    let mut lines = lines(head);
    let start = StartLine::parse(lines.next().unwrap_or_default())?;
    Ok((start, parse_fields(lines, fields)?))
}

/// Splits trailers into their fields. The flag is false when there were too many fields.
pub(super) fn trailers<'a>(bytes: &'a [u8], fields: &mut Fields<'a>) -> Result<bool, Reason> {
    parse_fields(lines(bytes), fields)
}

/// Lines without their ends.
fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        match take(&mut bytes, len) {
            [] => None,
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] | line => Some(line),
        }
    })
}

fn parse_fields<'a>(lines: impl Iterator<Item = &'a [u8]>, fields: &mut Fields<'a>) -> Result<bool, Reason> {
    for line in lines.take_while(|line| !line.is_empty()) {
        if fields.len() == MAX_FIELDS {
            return Ok(false);
        }
        let colon = memchr(b':', line).ok_or(Reason::HeaderFieldInvalid)?;
        // Whitespace before the colon is for proxies to remove (RFC 9112 §5.1).
        let name = line[..colon].trim_ascii_end();
        if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
            return Err(Reason::HeaderFieldInvalid);
        }
        fields.push((name, line[colon + 1..].trim_ascii()));
    }
    Ok(true)
}

/// Replaces the line ends before continuation lines by spaces (RFC 9112 §5.2).
pub(super) fn unfold(head: &mut [u8]) {
    for i in 1..head.len() {
        if matches!(head[i], b' ' | b'\t') && head[i - 1] == b'\n' {
            head[i - 1] = b' ';
            if i > 1 && head[i - 2] == b'\r' {
                head[i - 2] = b' ';
            }
        }
    }
}

/// Where the body of a request ends.
pub(super) fn request_body(headers: Headers<'_>) -> Result<BodyLength, Reason> {
    match headers.members("transfer-encoding").last() {
        Some(last) if is_chunked(last) => Ok(BodyLength::Chunked),
        Some(_) => Err(Reason::TransferEncodingInvalid),
        None => Ok(BodyLength::Length(content_length(headers)?.unwrap_or(0))),
    }
}

/// Where the body of a final response ends, unless that switches protocols.
pub(super) fn response_body(
    kind: MethodKind,
    status: u16,
    headers: Headers<'_>,
) -> Result<BodyLength, Reason> {
    if kind == MethodKind::Head || matches!(status, 204 | 304) {
        return Ok(BodyLength::Length(0));
    }
    match headers.members("transfer-encoding").last() {
        Some(last) if is_chunked(last) => Ok(BodyLength::Chunked),
        Some(_) => Ok(BodyLength::UntilClose),
        None => Ok(content_length(headers)?.map_or(BodyLength::UntilClose, BodyLength::Length)),
    }
}

/// Whether another protocol begins after a response (RFC 9110 §7.8, §9.3.6).
pub(super) fn switches_protocol(kind: MethodKind, status: u16) -> bool {
    status == 101 || (kind == MethodKind::Connect && (200..300).contains(&status))
}

/// The authority of an absolute-form target (RFC 9112 §3.2.2), user information left out.
pub(super) fn authority(target: &[u8]) -> Option<&[u8]> {
    let after = memchr::memmem::find(target, b"://")? + 3;
    if target.starts_with(b"/") {
        return None;
    }
    let rest = &target[after..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = &rest[..end];
    Some(memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]))
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

fn http_version(bytes: &[u8]) -> Option<Version> {
    match bytes {
        b"HTTP/1.0" => Some(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Some(Version::Http11),
        _ => None,
    }
}

/// Whether a byte may be in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

static TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < token.len() {
        token[byte] = matches!(byte as u8, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~');
        byte += 1;
    }
    token
};
