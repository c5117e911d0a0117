//! Masks JSON documents in place, cut anywhere.
//!
//! It reads only what tells keys from values and strings from the rest. Where the bytes stop being JSON it
//! masks everything up to the end of the line.

use super::mask::MASK;

/// Keys whose values are identifiers, or lists of such: models, ids, kinds and reasons. Of their values stays
/// what looks like an identifier, up to the first byte that does not.
const IDENTIFIERS: [&str; 52] = [
    "agent",
    "anthropic_version",
    "assistant_id",
    "blockReason",
    "code",
    "collectionName",
    "completionReason",
    "conversation_id",
    "done_reason",
    "effort",
    "embedding_types",
    "encoding_format",
    "error_type",
    "event_type",
    "finishReason",
    "finish_reason",
    "generation_id",
    "id",
    "jsonrpc",
    "matched_stop",
    "method",
    "modalities",
    "modality",
    "model",
    "modelVersion",
    "model_id",
    "model_name",
    "native_finish_reason",
    "object",
    "previous_response_id",
    "processing_status",
    "protocolVersion",
    "provider",
    "reasoning_effort",
    "request_id",
    "responseId",
    "responseMimeType",
    "responseModalities",
    "response_id",
    "role",
    "serviceTier",
    "service_tier",
    "status",
    "stopReason",
    "stop_reason",
    "stop_type",
    "system_fingerprint",
    "thinkingLevel",
    "thread_id",
    "tool_call_id",
    "traceparent",
    "type",
];

/// Keys of what users and models say in a structured form: names and numbers inside are masked, too.
const OPAQUE: [&str; 23] = [
    "args",
    "arguments",
    "bytes",
    "context",
    "documents",
    "embedding",
    "embeddings",
    "functionResponse",
    "input",
    "inputs",
    "json",
    "location",
    "logit_bias",
    "metadata",
    "parameters",
    "prompt",
    "properties",
    "schema",
    "structuredContent",
    "token_id",
    "token_ids",
    "user_location",
    "variables",
];

/// Longest identifier that stays.
const LONGEST: usize = 128;
/// Deeper documents are masked from there on.
const DEEPEST: usize = 64;

/// Masks one document, or several in a row.
#[derive(Debug, Default)]
pub(super) struct Json {
    /// Open objects and arrays.
    open: Vec<Level>,
    place: Place,
    /// The key at hand, as far as it stayed.
    key: Vec<u8>,
    /// What the last key of the innermost object names.
    kind: Kind,
    /// Bytes of the string at hand that stayed.
    kept: usize,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    object: bool,
    /// What the values of this array, or what everything below an opaque one, is.
    kind: Kind,
    /// In an object: the next string is a key.
    key_next: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Between tokens.
    #[default]
    Between,
    Key,
    Text,
    /// In a string, after a backslash: whether the string is a key.
    Escape(bool),
    /// In a number: whether it stays.
    Number(bool),
    /// In a word, of which so many bytes were seen.
    Word(&'static [u8], usize),
    /// These are not the bytes of a document: all is masked up to the end of the line.
    Broken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Plain,
    Identifier,
    Opaque,
}

impl Json {
    /// Masks the next bytes in place.
    pub(super) fn mask(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.step(byte);
        }
    }

    /// Bytes are missing: nothing is safe before the next line.
    pub(super) fn gap(&mut self) {
        self.place = Place::Broken;
    }

    fn step(&mut self, byte: &mut u8) {
        match self.place {
            Place::Between => self.between(byte),
            Place::Key | Place::Text => self.string(byte),
            Place::Escape(key) => {
                *byte = MASK;
                self.place = if key { Place::Key } else { Place::Text };
            }
            Place::Number(kept) => match *byte {
                b'0'..=b'9' if !kept => *byte = b'1',
                b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' => {}
                _ => {
                    self.place = Place::Between;
                    self.between(byte);
                }
            },
            Place::Word(word, seen) => match word.get(seen) {
                Some(expected) if expected == byte => self.place = Place::Word(word, seen + 1),
                None => {
                    self.place = Place::Between;
                    self.between(byte);
                }
                Some(_) => self.broken(byte),
            },
            Place::Broken => match *byte {
                b'\n' => self.restart(),
                b'\r' => {}
                _ => *byte = MASK,
            },
        }
    }

