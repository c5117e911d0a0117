//! JSON Lines in pieces are those of the whole body; a line that is not all there is not given as whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{reference, script};
use tokentap_wire::ndjson::{Line, Parser};

fuzz_target!(|input: &[u8]| {
    let steps = script::read(input);
    let pieces = script::pieces(&steps);
    let body: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let expected = reference::lines(&body);
    let gaps = pieces.iter().any(|(gap, _)| *gap);
    for most in [64 << 10, 8] {
        let mut parser = Parser::new(most);
        let mut lines = Vec::new();
        let mut on = |line: Line<'_>| lines.push((line.bytes.to_vec(), line.whole));
        for &(gap, bytes) in &pieces {
            if gap {
                parser.gap();
            }
            parser.feed(bytes, &mut on);
        }
        parser.finish(&mut on);
        if gaps {
            let whole = lines.iter().filter(|(_, whole)| *whole);
            assert!(whole.clone().all(|(line, _)| expected.contains(line)), "a line that nobody sent");
        } else if most > body.len() {
            assert!(lines.iter().all(|(_, whole)| *whole));
            assert!(lines.iter().map(|(line, _)| line).eq(&expected));
        }
    }
});
