//! gRPC as its own library speaks it: what is seen of every call is what was asked and answered, on either side.

use std::{io::Read as _, path::Path, process::Command};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::json;
use tokentap_tests::{
    agent::Agent,
    exchange::{Exchange, Message, Traffic, traffic},
    parts,
    process::{PATIENCE, Process, Signal},
};
use tokentap_wire::{Ending, Role, Version};

/// What a call is, and what comes of it.
struct Case {
    method: &'static str,
    asked: &'static [&'static str],
    gzip: bool,
    answered: &'static [&'static str],
    /// `grpc-status` (gRPC over HTTP/2, "Responses").
    code: u32,
    message: &'static str,
}

/// Long enough that the library finds it worth compressing.
const LONG: &str = "all work and no play makes jack a dull boy, all work and no play makes jack a dull boy, \
                    all work and no play makes jack a dull boy, all work and no play makes jack a dull boy";
const LONG_SHOUTED: &str = "ALL WORK AND NO PLAY MAKES JACK A DULL BOY, ALL WORK AND NO PLAY MAKES JACK A DULL BOY, \
                            ALL WORK AND NO PLAY MAKES JACK A DULL BOY, ALL WORK AND NO PLAY MAKES JACK A DULL BOY";

const fn case(
    method: &'static str,
    asked: &'static [&'static str],
    answered: &'static [&'static str],
) -> Case {
    Case { method, asked, gzip: false, answered, code: 0, message: "" }
}

const CASES: [Case; 9] = [
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

#[derive(Deserialize)]
struct Port {
    port: u16,
}

/// What the client got to know.
#[derive(Debug, Deserialize, PartialEq)]
struct Report {
    replies: usize,
    code: u32,
}

fn peer(arguments: &[&str]) -> Process {
    let mut command = Command::new(parts::part("venv/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Process::spawn({
        command.arg(parts::file("clients/grpc_peer.py")).args(arguments);
        command
    })
}

/// Makes the calls, `before` times before anybody watches: the streams of the tape.
fn watch(role: Role, before: usize) -> Vec<Traffic> {
    let server = peer(&["serve"]);
    let Port { port } = server.wait_for_line("port", |line| serde_json::from_str(line).ok());
    let calls = CASES.map(|case| json!([case.method, case.asked, case.gzip]));
    let (to, calls) = (format!("127.0.0.1:{port}"), json!(calls).to_string());
    let mut client = peer(&["call", "--to", &to, "--calls", &calls, "--before", &before.to_string()]);
    client.wait_for_line("\"ready\"", |line| line.contains("\"ready\"").then_some(()));
    let watched = if role == Role::Client { client.id() } else { server.id() };
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("grpc.tape");
    let agent = Agent::record(&tape, &["--with-content", "--pid", &watched.to_string()]);
    client.write("go\n");
    let status = client.wait(PATIENCE);
    assert!(status.success(), "{status}\n{}", client.transcript());
    let reports: Vec<Report> =
        client.stdout().all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(reports.len(), CASES.len(), "{}", client.transcript());
    for (case, report) in CASES.iter().zip(&reports) {
        assert_eq!(report.code, case.code, "{}", case.method);
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    server.signal(Signal::TERM);
    read(&tape)
}

fn read(tape: &Path) -> Vec<Traffic> {
    let mut streams = traffic(tape);
    streams.retain(|stream| !stream.exchanges.is_empty());
    streams
}

/// The messages as texts; of which coding they are is not known where that field was not resolved.
fn messages(message: &Message) -> Vec<String> {
    let unknown = !message.complete && message.get("grpc-encoding").is_none();
    let text = |(compressed, bytes): (bool, Vec<u8>)| {
        let mut text = String::new();
        let read = match compressed && unknown {
            true => GzDecoder::new(&bytes[..]).read_to_string(&mut text),
            false => bytes.as_slice().read_to_string(&mut text),
        };
        read.expect("a text");
        text
    };
    message.grpc().into_iter().map(text).collect()
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// All that is told of a call, but for fields that were not resolved where the connection was joined late.
#[track_caller]
fn check(exchange: &Exchange, case: &Case, role: Role, late: bool) {
    let path = format!("/tokentap.test.Texts/{}", case.method);
    assert_eq!((exchange.role, exchange.version), (role, Version::Http2));
    let [method, target] = &exchange.asked;
    assert!(
        [method.as_str(), target] == ["POST", &path] || (late && !exchange.request.complete),
        "{exchange:#?}"
    );
    assert!(target.is_empty() || *target == path, "{exchange:#?}");
    assert_eq!(messages(&exchange.request), case.asked, "{exchange:#?}");
    assert_eq!(messages(&exchange.response), case.answered, "{exchange:#?}");
    let compressed = |message: &Message| message.grpc().iter().any(|(compressed, _)| *compressed);
    assert_eq!(compressed(&exchange.request), case.gzip, "{exchange:#?}");
    assert_eq!(compressed(&exchange.response), case.gzip, "{exchange:#?}");
    // A response that is nothing but an error is all in its head.
    let told = if exchange.trailers.is_empty() { &exchange.response.fields } else { &exchange.trailers };
    let code = case.code.to_string();
    for (name, want) in [("grpc-status", code.as_str()), ("grpc-message", case.message)] {
        let got = field(told, name).unwrap_or_default();
        assert!(got == want || (late && got.is_empty()), "{name} {got:?}, not {want:?}: {exchange:#?}");
    }
    assert!(exchange.status == Some(200) || (late && exchange.status == Some(0)), "{exchange:#?}");
    assert!(!exchange.request.gap && !exchange.response.gap, "{exchange:#?}");
    assert_eq!(exchange.ending, Some(Ending::Complete), "{exchange:#?}");
}

#[track_caller]
fn check_all(role: Role, before: usize) {
    let streams = watch(role, before);
    let [stream] = streams.as_slice() else { panic!("one connection\n{streams:#?}") };
    assert_eq!(stream.exchanges.len(), CASES.len(), "{stream:#?}");
    for (exchange, case) in stream.exchanges.iter().zip(&CASES) {
        check(exchange, case, role, before > 0);
    }
    assert!(stream.dropped.is_empty(), "{:?}", stream.dropped);
}

#[test]
fn every_kind_of_call_is_seen_whole_where_it_is_made() {
    check_all(Role::Client, 0);
}

#[test]
fn every_kind_of_call_is_seen_whole_where_it_is_answered() {
    check_all(Role::Server, 0);
}

/// A connection that carried a hundred calls and more before it was watched.
#[test]
fn what_is_said_of_calls_on_an_old_connection_is_right() {
    check_all(Role::Client, 12);
    check_all(Role::Server, 12);
}
