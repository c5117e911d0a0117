//! Golden tapes: recorded captures give the spans that were blessed, however their bytes are cut and their
//! streams are mixed. Needs no root. `UPDATE_GOLDEN=1` blesses what comes out.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};
use tokentap_tests::{
    exchange, parts,
    process::{PATIENCE, Process},
    tape,
};

/// Every tape of the folder.
fn tapes() -> Vec<PathBuf> {
    let mut tapes: Vec<PathBuf> = fs::read_dir(parts::file("tapes"))
        .expect("the tapes")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tape"))
        .collect();
    tapes.sort();
    assert!(tapes.len() > 5, "{} tapes", tapes.len());
    tapes
}

/// The spans of a tape in order of their start, without what is made up anew each time.
fn replay(tape: &Path) -> Value {
    let mut command = Command::new(parts::agent());
    command.arg("replay").arg(tape).arg("--console=json");
    let mut process = Process::spawn(command);
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{}: {status}\n{}", tape.display(), process.transcript());
    let mut spans: Vec<Value> = process
        .stdout()
        .all()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for span in &mut spans {
        let span = span.as_object_mut().expect("a span is an object");
        span.retain(|key, _| !["trace_id", "span_id", "scope", "resource", "pid"].contains(&key.as_str()));
    }
    spans.sort_by_key(|span| (span["start"].to_string(), span.to_string()));
    json!(spans)
}

/// The exchanges of each stream of a tape, whatever they are about.
fn exchanges(tape: &Path) -> Value {
    let mut exchanges = exchange::exchanges(tape);
    exchanges.sort_by_key(|exchange| exchange.stream);
    exchanges.iter().map(exchange::Exchange::to_json).collect()
}

/// Tapes of HTTP/2 and WebSockets, and of bodies that are framed.
fn is_of_frames(tape: &Path) -> bool {
    let name = tape.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ["http2-", "grpc-", "websocket-", "framings"].iter().any(|kind| name.starts_with(kind))
}

#[track_caller]
fn check(golden: &Path, got: &Value) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden, format!("{got:#}\n")).expect("a golden file is written");
    }
    let blessed: Value = fs::read(golden)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_else(|| panic!("{} is missing: bless it with UPDATE_GOLDEN=1", golden.display()));
    check_same(&golden.display().to_string(), got, &blessed);
}

/// Fails with the first place at which two documents differ.
#[track_caller]
fn check_same(what: &str, got: &Value, expected: &Value) {
    if let Some(difference) = first_difference(got, expected, "") {
        panic!("{what}: {difference}");
    }
}

/// The first place at which documents differ, as a JSON pointer, and what is there.
fn first_difference(got: &Value, expected: &Value, at: &str) -> Option<String> {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            let keys: BTreeSet<&String> = got.keys().chain(expected.keys()).collect();
            keys.into_iter().find_map(|key| {
                let side = |side: &Map<String, Value>| side.get(key).cloned().unwrap_or_default();
                first_difference(&side(got), &side(expected), &format!("{at}/{key}"))
            })
        }
        (Value::Array(got), Value::Array(expected)) => (0..got.len().max(expected.len())).find_map(|index| {
            let side = |side: &[Value]| side.get(index).cloned().unwrap_or_default();
            first_difference(&side(got), &side(expected), &format!("{at}/{index}"))
        }),
        _ => (got != expected).then(|| format!("at {at}: got {got}, expected {expected}")),
    }
}

#[test]
fn differences_are_named_by_their_place() {
    let difference = |got, expected| first_difference(&got, &expected, "");
    assert_eq!(difference(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]})), None);
    let found = difference(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 3}]}));
    assert_eq!(found.as_deref(), Some("at /a/1/b: got 2, expected 3"));
    let found = difference(json!([1]), json!([1, "x"]));
    assert_eq!(found.as_deref(), Some("at /1: got null, expected \"x\""));
}

#[test]
fn tapes_give_the_spans_that_were_blessed() {
    for tape in tapes() {
        check(&tape.with_extension("json"), &replay(&tape));
    }
}

#[test]
fn tapes_of_frames_give_the_exchanges_that_were_blessed() {
    for tape in tapes().iter().filter(|tape| is_of_frames(tape)) {
        check(&tape.with_extension("exchanges.json"), &exchanges(tape));
    }
}

#[test]
fn cutting_and_mixing_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for original in tapes() {
        let spans = replay(&original);
        let told = is_of_frames(&original).then(|| exchanges(&original));
        for seed in 0..12 {
            let recut = folder.path().join(format!("{seed}.tape"));
            tape::recut(&original, seed, &recut);
            let got = replay(&recut);
            let what = format!("{}, seed {seed}", original.display());
            check_same(&what, &got, &spans);
            if let Some(told) = &told {
                check_same(&what, &exchanges(&recut), told);
            }
        }
    }
}

/// A tape whose writer was killed is good up to there: what was recorded whole comes out.
#[test]
fn a_tape_that_ends_early_gives_what_is_on_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let original = &tapes()[0];
    let bytes = fs::read(original).expect("a tape");
    let all = replay(original).as_array().map_or(0, Vec::len);
    let short = folder.path().join("short.tape");
    fs::write(&short, &bytes[..bytes.len() - 100]).expect("a tape is written");
    let mut command = Command::new(parts::agent());
    command.arg("replay").arg(&short).arg("--console=json");
    let mut process = Process::spawn(command);
    // Something is missing: it says so.
    assert_eq!(process.wait(PATIENCE).code(), Some(3), "{}", process.transcript());
    assert_eq!(process.stdout().all().len(), all, "{}", process.transcript());
}
