//! A server that answers as LLM APIs do, over TLS (the system's OpenSSL) and over plain HTTP.
//!
//! Model names choose the behaviour ([`Scenario`]), a [`Ledger`] says what was really sent. The same seed
//! and the same order of requests give the same bytes.

mod anthropic;
mod certificate;
mod coding;
mod http;
mod openai;
mod reply;
mod scenario;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use openssl::ssl::{ShutdownState, SslAcceptor, SslStream};
use tempfile::TempDir;

pub use self::scenario::{Coding, Framing, Scenario, Turn};
use self::{
    coding::Encoder,
    http::{Peer, Request, head},
    reply::{Body, Event, Reply, Tell},
};
use crate::ledger::{Answer, Ledger, Line, Traffic};

/// How long an endless stream lasts when nobody leaves.
const ENDLESS: Duration = Duration::from_secs(60);
/// Between the pieces of an endless stream.
const ENDLESS_PACE: Duration = Duration::from_millis(5);

/// After so many events, the client has read the first ones for certain.
const UNDER_WAY: u64 = 20;

/// What can be chosen about a [`Mock`].
#[derive(Debug, Default)]
pub struct Options {
    /// Port of the plain listener, 0 for any.
    pub plain_port: u16,
    /// Port of the TLS listener, 0 for any.
    pub tls_port: u16,
    /// Ids, token counts and content follow from it.
    pub seed: u64,
    /// Where answers are written down.
    pub ledger: Ledger,
}

/// A running server; it answers until the process ends.
pub struct Mock {
    plain: SocketAddr,
    tls: SocketAddr,
    ca: PathBuf,
    identity: String,
    acceptor: SslAcceptor,
    shared: Arc<Shared>,
    _folder: Option<TempDir>,
}

struct Shared {
    seed: u64,
    ledger: Ledger,
    requests: AtomicU64,
    connections: AtomicU64,
}

impl Mock {
    /// Listens on loopback, and writes the certificate authority that clients must trust to `ca`.
    ///
    /// # Errors
    /// When a port is taken, or the file or the certificate cannot be made.
    pub fn start(options: Options, ca: &Path) -> io::Result<Self> {
        let Options { plain_port, tls_port, seed, ledger } = options;
        let (acceptor, identity) = certificate::acceptor(ca)?;
        let shared =
            Arc::new(Shared { seed, ledger, requests: AtomicU64::new(0), connections: AtomicU64::new(0) });
        let plain = TcpListener::bind(("127.0.0.1", plain_port))?;
        let tls = TcpListener::bind(("127.0.0.1", tls_port))?;
        let mock = Self {
            plain: plain.local_addr()?,
            tls: tls.local_addr()?,
            ca: ca.to_owned(),
            identity,
            acceptor,
            shared: Arc::clone(&shared),
            _folder: None,
        };
        accept(plain, "plain", shared, |socket| Ok(Stream::Plain(socket)))?;
        mock.accept_tls(tls)?;
        Ok(mock)
    }

    /// Listens for TLS on the same port of another address, too.
    ///
    /// # Panics
    /// When the port is taken there.
    pub fn listen_at(&self, address: IpAddr) {
        let listener = TcpListener::bind((address, self.tls.port()));
        listener.and_then(|listener| self.accept_tls(listener)).expect("the port is free at this address");
    }

    fn accept_tls(&self, listener: TcpListener) -> io::Result<()> {
        let acceptor = self.acceptor.clone();
        accept(listener, "tls", Arc::clone(&self.shared), move |socket| handshake(&acceptor, socket))
    }

    /// On any ports, its certificate authority in a folder that goes when it goes.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn for_test() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mock = Self::start(Options::default(), &folder.path().join("ca.pem")).expect("two free ports");
        Self { _folder: Some(folder), ..mock }
    }

    /// The certificate authority to trust.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Its certificate and key (PEM), for others who serve loopback.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Address of the plain listener.
    #[must_use]
    pub const fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// Address of the TLS listener.
    #[must_use]
    pub const fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// What it sent.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }
}

