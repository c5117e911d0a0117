//! What the parsers make of a tape: each exchange of each stream, whatever it is about.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use serde_json::{Value, json};
use tokentap_abi::{Kind, flags};
use tokentap_tape::{Entry, TapeReader};
use tokentap_wire::{
    Connection, Ending, ExchangeId, Headers, Interest, Limits, MessageKind, MessagePart, Nanos, Reason,
    RequestHead, ResponseHead, Role, Sink, Version,
};

use crate::content::{Body, exact};

/// Header fields as text, in wire order.
pub type Fields = Vec<(String, String)>;

/// The exchanges of one stream.
#[derive(Debug, Default)]
pub struct Traffic {
    /// In the order of their requests.
    pub exchanges: Vec<Exchange>,
    /// Bytes that belong to no exchange, by reason.
    pub dropped: BTreeMap<Reason, u64>,
    /// How many exchanges were under way at once.
    pub most_open: usize,
    open: usize,
}

/// One exchange, as it was told.
#[derive(Debug)]
pub struct Exchange {
    /// The stream that carried it.
    pub stream: u64,
    /// Whether the observed process asked or answered.
    pub role: Role,
    /// Protocol version.
    pub version: Version,
    /// Method and target, each empty when unknown.
    pub asked: [String; 2],
    /// Where the request went.
    pub authority: Option<String>,
    /// What was asked.
    pub request: Message,
    /// The status of the response; 0 when it is unknown, `None` when none came.
    pub status: Option<u16>,
    /// What was answered.
    pub response: Message,
    /// The fields after the response.
    pub trailers: Fields,
    /// The messages of a WebSocket, of the client and of the server, each side's in order.
    pub said: [Vec<Said>; 2],
    /// Whether those are all.
    pub trailers_complete: bool,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// A message of a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What it is.
    pub kind: MessageKind,
    /// All of it.
    pub bytes: Vec<u8>,
    /// Its last part has come.
    pub whole: bool,
}

/// One side of an exchange.
#[derive(Debug, Default)]
pub struct Message {
    /// The fields of its head.
    pub fields: Fields,
    /// Whether those are all.
    pub complete: bool,
    /// The body, content coding removed.
    pub body: Vec<u8>,
    /// The lengths of the pieces in which it came, in bytes.
    pieces: Vec<usize>,
    /// Whether bytes of the body are missing.
    pub gap: bool,
}

impl Message {
    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The gRPC messages of the body, decompressed, each with whether it was compressed.
    ///
    /// # Panics
    /// When the body is not of gRPC, or a message is not what `grpc-encoding` says.
    #[must_use]
    pub fn grpc(&self) -> Vec<(bool, Vec<u8>)> {
        let messages = self.as_sent().grpc().into_iter();
        messages
            .map(|message| {
                assert!(!message.trailers, "{message:?}");
                (message.compressed, message.bytes)
            })
            .collect()
    }

    /// What the body is made of, as golden files have it: `{"lines": …}` and the like, by its content type, else
    /// `{"body": …}`.
    ///
    /// # Panics
    /// When the body is not of that type.
    #[must_use]
    pub fn content(&self) -> Value {
        // With bytes missing, it is not known where.
        let listed = if self.gap { None } else { self.as_sent().list() };
        match listed {
            Some((made_of, list)) => json!({made_of: list}),
            None => json!({"body": exact(&self.body)}),
        }
    }

    fn as_sent(&self) -> Body<'_> {
        let mut rest = self.body.as_slice();
        Body {
            content_type: self.get("content-type").unwrap_or_default(),
            grpc_encoding: self.get("grpc-encoding").unwrap_or("identity"),
            pieces: self.pieces.iter().filter_map(|len| rest.split_off(..*len)).collect(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.pieces.push(bytes.len());
        self.body.extend_from_slice(bytes);
    }

    fn to_json(&self) -> Value {
        let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        self.fields.iter().for_each(|(name, value)| fields.entry(name).or_default().push(value));
        let mut json = json!({"fields": fields});
        if !self.complete {
            json["incomplete"] = json!(true);
        }
        let content = self.content();
        content.as_object().into_iter().flatten().for_each(|(key, value)| json[key] = value.clone());
        if self.gap {
            json["gap"] = json!(true);
        }
        json
    }
}

impl Exchange {
    /// As golden files have it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut trailers: Vec<_> =
            self.trailers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        if !self.trailers_complete {
            trailers.push("…".to_owned());
        }
        let mut exchange = json!({
            "version": format!("{:?}", self.version),
            "role": format!("{:?}", self.role),
            "method": self.asked[0],
            "target": self.asked[1],
            "authority": self.authority,
            "request": self.request.to_json(),
            "status": self.status,
            "response": self.response.to_json(),
            "trailers": trailers,
            "ending": self.ending.map(|ending| format!("{ending:?}")),
        });
        for (side, said) in ["client", "server"].iter().zip(&self.said) {
            if !said.is_empty() {
                let said: Vec<_> =
                    said.iter().map(|said| format!("{:?}: {}", said.kind, text(&said.bytes))).collect();
                exchange["messages"][side] = json!(said);
            }
        }
        exchange
    }
}

