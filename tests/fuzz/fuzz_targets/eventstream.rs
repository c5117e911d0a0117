//! Event stream messages in pieces are those of the whole body; a gap is never inside a message that is good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::script;
use tokentap_wire::{
    Reason,
    eventstream::{Parser, Piece},
};

fuzz_target!(|input: &[u8]| script::check_pieces(input, read));

/// What a body says, payloads joined. A gap is as long as the first byte after it says; without one, of any length.
fn read(pieces: &[(bool, &[u8])]) -> (Vec<String>, Result<(), Reason>) {
    let mut parser = Parser::new(64 << 10);
    let (mut said, mut payload) = (Vec::new(), Vec::new());
    let (mut is_open, mut has_gap) = (false, false);
    let mut on = |piece: Piece<'_>| match piece {
        Piece::Head { headers, payload } => {
            assert!(!std::mem::replace(&mut is_open, true), "a message inside another");
            has_gap = false;
            said.push(format!("{headers:?} {payload}"));
        }
        Piece::Payload(bytes) => {
            assert!(is_open);
            payload.extend_from_slice(bytes);
        }
        Piece::Lost(reason) => {
            assert!(!is_open);
            said.push(reason.name().to_owned());
        }
        Piece::Gap(_) => {
            assert!(is_open);
            has_gap = true;
        }
        Piece::End(end) => {
            assert!(std::mem::replace(&mut is_open, false), "an end without a message");
            assert!(!has_gap || end.is_err(), "a message with a gap is good");
            said.push(format!("{} {end:?}", std::mem::take(&mut payload).escape_ascii()));
        }
    };
    for &(gap, bytes) in pieces {
        if gap {
            parser.gap(bytes.first().map(|&missing| missing.into()), &mut on);
        }
        parser.feed(bytes, &mut on);
    }
    (said, parser.finish())
}
