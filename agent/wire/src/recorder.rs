//! A sink for tests: every exchange as one line of text.

use std::collections::BTreeMap;

use crate::{
    Ending, ExchangeId, Headers, Interest, MessageKind, MessagePart, Nanos, Reason, RequestHead,
    ResponseHead, Role, Sink,
};

/// Writes down what it is told, and panics when the calls of an exchange make no sense.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Exchanges by number.
    pub(crate) seen: BTreeMap<u64, Seen>,
    /// Bytes by the reason for which they were dropped.
    pub(crate) dropped: BTreeMap<Reason, u64>,
    /// Targets whose bodies are not wanted.
    pub(crate) skip: Option<&'static str>,
    /// A response is finished once its body ends with this.
    pub(crate) terminator: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) role: Option<Role>,
    pub(crate) authority: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) request: String,
    pub(crate) request_body: Vec<u8>,
    pub(crate) request_ended: bool,
    pub(crate) status: Option<u16>,
    pub(crate) response_body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Messages of a WebSocket, in the order of their beginnings.
    pub(crate) messages: Vec<RecordedMessage>,
    /// Bytes of a body are missing.
    pub(crate) gap: bool,
    pub(crate) ending: Option<Ending>,
    /// First byte of the request, first byte of the response, end.
    pub(crate) times: [Option<u64>; 3],
}

/// A message of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedMessage {
    pub(crate) from: Role,
    pub(crate) kind: MessageKind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) whole: bool,
}

impl Recorder {
    /// Each exchange as `METHOD target [body] status [body] ending`; `…` for a request whose end was not seen,
    /// `-` for what never came, `<n>` for missing bytes.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.values().map(Seen::line).collect()
    }

    fn open(&mut self, id: ExchangeId) -> &mut Seen {
        let seen = self.seen.get_mut(&id.0).expect("a call for an exchange that has not begun");
        assert_eq!(seen.ending, None, "a call for an exchange that has ended");
        seen
    }
}

impl Seen {
    fn line(&self) -> String {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!(
            "{} [{}{} {} [{}] {}",
            self.request,
            text(&self.request_body),
            if self.request_ended { "]" } else { "…" },
            self.status.map_or_else(|| "-".into(), |status| status.to_string()),
            text(&self.response_body),
            self.ending.map_or_else(|| "-".into(), |ending| format!("{ending:?}")),
        )
    }
}

impl Sink for Recorder {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, at: Nanos) -> Interest {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let seen = Seen {
            role: Some(head.role),
            authority: head.authority.map(text),
            fields: head.headers.iter().map(|(name, value)| (text(name), text(value))).collect(),
            request: format!("{} {}", text(head.method), text(head.target)),
            times: [Some(at.0), None, None],
            ..Seen::default()
        };
        let skip = self.skip.is_some_and(|target| target.as_bytes() == head.target);
        assert!(self.seen.insert(id.0, seen).is_none(), "an exchange began twice");
        if skip { Interest::Skip } else { Interest::Body }
    }

    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], _at: Nanos) {
        let seen = self.open(id);
        assert!(!seen.request_ended);
        seen.request_body.extend_from_slice(bytes);
    }

    fn request_end(&mut self, id: ExchangeId, _at: Nanos) {
        assert!(!std::mem::replace(&mut self.open(id).request_ended, true));
    }

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, at: Nanos) -> Interest {
        let skip = self.skip;
        let seen = self.open(id);
        assert_eq!(seen.status.replace(head.status), None);
        seen.times[1] = Some(at.0);
        if skip.is_some_and(|target| seen.request.ends_with(target)) {
            Interest::Skip
        } else {
            Interest::Body
        }
    }

    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], _at: Nanos) {
        let seen = self.open(id);
        assert!(seen.status.is_some());
        seen.response_body.extend_from_slice(bytes);
    }

    fn message(&mut self, id: ExchangeId, part: &MessagePart<'_>, _at: Nanos) {
        let messages = &mut self.open(id).messages;
        let MessagePart { from, kind, first, last, bytes } = *part;
        let open = messages.iter_mut().rfind(|message| message.from == from).filter(|message| !message.whole);
        match open.filter(|_| !first) {
            Some(message) => {
                assert_eq!(message.kind, kind);
                message.bytes.extend_from_slice(bytes);
                message.whole = last;
            }
            None => {
                assert!(first, "a message without its beginning");
                messages.push(RecordedMessage { from, kind, bytes: bytes.to_vec(), whole: last });
            }
        }
    }

    fn trailers(&mut self, id: ExchangeId, fields: Headers<'_>, _at: Nanos) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        self.open(id).trailers.extend(fields.iter().map(|(name, value)| (text(name), text(value))));
    }

    fn gap(&mut self, id: ExchangeId, from: Role, missing: Option<u64>) {
        let seen = self.open(id);
        seen.gap = true;
        let body = match from {
            Role::Client => &mut seen.request_body,
            Role::Server => &mut seen.response_body,
        };
        let missing = missing.map_or_else(|| "?".into(), |missing| missing.to_string());
        body.extend_from_slice(format!("<{missing}>").as_bytes());
    }

    fn end(&mut self, id: ExchangeId, ending: Ending, at: Nanos) {
        let seen = self.open(id);
        seen.ending = Some(ending);
        seen.times[2] = Some(at.0);
    }

    fn is_response_complete(&self, id: ExchangeId) -> bool {
        self.terminator.is_some_and(|end| self.seen[&id.0].response_body.ends_with(end.as_bytes()))
    }

    fn dropped(&mut self, reason: Reason, bytes: u64) {
        *self.dropped.entry(reason).or_default() += bytes;
    }
}