/// Feeds every stream of a tape through a parser of its own; those that carried no byte are left out.
///
/// # Panics
/// When the tape cannot be read.
#[must_use]
pub fn traffic(tape: &Path) -> Vec<Traffic> {
    let mut reader = TapeReader::open(tape).unwrap_or_else(|e| panic!("{}: {e}", tape.display()));
    let mut followed: HashMap<u64, usize> = HashMap::new();
    let mut streams: Vec<(Connection, Traffic, Nanos)> = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap_or_else(|e| panic!("{}: {e}", tape.display())) {
        let Entry::Frame(frame, _) = entry else { continue };
        let (header, at) = (&frame.header, Nanos(frame.header.time));
        let bytes = matches!(frame.kind, Kind::Data | Kind::Loss);
        if bytes && !followed.contains_key(&header.stream) {
            followed.insert(header.stream, streams.len());
            streams.push((Connection::new(Limits::default()), Traffic::default(), at));
        }
        let Some((connection, traffic, latest)) =
            followed.get(&header.stream).and_then(|at| streams.get_mut(*at))
        else {
            continue;
        };
        *latest = at;
        let mut sink = Recorder { stream: header.stream, traffic };
        match frame.kind {
            Kind::Data => connection.data(frame.dir, header.offset, frame.payload, at, &mut sink),
            Kind::Loss => {
                connection.lost(frame.dir, header.offset, u64::from(header.orig), at, &mut sink);
            }
            Kind::HalfClose => connection.half_close(frame.dir, at, &mut sink),
            Kind::Close => {
                let left = header.flags & flags::LEFT != 0;
                connection.close(if left { Ending::ClosedLocally } else { Ending::Cut }, at, &mut sink);
                followed.remove(&header.stream);
            }
            _ => {}
        }
    }
    for (stream, at) in followed {
        if let Some((connection, traffic, latest)) = streams.get_mut(at) {
            connection.close(Ending::AgentStop, *latest, &mut Recorder { stream, traffic });
        }
    }
    streams.into_iter().map(|(_, traffic, _)| traffic).collect()
}

/// Every exchange of a tape.
///
/// # Panics
/// When the tape cannot be read.
#[must_use]
pub fn exchanges(tape: &Path) -> Vec<Exchange> {
    traffic(tape).into_iter().flat_map(|traffic| traffic.exchanges).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fields(headers: Headers<'_>) -> Fields {
    headers.iter().map(|(name, value)| (text(name).to_ascii_lowercase(), text(value))).collect()
}

struct Recorder<'a> {
    stream: u64,
    traffic: &'a mut Traffic,
}

impl Recorder<'_> {
    fn exchange(&mut self, id: ExchangeId) -> &mut Exchange {
        let at = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.traffic.exchanges.get_mut(at).expect("an exchange that has begun")
    }
}

impl Sink for Recorder<'_> {
    fn request(&mut self, id: ExchangeId, head: &RequestHead<'_>, _at: Nanos) -> Interest {
        assert_eq!(id.0, self.traffic.exchanges.len() as u64, "exchanges are numbered in order");
        self.traffic.open += 1;
        self.traffic.most_open = self.traffic.most_open.max(self.traffic.open);
        self.traffic.exchanges.push(Exchange {
            stream: self.stream,
            role: head.role,
            version: head.version,
            asked: [text(head.method), text(head.target)],
            authority: head.authority.map(text),
            request: Message {
                fields: fields(head.headers),
                complete: head.headers.complete,
                ..Message::default()
            },
            status: None,
            response: Message::default(),
            trailers: Vec::new(),
            said: Default::default(),
            trailers_complete: true,
            ending: None,
        });
        Interest::Body
    }

    fn request_body(&mut self, id: ExchangeId, bytes: &[u8], _at: Nanos) {
        self.exchange(id).request.feed(bytes);
    }

    fn request_end(&mut self, _id: ExchangeId, _at: Nanos) {}

    fn response(&mut self, id: ExchangeId, head: &ResponseHead<'_>, _at: Nanos) -> Interest {
        let exchange = self.exchange(id);
        exchange.status = Some(head.status);
        exchange.response.fields = fields(head.headers);
        exchange.response.complete = head.headers.complete;
        Interest::Body
    }

    fn response_body(&mut self, id: ExchangeId, bytes: &[u8], _at: Nanos) {
        self.exchange(id).response.feed(bytes);
    }

    fn trailers(&mut self, id: ExchangeId, headers: Headers<'_>, _at: Nanos) {
        let exchange = self.exchange(id);
        exchange.trailers.extend(fields(headers));
        exchange.trailers_complete &= headers.complete;
    }

    fn message(&mut self, id: ExchangeId, part: &MessagePart<'_>, _at: Nanos) {
        let side = usize::from(part.from == Role::Server);
        let said = &mut self.exchange(id).said[side];
        if part.first {
            said.push(Said { kind: part.kind, bytes: Vec::new(), whole: false });
        }
        let message = said.last_mut().expect("a message begins with its first part");
        assert!(!message.whole && message.kind == part.kind, "{part:?} after {message:?}");
        message.bytes.extend_from_slice(part.bytes);
        message.whole = part.last;
    }

    fn gap(&mut self, id: ExchangeId, from: Role, _missing: Option<u64>) {
        let exchange = self.exchange(id);
        let message = match from {
            Role::Client => &mut exchange.request,
            Role::Server => &mut exchange.response,
        };
        message.gap = true;
    }

    fn end(&mut self, id: ExchangeId, ending: Ending, _at: Nanos) {
        self.traffic.open -= 1;
        let before = self.exchange(id).ending.replace(ending);
        assert_eq!(before, None, "an exchange ended twice");
    }

    fn dropped(&mut self, reason: Reason, bytes: u64) {
        *self.traffic.dropped.entry(reason).or_default() += bytes;
    }
}
