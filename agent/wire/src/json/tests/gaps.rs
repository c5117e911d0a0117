//! Documents of which bytes were lost.

use proptest::{collection::vec, prelude::*};

use super::{Extractor, SCHEMA, Schema, Status, Value, document, extract_of, line, truncation::SAMPLES};

/// What is reported of pieces with a gap between each two, and at the end when that was `cut`.
fn gapped(schema: &'static Schema<&str>, pieces: &[&[u8]], size: usize, cut: bool) -> (Vec<String>, Status) {
    let mut extractor = Extractor::new(schema);
    let mut seen = Vec::new();
    let mut visit = |field: &str, indices: &[u32], value: Value<'_>| seen.push(line(field, indices, value));
    for (n, piece) in pieces.iter().enumerate() {
        if n > 0 {
            extractor.gap();
        }
        piece.chunks(size).for_each(|piece| extractor.push(piece, &mut visit));
    }
    if cut {
        extractor.gap();
    }
    let status = extractor.finish(&mut visit);
    (seen, status)
}

/// Whether `found` is `truth` with some left out.
fn is_part(found: &[String], truth: &[String]) -> bool {
    let mut rest = truth.iter();
    found.iter().all(|line| rest.any(|true_line| true_line == line))
}

#[track_caller]
fn check(head: &str, tail: &str, expected: &[&str]) {
    for size in [1, 3, usize::MAX] {
        let pieces = [head.as_bytes(), tail.as_bytes()];
        let (found, status) = gapped(&SCHEMA, &pieces, size, false);
        assert_eq!(
            (found, status),
            (expected.iter().map(ToString::to_string).collect(), Status::Gapped),
            "{tail}"
        );
    }
}

