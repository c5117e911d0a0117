//! Every registered API, by the cases in its folder of `tests/apis`: `CONTRIBUTING.md` has their format.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::LazyLock};

use proptest::prelude::*;
use tokentap_genai::{Api, Options, Span, SpanKind};
use tokentap_wire::Ending;

use crate::{
    body,
    counting::cost,
    exchange::{Capture, Exchange, lines},
};

/// Captured bytes of an exchange, and the spans that must come of them.
pub(crate) struct Case {
    /// `<API>/<case>`
    pub(crate) name: String,
    /// Bytes in the order in which they pass, with their side: 0 for the client, 1 for the server.
    pub(crate) segments: Vec<(usize, Vec<u8>)>,
    /// The body of the response.
    response: Vec<u8>,
    /// Name and attributes of each span.
    pub(crate) spans: Vec<Vec<String>>,
}

pub(crate) static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = Vec::new();
    for api in folders() {
        for file in
            sorted(folder().join(&api)).iter().filter(|file| file.extension() == Some("http".as_ref()))
        {
            let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let name = file.file_stem().expect("a name").to_string_lossy();
            cases.push(case(format!("{api}/{name}"), &text));
        }
    }
    cases
});

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/apis")
}

fn folders() -> Vec<String> {
    let names = sorted(folder()).into_iter();
    names.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

fn sorted(folder: PathBuf) -> Vec<PathBuf> {
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

fn case(name: String, text: &str) -> Case {
    let mut sections = text.split("\n---\n").map(|section| section.trim_end_matches("\n---"));
    let request = message(sections.next().unwrap_or_default());
    let response = message(sections.next().unwrap_or_else(|| panic!("{name} has no response")));
    let [method, target] = request.words(&name);
    let [_, status] = response.words(&name);
    let host = request.field("host").unwrap_or_else(|| panic!("{name} has no host"));
    let status = status.parse().unwrap_or_else(|_| panic!("{name}: {status} is no status"));
    let fields = |message: &Message| {
        let fields = message.fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
        fields.cloned().collect::<Vec<_>>()
    };
    let exchange = Exchange {
        method: method.to_owned(),
        host: host.to_owned(),
        target: target.to_owned(),
        request_fields: fields(&request),
        request: body::encode(&request.body, request.field("content-type")),
        status,
        response_fields: fields(&response),
        response: body::encode(&response.body, response.field("content-type")),
    };
    let mut segments = vec![(0, exchange.request_bytes())];
    if status == 101 {
        segments.push((1, exchange.head_bytes()));
        segments.extend(body::web_socket(&response.body));
    } else {
        segments.push((1, exchange.response_bytes()));
    }
    let spans = sections.filter(|section| !section.trim().is_empty()).map(|section| {
        let mut lines = section.trim().lines();
        let name = format!("name={}", lines.next().unwrap_or_default());
        let mut attributes: Vec<String> = lines.map(str::to_owned).collect();
        attributes.push(name);
        attributes.sort();
        attributes
    });
    Case { name, segments, response: exchange.response, spans: spans.collect() }
}

/// A request or response as a case has it.
struct Message {
    start: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Message {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The first two words of the first line.
    fn words(&self, case: &str) -> [&str; 2] {
        let mut words = self.start.split(' ');
        [(); 2].map(|()| words.next().unwrap_or_else(|| panic!("{case}: `{}` is too short", self.start)))
    }
}

fn message(section: &str) -> Message {
    let (head, body) = section.split_once("\n\n").unwrap_or((section, ""));
    let mut lines = head.trim().lines();
    let start = lines.next().unwrap_or_default().to_owned();
    let fields =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into()));
    Message { start, fields: fields.collect(), body: body.to_owned() }
}

/// A span as a case has it.
pub(crate) fn described(span: &Span) -> Vec<String> {
    let same_in_most = ["server.address=", "server.port=", "http.response.status_code="];
    let mut lines = lines(span);
    lines.retain(|line| {
        !line.contains("time_to_") && !same_in_most.iter().any(|prefix| line.starts_with(prefix))
    });
    lines.push(format!("name={}", span.name));
    lines.sort();
    lines
}

/// The spans when bytes come in pieces of at most `size`.
pub(crate) fn spans(case: &Case, mut capture: Capture, size: usize) -> Vec<Span> {
    for (side, bytes) in &case.segments {
        for piece in bytes.chunks(size) {
            capture.piece(*side, piece);
        }
    }
    capture.end(Ending::ClosedLocally)
}

#[track_caller]
fn check(case: &Case, spans: &[Span], how: &str) {
    let found: Vec<Vec<String>> = spans.iter().map(described).collect();
    assert_eq!(found, case.spans, "{} {how}", case.name);
}

#[test]
fn every_api_has_cases_and_every_folder_an_api() {
    let apis: BTreeSet<String> = Api::all().map(|api| api.name().to_owned()).collect();
    assert_eq!(folders().into_iter().collect::<BTreeSet<_>>(), apis);
    for api in &apis {
        let own = CASES.iter().filter(|case| case.name.starts_with(&format!("{api}/")));
        assert!(own.filter(|case| !case.spans.is_empty()).count() > 0, "{api} has no case with a span");
    }
}

#[test]
fn every_case_gives_its_spans() {
    for case in CASES.iter() {
        check(case, &spans(case, Capture::new(Options::default()), usize::MAX), "whole");
    }
}

#[test]
fn pieces_have_no_meaning() {
    for case in CASES.iter() {
        for size in [1, 7, 100] {
            let how = format!("in pieces of {size}");
            check(case, &spans(case, Capture::new(Options::default()), size), &how);
        }
    }
}

#[test]
fn a_server_sees_the_same_calls() {
    for case in CASES.iter() {
        let mut seen = spans(case, Capture::server(), usize::MAX);
        assert!(seen.iter().all(|span| span.kind != SpanKind::Client), "{}", case.name);
        // The process that closes first is not the caller there.
        seen.retain(|span| span.incomplete.is_none());
        let whole =
            case.spans.iter().filter(|span| !span.iter().any(|line| line.starts_with("tokentap.inc")));
        let found: Vec<_> = seen.iter().map(described).collect();
        assert_eq!(found, whole.cloned().collect::<Vec<_>>(), "{}", case.name);
    }
}

/// Plays a case of which up to `len` bytes of one segment are lost, from where `from` says by its size.
pub(crate) fn play_with_loss(
    case: &Case,
    capture: &mut Capture,
    lossy: usize,
    from: impl Fn(usize) -> usize,
    len: usize,
) {
    for (number, (side, bytes)) in case.segments.iter().enumerate() {
        let start = if number == lossy { from(bytes.len()) } else { bytes.len() };
        let end = (start + len).min(bytes.len());
        capture.piece(*side, &bytes[..start]);
        if end > start {
            capture.lose(*side, end - start);
            capture.piece(*side, &bytes[end..]);
        }
    }
}

/// What a span may say wrongly where nobody notices.
const FACTS: [&str; 6] = [
    "usage.",
    "response.id=",
    "response.model=",
    "response.finish_reasons=",
    "request.model=",
    "provider.name=",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// With bytes missing, a span says less, never something else; and it says that it is incomplete.
    #[test]
    fn a_gap_makes_no_wrong_numbers(
        case in any::<prop::sample::Index>(),
        segment in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        len in 1..400_usize,
    ) {
        let case = &CASES[case.index(CASES.len())];
        let mut capture = Capture::new(Options::default());
        play_with_loss(case, &mut capture, segment.index(case.segments.len()), |size| from.index(size), len);
        let known: Vec<&String> = case.spans.iter().flatten().collect();
        let spans = capture.end(Ending::Complete);
        // One whose beginning and end cannot be told to belong together is two.
        prop_assert!(spans.len() <= case.spans.len() + 1, "{} gives {spans:?}", case.name);
        for span in spans {
            let wrong: Vec<String> = described(&span)
                .into_iter()
                .filter(|line| FACTS.iter().any(|fact| line.starts_with(fact)))
                .filter(|line| !known.contains(&line))
                .filter(|line| !line.starts_with("provider.name=") && !line.ends_with("=error"))
                .collect();
            prop_assert!(wrong.is_empty(), "{} says {wrong:?} of {known:?}", case.name);
        }
    }

    #[test]
    fn damaged_bytes_are_taken(
        case in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        size in 1..300_usize,
    ) {
        let case = &CASES[case.index(CASES.len())];
        let mut segments = case.segments.clone();
        for (segment, position, byte) in damage {
            let segment = segment.index(segments.len());
            let bytes = &mut segments[segment].1;
            if !bytes.is_empty() {
                let position = position.index(bytes.len());
                bytes[position] = byte;
            }
        }
        let damaged = Case { name: case.name.clone(), segments, response: Vec::new(), spans: Vec::new() };
        let count = spans(&damaged, Capture::new(Options::default()), size).len();
        prop_assert!(count <= 20, "{} spans", count);
    }
}

/// Each event of a stream but its last one, sent again and again, costs no memory.
#[test]
fn events_of_a_stream_are_read_without_allocating() {
    for case in CASES.iter() {
        let Some(events) = server_sent_events(case) else { continue };
        for (number, event) in events.iter().enumerate().take(events.len() - 1) {
            let mut capture = Capture::new(Options::default());
            capture.piece(0, &case.segments[0].1);
            let (head, _) = split_head(&case.segments[1].1);
            capture.piece(1, head);
            let chunk = |event: &[u8]| {
                let length = format!("{:x}\r\n", event.len());
                [length.as_bytes(), event, b"\r\n"].concat()
            };
            for earlier in &events[..number] {
                capture.piece(1, &chunk(earlier));
            }
            let chunk = chunk(event);
            let mut repeat = |times: usize| (0..times).for_each(|_| capture.piece(1, &chunk));
            repeat(80);
            let text = String::from_utf8_lossy(event);
            assert_eq!(cost(|| repeat(20)), (0, 0, 0), "{}: {text}", case.name);
        }
    }
}

fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    bytes.split_at(end)
}

/// The events of the response, if it is a stream of them.
fn server_sent_events(case: &Case) -> Option<Vec<Vec<u8>>> {
    let (head, _) = split_head(&case.segments[1].1);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.contains("content-type: text/event-stream") {
        return None;
    }
    let body = String::from_utf8_lossy(&case.response).replace("\r\n", "\n");
    let events = body.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec());
    Some(events.collect::<Vec<_>>()).filter(|events| events.len() > 1)
}
