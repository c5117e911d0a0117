//! The document that Bedrock's InvokeModelWithResponseStream wraps: `{"bytes":"<base64>","p":"…"}`.

use tokentap_wire::base64;

/// Finds the field `bytes` in the payload of one event and decodes it as it comes.
#[derive(Debug, Default)]
pub(super) struct Base64Field {
    state: FieldState,
    decoder: base64::Decoder,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FieldState {
    #[default]
    Start,
    /// This many bytes of the key have come.
    Key(usize),
    /// After the key, before the quotation mark that begins the value.
    Value,
    Inside,
    Over,
    /// There is no such field: the payload is the document.
    Plain,
}

const KEY: &[u8] = b"\"bytes\"";

impl Base64Field {
    /// For a payload that is the document itself.
    pub(super) fn plain() -> Self {
        Self { state: FieldState::Plain, ..Self::default() }
    }

    pub(super) fn push(&mut self, mut bytes: &[u8], mut give: impl FnMut(&[u8])) {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.state {
                FieldState::Plain => return give(bytes),
                FieldState::Over => return,
                FieldState::Inside => {
                    let end = bytes.iter().position(|&byte| byte == b'"').unwrap_or(bytes.len());
                    // What is no base64 leaves the document cut, which its end shows.
                    let _ = self.decoder.feed(&bytes[..end], &mut give);
                    if end < bytes.len() {
                        self.state = FieldState::Over;
                    }
                    return;
                }
                FieldState::Start => self.state = FieldState::Key(usize::from(first == KEY[0])),
                FieldState::Key(matched) if matched == KEY.len() || first == KEY[matched] => {
                    if matched == KEY.len() {
                        self.state = FieldState::Value;
                        continue;
                    }
                    self.state = FieldState::Key(matched + 1);
                }
                FieldState::Key(_) => self.state = FieldState::Key(usize::from(first == KEY[0])),
                FieldState::Value => {
                    if first == b'"' {
                        self.state = FieldState::Inside;
                    }
                }
            }
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapped_document_comes_out_however_the_payload_is_cut() {
        for payload in [
            r#"{"bytes":"eyJhIjoxfQ==","p":"abc"}"#,
            r#"{"p":"abc", "bytes" : "eyJhIjoxfQ=="}"#,
            r#"{"bytesx":"b","bytes":"eyJhIjoxfQ=="}"#,
        ] {
            for size in [1, 3, 100] {
                let mut field = Base64Field::default();
                let mut document = Vec::new();
                for piece in payload.as_bytes().chunks(size) {
                    field.push(piece, |bytes| document.extend_from_slice(bytes));
                }
                assert_eq!(document, br#"{"a":1}"#, "{payload} in pieces of {size}");
            }
        }
    }
}
