//! The code of an API: what its tables cannot say.

use std::fmt::Debug;

use tokentap_wire::{Headers, Nanos, RequestHead, ResponseHead, Role, json::Value};

use crate::{content::Capture, facts::Facts, route::Captures};

/// Reads what only one API has. Every method has a default that does nothing: most APIs need two or three.
///
/// `calls` holds the call of the exchange as [`OpenCalls::current`]. An API whose exchanges hold many calls
/// (a WebSocket session, JSON-RPC) opens and closes them by key; what the tables find then goes to `current` first, which
/// the decoder empties at the end of each event.
pub(crate) trait Decoder: Debug + Send {
    /// The head of the request, with what its path captures.
    fn request_head(&mut self, _head: &RequestHead<'_>, _captures: &Captures<'_>, _calls: &mut OpenCalls) {}
    fn response_head(&mut self, _head: &ResponseHead<'_>, _calls: &mut OpenCalls) {}
    /// A document or event begins.
    fn begin(&mut self, _event: &Event<'_>, _calls: &mut OpenCalls) {}
    /// An own field: its number, and the position in each array of its path.
    fn field(&mut self, _field: u8, _indices: &[u32], _value: Value<'_>, _calls: &mut OpenCalls) {}
    /// The document or event ends. `whole`: all of it came.
    fn end(&mut self, _whole: bool, _calls: &mut OpenCalls) {}
    fn trailers(&mut self, _fields: Headers<'_>, _calls: &mut OpenCalls) {}
    /// The exchange is over: sets the facts that only all of it can tell.
    fn finish(&mut self, _calls: &mut OpenCalls) {}
}

/// An API whose tables say everything.
#[derive(Debug)]
pub(crate) struct TablesOnly;

impl Decoder for TablesOnly {}

/// The [`TablesOnly`] decoder, for [`crate::api::ApiSpec::decoder`].
pub(crate) fn tables_only() -> Box<dyn Decoder> {
    Box::new(TablesOnly)
}

/// A document of a body, or an event of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    /// Who sent it.
    pub(crate) from: Role,
    /// The name that the framing gives it; empty where there is none.
    pub(crate) name: &'a [u8],
}

/// What a call of an exchange with many calls is known by: an id of the API.
pub(crate) type CallKey = String;

/// The calls of one exchange.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    /// The call of the exchange. Where an exchange holds many: what the current event says.
    pub(crate) current: Facts,
    /// When the current bytes were captured.
    pub(crate) now: Nanos,
    /// The exchange holds many calls: `current` is none by itself.
    pub(crate) many: bool,
    /// The documents, where content is captured.
    pub(crate) capture: Option<Box<Capture>>,
    open: Vec<(CallKey, Facts)>,
    closed: Vec<Facts>,
}

/// More calls are not open at once in one exchange. The oldest then ends as one whose end was not seen, or is forgotten
/// if the server has not said anything of it.
const MOST_OPEN: usize = 64;

impl OpenCalls {
    /// Opens a call, and gives what is known of it.
    pub(crate) fn open(&mut self, key: CallKey, mut facts: Facts) -> &mut Facts {
        facts.start.get_or_insert(self.now);
        self.open_with_exchange(key, facts)
    }

    /// As [`OpenCalls::open`], for a call that began with its exchange.
    pub(crate) fn open_with_exchange(&mut self, key: CallKey, facts: Facts) -> &mut Facts {
        if self.open.len() == MOST_OPEN {
            let (_, mut oldest) = self.open.remove(0);
            if oldest.response.is_recognised {
                oldest.response.gapped = true;
                oldest.end.get_or_insert(self.now);
                self.closed.push(oldest);
            }
        }
        self.open.push((key, facts));
        &mut self.open.last_mut().expect("it was pushed").1
    }

    pub(crate) fn get(&mut self, key: &str) -> Option<&mut Facts> {
        self.open.iter_mut().find(|(known, _)| known == key).map(|(_, facts)| facts)
    }

    /// The call that was opened last.
    pub(crate) fn newest(&mut self) -> Option<&mut Facts> {
        self.open.last_mut().map(|(_, facts)| facts)
    }

    /// The key of the call that is open, if there is one and no other.
    pub(crate) fn only(&self) -> Option<&str> {
        match self.open.as_slice() {
            [(key, _)] => Some(key),
            _ => None,
        }
    }

    /// Takes what the current event says.
    pub(crate) fn take_event(&mut self) -> Facts {
        std::mem::take(&mut self.current)
    }

    /// Ends a call, if it is open, at the current time.
    pub(crate) fn close(&mut self, key: &str) {
        if let Some(at) = self.open.iter().position(|(known, _)| known == key) {
            let (_, mut facts) = self.open.remove(at);
            facts.response.done = true;
            facts.end = Some(self.now);
            self.closed.push(facts);
        }
    }

    /// Bytes of what the server sends are missing.
    pub(crate) fn gap(&mut self) {
        self.current.response.gap();
        for (_, facts) in &mut self.open {
            facts.response.gap();
            // Its end may be what is missing.
            facts.end = Some(self.now);
        }
    }

    /// Calls that have ended.
    pub(crate) fn take_closed(&mut self) -> Vec<Facts> {
        std::mem::take(&mut self.closed)
    }

    /// Calls that have not.
    pub(crate) fn take_open(&mut self) -> impl Iterator<Item = Facts> + use<> {
        std::mem::take(&mut self.open).into_iter().map(|(_, facts)| facts)
    }

    pub(crate) const fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }
}
