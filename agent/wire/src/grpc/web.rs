//! gRPC-Web: messages as in gRPC, the trailers as one more message, and all of it in base64 for clients that can only
//! read text (the gRPC-Web protocol).

use super::GrpcMessage;
use crate::{Reason, base64};

/// Cuts one body of `application/grpc-web` or `application/grpc-web-text` into messages.
///
/// Memory: that of the [`super::Parser`] that it uses.
#[derive(Debug)]
pub struct Parser {
    text: Option<base64::Decoder>,
    messages: super::Parser,
}

/// Whether a body is in base64, by the value of its Content-Type field; `None` when it is not gRPC-Web.
#[must_use]
pub fn is_text(content_type: &[u8]) -> Option<bool> {
    const KIND: &[u8] = b"application/grpc-web";
    const TEXT: &[u8] = b"-text";
    let (kind, rest) = content_type.split_at_checked(KIND.len())?;
    let (text, rest) = match rest.split_at_checked(TEXT.len()) {
        Some((text, after)) if text.eq_ignore_ascii_case(TEXT) => (true, after),
        _ => (false, rest),
    };
    // After it may come the messages' format, as `+proto`, and parameters.
    let ends = matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'));
    (ends && kind.eq_ignore_ascii_case(KIND)).then_some(text)
}

impl Parser {
    /// A parser that gives messages as `messages` does. `text`: the body is in base64.
    #[must_use]
    pub fn new(text: bool, messages: super::Parser) -> Self {
        Self { text: text.then(base64::Decoder::new), messages }
    }

    /// Takes bytes of the body and gives every message that they complete to `on`. After an error, no more messages are
    /// given.
    ///
    /// # Errors
    /// Those of [`super::Parser::feed`], and [`crate::Reason::Base64Invalid`].
    pub fn feed(&mut self, bytes: &[u8], mut on: impl FnMut(GrpcMessage<'_>)) -> Result<(), Reason> {
        let Self { text, messages } = self;
        let Some(text) = text.as_mut().filter(|_| !messages.is_lost()) else {
            return messages.feed(bytes, on);
        };
        let mut fed = Ok(());
        let decoded = text.feed(bytes, |bytes| {
            if fed.is_ok() {
                fed = messages.feed(bytes, &mut on);
            }
        });
        if decoded.is_err() {
            messages.stop();
        }
        fed.and(decoded)
    }

    /// Bytes of the body are missing here. `None`: it is not known how many. In text it is never known how many decoded
    /// bytes are missing, as padding may be among them.
    pub fn gap(&mut self, missing: Option<u64>) {
        match &mut self.text {
            None => self.messages.gap(missing),
            Some(_) if missing == Some(0) => {}
            Some(text) => {
                text.gap();
                self.messages.gap(None);
            }
        }
    }
}

/// The fields of a message that holds trailers, as (name, value). Lines that are no field are skipped.
pub fn trailers(message: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    message.split(|&b| b == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    /// A message and trailers; in text, each is encoded for itself.
    const BINARY: &[u8] = b"\0\0\0\0\x05hello\x80\0\0\0\x20grpc-status:0\r\ngrpc-message:ok\r\n";
    const TEXT: &[u8] = b"AAAAAAVoZWxsbw==gAAAACBncnBjLXN0YXR1czowDQpncnBjLW1lc3NhZ2U6b2sNCg==";

    fn feed(parser: &mut Parser, body: &[u8], size: usize) -> (String, Result<(), Reason>) {
        let mut seen = String::new();
        let fed = body.chunks(size).try_for_each(|piece| {
            parser.feed(piece, |message| {
                assert!(message.whole);
                if !message.trailers {
                    seen += &format!("[{}]", String::from_utf8_lossy(message.bytes));
                    return;
                }
                for (name, value) in trailers(message.bytes) {
                    seen += &format!("{}={};", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                }
            })
        });
        (seen, fed)
    }

    fn parser(text: bool) -> Parser {
        Parser::new(text, super::super::Parser::new(100))
    }

    #[test]
    fn messages_and_trailers_are_read_in_both_forms_however_they_are_cut() {
        for (text, body) in [(false, BINARY), (true, TEXT)] {
            for size in [1, 2, 5, 100] {
                let got = feed(&mut parser(text), body, size);
                assert_eq!(
                    got,
                    ("[hello]grpc-status=0;grpc-message=ok;".into(), Ok(())),
                    "in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn the_content_type_says_which_form_it_is() {
        for (content_type, want) in [
            ("application/grpc-web", Some(false)),
            ("application/grpc-web+proto", Some(false)),
            ("Application/gRPC-Web; charset=utf-8", Some(false)),
            ("application/grpc-web-text", Some(true)),
            ("application/grpc-web-text+proto", Some(true)),
            ("application/grpc-websocket", None),
            ("application/grpc", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(is_text(content_type.as_bytes()), want, "{content_type}");
        }
    }

    #[test]
    fn what_is_no_base64_and_what_is_no_message_is_named_and_ends_it() {
        let mut text = parser(true);
        assert_eq!(feed(&mut text, b"<html>", 100), (String::new(), Err(Reason::Base64Invalid)));
        assert_eq!(feed(&mut text, TEXT, 100), (String::new(), Ok(())));
        assert_eq!(feed(&mut parser(true), b"PGh0bWw+", 100), (String::new(), Err(Reason::GrpcFlagsInvalid)));
    }

    #[test]
    fn a_gap_costs_a_message_in_the_binary_form_and_in_text_the_rest_with_a_reason() {
        let binary = (false, BINARY, "grpc-status=0;grpc-message=ok;", Ok(()));
        for (text, body, want, end) in [binary, (true, TEXT, "", Err(Reason::GrpcGap))] {
            let (mut parser, mut trailers, mut ended) = (parser(text), String::new(), Ok(()));
            for (piece, missing) in [(&body[..8], 0), (&[], 1), (&body[9..], 0)] {
                parser.gap(Some(missing));
                let fed = parser.feed(piece, |message| {
                    assert_eq!(message.whole, message.trailers);
                    for (name, value) in super::trailers(message.bytes).filter(|_| message.trailers) {
                        let text = |bytes| String::from_utf8_lossy(bytes);
                        trailers += &format!("{}={};", text(name), text(value));
                    }
                });
                ended = ended.and(fed);
            }
            assert_eq!((trailers.as_str(), ended), (want, end));
            assert_eq!(feed(&mut parser, body, 100).1, if text { Ok(()) } else { end });
        }
    }

    #[test]
    fn wherever_text_is_missing_no_message_is_told_that_was_not_sent() {
        let whole = feed(&mut parser(true), TEXT, 100).0;
        for from in 0..TEXT.len() {
            for to in from + 1..=TEXT.len() {
                for missing in [Some((to - from) as u64), None] {
                    let mut parser = parser(true);
                    let (before, fed) = feed(&mut parser, &TEXT[..from], 3);
                    assert_eq!(fed, Ok(()));
                    assert!(whole.starts_with(&before), "{before}");
                    parser.gap(missing);
                    let after = feed(&mut parser, &TEXT[to..], 3);
                    let end = if to == TEXT.len() { Ok(()) } else { Err(Reason::GrpcGap) };
                    assert_eq!(after, (String::new(), end), "without {from}..{to}");
                }
            }
        }
    }
}
