//! WebSockets as libraries speak them that nobody here wrote, over HTTP/1.1 and in streams of HTTP/2: every message
//! of both sides, as each end sees it.

use std::{path::Path, process::Command};

use openssl::sha::sha256;
use serde::Deserialize;
use serde_json::json;
use tokentap_tests::{
    agent::Agent,
    client,
    exchange::{Exchange, Said, traffic},
    mock::Mock,
    parts,
    process::{PATIENCE, Process},
};
use tokentap_wire::{Ending, MessageKind, Role};

/// A program that is either end.
#[derive(Clone, Copy, Debug)]
enum Peer {
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
        command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").arg(task);
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
struct Sent {
    kind: String,
    length: usize,
    sha256: String,
}

impl Sent {
    fn of(said: &Said) -> Self {
        let kind = match said.kind {
            MessageKind::Text => "text",
            MessageKind::Binary => "binary",
        };
        let digest = sha256(&said.bytes);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { kind: kind.to_owned(), length: said.bytes.len(), sha256 }
    }
}

/// All that an end has printed but for its port.
fn sent(process: &mut Process) -> Vec<Sent> {
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{status}\n{}", process.transcript());
    let lines = process.stdout().all();
    let told = lines.iter().filter(|line| !line.contains("\"port\""));
    told.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Lets a client say things that differ in kind, length and pieces; gives what each end has sent.
fn converse(
    server: Peer,
    client: Peer,
    tls: bool,
    compression: bool,
    mock: &Mock,
    identity: &Path,
) -> [Vec<Sent>; 2] {
    #[derive(Deserialize)]
    struct Port {
        port: u16,
    }
    let say = json!([
        ["text", 20, 1],
        ["text", 70_000, 1],
        ["binary", 300, 1],
        ["text", 0, 1],
        ["text", 5000, 7],
        ["binary", 200_000, 3],
        ["text", 125, 1],
        ["text", 126, 2],
        ["text", 127, 1],
    ]);
    let (mut serve, mut call) = (server.command("serve"), client.command("call"));
    if tls {
        serve.arg("--cert").arg(identity);
        call.arg("--ca").arg(mock.ca());
    }
    if compression {
        for command in [&mut serve, &mut call] {
            command.args(["--compression", "deflate"]);
        }
    }
    let mut serving = Process::spawn(serve);
    let Port { port } = serving.wait_for_line("port", |line| serde_json::from_str(line).ok());
    let scheme = if tls { "wss" } else { "ws" };
    call.args(["--url", &format!("{scheme}://127.0.0.1:{port}/v1/realtime"), "--say", &say.to_string()]);
    let mut calling = Process::spawn(call);
    calling.close_stdin();
    let said = sent(&mut calling);
    assert_eq!(said.len(), 9, "{}", calling.transcript());
    serving.close_stdin();
    [said, sent(&mut serving)]
}

/// Every pair of server and client: both ends must see what both have sent.
fn check(pairs: &[(Peer, Peer)], tls: bool, compression: bool) {
    let (mock, folder) = (Mock::for_test(), tempfile::tempdir().unwrap());
    let (tape, identity) = (folder.path().join("websocket.tape"), folder.path().join("server.pem"));
    std::fs::write(&identity, mock.identity()).unwrap();
    let executables = [client::OPENAI.exe(), client::NODE.exe()];
    let agent = Agent::record(&tape, &["--with-content", "--exe", &executables[0], "--exe", &executables[1]]);
    let conversations: Vec<_> = pairs
        .iter()
        .map(|(server, client)| converse(*server, *client, tls, compression, &mock, &identity))
        .collect();
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    for role in [Role::Client, Role::Server] {
        let mut seen: Vec<Exchange> = traffic(&tape)
            .into_iter()
            .flat_map(|connection| {
                assert!(connection.dropped.is_empty(), "{:?}", connection.dropped);
                connection.exchanges
            })
            .collect();
        seen.retain(|exchange| exchange.role == role);
        assert_eq!(seen.len(), pairs.len(), "{role:?}: {seen:#?}");
        for ((exchange, conversation), peers) in seen.iter().zip(&conversations).zip(pairs) {
            assert_eq!(exchange.asked[1], "/v1/realtime", "{peers:?} {role:?}");
            let extended = matches!(peers, (NodeHttp2, _)).then_some("CONNECT").unwrap_or("GET");
            assert_eq!(
                (exchange.asked[0].as_str(), exchange.status),
                (extended, Some(if extended == "GET" { 101 } else { 200 }))
            );
            if compression {
                let agreed = exchange.response.get("sec-websocket-extensions");
                assert!(agreed.is_some_and(|agreed| agreed.starts_with("permessage-deflate")), "{peers:?}");
            }
            assert!(!exchange.request.gap && !exchange.response.gap, "{peers:?} {role:?}");
            for (side, (said, sent)) in
                ["client", "server"].iter().zip(exchange.said.iter().zip(conversation))
            {
                assert!(said.iter().all(|message| message.whole));
                let said: Vec<Sent> = said.iter().map(Sent::of).collect();
                assert_eq!(said, *sent, "what the {side} says, {peers:?}, as the {role:?} sees it");
            }
            assert_eq!(exchange.ending, Some(Ending::Complete), "{peers:?} {role:?}");
        }
    }
}

#[test]
fn in_the_clear() {
    check(&[(Python, Node), (Node, Asyncio), (Asyncio, Python)], false, false);
}

#[test]
fn over_tls_and_compressed() {
    check(&[(Python, Node), (Node, Asyncio), (Asyncio, Python), (Node, Node)], true, true);
}

#[test]
fn compressed_in_the_clear() {
    check(&[(Python, Asyncio), (Node, Python)], false, true);
}

#[test]
fn rfc_8441_in_streams_of_http2() {
    check(&[(NodeHttp2, NodeHttp2)], false, false);
    check(&[(NodeHttp2, NodeHttp2)], true, false);
}
