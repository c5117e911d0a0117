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
    if !replay.is_whole() {
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

/// How much of a coding comes before it breaks is left to its decoder. Out of step, where a captured call begins decides where a message is looked for; and as long as no head was
/// whole, a call that begins with one of the lowest control characters may begin HTTP/2.
fn is_clear(exchange: &Exchange) -> bool {
    let (method, target, asked) = &exchange.request;
    let answered = exchange.response.iter().flat_map(|(_, fields)| fields);
    let fields = asked.iter().chain(answered).flat_map(|(name, value)| [name, value]);
    let coded = fields.clone().any(|Bytes(text)| text.to_ascii_lowercase().ends_with(b"-encoding"));
    let in_step = matches!(exchange.ending, Some(Ending::Complete | Ending::Cut)) && !exchange.gap;
    in_step
        && !coded
        && [method, target].into_iter().chain(fields).all(|Bytes(text)| text.iter().all(|&byte| byte > 8))
}
