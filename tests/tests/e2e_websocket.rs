//! WebSockets as libraries speak them that nobody here wrote, over HTTP/1.1 and in streams of HTTP/2: every message
//! of both sides, as each end sees it.

use tokentap_tests::{
    exchange::{Exchange, traffic},
    websocket::{
        How,
        Peer::{self, Asyncio, Node, NodeHttp2, Python},
        Sent, assorted, record,
    },
};
use tokentap_wire::{Ending, Role};

/// Every pair of server and client: both ends must see what both have sent.
fn check(pairs: &[(Peer, Peer)], tls: bool, compression: bool) {
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("websocket.tape");
    let conversations = record(&tape, pairs, How { tls, compression }, &assorted());
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
