//! Bodies that libraries frame which nobody here wrote: what the parsers make of them is what the peers have sent,
//! where it is sent and where it is received.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokentap_tests::{
    agent::Agent,
    client,
    exchange::{Exchange, traffic},
    framings::{EXCHANGES, Server, Side, Tls},
    mock::Mock,
};
use tokentap_wire::{Ending, Role, Version};

#[track_caller]
fn check(tls: bool) {
    let (mock, folder) = (Mock::for_test(), tempfile::tempdir().unwrap());
    let (tape, identity) = (folder.path().join("framings.tape"), folder.path().join("server.pem"));
    std::fs::write(&identity, mock.identity()).unwrap();
    let executables = [client::OPENAI.exe(), client::NODE.exe()];
    let agent = Agent::record(&tape, &["--with-content", "--exe", &executables[0], "--exe", &executables[1]]);
    let sent = Server::start(tls.then_some(Tls { identity: &identity, ca: mock.ca() })).converse(200_000);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let paths: BTreeSet<&str> = sent.iter().map(|sent| sent.path.as_str()).collect();
    assert_eq!(paths.len(), EXCHANGES, "{paths:?}");
    let streams = traffic(&tape);
    for role in [Role::Client, Role::Server] {
        let mut seen: BTreeMap<&str, &Exchange> = BTreeMap::new();
        for stream in streams.iter().filter(|stream| stream.exchanges.iter().any(|one| one.role == role)) {
            assert!(stream.dropped.is_empty(), "{role:?}: {:?}", stream.dropped);
            for exchange in &stream.exchanges {
                let path = exchange.asked[1].as_str();
                assert!(seen.insert(path, exchange).is_none(), "{path} twice, {role:?}");
                assert_eq!(
                    (exchange.version, exchange.status),
                    (Version::Http11, Some(200)),
                    "{path} {role:?}"
                );
                assert!(!exchange.request.gap && !exchange.response.gap, "{path} {role:?}");
                assert_eq!(exchange.ending, Some(Ending::Complete), "{path} {role:?}");
            }
        }
        assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), paths, "{role:?}");
        for sent in &sent {
            let exchange = seen[sent.path.as_str()];
            let message = match sent.side {
                Side::Request => &exchange.request,
                Side::Response => &exchange.response,
            };
            let got: Value = message.content();
            assert_eq!(got, sent.body, "{} {:?}, as the {role:?} sees it", sent.path, sent.side);
        }
    }
}

#[test]
fn in_the_clear_every_body_is_cut_as_it_was_put_together() {
    check(false);
}

#[test]
fn over_tls_every_body_is_cut_as_it_was_put_together() {
    check(true);
}
