//! Masks server-sent events in place, cut anywhere.

use super::{json::Json, mask::MASK};

/// Fields that are known.
const FIELDS: [&[u8]; 4] = [b"data", b"event", b"id", b"retry"];
/// A byte order mark may come first.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Masks one stream of events.
#[derive(Debug, Default)]
pub(super) struct Sse {
    place: Place,
    /// The data of the event at hand.
    data: Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes of a mark were seen.
    Mark(usize),
    /// At the start of a line; CR ended the one before.
    LineStart(bool),
    /// In the name of this field, of which so many bytes were seen.
    Name(&'static [u8], usize),
    /// In data; whether the space after the colon may come.
    Data(bool),
    /// In an event's name or a number, which stays up to the first byte that is not one's; whether the space
    /// after the colon may come.
    Identifier(bool),
    Masked,
}

impl Default for Place {
    fn default() -> Self {
        Self::Mark(0)
    }
}

impl Sse {
    /// Masks the next bytes in place.
    pub(super) fn mask(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.step(byte);
        }
    }

    /// Bytes are missing: the rest of the line is masked, and data up to the end of the event.
    pub(super) fn gap(&mut self) {
        self.place = Place::Masked;
        self.data.gap();
    }

    fn step(&mut self, byte: &mut u8) {
        if let Place::Mark(seen) = self.place {
            if MARK.get(seen) == Some(byte) {
                self.place = Place::Mark(seen + 1);
                return;
            }
            self.place = Place::LineStart(false);
        }
        let line_start = matches!(self.place, Place::LineStart(_));
        match (*byte, self.place) {
            (b'\n', Place::LineStart(true)) => self.place = Place::LineStart(false),
            (b'\r' | b'\n', _) => {
                // A blank line ends the event.
                if line_start {
                    self.data = Json::default();
                }
                self.place = Place::LineStart(*byte == b'\r');
            }
            // A comment.
            (b':', Place::LineStart(_)) => self.place = Place::Masked,
            (first, Place::LineStart(_)) => match FIELDS.into_iter().find(|field| field[0] == first) {
                Some(field) => self.place = Place::Name(field, 1),
                None => self.masked(byte),
            },
            (b':', Place::Name(field, seen)) if seen == field.len() => {
                self.place = match field {
                    b"data" => Place::Data(true),
                    b"id" => Place::Masked,
                    _ => Place::Identifier(true),
                };
            }
            (letter, Place::Name(field, seen)) if field.get(seen) == Some(&letter) => {
                self.place = Place::Name(field, seen + 1);
            }
            (b' ', Place::Data(true)) => self.place = Place::Data(false),
            (_, Place::Data(_)) => {
                self.place = Place::Data(false);
                self.data.mask(std::slice::from_mut(byte));
            }
            (b, Place::Identifier(space))
                if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-') || (space && b == b' ') =>
            {
                self.place = Place::Identifier(false);
            }
            (_, Place::Name(..) | Place::Identifier(_) | Place::Masked | Place::Mark(_)) => self.masked(byte),
        }
    }

    fn masked(&mut self, byte: &mut u8) {
        *byte = MASK;
        self.place = Place::Masked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::tests::check_masked;

    #[track_caller]
    fn check(text: &str, want: &str) {
        check_masked(Sse::mask, text, want);
    }

    #[test]
    fn fields_stay_and_data_is_masked_as_json() {
        check(
            "\u{feff}event: ping\r\ndata: {\"id\":\"a\",\"t\":\"hi\"}\r\n\r\nid: 7\rretry: 1\r\rdata:[DONE]\n\n",
            "\u{feff}event: ping\r\ndata: {\"id\":\"a\",\"t\":\"xx\"}\r\n\r\nid:xx\rretry: 1\r\rdata:[DONE]\n\n",
        );
    }

    #[test]
    fn data_may_have_several_lines() {
        check(
            "data: {\"id\":\ndata: \"a\",\"t\":\ndata: \"b\"}\n\n",
            "data: {\"id\":\ndata: \"a\",\"t\":\ndata: \"x\"}\n\n",
        );
    }

    #[test]
    fn everything_else_is_masked() {
        check(
            ": secret\nhello secret\ndatas secret\nevent: a b\ndata: no json\ndata: \"id\"\n\n",
            ":xxxxxxx\nxxxxxxxxxxxx\ndataxxxxxxxx\nevent: axx\ndata: nxxxxxx\ndata: xxxx\n\n",
        );
    }

    #[test]
    fn after_a_gap_the_next_event_is_read_again() {
        let mut events = Sse::default();
        events.mask(b"data: {\"t\":\"sec".to_vec().as_mut_slice());
        events.gap();
        let mut rest = b"ret\"}\ndata: {\"id\":\"s\"}\n\ndata: {\"id\":\"a\"}\n\n".to_vec();
        events.mask(&mut rest);
        assert_eq!(rest, b"xxxxx\ndata: xxxxxxxxxx\n\ndata: {\"id\":\"a\"}\n\n");
    }
}