fn accept(
    listener: TcpListener,
    name: &str,
    shared: Arc<Shared>,
    open: impl Fn(TcpStream) -> io::Result<Stream> + Send + Sync + 'static,
) -> io::Result<()> {
    let open = Arc::new(open);
    let port = listener.local_addr()?.port();
    thread::Builder::new().name(format!("mock-{name}")).spawn(move || {
        for socket in listener.incoming().flatten() {
            let (shared, open) = (Arc::clone(&shared), Arc::clone(&open));
            let id = shared.connections.fetch_add(1, Ordering::Relaxed);
            let spawned = thread::Builder::new().name("mock-connection".into()).stack_size(512 << 10).spawn(
                move || {
                    let result = socket.set_nodelay(true).and_then(|()| open(socket));
                    match result {
                        Ok(stream) => {
                            Connection { id, shared: &shared, tls: stream.is_tls(), port }.serve(stream)
                        }
                        Err(e) => eprintln!("mock-llm: connection {id}: {e}"),
                    }
                },
            );
            if let Err(e) = spawned {
                eprintln!("mock-llm: connection {id}: {e}");
            }
        }
    })?;
    Ok(())
}

fn handshake(acceptor: &SslAcceptor, socket: TcpStream) -> io::Result<Stream> {
    acceptor.accept(socket).map(Stream::Tls).map_err(|e| io::Error::other(e.to_string()))
}

enum Stream {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
}

struct Connection<'a> {
    id: u64,
    tls: bool,
    port: u16,
    shared: &'a Shared,
}

impl Connection<'_> {
    /// Answers until either side is done. What a client does to its connection is no error of the server.
    fn serve(&self, stream: Stream) {
        let mut peer = Peer::new(stream);
        let mut dropped = false;
        while let Ok(Some(request)) = peer.request() {
            let (answer, next) = self.answer(&mut peer, &request);
            dropped = !answer.whole;
            self.write_down(Line::Answer(answer));
            if !next {
                break;
            }
        }
        let traffic =
            Traffic { connection: self.id, tls: self.tls, received: peer.received, sent: peer.sent };
        // Before the client can see the end, so that whoever waits for the client finds it.
        self.write_down(Line::Connection(traffic));
        peer.into_stream().end(dropped);
    }

    fn write_down(&self, line: Line) {
        if let Err(e) = self.shared.ledger.add(line) {
            eprintln!("mock-llm: the ledger cannot be written: {e}");
        }
    }

    /// Sends the answer; says whether the connection can take another request.
    fn answer(&self, peer: &mut Peer<Stream>, request: &Request) -> (Answer, bool) {
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let Reply { mut answer, body } = route(request, self.shared.seed, number);
        answer.connection = self.id;
        answer.tls = self.tls;
        answer.port = self.port;
        answer.request_bytes = request.body.len() as u64;
        let scenario = answer.request_model.as_deref().and_then(|model| Scenario::parse(model).ok());
        let mut sender = Sender { peer, answer: &mut answer, scenario, ledger: &self.shared.ledger };
        let sent = match body {
            Body::Whole { text, tells } => sender.document(&text, tells),
            Body::Events(events) => sender.events(events),
        };
        let framing = sent.unwrap_or(None);
        answer.whole = framing.is_some();
        let next = framing.is_some_and(|framing| framing != Framing::Close) && request.keep_alive;
        (answer, next)
    }
}

const LARGEST_FILE: usize = 64 << 20;

