//! The parts of a form in pieces are those of the whole body; a part with a gap is not whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::script;
use tokentap_wire::{
    Reason,
    multipart::{Parser, Piece},
};

fuzz_target!(|input: &[u8]| script::check_pieces(input, read));

/// What a body says, values joined.
fn read(pieces: &[(bool, &[u8])]) -> (Vec<String>, Result<(), Reason>) {
    let mut parser = Parser::new(b"b-1", 64 << 10);
    let (mut said, mut value, mut is_open) = (Vec::new(), Vec::new(), false);
    let mut on = |piece: Piece<'_>| match piece {
        Piece::Part(part) => {
            assert!(!std::mem::replace(&mut is_open, true), "a part inside another");
            said.push(format!("{part:?}"));
        }
        Piece::Value(bytes) => {
            assert!(is_open);
            value.extend_from_slice(bytes);
        }
        Piece::End { bytes, whole } => {
            assert!(std::mem::replace(&mut is_open, false), "an end without a part");
            said.push(format!("{} {bytes} {whole}", std::mem::take(&mut value).escape_ascii()));
        }
        Piece::Lost(reason) => said.push(reason.name().to_owned()),
    };
    for &(gap, bytes) in pieces {
        if gap {
            parser.gap(&mut on);
        }
        parser.feed(bytes, &mut on);
    }
    (said, parser.finish())
}
