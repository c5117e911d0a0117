//! Masks heads and the framing between chunks.

use super::mask::MASK;

/// Header fields whose values stay: what parsing, recognition and trace context need, and what says nothing
/// about a user. `x-stainless-` stands for all that begin so (language and version of an SDK).
const KEPT_FIELDS: [&str; 49] = [
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "apim-request-id",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "fireworks-server-processing-time",
    "grpc-encoding",
    "grpc-status",
    "host",
    "keep-alive",
    "mcp-protocol-version",
    "openai-processing-ms",
    "openai-version",
    "request-id",
    "retry-after",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "server",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-amzn-bedrock-cache-read-input-token-count",
    "x-amzn-bedrock-cache-write-input-token-count",
    "x-amzn-bedrock-input-token-count",
    "x-amzn-bedrock-invocation-latency",
    "x-amzn-bedrock-output-token-count",
    "x-amzn-errortype",
    "x-amzn-requestid",
    "x-compute-tokens",
    "x-compute-type",
    "x-envoy-upstream-service-time",
    "x-generated-tokens",
    "x-generation-id",
    "x-ms-region",
    "x-prompt-tokens",
    "x-request-id",
];
const KEPT_PREFIX: &str = "x-stainless-";

/// Query parameters whose values stay.
const KEPT_PARAMETERS: [&str; 7] =
    ["alt", "api-version", "beta", "deployment", "model", "starting_after", "stream"];

/// What a body is, by `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// One JSON document, or one per line.
    Json,
    /// Server-sent events.
    Events,
    /// Nothing that can be masked in place.
    Other,
    /// The head does not say.
    Unnamed,
}

/// Masks the heads of one direction, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Fields {
    place: Place,
    /// The field or parameter name at hand.
    name: Name,
    /// The word of the path at hand.
    word: Word,
    /// `Content-Type` of the head at hand or just passed.
    media_type: Name,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In the start line, before any query.
    #[default]
    Start,
    /// There, after so many bytes of `://`.
    Scheme(u8),
    /// In the authority of an absolute-form target, which may hold credentials.
    Authority,
    /// In the name of a query parameter.
    Parameter,
    /// In its value; whether that stays.
    Argument(bool),
    /// After the query.
    Version,
    /// At the start of a line, which may go on with the value of the one before: whether that stays.
    LineStart(bool),
    FieldName,
    FieldValue(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Kept,
    MediaType,
    Masked,
}

