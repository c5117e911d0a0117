//! gRPC's own library on either side, in the clear: the calls that it makes, and what comes of them.

use std::{path::Path, process::Command};

use serde::Deserialize;
use serde_json::json;
use tokentap_wire::Role;

use crate::{
    agent::Agent,
    parts,
    process::{PATIENCE, Process, Signal},
};

/// What a call is, and what comes of it.
#[derive(Debug)]
pub struct Case {
    /// The last part of its path.
    pub method: &'static str,
    /// The messages of the client.
    pub asked: &'static [&'static str],
    /// Whether both sides compress.
    pub gzip: bool,
    /// The messages of the server.
    pub answered: &'static [&'static str],
    /// `grpc-status` (gRPC over HTTP/2, "Responses").
    pub code: u32,
    /// `grpc-message`, as it is sent.
    pub message: &'static str,
}

/// Long enough that the library finds it worth compressing.
const LONG: &str = "all work and no play makes jack a dull boy, all work and no play makes jack a dull boy, \
                    all work and no play makes jack a dull boy, all work and no play makes jack a dull boy";
const LONG_SHOUTED: &str = "ALL WORK AND NO PLAY MAKES JACK A DULL BOY, ALL WORK AND NO PLAY MAKES JACK A DULL BOY, \
                            ALL WORK AND NO PLAY MAKES JACK A DULL BOY, ALL WORK AND NO PLAY MAKES JACK A DULL BOY";

/// One of each kind of call, with gzip, and with errors before, after and instead of messages.
pub const CASES: [Case; 9] = [
    case("Shout", &["hello"], &["HELLO"]),
    case("Shout", &[""], &[""]),
    case("Split", &["server sends these words"], &["server", "sends", "these", "words"]),
    case("Join", &["client", "sends", "these"], &["client sends these"]),
    case("Echo", &["both", "send", "these"], &["BOTH", "SEND", "THESE"]),
    Case { gzip: true, ..case("Shout", &[LONG], &[LONG_SHOUTED]) },
    Case { code: 7, message: "not you", ..case("Refuse", &["me"], &[]) },
    Case { code: 11, message: "no more w%C3%B6rds", ..case("Split", &["one two fail"], &["one", "two"]) },
    Case { code: 12, message: "Method not found!", ..case("Nothing", &["such"], &[]) },
];

const fn case(
    method: &'static str,
    asked: &'static [&'static str],
    answered: &'static [&'static str],
) -> Case {
    Case { method, asked, gzip: false, answered, code: 0, message: "" }
}

/// What the client got to know.
#[derive(Debug, Deserialize)]
struct Report {
    code: u32,
}

/// Records the calls at one side of their connection, after so many rounds of them that nobody watches.
///
/// # Panics
/// When a call does not come out as it should, or the agent fails.
pub fn record(tape: &Path, role: Role, before: usize) {
    let server = peer(&["serve"]);
    let port = server.port();
    let calls = CASES.map(|case| json!([case.method, case.asked, case.gzip]));
    let (to, calls) = (format!("127.0.0.1:{port}"), json!(calls).to_string());
    let mut client = peer(&["call", "--to", &to, "--calls", &calls, "--before", &before.to_string()]);
    client.wait_for_line("\"ready\"", |line| line.contains("\"ready\"").then_some(()));
    let watched = if role == Role::Client { client.id() } else { server.id() };
    let agent = Agent::record(tape, &["--with-content", "--pid", &watched.to_string()]);
    client.write("go\n");
    let status = client.wait(PATIENCE);
    assert!(status.success(), "{status}\n{}", client.transcript());
    let reports = client.stdout().all();
    let codes: Vec<u32> = reports
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok().map(|Report { code }| code))
        .collect();
    assert_eq!(codes, CASES.map(|case| case.code), "{}", client.transcript());
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    server.signal(Signal::TERM);
}

fn peer(arguments: &[&str]) -> Process {
    let mut command = Command::new(parts::part("venv/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("OTEL_SERVICE_NAME", "golden");
    command.arg(parts::file("clients/grpc_peer.py")).args(arguments);
    Process::spawn(command)
}
