//! A body with a content coding: however it is cut, it becomes the same bytes, no more than the limits allow, and
//! what the libraries' own decoders make of it.
//!
//! The first byte chooses the codings; the rest is the body.
#![no_main]

use std::io::Read as _;

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    memory,
    recorder::{Exchange, Recorder},
    replay::{Replay, Writer},
    seeds::CODINGS,
};
use tokentap_wire::{Direction, Ending};

/// Two decoders upon each other with the largest windows, and what they became.
const MOST: i64 = 64 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&coding, body)) = input.split_first() else { return };
    let coding = CODINGS[usize::from(coding) % CODINGS.len()];
    let mut connection = Writer::new(true);
    connection.data(Direction::Write, b"GET / HTTP/1.1\r\n\r\n");
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncontent-encoding: {coding}\r\n\r\n", body.len());
    connection.data(Direction::Read, head.as_bytes());
    connection.data(Direction::Read, body);
    let replay = Replay::new(&connection.finish());
    let decode = |play: &dyn Fn(&mut Recorder)| {
        let mut recorder = Recorder::new(&replay.limits);
        let peak = memory::peak(|| play(&mut recorder));
        assert!(peak <= MOST, "{peak} bytes");
        recorder.exchanges.remove(&0).expect("one exchange")
    };
    let whole = decode(&|recorder| replay.play(recorder));
    let recut = decode(&|recorder| replay.play_recut(recorder));
    assert!(whole.response_body.0.len() as u64 <= replay.limits.decoded);
    match (whole.ending, recut.ending) {
        (Some(Ending::Complete), Some(Ending::Complete)) => assert_eq!(whole, recut),
        // Corrupt br: its decoder looks more closely at a code that is cut.
        _ if coding.contains("br") => {}
        (Some(Ending::Complete), _) => panic!("{whole:?} was whole, but not when cut: {recut:?}"),
        _ => same_start(&whole, &recut),
    }
    if let (Some(Ending::Complete), Some(expected)) = (whole.ending, reference(coding, body)) {
        assert!(whole.response_body.0 == expected, "another body than the library's");
    }
});

/// How much comes before an error or a limit is left to the decoder; what comes is the same.
fn same_start(whole: &Exchange, recut: &Exchange) {
    let len = whole.response_body.0.len().min(recut.response_body.0.len());
    assert!(whole.response_body.0[..len] == recut.response_body.0[..len], "another body when cut");
    assert_ne!(recut.ending, Some(Ending::Complete));
}

fn reference(coding: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut decoded).ok()?,
        "zstd" => zstd::stream::read::Decoder::new(body).ok()?.read_to_end(&mut decoded).ok()?,
        _ => return None,
    };
    Some(decoded)
}