fn route(request: &Request, seed: u64, number: u64) -> Reply {
    let other = |status, text: &str| Reply {
        answer: Answer { status, ..Answer::default() },
        body: Body::Whole { text: text.to_owned(), tells: Vec::new() },
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", path) if path.ends_with("/chat/completions") => openai::reply(&request.body, seed, number),
        ("POST", path) if path.ends_with("/v1/messages") => anthropic::reply(&request.body, seed, number),
        ("GET", "/v1/models") => other(200, r#"{"object":"list","data":[{"id":"mock","object":"model"}]}"#),
        // What is no call: so many bytes.
        ("GET", path) if path.starts_with("/files/") => {
            match path.trim_start_matches("/files/").parse::<usize>() {
                Ok(size) if size <= LARGEST_FILE => other(200, &"x".repeat(size)),
                _ => other(404, "no such file"),
            }
        }
        ("GET", "/healthz") => other(200, r#"{"status":"ok"}"#),
        _ => other(404, r#"{"error":{"message":"Not found","type":"invalid_request_error","code":null}}"#),
    }
}

/// Puts one answer on the wire. `None` instead of a framing: the connection is to be dropped.
struct Sender<'a> {
    peer: &'a mut Peer<Stream>,
    answer: &'a mut Answer,
    scenario: Option<Scenario>,
    ledger: &'a Ledger,
}

impl Sender<'_> {
    fn document(&mut self, text: &str, tells: Vec<Tell>) -> io::Result<Option<Framing>> {
        let mut encoder = Encoder::new(self.coding())?;
        let mut body = encoder.piece(text.as_bytes())?;
        body.extend(encoder.finish()?);
        let scenario = self.scenario.as_ref().filter(|scenario| scenario.status == 200);
        let (framing, turn) = scenario.map_or((Framing::Length, Turn::Never), |s| (s.framing, s.turn));
        thread::sleep(scenario.map_or(Duration::ZERO, |s| s.delay));
        let length = body.len().to_string();
        let mut message = self.head(match framing {
            Framing::Length => ("content-length", &length),
            Framing::Chunked => ("transfer-encoding", "chunked"),
            Framing::Close => ("connection", "close"),
        });
        if turn == Turn::Cut {
            message.extend_from_slice(&body[..body.len() / 2]);
            self.answer.response_bytes = (body.len() / 2) as u64;
            self.peer.write(&message)?;
            // These come first in a document.
            let identity = tells.into_iter().filter(|tell| matches!(tell, Tell::Identity { .. }));
            identity.for_each(|tell| tell.write_down(self.answer));
            return Ok(None);
        }
        self.answer.response_bytes = body.len() as u64;
        if framing == Framing::Chunked {
            self.peer.write(&message)?;
            for piece in body.chunks(1000) {
                self.peer.chunk(piece)?;
            }
            self.peer.write(b"0\r\n\r\n")?;
        } else {
            message.extend_from_slice(&body);
            self.peer.write(&message)?;
        }
        tells.into_iter().for_each(|tell| tell.write_down(self.answer));
        Ok(Some(framing))
    }

    fn events(&mut self, events: impl Iterator<Item = Event>) -> io::Result<Option<Framing>> {
        let deadline = Instant::now() + ENDLESS;
        let (turn, delay) =
            self.scenario.as_ref().map_or((Turn::Never, Duration::ZERO), |s| (s.turn, s.delay));
        let delay = if turn == Turn::Endless { delay.max(ENDLESS_PACE) } else { delay };
        let mut encoder = Encoder::new(self.coding())?;
        let head = self.head(("transfer-encoding", "chunked"));
        self.peer.write(&head)?;
        for event in events {
            if event.content && !delay.is_zero() {
                thread::sleep(delay);
            }
            if turn == Turn::Endless && Instant::now() > deadline {
                return Ok(None);
            }
            let piece = encoder.piece(event.text.as_bytes())?;
            self.peer.chunk(&piece)?;
            self.answer.response_bytes += piece.len() as u64;
            self.answer.events += 1;
            if self.answer.events == UNDER_WAY {
                self.ledger.stream_under_way();
            }
            if let Some(tell) = event.tells {
                tell.write_down(self.answer);
            }
        }
        if turn == Turn::Cut {
            return Ok(None);
        }
        let last = encoder.finish()?;
        self.peer.chunk(&last)?;
        self.answer.response_bytes += last.len() as u64;
        self.peer.write(b"0\r\n\r\n")?;
        Ok(Some(Framing::Chunked))
    }

    fn head(&self, framing: (&str, &str)) -> Vec<u8> {
        let kind = if self.answer.stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        let mut fields = vec![("content-type", kind), framing];
        fields.extend(self.coding().name().map(|name| ("content-encoding", name)));
        head(self.answer.status, &fields)
    }

    fn coding(&self) -> Coding {
        self.scenario.as_ref().map_or(Coding::Identity, |s| s.coding)
    }
}

impl Stream {
    const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Closes in good order, or drops a connection that was cut, without a word.
    fn end(self, dropped: bool) {
        let Self::Tls(mut stream) = self else { return };
        if dropped {
            stream.set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
        } else {
            // The client may be gone already; either way the connection is over.
            drop(stream.shutdown());
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
