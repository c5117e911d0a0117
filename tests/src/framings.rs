//! Peers whose bodies are framed: forms with files, lines of JSON, Amazon's event streams, gRPC-Web; and what they
//! say that they have sent.

use std::{path::Path, process::Command};

use serde::Deserialize;
use serde_json::Value;

use crate::{agent::Agent, parts, process::Process};

/// How many exchanges they make: five forms, lines, events, and three calls of gRPC-Web in each of three forms.
pub const EXCHANGES: usize = 16;

/// A body that a peer has sent.
#[derive(Debug, Deserialize)]
pub struct Sent {
    /// The path of its exchange: there is one for each.
    pub path: String,
    /// Whether it was asked or answered.
    pub side: Side,
    /// What it is made of, as [`crate::exchange::Message::content`] has it.
    pub body: Value,
}

/// A side of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What the client sends.
    Request,
    /// What the server sends.
    Response,
}

/// Where certificate and key of the server lie, and the authority to trust.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// PEM file of certificate and key.
    pub identity: &'a Path,
    /// PEM file of the authority.
    pub ca: &'a Path,
}

/// A server that waits for its clients.
#[derive(Debug)]
pub struct Server<'a> {
    process: Process,
    url: String,
    tls: Option<Tls<'a>>,
}

impl<'a> Server<'a> {
    /// Starts it, in the clear where there is no `tls`.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(tls: Option<Tls<'a>>) -> Self {
        let mut command = python("serve");
        if let Some(tls) = tls {
            command.arg("--cert").arg(tls.identity);
        }
        let process = Process::spawn(command);
        let port = process.port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self { process, url: format!("{scheme}://127.0.0.1:{port}"), tls }
    }

    /// Lets the clients make every exchange once, with a file of so many bytes in the forms; ends it. Gives all
    /// that either side has sent.
    ///
    /// # Panics
    /// When one of them does not get what it should, or says nothing.
    #[must_use]
    pub fn converse(mut self, file: usize) -> Vec<Sent> {
        let mut call = python("call");
        call.args(["--file", &file.to_string()]);
        let home = parts::part("node");
        let mut node = Command::new(home.join("bin/node"));
        node.arg(parts::file("clients/framings_peer.mjs")).current_dir(home).env_clear();
        let mut all = Vec::new();
        for mut command in [call, node] {
            command.args(["--url", &self.url]);
            if let Some(tls) = self.tls {
                command.arg("--ca").arg(tls.ca).env("NODE_EXTRA_CA_CERTS", tls.ca);
            }
            all.extend(Process::spawn(command).told::<Sent>());
        }
        self.process.close_stdin();
        all.extend(self.process.told::<Sent>());
        all
    }
}

/// Records every exchange once, in the clear, where it is answered.
///
/// # Panics
/// When the peers or the agent fail.
pub fn record(tape: &Path) {
    let server = Server::start(None);
    let agent = Agent::record(tape, &["--with-content", "--pid", &server.process.id().to_string()]);
    let sent = server.converse(2000);
    let ended = agent.stop();
    assert!(ended.status.success() && !sent.is_empty(), "{}", ended.log);
}

fn python(task: &str) -> Command {
    let mut command = Command::new(parts::part("venv/bin/python"));
    command.arg(parts::file("clients/framings_peer.py")).arg(task);
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").env("OTEL_SERVICE_NAME", "golden");
    command
}
