//! What is recorded is what is played, and nothing makes the reader fall over.

use std::{
    fs,
    io::Cursor,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use proptest::prelude::*;
use tempfile::TempDir;
use tokentap_abi::{ABI_VERSION, Direction, Header, Kind, decode, encode, flags};
use tokentap_genai::{Attribute, Resource, Value};

use super::*;
const STREAM: u64 = 7;
const KEY: ProcessKey = ProcessKey { pid: 42, generation: 3 };

fn frame(kind: Kind, dir: Direction, offset: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    let header = Header {
        version: ABI_VERSION,
        kind: kind as u8,
        flags: flags::TLS,
        len,
        time: 5,
        tgid: 42,
        tid: 43,
        stream: STREAM,
        offset,
        orig: len,
        dir: dir as u8,
        turns: [5, 0, 1],
        ..Header::default()
    };
    [&encode(&header)[..], payload].concat()
}

fn process() -> Process {
    let attribute = |key: &'static str, value| Attribute { key: key.into(), value };
    Process {
        key: KEY,
        resource: Arc::new(Resource::new(vec![
            attribute("service.name", Value::Str("shöp".into())),
            attribute("process.pid", Value::Int(42)),
            attribute("share", Value::Double(1.0)),
            attribute("on", Value::Bool(true)),
            attribute("tags", Value::StrList(vec!["a".into()])),
        ])),
    }
}

/// Everything on a tape, as text, and how many bytes at its end are cut.
fn played(tape: &[u8]) -> Result<(Vec<String>, u64), TapeError> {
    let mut reader = TapeReader::new(Cursor::new(tape))?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(match entry {
            Entry::Frame(frame, _) => {
                let payload = String::from_utf8_lossy(frame.payload);
                format!("{:?} {} {} {payload}", frame.kind, frame.header.offset, frame.header.orig)
            }
            Entry::Event(event) => format!("{event:?}"),
        });
    }
    Ok((entries, reader.cut()))
}

fn written() -> Vec<u8> {
    let mut tape = TapeWriter::new(Vec::new(), 1 << 60, true).unwrap();
    let peer: SocketAddr = "[::1]:443".parse().unwrap();
    let bytes = frame(Kind::Data, Direction::Write, 9, b"hello");
    let frame = decode(&bytes).unwrap();
    tape.event(&ControlEvent::Observed(KEY)).unwrap();
    tape.frame(&frame.header, frame.payload).unwrap();
    tape.event(&ControlEvent::Described(Arc::new(process()))).unwrap();
    tape.event(&ControlEvent::Peer(STREAM, peer)).unwrap();
    tape.event(&ControlEvent::Ended(KEY)).unwrap();
    tape.into_inner()
}

#[test]
fn a_tape_reads_back() {
    let tape = written();
    let head = TapeReader::new(Cursor::new(&tape)).unwrap().head().clone();
    assert_eq!((head.boot_unix_nanos, head.unmasked), (1 << 60, true));
    assert!(!head.kernel.is_empty() && !head.machine.is_empty());
    let (entries, cut) = played(&tape).unwrap();
    let want = [
        format!("{:?}", ControlEvent::Observed(KEY)),
        "Data 9 5 hello".to_owned(),
        format!("{:?}", ControlEvent::Described(Arc::new(process()))),
        "Peer(7, [::1]:443)".to_owned(),
        format!("{:?}", ControlEvent::Ended(KEY)),
    ];
    assert_eq!((entries, cut), (want.to_vec(), 0));
}

/// Their entry of a process meant both that it is observed and what it is, and their processes had no generation.
#[test]
fn tapes_of_old_agents_are_read() {
    let head = TapeWriter::new(Vec::new(), 0, false).unwrap().into_inner();
    let json = br#"{"pid": 42, "attributes": []}"#;
    let observed = [&[json.len() as u8 + 1, 0, 0, 0, 2][..], json].concat();
    let (entries, cut) = played(&[&head[..], &observed, &[5, 0, 0, 0, 3, 42, 0, 0, 0]].concat()).unwrap();
    let key = ProcessKey { pid: 42, generation: 0 };
    let process = Process { key, resource: Arc::default() };
    let want =
        [ControlEvent::Observed(key), ControlEvent::Described(Arc::new(process)), ControlEvent::Ended(key)];
    assert_eq!((entries, cut), (want.iter().map(|event| format!("{event:?}")).collect(), 0));
}

#[test]
fn a_tape_that_was_cut_gives_all_that_is_whole_and_says_how_much_is_not() {
    let tape = written();
    let (all, _) = played(&tape).unwrap();
    for len in 0..tape.len() {
        match played(&tape[..len]) {
            Ok((entries, cut)) => {
                assert_eq!(entries, all[..entries.len()]);
                let rest = played(&tape[..len - usize::try_from(cut).unwrap()]).unwrap();
                assert_eq!(rest, (entries, 0), "what is cut off is exactly what is not whole, at {len}");
            }
            Err(error) => assert!(matches!(error, TapeError::NotATape), "{len}: {error}"),
        }
    }
}

