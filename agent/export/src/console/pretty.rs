//! One line per span, for people.

use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use humantime::format_rfc3339_millis;
use tokentap_genai::{
    SpanKind, SpanStatus, Value,
    semconv::{
        ERROR_TYPE, INCOMPLETE, INCOMPLETE_REASON, RESPONSE_TIME_TO_FIRST_CHUNK, TIME_TO_FIRST_TOKEN,
        USAGE_INPUT_TOKENS, USAGE_OUTPUT_TOKENS,
    },
};

use unicode_width::UnicodeWidthStr as _;

use crate::record::Record;

/// Columns of a terminal.
const PROCESS_WIDTH: usize = 22;
const CALL_WIDTH: usize = 34;

/// SGR codes.
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// The line above the columns.
pub(super) fn headings(color: bool) -> String {
    let mut out = String::new();
    let titles = Columns {
        time: "TIME (UTC)",
        process: fitted("PROCESS", PROCESS_WIDTH),
        call: fitted("CALL", CALL_WIDTH),
        input: "IN".into(),
        output: "OUT".into(),
        first: "TTFT".into(),
        duration: "DURATION".into(),
    };
    paint(&mut out, color, DIM, &format!("{}  STATUS", titles.text()));
    out.push('\n');
    out
}

/// Appends a span, with its end of line.
pub(super) fn line(out: &mut String, record: &Record, color: bool) {
    let time = format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(record.start_unix_nanos)).to_string();
    let columns = Columns {
        // `2023-11-14T22:13:20.123Z` without its date and zone.
        time: &time[11..23],
        process: fitted(&process(record), PROCESS_WIDTH),
        call: fitted(&call(record), CALL_WIDTH),
        input: number(record, USAGE_INPUT_TOKENS),
        output: number(record, USAGE_OUTPUT_TOKENS),
        first: first_token(record),
        duration: span_of_time(Duration::from_nanos(
            record.end_unix_nanos.saturating_sub(record.start_unix_nanos),
        )),
    };
    out.push_str(&columns.text());
    out.push_str("  ");
    status(out, record, color);
    out.push('\n');
}

struct Columns<'a> {
    time: &'a str,
    process: String,
    call: String,
    input: String,
    output: String,
    first: String,
    duration: String,
}

impl Columns<'_> {
    fn text(&self) -> String {
        format!(
            "{:<12}  {}  {}  {:>7}  {:>7}  {:>7}  {:>8}",
            self.time, self.process, self.call, self.input, self.output, self.first, self.duration
        )
    }
}

/// `ok`, or what went wrong, and whether something is missing.
fn status(out: &mut String, record: &Record, color: bool) {
    let span = &record.span;
    match &span.status {
        SpanStatus::Unset => paint(out, color, GREEN, "ok"),
        SpanStatus::Error(description) => {
            let kind = text(record, ERROR_TYPE).unwrap_or_else(|| clean(description));
            paint(out, color, RED, &format!("error {kind}"));
        }
    }
    if span.get(INCOMPLETE).is_some() {
        let why = text(record, INCOMPLETE_REASON).map_or_else(String::new, |why| format!(": {why}"));
        out.push_str("  ");
        paint(out, color, YELLOW, &format!("incomplete{why}"));
    }
}

fn process(record: &Record) -> String {
    let name = record.resource.service_name().map_or(Cow::Borrowed("?"), |name| Cow::Owned(clean(name)));
    format!("{name}[{}]", record.pid)
}

fn call(record: &Record) -> String {
    match record.span.kind {
        SpanKind::Client => clean(&record.span.name),
        SpanKind::Server | SpanKind::Internal => format!("serve {}", clean(&record.span.name)),
    }
}

/// Time to the first generated content, else to the first byte of the response's body.
fn first_token(record: &Record) -> String {
    let value =
        record.span.get(TIME_TO_FIRST_TOKEN).or_else(|| record.span.get(RESPONSE_TIME_TO_FIRST_CHUNK));
    match value {
        Some(Value::Double(seconds)) => {
            Duration::try_from_secs_f64(*seconds).map_or_else(|_| "-".into(), span_of_time)
        }
        _ => "-".into(),
    }
}

fn number(record: &Record, key: &str) -> String {
    match record.span.get(key) {
        Some(Value::Int(n)) => n.to_string(),
        _ => "-".into(),
    }
}

fn text(record: &Record, key: &str) -> Option<String> {
    match record.span.get(key) {
        Some(Value::Str(text)) => Some(clean(text)),
        _ => None,
    }
}

