//! Wanted fields of a JSON document, in pieces and again after documents that begin alike, are what `serde_json`
//! finds in the whole of it; with gaps, some of that and nothing else.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tokentap_fuzz::{
    document::{Document, Found, What},
    script,
};
use tokentap_wire::json::{Extractor, Schema, Status, Value, WantedField};

/// Paths of all shapes, under keys that the seeds have.
const PATHS: [&str; 12] = [
    "id",
    "model",
    "stream",
    "usage",
    "usage.prompt_tokens",
    "usage.prompt_tokens_details.cached_tokens",
    "choices[].index",
    "choices[].delta.content",
    "choices[].finish_reason",
    "messages",
    "[].model",
    "[][].x",
];

/// Longest string that is kept.
const CAP: usize = 256;

/// Numbers of more bytes are not read.
const MAX_NUMBER: usize = 64;

static SCHEMA: LazyLock<Schema<usize>> = LazyLock::new(|| {
    let wants: Vec<WantedField<usize>> =
        PATHS.iter().zip(0..).map(|(path, field)| WantedField::new(path, field)).collect();
    Schema::new(&wants)
});

fuzz_target!(|input: &[u8]| {
    let steps = script::read(input);
    let pieces = script::pieces(&steps);
    let text: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let mut extractor = Extractor::new(&SCHEMA);
    if pieces.iter().any(|(gap, _)| *gap) {
        // Bytes that seem to be missing before these pieces, and the pieces themselves.
        for lost in [false, true] {
            check_gaps(&pieces, lost, &text);
        }
        return;
    }
    let cut: Vec<&[u8]> = pieces.iter().map(|(_, bytes)| *bytes).collect();
    let in_pieces = extract(&mut extractor, &cut);
    for _ in 0..3 {
        extractor.reset();
        assert_eq!(extract(&mut extractor, &[&text]), in_pieces, "as a whole");
    }
    extractor.reset();
    assert_eq!(extract(&mut extractor, &cut), in_pieces, "in pieces again");
    let Ok(document) = serde_json::from_slice::<Document>(&text) else { return };
    let mut expected = document.find(&PATHS);
    let (mut found, status) = in_pieces;
    assert_eq!(status, Status::Complete);
    expected.iter_mut().for_each(shorten);
    assert_eq!(found.len(), expected.len(), "{found:?}, not {expected:?}");
    for (found, expected) in found.iter_mut().zip(&expected) {
        align(found, expected, &text);
    }
    assert_eq!(found, expected);
});

/// Where the whole text is JSON, nothing is found after a gap that is not in there.
fn check_gaps(pieces: &[(bool, &[u8])], lost: bool, text: &[u8]) {
    let mut extractor = Extractor::new(&SCHEMA);
    let mut found = Vec::new();
    let mut on = |field, indices: &[u32], value: Value<'_>| {
        found.push(Found { field, indices: indices.to_vec(), what: what(&value) });
    };
    for &(gap, bytes) in pieces {
        if gap {
            extractor.gap();
        }
        if !(gap && lost) {
            extractor.push(bytes, &mut on);
        }
    }
    let status = extractor.finish(&mut on);
    assert!(matches!(status, Status::Gapped | Status::Complete | Status::Malformed(_)));
    if serde_json::from_slice::<Document>(text).is_ok() {
        let (whole, _) = extract(&mut Extractor::new(&SCHEMA), &[text]);
        let mut rest = whole.iter();
        assert!(found.iter().all(|found| rest.any(|whole| whole == found)), "{found:?}, of {whole:?}");
    }
}

fn extract(extractor: &mut Extractor<usize>, pieces: &[&[u8]]) -> (Vec<Found>, Status) {
    let mut found = Vec::new();
    let mut on = |field, indices: &[u32], value: Value<'_>| {
        found.push(Found { field, indices: indices.to_vec(), what: what(&value) });
    };
    for piece in pieces {
        extractor.push(piece, &mut on);
    }
    let status = extractor.finish(&mut on);
    (found, status)
}

fn what(value: &Value<'_>) -> What {
    What::Scalar(match value {
        Value::Object => return What::Object,
        Value::Array => return What::Array,
        Value::End => return What::End,
        Value::Null => Document::Null,
        Value::Bool(value) => Document::Bool(*value),
        // -1 for what is too long: NaN would not equal itself.
        Value::Number(number) => Document::Number(number.as_i64(), number.as_f64().unwrap_or(-1.0)),
        Value::Str(text) => Document::Str(text.decode()),
    })
}

/// Brings an expected string to what is kept of it.
fn shorten(found: &mut Found) {
    if let What::Scalar(Document::Str(text)) = &mut found.what {
        text.truncate(text.floor_char_boundary(CAP));
    }
}

/// Allows a found number what it may differ in: the last bits of a double, which `serde_json` does not read
/// exactly, and being left out when it is written with very many digits.
fn align(found: &mut Found, expected: &Found, text: &[u8]) {
    let What::Scalar(Document::Number(integer, double)) = &mut found.what else { return };
    let What::Scalar(Document::Number(expected_integer, expected_double)) = expected.what else { return };
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let very_long = text.split(|byte| !is_digit(byte)).any(|number| number.len() > MAX_NUMBER);
    let near = (*double - expected_double).abs() <= expected_double.abs() * 1e-12;
    if near || very_long {
        *double = expected_double;
    }
    if very_long || expected_double.fract() != 0.0 || expected_double.abs() > 1e15 {
        *integer = expected_integer;
    }
}
