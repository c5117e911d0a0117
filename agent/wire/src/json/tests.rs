use std::sync::LazyLock;

use proptest::{collection::vec, prelude::*};
use serde_json::Value as Json;

use super::{Extractor, Schema, Status, Value, WantedField};
use crate::Reason;

mod gaps;
mod limits;
mod truncation;

const MALFORMED: Status = Status::Malformed(Reason::JsonInvalid);

/// Every path is its own field.
const PATHS: [&str; 9] =
    ["id", "n", "a.b", "a.c[].d", "a.c[].list[][]", "items[]", "items[].d", "usage.n", "usage"];

static SCHEMA: LazyLock<Schema<&str>> =
    LazyLock::new(|| Schema::new(&PATHS.map(|path| WantedField::new(path, path))));

/// What is reported, one line a value.
fn extract(pieces: &[&[u8]]) -> (Vec<String>, Status) {
    extract_of(&SCHEMA, pieces)
}

fn extract_of(schema: &'static Schema<&str>, pieces: &[&[u8]]) -> (Vec<String>, Status) {
    let mut extractor = Extractor::new(schema);
    let mut seen = Vec::new();
    for piece in pieces {
        extractor.push(piece, |field, indices, value| seen.push(line(field, indices, value)));
    }
    let status = extractor.finish(|field, indices, value| seen.push(line(field, indices, value)));
    (seen, status)
}

fn line(field: &str, indices: &[u32], value: Value<'_>) -> String {
    let value = match value {
        Value::Str(text) => format!("{:?}", text.decode()),
        Value::Number(number) => format!("{:?}", number.as_f64()),
        other => format!("{other:?}"),
    };
    format!("{field} {indices:?} {value}")
}

fn check(document: &str, expected: &[&str], status: Status) {
    for cut in 0..=document.len() {
        let (head, tail) = document.as_bytes().split_at(cut);
        assert_eq!(
            extract(&[head, tail]),
            (expected.iter().map(ToString::to_string).collect(), status),
            "cut {cut}"
        );
    }
    let bytes: Vec<&[u8]> = document.as_bytes().chunks(1).collect();
    assert_eq!(extract(&bytes).0, expected);
}

#[test]
fn wanted_values_are_reported_with_their_place() {
    check(
        r#" {"x":[{"id":"no"}],"id":"a\"b","n":-1.5e1,"a":{"b":true,"c":[{},{"d":null,"list":[[1],[2,3]]}]}} "#,
        &[
            r#"id [] "a\"b""#,
            "n [] Some(-15.0)",
            "a.b [] Bool(true)",
            "a.c[].d [1] Null",
            "a.c[].list[][] [1, 0, 0] Some(1.0)",
            "a.c[].list[][] [1, 1, 0] Some(2.0)",
            "a.c[].list[][] [1, 1, 1] Some(3.0)",
        ],
        Status::Complete,
    );
}

#[test]
fn containers_are_reported_at_both_ends() {
    check(
        r#"{"items":[{"d":1},[9],"s"],"usage":{"n":1},"n":{"x":"]}"}}"#,
        &[
            "items[] [0] Object",
            "items[].d [0] Some(1.0)",
            "items[] [0] End",
            "items[] [1] Array",
            "items[] [1] End",
            r#"items[] [2] "s""#,
            "usage [] Object",
            "usage.n [] Some(1.0)",
            "usage [] End",
            "n [] Object",
            "n [] End",
        ],
        Status::Complete,
    );
}

