//! Server-sent events in pieces are those of the whole stream; after a gap nothing is made up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{reference, script};
use tokentap_wire::sse::Parser;

fuzz_target!(|input: &[u8]| {
    let steps = script::read(input);
    let pieces = script::pieces(&steps);
    let stream: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let gaps = pieces.iter().any(|(gap, _)| *gap);
    for bound in [64 << 10, 8] {
        let mut parser = Parser::new(bound);
        let (mut events, mut data) = (Vec::new(), Vec::new());
        for &(gap, bytes) in &pieces {
            if gap {
                parser.gap();
                data.clear();
            }
            parser.feed(bytes, |event| {
                assert!(gaps || event.first == data.is_empty() || !event.first);
                if event.first {
                    data.clear();
                }
                data.extend_from_slice(event.data);
                if event.last {
                    events.push([event.name.to_vec(), std::mem::take(&mut data), event.id.to_vec()]);
                }
            });
        }
        if gaps {
            continue;
        }
        let mut expected = reference::events(&stream);
        if bound < stream.len() {
            // What is kept of names and ids is bounded; whether an id is one may be told behind that.
            for [name, _, id] in events.iter_mut().chain(&mut expected) {
                name.truncate(bound);
                id.clear();
            }
        }
        assert_eq!(events, expected, "bound {bound}");
    }
});