impl Fields {
    /// Masks the next bytes of a head in place.
    pub(super) fn mask(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.step(byte);
        }
    }

    /// What the last head says of its body.
    pub(super) fn media_type(&self) -> MediaType {
        let text = self.media_type.as_str();
        match text.split(';').next().unwrap_or_default().trim_end() {
            "" if text.is_empty() => MediaType::Unnamed,
            "text/event-stream" => MediaType::Events,
            kind if kind.contains("json") => MediaType::Json,
            _ => MediaType::Other,
        }
    }

    /// Bytes are missing: the rest of the line at hand is masked.
    pub(super) fn gap(&mut self) {
        if self.place != Place::Start {
            self.place = Place::FieldValue(Value::Masked);
        }
    }

    fn step(&mut self, byte: &mut u8) {
        let is_start_line =
            !matches!(self.place, Place::LineStart(_) | Place::FieldName | Place::FieldValue(_));
        match (*byte, self.place) {
            (b'\r', Place::LineStart(_)) => {}
            // The blank line: a start line comes next.
            (b'\n', Place::LineStart(_)) => self.place = Place::Start,
            (b'\n', Place::FieldValue(value)) => self.place = Place::LineStart(value != Value::Masked),
            (b'\n', _) => {
                if is_start_line {
                    self.media_type.clear();
                    self.word = Word::default();
                }
                self.place = Place::LineStart(false);
            }
            (b'\r', _) => {}
            (b' ', _) if is_start_line && self.place != Place::Start => self.place = Place::Version,
            (b' ' | b'\t', Place::LineStart(kept)) => {
                self.place = Place::FieldValue(if kept { Value::Kept } else { Value::Masked });
            }
            (_, Place::LineStart(_)) => {
                self.name.clear();
                self.place = Place::FieldName;
                self.field_name(byte);
            }
            (_, Place::FieldName) => self.field_name(byte),
            (b' ' | b'\t', Place::FieldValue(_)) | (_, Place::FieldValue(Value::Kept)) => {}
            (byte, Place::FieldValue(Value::MediaType)) => self.media_type.push(byte),
            (_, Place::FieldValue(Value::Masked)) => *byte = MASK,
            // `HTTP/1.1`, and no more of what somebody sent unescaped.
            (b'A'..=b'Z' | b'/' | b'0'..=b'9' | b'.', Place::Version) => {}
            (_, Place::Version) => *byte = MASK,
            (
                _,
                Place::Start | Place::Scheme(_) | Place::Authority | Place::Parameter | Place::Argument(_),
            ) => {
                self.target(byte);
            }
        }
    }

    fn field_name(&mut self, byte: &mut u8) {
        match *byte {
            b':' => {
                let name = self.name.as_str();
                let value = match name {
                    "content-type" => Value::MediaType,
                    _ if KEPT_FIELDS.binary_search(&name).is_ok() || name.starts_with(KEPT_PREFIX) => {
                        Value::Kept
                    }
                    _ => Value::Masked,
                };
                self.place = Place::FieldValue(value);
            }
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') => self.name.push(b),
            // No field name after all.
            _ => {
                *byte = MASK;
                self.place = Place::FieldValue(Value::Masked);
            }
        }
    }

    fn target(&mut self, byte: &mut u8) {
        if matches!(self.place, Place::Start | Place::Scheme(_)) {
            self.word.mask(byte);
        }
        self.place = match (self.place, *byte) {
            (Place::Start | Place::Scheme(_) | Place::Authority, b'?') => {
                self.name.clear();
                Place::Parameter
            }
            (Place::Start, b':') => Place::Scheme(1),
            (Place::Scheme(1), b'/') => Place::Scheme(2),
            (Place::Scheme(2), b'/') => Place::Authority,
            (Place::Authority, b'/') => Place::Start,
            (Place::Start | Place::Scheme(_), _) => Place::Start,
            (Place::Parameter | Place::Argument(_), b'&' | b';') => {
                self.name.clear();
                Place::Parameter
            }
            (Place::Parameter, b'=') => Place::Argument(KEPT_PARAMETERS.contains(&self.name.as_str())),
            (Place::Parameter, b) if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') => {
                self.name.push(b);
                Place::Parameter
            }
            (Place::Argument(true), _) => Place::Argument(true),
            (place, _) => {
                *byte = MASK;
                if place == Place::Parameter { Place::Argument(false) } else { place }
            }
        };
    }
}

/// Masks chunk extensions and trailers, cut anywhere; sizes and names stay.
#[derive(Debug, Default)]
pub(super) struct Framing {
    masking: bool,
}

impl Framing {
    /// Masks the next bytes between chunks in place.
    pub(super) fn mask(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            match *byte {
                b'\n' => self.masking = false,
                b'\r' => {}
                _ if self.masking => *byte = MASK,
                b';' | b':' => self.masking = true,
                _ => {}
            }
        }
    }

    /// Bytes are missing: the rest of the line is masked.
    pub(super) fn gap(&mut self) {
        self.masking = true;
    }
}

/// A run of letters and digits. One that is long and has both may be a key in a path, as web hooks have it;
/// models, operations and versions are not like that.
#[derive(Debug, Default)]
struct Word {
    len: usize,
    digits: bool,
}

impl Word {
    const LONGEST: usize = 12;

    fn mask(&mut self, byte: &mut u8) {
        if !byte.is_ascii_alphanumeric() {
            *self = Self::default();
            return;
        }
        self.len += 1;
        self.digits |= byte.is_ascii_digit();
        if self.digits && self.len > Self::LONGEST {
            *byte = MASK;
        }
    }
}

/// A short text in lower case. What is too long is no name that we know.
#[derive(Debug, Default)]
struct Name {
    text: String,
}

impl Name {
    const LONGEST: usize = 64;