#[test]
fn keys_may_be_escaped_empty_or_very_long() {
    let document = format!(r#"{{"\u0069d":"x","":1,"{}":2,"\u0069\u0069":3}}"#, "id".repeat(500));
    check(&document, &[r#"id [] "x""#], Status::Complete);
}

#[test]
fn what_is_not_json_is_told_from_what_is_cut() {
    for (document, expected, status) in [
        ("", &[][..], Status::Empty),
        (" \r\n\t", &[], Status::Empty),
        ("<html>", &[], MALFORMED),
        (r#"{"id":"a"} x"#, &[r#"id [] "a""#], MALFORMED),
        (r#"{"id":"a",}"#, &[r#"id [] "a""#], MALFORMED),
        (r#"{"id" "a"}"#, &[], MALFORMED),
        (r#"{"id":nope}"#, &[], MALFORMED),
        (r#"{"items":[1 2]}"#, &["items[] [0] Some(1.0)"], MALFORMED),
        (r#"{"items":[1}"#, &["items[] [0] Some(1.0)"], MALFORMED),
        (r#"{"id":"a","n":1"#, &[r#"id [] "a""#], Status::Partial),
        (r#"{"id":"a\"#, &[], Status::Partial),
        (r#"{"x":["#, &[], Status::Partial),
        ("12", &[], Status::Complete),
        ("[]", &[], Status::Complete),
    ] {
        check(document, expected, status);
    }
}

#[test]
fn a_string_is_kept_up_to_its_cap_and_of_content_only_whether_there_is_any() {
    static CONTENT: LazyLock<Schema<u8>> =
        LazyLock::new(|| Schema::new(&[WantedField::presence("content", 1), WantedField::new("id", 2)]));
    let long = "y".repeat(300);
    let document = format!(r#"{{"content":"secret","content":"","content":null,"id":"{long}"}}"#);
    for size in [1, 7, document.len()] {
        let mut extractor = Extractor::new(&CONTENT);
        let mut seen = Vec::new();
        for piece in document.as_bytes().chunks(size) {
            extractor.push(piece, |_, _, value| {
                seen.push(value.as_str().map(|text| {
                    let mut out = String::new();
                    (text.is_empty(), text.read_into(&mut out), out)
                }));
            });
        }
        let expected = [
            Some((false, true, String::new())),
            Some((true, false, String::new())),
            None,
            Some((false, true, "y".repeat(256))),
        ];
        assert_eq!(seen, expected, "pieces of {size}");
    }
}

#[test]
fn an_extractor_begins_anew() {
    let mut extractor = Extractor::new(&SCHEMA);
    for document in [r#"{"a":{"c":[{"d":"cut of"#, "<html>", r#"{"a":{"c":[{},{"d":1"#] {
        extractor.push(document.as_bytes(), |_, _, _| {});
        extractor.gap();
        extractor.reset();
        let mut seen = Vec::new();
        extractor.push(br#"{"a":{"c":[{"d":1}]}}"#, |_, indices, value| {
            seen.push((indices.to_vec(), value.as_i64()))
        });
        assert_eq!(seen, [(vec![0], Some(1))]);
        extractor.reset();
    }
}

proptest! {
    #[test]
    fn random_documents_give_what_a_whole_parser_gives(
        document in document(),
        pretty: bool,
        cuts in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
        let text = text.expect("a value serializes");
        let mut expected = Vec::new();
        walk_of(&PATHS, &document, "", &mut Vec::new(), &mut expected);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
        let (mut seen, status) = extract(&pieces);
        seen.sort();
        expected.sort();
        prop_assert_eq!(seen, expected, "{}", text);
        prop_assert_eq!(status, Status::Complete);
    }

    #[test]
    fn documents_of_a_stream_are_read_as_if_each_were_the_first(
        documents in vec((document(), any::<prop::sample::Index>(), 0..5_usize), 2..5),
        order in vec(any::<prop::sample::Index>(), 1..24),
        cuts in vec(any::<prop::sample::Index>(), 24),
    ) {
        // Each is told again with another end, so that beginnings recur.
        let documents: Vec<String> = documents
            .iter()
            .flat_map(|(document, cut, more)| {
                let text = serde_json::to_string(document).expect("a value serializes");
                let cut = text.floor_char_boundary(cut.index(text.len() + 1));
                let other = format!("{}{}", &text[..cut], [r#""x"}"#, "7]}", "}", "null,", ""][*more]);
                [format!(r#"{{"id":"0123456789","a":{text}}}"#), format!(r#"{{"id":"0123456789","a":{other}}}"#)]
            })
            .collect();
        let mut extractor = Extractor::new(&SCHEMA);
        for (document, cut) in order.iter().zip(cuts) {
            let document = documents[document.index(documents.len())].as_bytes();
            // Most documents come whole.
            let cut = cut.index(document.len() * 4).min(document.len());
            let pieces = [&document[..cut], &document[cut..]];
            let mut seen = Vec::new();
            extractor.reset();
            for piece in pieces {
                extractor.push(piece, |field, indices, value| seen.push(line(field, indices, value)));
            }
            let status = extractor.finish(|field, indices, value| seen.push(line(field, indices, value)));
            prop_assert_eq!((seen, status), extract(&pieces));
        }
    }

    #[test]
    fn any_bytes_are_taken(pieces in vec(vec(prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]":,\u1ntusage "#.to_vec())], 0..40), 0..6), gap: bool) {
        let mut extractor = Extractor::new(&SCHEMA);
        for piece in &pieces {
            extractor.push(piece, |_, _, value| { value.as_str().map(|text| text.decode()); });
            if gap {
                extractor.gap();
            }
        }
        extractor.finish(|_, _, _| {});
    }
}

fn document() -> impl Strategy<Value = Json> {
    let key = prop_oneof![4 => prop::sample::select(vec!["id", "n", "a", "b", "c", "d", "list", "items", "usage"]).prop_map(String::from), 1 => "[^.\\[]{1,4}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        r#"["\\\n\u{1}é😀a]{0,12}"#.prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(Json::from_iter),
        ]
    })
}

/// What is at the paths in a parsed document, but for the order of keys.
fn walk_of(paths: &[&str], value: &Json, path: &str, indices: &mut Vec<u32>, out: &mut Vec<String>) {
    let wanted = |out: &mut Vec<String>, indices: &[u32], text: String| {
        if paths.contains(&path) {
            out.push(format!("{path} {indices:?} {text}"));
        }
    };
    match value {
        Json::Null => wanted(out, indices, "Null".into()),
        Json::Bool(b) => wanted(out, indices, format!("Bool({b})")),
        Json::Number(n) => wanted(out, indices, format!("{:?}", n.as_f64())),
        Json::String(s) => wanted(out, indices, format!("{s:?}")),
        Json::Array(items) => {
            wanted(out, indices, "Array".into());
            for (index, item) in items.iter().enumerate() {
                indices.push(u32::try_from(index).expect("short"));
                walk_of(paths, item, &format!("{path}[]"), indices, out);
                indices.pop();
            }
            wanted(out, indices, "End".into());
        }
        Json::Object(fields) => {
            wanted(out, indices, "Object".into());
            for (key, field) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk_of(paths, field, &path, indices, out);
            }
            wanted(out, indices, "End".into());
        }
    }
}
