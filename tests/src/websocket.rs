//! Either end of a WebSocket, as libraries speak it: over HTTP/1.1, or in a stream of HTTP/2.

use std::{fs, path::Path, process::Command};

use openssl::sha::sha256;
use serde::Deserialize;
use serde_json::{Value, json};
use tokentap_wire::MessageKind;

use crate::{agent::Agent, client, exchange::Said, mock::Mock, parts, process::Process};

/// A program that is either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Python's `websockets`, with threads.
    Python,
    /// The same with asyncio, whose TLS reads and writes memory.
    Asyncio,
    /// Node's `ws`.
    Node,
    /// `ws` in a stream of Node's own HTTP/2.
    NodeHttp2,
}

use Peer::{Asyncio, Node, NodeHttp2, Python};

impl Peer {
    fn command(self, task: &str) -> Command {
        let mut command = match self {
            Python | Asyncio => {
                let mut command = Command::new(parts::part("venv/bin/python"));
                command.arg(parts::file("clients/websocket_peer.py"));
                command
            }
            Node | NodeHttp2 => {
                let home = parts::part("node");
                let mut command = Command::new(home.join("bin/node"));
                command.arg(parts::file("clients/websocket_peer.mjs")).current_dir(home);
                command
            }
        };
        command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").env("OTEL_SERVICE_NAME", "golden").arg(task);
        match self {
            Python | Node => {}
            Asyncio => {
                command.arg("--async");
            }
            NodeHttp2 => {
                command.arg("--http2");
            }
        }
        command
    }
}

/// What an end says that it has sent.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Sent {
    /// `text` or `binary`.
    pub kind: String,
    /// In bytes.
    pub length: usize,
    /// Of its bytes.
    pub sha256: String,
}

impl Sent {
    /// The same of a message that was heard.
    #[must_use]
    pub fn of(said: &Said) -> Self {
        let kind = match said.kind {
            MessageKind::Text => "text",
            MessageKind::Binary => "binary",
        };
        let digest = sha256(&said.bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { kind: kind.to_owned(), length: said.bytes.len(), sha256 }
    }
}

/// What a client is to say, as (kind, length, pieces): around the lengths at which frames change their form.
#[must_use]
pub fn assorted() -> Value {
    json!([
        ["text", 20, 1],
        ["text", 70_000, 1],
        ["binary", 300, 1],
        ["text", 0, 1],
        ["text", 5000, 7],
        ["binary", 200_000, 3],
        ["text", 125, 1],
        ["text", 126, 2],
        ["text", 127, 1],
    ])
}

/// How ends speak.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Over TLS.
    pub tls: bool,
    /// With permessage-deflate.
    pub compression: bool,
}

/// Records conversations of these servers and clients, one after the other, at both ends; gives what each end has
/// sent.
///
/// # Panics
/// When an end fails, or the agent does.
#[must_use]
pub fn record(tape: &Path, pairs: &[(Peer, Peer)], how: How, say: &Value) -> Vec<[Vec<Sent>; 2]> {
    let (mock, folder) = (Mock::for_test(), tempfile::tempdir().expect("a temporary folder"));
    let identity = folder.path().join("server.pem");
    fs::write(&identity, mock.identity()).expect("a certificate is written");
    let executables = [client::OPENAI.exe(), client::NODE.exe()];
    let agent = Agent::record(tape, &["--with-content", "--exe", &executables[0], "--exe", &executables[1]]);
    let sent = pairs.iter().map(|pair| converse(*pair, how, say, &mock, &identity)).collect();
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    sent
}

fn converse(
    (server, client): (Peer, Peer),
    how: How,
    say: &Value,
    mock: &Mock,
    identity: &Path,
) -> [Vec<Sent>; 2] {
    let (mut serve, mut call) = (server.command("serve"), client.command("call"));
    if how.tls {
        serve.arg("--cert").arg(identity);
        call.arg("--ca").arg(mock.ca());
    }
    if how.compression {
        for command in [&mut serve, &mut call] {
            command.args(["--compression", "deflate"]);
        }
    }
    let mut serving = Process::spawn(serve);
    let port = serving.port();
    let scheme = if how.tls { "wss" } else { "ws" };
    call.args(["--url", &format!("{scheme}://127.0.0.1:{port}/v1/realtime"), "--say", &say.to_string()]);
    let mut calling = Process::spawn(call);
    calling.close_stdin();
    let said: Vec<Sent> = calling.told();
    assert_eq!(Some(said.len()), say.as_array().map(Vec::len), "{}", calling.transcript());
    serving.close_stdin();
    [said, serving.told()]
}