#[test]
fn what_is_no_tape_of_ours_is_refused_with_a_reason() {
    let check = |at: usize, value: u8, want: &str| {
        let mut tape = written();
        tape[at] = value;
        let said = played(&tape).unwrap_err().to_string();
        assert!(said.contains(want), "{said}");
    };
    check(0, b'X', "no tape");
    check(8, 9, "tape format 9");
    check(9, 77, "ABI version 77");
    assert!(played(b"").unwrap_err().to_string().contains("no tape"));
    assert!(matches!(TapeReader::open(Path::new("/nonexistent")), Err(TapeError::Io(_))));
}

#[test]
fn damage_is_named_with_its_place() {
    let head = TapeWriter::new(Vec::new(), 0, false).unwrap().into_inner();
    let with = |entry: &[u8]| played(&[&head, entry].concat()).unwrap_err().to_string();
    let place = format!("damaged at byte {}: ", head.len());
    for (entry, why) in [
        (&[0xff, 0xff, 0xff, 0xff][..], "an entry of 4294967295 bytes"),
        (&[0, 0, 0, 0], "empty entry"),
        (&[2, 0, 0, 0, 1, 0], "frame is shorter"),
        (&[3, 0, 0, 0, 2, b'{', b'x'], "not described right"),
        (&[2, 0, 0, 0, 3, 0], "process id"),
        (&[2, 0, 0, 0, 4, 0], "stream id"),
        (&[10, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, b'x'], "bad address"),
    ] {
        let said = with(entry);
        assert!(said.starts_with(&place) && said.contains(why), "{said}");
    }
    // A type from the future is none of our business.
    assert_eq!(played(&[&head[..], &[2, 0, 0, 0, 200, 0]].concat()).unwrap(), (vec![], 0));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_fall_over(
        at in any::<proptest::sample::Index>(),
        junk in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut tape = written();
        let at = at.index(tape.len());
        tape.splice(at..(at + junk.len()).min(tape.len()), junk);
        // An error is fine; this must end, and must not panic.
        drop(played(&tape));
    }
}

/// Records frames and plays the file. Gives what is on it, and what was counted.
fn recorded(with_content: bool, frames: &[Vec<u8>]) -> (Vec<String>, Arc<RecorderCounters>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.tape");
    let counters = Arc::<RecorderCounters>::default();
    let mut recorder = Recorder::create(&path, with_content, 1, &counters).unwrap();
    for bytes in frames {
        recorder.frame(&decode(bytes).unwrap());
    }
    recorder.finish().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let tape = fs::read(&path).unwrap();
    assert_eq!(TapeReader::open(&path).unwrap().head().unmasked, with_content);
    (played(&tape).unwrap().0, counters, directory)
}

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nAuthorization: secret\r\nContent-Length: 6\r\n\r\n";

#[test]
fn frames_are_masked_unless_content_was_asked_for() {
    let frames = [frame(Kind::Data, Direction::Write, 0, HEAD)];
    let text = String::from_utf8_lossy(HEAD);
    let len = HEAD.len();
    assert_eq!(recorded(true, &frames).0, [format!("Data 0 {len} {text}")]);
    assert_eq!(recorded(false, &frames).0, [format!("Data 0 {len} {}", text.replace("secret", "xxxxxx"))]);
}

#[test]
fn what_cannot_be_masked_becomes_a_loss_of_the_same_length() {
    // A body of no known type, the next head, and 100 bytes that the kernel side could not deliver.
    let body_and_head = [b"secret", HEAD].concat();
    let mut undelivered = frame(Kind::Data, Direction::Write, HEAD.len() as u64, &body_and_head);
    undelivered[40..44].copy_from_slice(&(body_and_head.len() as u32 + 100).to_le_bytes());
    let frames = [frame(Kind::Data, Direction::Write, 0, HEAD), undelivered];
    let (entries, counters, _) = recorded(false, &frames);
    let len = HEAD.len();
    assert_eq!(entries[1], format!("Loss {len} 6 "));
    assert!(entries[2].starts_with(&format!("Data {} {} POST", len + 6, len + 100)), "{entries:?}");
    assert_eq!(entries.len(), 3);
    assert!(!entries.concat().contains("secret"));
    assert_eq!(counters.withheld_bytes.load(Relaxed), 6);
    assert_eq!(counters.frames.load(Relaxed), 3);
}

#[test]
fn a_stream_that_was_closed_is_forgotten() {
    let frames = [
        frame(Kind::Data, Direction::Write, 0, &HEAD[..30]),
        frame(Kind::Close, Direction::Write, 0, &[0; 32]),
        frame(Kind::Data, Direction::Write, 0, HEAD),
    ];
    let (entries, ..) = recorded(false, &frames);
    assert!(entries[2].contains("POST / HTTP/1.1"), "{entries:?}");
}

#[test]
fn a_full_disk_ends_the_tape_and_is_said() {
    let counters = Arc::<RecorderCounters>::default();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut recorder = Recorder::onto(full, true, 1, &counters).unwrap();
    recorder.flush();
    recorder.frame(&decode(&frame(Kind::Data, Direction::Write, 0, HEAD)).unwrap());
    assert!(recorder.finish().is_err());
    assert_eq!(counters.unwritten_frames.load(Relaxed), 2);
}
