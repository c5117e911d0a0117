//! A tape that is not what a writer makes is refused; what could be read of it can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokentap_abi::encode;
use tokentap_tape::{Entry, TapeReader, TapeWriter};

fuzz_target!(|tape: &[u8]| {
    let Ok(mut reader) = TapeReader::new(tape) else { return };
    let mut writer = TapeWriter::new(Vec::new(), reader.boot_unix_nanos(), false).expect("a tape in memory");
    let mut entries = Vec::new();
    while let Ok(Some(entry)) = reader.next_entry() {
        match &entry {
            Entry::Frame(frame, _) => writer.frame(&frame.header, frame.payload),
            Entry::Event(event) => writer.event(event),
        }
        .expect("a tape in memory");
        entries.push(without_slack(&entry));
    }
    let written = writer.into_inner();
    let mut again = TapeReader::new(&written[..]).expect("what was written is a tape");
    for entry in &entries {
        let read = again.next_entry().expect("what was written is read");
        assert_eq!(read.as_ref().map(without_slack).as_ref(), Some(entry));
    }
    assert!(matches!(again.next_entry(), Ok(None)) && again.cut() == 0);
});

/// An entry as text. The bytes behind a frame's payload mean nothing and are not written again; headers are written as
/// this version has them.
fn without_slack(entry: &Entry<'_>) -> String {
    match entry {
        Entry::Frame(frame, _) => format!("{:?} {:?}", encode(&frame.header), frame.payload),
        Entry::Event(event) => format!("{event:?}"),
    }
}