#[test]
fn what_follows_a_gap_is_read_from_the_first_wanted_key_of_the_outermost_object() {
    let usage = ["usage [] Object", "usage.n [] Some(7.0)", "usage [] End"];
    // In a string, between values, in a key, in a number, and with what is wanted in arrays.
    check(r#"{"id":"a","x":"lo"#, r#"st","usage":{"n":7}}"#, &[&[r#"id [] "a""#][..], &usage].concat());
    check(r#"{"id":"a","x":["#, r#"}], "usage" : {"n":7}} "#, &[&[r#"id [] "a""#][..], &usage].concat());
    check(r#"{"id":"a""#, r#"id":"b","usage":{"n":7}}"#, &[&[r#"id [] "a""#][..], &usage].concat());
    check(r#"{"n":12"#, r#"34,"usage":{"n":7}}"#, &usage);
    check(
        "",
        r#"5]}}],"id":"x","items":[{"d":1}]}"#,
        &[r#"id [] "x""#, "items[] [0] Object", "items[].d [0] Some(1.0)", "items[] [0] End"],
    );
    // Strings and objects that speak of usage.
    check("", r#"he said \"usage\":{\"n\":1} \"n\":2"}]}, "usage" : {"n":7}}"#, &usage);
    check("", r#""usage":{"n":1},"n":2}},"usage":{"n":7}}"#, &usage);
    check("", r#"a":{"usage":{"n":1},"x":{"usage":{"n":2}}},"id":"y"},"usage":{"n":7}}"#, &usage);
    check("", r#" "usage","n"],"b":{"usage":[1,{"n":4}],"n":!},"usage":{"n":7}}"#, &usage);
}

#[test]
fn what_the_end_does_not_show_to_be_outermost_is_not_reported() {
    for tail in [
        // An object inside of another, of an array, and one of which nobody knows.
        r#"x,"usage":{"n":1}}}"#,
        r#"x,"usage":{"n":1}}]}"#,
        r#"x,"usage":{"n":1}},"y":2}"#,
        r#"x,"usage":{"n":1}"#,
        r#"x,"usage":{"n":1"#,
        // The first quote may be escaped, and a word may be a value.
        r#"usage":{"n":1}}"#,
        r#""usage":{"n":1}}"#,
        r#"x,"usage"}"#,
        // All of it is in a string.
        r#"\"usage\":{\"n\":1}}"#,
        r#"\\\"usage\\\":{\\\"n\\\":1}}"#,
        "",
    ] {
        check("", tail, &[]);
    }
    // A whole object, but what comes after it was lost, or cut off.
    let tail = br#"x,"usage":{"n":1}}"#;
    assert_eq!(gapped(&SCHEMA, &[b"{", tail], 99, false).0.len(), 3);
    assert_eq!(gapped(&SCHEMA, &[b"{", tail], 99, true).0, [""; 0]);
    assert_eq!(gapped(&SCHEMA, &[b"{", tail, b""], 99, false).0, [""; 0]);
}

#[test]
fn a_document_that_is_over_has_lost_nothing() {
    let pieces: [&[u8]; 2] = [br#"{"id":"a"}"#, b" "];
    assert_eq!(gapped(&SCHEMA, &pieces, 99, true), (vec![r#"id [] "a""#.to_owned()], Status::Complete));
    assert_eq!(gapped(&SCHEMA, &[b""], 99, true).1, Status::Gapped);
}

#[test]
fn as_much_is_held_back_as_has_room() {
    let items: String = (0..100).map(|n| format!(r#"{{"d":{n}}},"#)).collect();
    let tail = format!(r#"x,"id":"y","items":[{items}0]}}"#);
    let (found, status) = gapped(&SCHEMA, &[b"{", tail.as_bytes()], 99, false);
    assert_eq!((found.len(), status), (64, Status::Gapped));
    assert_eq!(found[..3], [r#"id [] "y""#, "items[] [0] Object", "items[].d [0] Some(0.0)"]);
}

/// Pairs of positions, not all: every gap of up to 8 bytes, and longer ones of some lengths.
fn gaps(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let lengths = (1..8).chain([13, 50, 100, 257, 400]);
    lengths.flat_map(move |lost| (0..(len + 1).saturating_sub(lost)).map(move |from| (from, from + lost)))
}

#[test]
fn usage_at_the_end_of_a_response_survives_any_gap_before_it() {
    for sample in SAMPLES.iter() {
        let (text, schema) = (sample.text.as_bytes(), &sample.schema);
        let truth = extract_of(schema, &[text]).0;
        let usage = sample.text.rfind("\"usage").expect("a sample has usage");
        let of_usage = |lines: &[String]| lines.iter().filter(|line| line.starts_with("usage")).count();
        for (from, to) in gaps(text.len()) {
            let (found, status) = gapped(schema, &[&text[..from], &text[to..]], 99, false);
            assert!(is_part(&found, &truth), "{from}..{to}: {found:?}");
            // The byte before the key shows that its quote is not escaped.
            if to < usage {
                assert_eq!(of_usage(&found), of_usage(&truth), "{from}..{to}");
            }
            assert!(status == Status::Gapped || from >= sample.text.trim_end().len(), "{from}..{to}");
            let (found, _) = gapped(schema, &[&text[..from], &text[to..to.max(text.len() - 2)]], 99, true);
            assert!(is_part(&found, &truth), "{from}..{to} and cut: {found:?}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_nothing_wrong_is_reported(
        document in document(),
        sample in 0..6_usize,
        losses in vec(any::<prop::sample::Index>(), 2..8),
        size in 1..80_usize,
        cut: bool,
    ) {
        let (text, truth, schema) = match SAMPLES.get(sample) {
            Some(sample) => {
                (sample.text.to_owned(), extract_of(&sample.schema, &[sample.text.as_bytes()]).0, &sample.schema)
            }
            None => {
                // In order, which serde_json does not keep.
                let text = serde_json::to_string(&document).expect("a value serializes");
                let truth = extract_of(&SCHEMA, &[text.as_bytes()]).0;
                (text, truth, &*SCHEMA)
            }
        };
        let mut positions: Vec<usize> = losses.iter().map(|at| at.index(text.len() + 1)).collect();
        positions.extend([0, text.len()]);
        positions.sort_unstable();
        if positions.len() % 2 == 1 {
            positions.pop();
        }
        // Every other stretch is lost.
        let pieces: Vec<&[u8]> = positions.as_chunks::<2>().0.iter().map(|[from, to]| &text.as_bytes()[*from..*to]).collect();
        let cut = cut || positions.last() != Some(&text.len());
        let (found, _) = gapped(schema, &pieces, size, cut);
        prop_assert!(is_part(&found, &truth), "{:?} of {}", found, text);
    }
}
