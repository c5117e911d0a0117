//! gRPC as its own library speaks it: what is seen of every call is what was asked and answered, on either side.

use std::io::Read as _;

use flate2::read::GzDecoder;
use tokentap_tests::{
    exchange::{Exchange, Message, traffic},
    grpc::{self, CASES, Case},
};
use tokentap_wire::{Ending, Role, Version};

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
    let (told, all) = match exchange.trailers_complete && exchange.trailers.is_empty() {
        true => (&exchange.response.fields, exchange.response.complete),
        false => (&exchange.trailers, exchange.trailers_complete),
    };
    let code = case.code.to_string();
    for (name, want) in [("grpc-status", code.as_str()), ("grpc-message", case.message)] {
        let got = field(told, name).unwrap_or_default();
        assert!(
            got == want || (late && !all && got.is_empty()),
            "{name} {got:?}, not {want:?}: {exchange:#?}"
        );
    }
    assert!(exchange.status == Some(200) || (late && exchange.status == Some(0)), "{exchange:#?}");
    assert!(!exchange.request.gap && !exchange.response.gap, "{exchange:#?}");
    assert_eq!(exchange.ending, Some(Ending::Complete), "{exchange:#?}");
}

#[track_caller]
fn check_all(role: Role, before: usize) {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("grpc.tape");
    grpc::record(&tape, role, before);
    let mut streams = traffic(&tape);
    streams.retain(|stream| !stream.exchanges.is_empty());
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