/// Without control characters: what a process sends must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Cut or filled to so many columns of a terminal, with a mark where something was left out.
fn fitted(text: &str, width: usize) -> String {
    let mut fitted = text.to_owned();
    if text.width() > width {
        while fitted.width() >= width {
            fitted.pop();
        }
        fitted.push('…');
    }
    fitted.extend(std::iter::repeat_n(' ', width.saturating_sub(fitted.width())));
    fitted
}

fn span_of_time(time: Duration) -> String {
    match time.as_micros() {
        micros @ ..10_000 => format!("{:.1}ms", micros as f64 / 1e3),
        micros @ ..1_000_000 => format!("{}ms", micros / 1_000),
        ..60_000_000 => format!("{:.2}s", time.as_secs_f64()),
        _ => format!("{}m{:02}s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

fn paint(out: &mut String, color: bool, code: &str, text: &str) {
    if color {
        // A String takes every write.
        write!(out, "\x1b[{code}m{text}\x1b[0m").expect("writing to a String");
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use tokentap_genai::Attribute;

    use super::*;
    use crate::tests::{record, with_parent};

    fn rendered(record: &Record) -> String {
        let mut out = String::new();
        line(&mut out, record, false);
        out
    }

    fn with(mut record: Record, key: &'static str, value: Value) -> Record {
        record.span.attributes.retain(|a| a.key != key);
        record.span.attributes.push(Attribute { key: key.into(), value });
        record
    }

    #[test]
    fn wide_characters_take_the_columns_that_they_have() {
        assert_eq!(fitted("モデル", 8), "モデル  ");
        assert_eq!(fitted("モデル・サービス", 8), "モデル… ");
        assert_eq!(fitted("e\u{301}a", 4), "e\u{301}a  ");
        assert_eq!(fitted("abcdef", 4), "abc…");
    }

    #[test]
    fn values_stand_under_their_headings() {
        let head = headings(false);
        let record = with((*record(1)).clone(), TIME_TO_FIRST_TOKEN, Value::Double(0.3125));
        let row = rendered(&record);
        let cut = |text: &str, title: &str| {
            let end = head.find(title).unwrap() + title.len();
            text[..end].rsplit("  ").next().unwrap().trim().to_owned()
        };
        for (title, want) in [("IN", "12"), ("OUT", "34"), ("TTFT", "312ms"), ("DURATION", "1.50s")] {
            assert_eq!(cut(&row, title), want, "{title}\n{head}{row}");
        }
        for (title, want) in [
            ("TIME", "22:13:20.000"),
            ("PROCESS", "shop[4242]"),
            ("CALL", "chat gpt-4o-mini"),
            ("STATUS", "ok"),
        ] {
            assert!(row[head.find(title).unwrap()..].starts_with(want), "{title}\n{head}{row}");
        }
    }

    #[test]
    fn failures_and_missing_parts_are_named() {
        let failed = with(with_parent(record(1)), ERROR_TYPE, Value::Str("rate_limit_exceeded".into()));
        assert!(rendered(&failed).ends_with("  error rate_limit_exceeded\n"));
        let cut = with((*record(1)).clone(), INCOMPLETE, Value::Bool(true));
        let cut = with(cut, INCOMPLETE_REASON, Value::Str("process_exit".into()));
        assert!(rendered(&cut).ends_with("  ok  incomplete: process_exit\n"));
    }

    #[test]
    fn what_a_process_sends_cannot_steer_the_terminal() {
        let mut hostile = (*record(1)).clone();
        hostile.span.name = "chat \x1b[2J\nmodel\u{9b}31m".into();
        let row = rendered(&hostile);
        assert!(!row.trim_end().contains(char::is_control), "{row:?}");
    }

    #[test]
    fn long_names_do_not_shift_columns() {
        let mut long = (*record(1)).clone();
        long.span.name = format!("chat {}", "é".repeat(100));
        assert_eq!(rendered(&long).chars().count(), rendered(&record(1)).chars().count());
    }

    #[test]
    fn times_are_short() {
        for (nanos, want) in [
            (437_000, "0.4ms"),
            (10_900_000, "10ms"),
            (999_999_999, "999ms"),
            (1_204_000_000, "1.20s"),
            (125_000_000_000, "2m05s"),
        ] {
            assert_eq!(span_of_time(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn colours_only_when_asked_for() {
        let mut out = String::new();
        line(&mut out, &record(1), true);
        assert!(out.contains("\x1b[32mok\x1b[0m"));
        assert!(!rendered(&record(1)).contains('\x1b'));
    }
}