    fn clear(&mut self) {
        self.text.clear();
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() <= Self::LONGEST {
            self.text.push(char::from(byte.to_ascii_lowercase()));
        }
    }

    fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::tests::check_masked;

    #[track_caller]
    fn check(text: &str, want: &str) {
        check_masked(Fields::mask, text, want);
    }

    #[test]
    fn values_stay_where_parsing_needs_them() {
        check(
            "POST /v1/messages HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-1\r\nX-Api-Key:k\r\n\
             Content-Length: 5\r\nX-Stainless-Lang: py\r\nCookie: a=b;\r\n c=d\r\n\r\n",
            "POST /v1/messages HTTP/1.1\r\nHost: a\r\nAuthorization: xxxxxx xxxx\r\nX-Api-Key:x\r\n\
             Content-Length: 5\r\nX-Stainless-Lang: py\r\nCookie: xxxx\r\n xxx\r\n\r\n",
        );
        check(
            "HTTP/1.1 429 Too Many Requests\nserver: x\nset-cookie: s=1\n\nHTTP/1.1 200 OK\n\n",
            "HTTP/1.1 429 Too Many Requests\nserver: x\nset-cookie: xxx\n\nHTTP/1.1 200 OK\n\n",
        );
    }

    #[test]
    fn targets_keep_their_path_and_known_parameters() {
        check(
            "GET /a?key=s&api-version=2024-10-21&api_key=s=t&flag HTTP/1.1\r\n\r\n",
            "GET /a?key=x&api-version=2024-10-21&api_key=xxx&flag HTTP/1.1\r\n\r\n",
        );
        check("GET /a?na%63=s?t s HTTP/1.1\n\n", "GET /a?naxxxxxxx x HTTP/1.1\n\n");
        check("POST http://u:p@h:1/a?k=v HTTP/1.1\n\n", "POST http://xxxxxxx/a?k=x HTTP/1.1\n\n");
        check("CONNECT api.openai.com:443 HTTP/1.1\n\n", "CONNECT api.openai.com:443 HTTP/1.1\n\n");
        let model = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";
        check(&format!("POST {model} HTTP/1.1\n\n"), &format!("POST {model} HTTP/1.1\n\n"));
        check(
            "POST /services/T00/B00/aB3dE5fG7hI9jK1lM HTTP/1.1\n\n",
            "POST /services/T00/B00/aB3dE5fG7hI9xxxxx HTTP/1.1\n\n",
        );
    }

    #[test]
    fn lines_that_are_no_fields_are_masked() {
        check("GET / HTTP/1.1\nmy password\nb: c\n\n", "GET / HTTP/1.1\nmyxxxxxxxxx\nb: x\n\n");
    }

    #[test]
    fn media_types() {
        for (value, want) in [
            ("application/json", MediaType::Json),
            ("Application/Problem+JSON; charset=utf-8", MediaType::Json),
            ("application/x-ndjson", MediaType::Json),
            ("text/event-stream;charset=utf-8", MediaType::Events),
            ("text/plain", MediaType::Other),
            ("multipart/form-data; boundary=json", MediaType::Other),
        ] {
            let mut fields = Fields::default();
            fields
                .mask(format!("POST / HTTP/1.1\r\nContent-Type:{value}\r\n\r\n").into_bytes().as_mut_slice());
            assert_eq!(fields.media_type(), want, "{value}");
            fields.mask(b"POST / HTTP/1.1\r\n\r\n".to_vec().as_mut_slice());
            assert_eq!(fields.media_type(), MediaType::Unnamed);
        }
    }

    #[test]
    fn framing_keeps_sizes_and_names() {
        let mut framing = Framing::default();
        let mut bytes = b"\r\n1a;ext=s\r\n0\r\nX-Sum: secret\r\n\r\n".to_vec();
        framing.mask(&mut bytes);
        assert_eq!(bytes, b"\r\n1a;xxxxx\r\n0\r\nX-Sum:xxxxxxx\r\n\r\n");
    }

    #[test]
    fn lists_can_be_searched() {
        assert!(KEPT_FIELDS.is_sorted());
    }
}
