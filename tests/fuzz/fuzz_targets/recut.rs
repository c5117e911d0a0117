//! A connection that is followed from its first byte to its last gives the same exchanges however its bytes
//! are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{recorder::Recorder, replay::Replay};
use tokentap_wire::Ending;

fuzz_target!(|input: &[u8]| {
    let replay = Replay::new(input);
    if !replay.is_whole() {
        return;
    }
    let mut whole = Recorder::new(&replay.limits);
    replay.play(&mut whole);
    whole.check_over();
    // Out of step, where a captured call begins decides where a message is looked for.
    let in_step = |ending| matches!(ending, Some(Ending::Complete | Ending::Cut));
    if !whole.dropped.is_empty() || !whole.exchanges.values().all(|e| in_step(e.ending) && !e.gap) {
        return;
    }
    let mut recut = Recorder::new(&replay.limits);
    replay.play_recut(&mut recut);
    recut.check_over();
    assert_eq!(whole.exchanges, recut.exchanges);
    assert!(recut.dropped.is_empty(), "{:?}", recut.dropped);
});