    fn between(&mut self, byte: &mut u8) {
        let level = self.open.last().copied();
        let in_object = level.is_some_and(|level| level.object);
        let key_next = level.is_some_and(|level| level.key_next);
        match *byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'"' => {
                self.kept = 0;
                if key_next {
                    self.key.clear();
                    self.place = Place::Key;
                } else {
                    self.place = Place::Text;
                }
            }
            b':' if in_object => self.expect_key(false),
            b',' if level.is_some() => self.expect_key(in_object),
            b'{' | b'[' if !key_next && self.open.len() < DEEPEST => {
                let object = *byte == b'{';
                let inherited = level.is_some_and(|level| level.kind == Kind::Opaque);
                let kind = match self.value_kind() {
                    _ if inherited => Kind::Opaque,
                    // An object under such a key is no identifier.
                    Kind::Identifier if object => Kind::Plain,
                    kind => kind,
                };
                self.open.push(Level { object, kind, key_next: false });
                self.expect_key(object);
            }
            b'}' if in_object => self.close(),
            b']' if level.is_some() && !in_object => self.close(),
            b'-' | b'0'..=b'9' if !key_next => {
                // Members of objects count and limit; elements of arrays are token ids, bytes, vectors.
                let kept = in_object && self.value_kind() != Kind::Opaque;
                if !kept && *byte != b'-' {
                    *byte = b'1';
                }
                self.place = Place::Number(kept);
            }
            b't' if !key_next => self.place = Place::Word(b"true", 1),
            b'f' if !key_next => self.place = Place::Word(b"false", 1),
            b'n' if !key_next => self.place = Place::Word(b"null", 1),
            // The end of a stream of events: `[DONE]`.
            b'D' if self.open.len() == 1 && !in_object => self.place = Place::Word(b"DONE", 1),
            _ => self.broken(byte),
        }
    }

    fn string(&mut self, byte: &mut u8) {
        let key = self.place == Place::Key;
        match *byte {
            b'"' => {
                self.place = Place::Between;
                if key {
                    self.kind = self.named();
                }
            }
            b'\\' => {
                *byte = MASK;
                self.kept = usize::MAX;
                self.place = Place::Escape(key);
            }
            // A string ends in its line.
            b'\n' | b'\r' => self.broken(byte),
            _ => {
                let kind = self.value_kind();
                let may_stay = if key { kind != Kind::Opaque } else { kind == Kind::Identifier };
                if may_stay && self.kept < LONGEST && is_identifier(*byte) {
                    self.kept += 1;
                    if key {
                        self.key.push(*byte);
                    }
                } else {
                    self.kept = usize::MAX;
                    *byte = MASK;
                }
            }
        }
    }

    /// What the value at this place is.
    fn value_kind(&self) -> Kind {
        match self.open.last() {
            Some(level) if level.kind == Kind::Opaque || !level.object => level.kind,
            Some(_) => self.kind,
            None => Kind::Plain,
        }
    }

    /// What the key at hand makes of its value. One that did not stay whole is none that we know.
    fn named(&self) -> Kind {
        let is_in = |list: &[&str]| list.binary_search_by(|known| known.as_bytes().cmp(&self.key)).is_ok();
        if self.kept == usize::MAX {
            Kind::Plain
        } else if is_in(&IDENTIFIERS) {
            Kind::Identifier
        } else if is_in(&OPAQUE) {
            Kind::Opaque
        } else {
            Kind::Plain
        }
    }

    fn expect_key(&mut self, key: bool) {
        if key {
            self.kind = Kind::Plain;
        }
        if let Some(level) = self.open.last_mut() {
            level.key_next = key;
        }
    }

    fn close(&mut self) {
        self.open.pop();
        self.expect_key(false);
    }

    fn broken(&mut self, byte: &mut u8) {
        self.place = Place::Broken;
        self.step(byte);
    }

    fn restart(&mut self) {
        self.open.clear();
        self.place = Place::Between;
    }
}

const fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/' | b'@' | b'+' | b'$')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::tests::check_masked;

    #[track_caller]
    fn check(text: &str, want: &str) {
        check_masked(Json::mask, text, want);
    }

    #[test]
    fn texts_go_and_identifiers_stay() {
        check(
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi \"you\" é"}],"stop":["a"]}"#,
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"xxxxxxxxxxxxx"}],"stop":["x"]}"#,
        );
        check(
            r#"{"id":"a1","choices":[{"finish_reason":"stop","index":0}],"usage":{"prompt_tokens":12}}"#,
            r#"{"id":"a1","choices":[{"finish_reason":"stop","index":0}],"usage":{"prompt_tokens":12}}"#,
        );
    }

    #[test]
    fn an_identifier_ends_where_it_stops_looking_like_one() {
        check(
            r#"{"id":"a b", "type":"x\u0041b","model":["a","b c"]}"#,
            r#"{"id":"axx", "type":"xxxxxxxx","model":["a","bxx"]}"#,
        );
        let long = "a".repeat(200);
        let kept = "a".repeat(LONGEST) + &"x".repeat(200 - LONGEST);
        check(&format!(r#"{{"id":"{long}"}}"#), &format!(r#"{{"id":"{kept}"}}"#));
    }

    #[test]
    fn tool_arguments_go_whole() {
        check(
            r#"{"input":{"type":"card","n":-4.5e3,"l":[{"id":"a"}],"b":true},"id":"a","n":4}"#,
            r#"{"input":{"xxxx":"xxxx","x":-1.1e1,"x":[{"xx":"x"}],"x":true},"id":"a","n":4}"#,
        );
        check(r#"{"arguments":"{\"a\":1}","x":1}"#, r#"{"arguments":"xxxxxxxxx","x":1}"#);
    }

    #[test]
    fn numbers_in_lists_are_content() {
        check(
            r#"{"prompt":[12,345],"data":[[0.5,-2]],"n":12}"#,
            r#"{"prompt":[11,111],"data":[[1.1,-1]],"n":12}"#,
        );
        check("123", "111");
    }

    #[test]
    fn keys_that_are_texts_are_masked() {
        check(r#"{"my secret":1,"a\"id":"b"}"#, r#"{"myxxxxxxx":1,"axxxx":"x"}"#);
    }

    #[test]
    fn what_is_no_json_is_masked_up_to_the_end_of_the_line() {
        check("secret text\n{\"id\":\"a\"}\n", "xxxxxxxxxxx\n{\"id\":\"a\"}\n");
        check("{\"id\" secret: \"a\"}", "{\"id\" xxxxxxxxxxxx");
        check("{\"content\":\"one\nsix\"}", "{\"content\":\"xxx\nxxxxx");
        check("nullified", "nullxxxxx");
        check("]secret", "xxxxxxx");
        check("\"id\":\"secret\"", "\"xx\"xxxxxxxxx");
    }

    #[test]
    fn documents_can_follow_each_other() {
        check(
            "{\"id\":\"a\"}\n{\"id\":\"b\",\"t\":\"s\"}\n[DONE]",
            "{\"id\":\"a\"}\n{\"id\":\"b\",\"t\":\"x\"}\n[DONE]",
        );
        check("[DONT]", "[DONxx");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(DEEPEST + 5);
        check(&deep, &("[".repeat(DEEPEST) + "xxxxx"));
    }

    #[test]
    fn after_a_gap_nothing_is_trusted_before_the_next_line() {
        let mut json = Json::default();
        json.mask(b"{\"content\":\"sec".to_vec().as_mut_slice());
        json.gap();
        let mut rest = b"\"id\":\"secret\"}\n{\"id\":\"a\"}".to_vec();
        json.mask(&mut rest);
        assert_eq!(rest, b"xxxxxxxxxxxxxx\n{\"id\":\"a\"}");
    }

    #[test]
    fn lists_can_be_searched() {
        assert!(IDENTIFIERS.is_sorted() && OPAQUE.is_sorted());
    }
}
