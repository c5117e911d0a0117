//! A connection that is followed from its first byte to its last gives the same exchanges however its bytes
//! are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    recorder::{Bytes, Exchange, Recorder},
    replay::Replay,
};
use tokentap_wire::Ending;

fuzz_target!(|input: &[u8]| {
    let replay = Replay::new(input);
    if !replay.is_whole() || !replay.is_text() {
        return;
    }
    let mut whole = Recorder::new(&replay.limits);
    replay.play(&mut whole);
    whole.check_over();
    let exchanges = whole.exchanges.values();
    if !replay.begins_with(&whole) || !whole.dropped.is_empty() || !exchanges.clone().all(is_clear) {
        return;
    }
    let mut recut = Recorder::new(&replay.limits);
    replay.play_recut(&mut recut);
    recut.check_over();
    assert_eq!(whole.exchanges, recut.exchanges, "when cut, with {:?} dropped", recut.dropped);
});

/// How much of a coding comes before it breaks is left to its decoder. Out of step, where a captured call begins decides
/// where a message is looked for.
fn is_clear(exchange: &Exchange) -> bool {
    let answered = exchange.response.iter().flat_map(|(_, fields)| fields);
    let mut names = exchange.request.2.iter().chain(answered).map(|(Bytes(name), _)| name);
    let coded = names.any(|name| name.to_ascii_lowercase().ends_with(b"-encoding"));
    let in_step = matches!(exchange.ending, Some(Ending::Complete | Ending::Cut)) && !exchange.gap;
    in_step && !coded
}
