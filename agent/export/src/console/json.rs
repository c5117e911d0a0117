//! One JSON object per span. Keys are stable:
//!
//! | key | value |
//! |---|---|
//! | `name`, `kind` | span name; `client` or `server` |
//! | `trace_id`, `span_id`, `parent_span_id` | lower-case hex; the parent is null when there is none |
//! | `trace_state` | W3C `tracestate`, null when there is none |
//! | `start`, `end` | RFC 3339 in UTC with nanoseconds |
//! | `start_time_unix_nano`, `end_time_unix_nano` | the same as integers |
//! | `duration_ns` | their difference |
//! | `status` | `{"code": "unset" \| "error", "message": …}` |
//! | `pid` | the observed process |
//! | `resource`, `attributes` | objects: attribute name -> string, boolean, number or list of strings |
//! | `links` | the calls that it follows: `{"trace_id": …, "span_id": …}`; missing where there is none |
//! | `event` | content for the event with the details of the call: attribute name -> JSON; missing where there is none |
//! | `scope` | `{"name": "tokentap", "version": …}` |

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use humantime::format_rfc3339_nanos;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use tokentap_genai::{Attribute, SpanKind, SpanStatus, Value};

use crate::record::{Record, SCOPE_NAME, SCOPE_VERSION};

/// Appends a span, with its end of line.
pub(super) fn line(out: &mut String, record: &Record) {
    let span = &record.span;
    let parent = span.parent.as_ref();
    let line = Line {
        name: &span.name,
        kind: match span.kind {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
            SpanKind::Internal => "internal",
        },
        trace_id: hex(&record.trace_id),
        span_id: hex(&record.span_id),
        parent_span_id: parent.map(|parent| hex(&parent.span_id)),
        trace_state: parent.map(|parent| &*parent.state).filter(|state| !state.is_empty()),
        start: rfc3339(record.start_unix_nanos),
        end: rfc3339(record.end_unix_nanos),
        start_time_unix_nano: record.start_unix_nanos,
        end_time_unix_nano: record.end_unix_nanos,
        duration_ns: record.end_unix_nanos.saturating_sub(record.start_unix_nanos),
        status: match &span.status {
            SpanStatus::Unset => Status { code: "unset", message: "" },
            SpanStatus::Error(message) => Status { code: "error", message },
        },
        pid: record.pid,
        resource: Attributes(record.resource.attributes()),
        attributes: Attributes(&span.attributes),
        links: record
            .links
            .iter()
            .map(|l| Link { trace_id: hex(&l.trace_id), span_id: hex(&l.span_id) })
            .collect(),
        event: span.event_content.iter().map(|(key, json)| (*key, json)).collect(),
        scope: Scope { name: SCOPE_NAME, version: SCOPE_VERSION },
    };
    // Keys are strings and no value refuses to be serialized.
    out.push_str(&serde_json::to_string(&line).expect("a span is always JSON"));
    out.push('\n');
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    kind: &'static str,
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    trace_state: Option<&'a str>,
    start: String,
    end: String,
    start_time_unix_nano: u64,
    end_time_unix_nano: u64,
    duration_ns: u64,
    status: Status<'a>,
    pid: u32,
    resource: Attributes<'a>,
    attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    event: BTreeMap<&'static str, &'a serde_json::Value>,
    scope: Scope,
}

#[derive(Serialize)]
struct Link {
    trace_id: String,
    span_id: String,
}

#[derive(Serialize)]
struct Status<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

struct Attributes<'a>(&'a [Attribute]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for Attribute { key, value } in self.0 {
            match value {
                Value::Str(text) => map.serialize_entry(key, text)?,
                Value::Bool(value) => map.serialize_entry(key, value)?,
                Value::Int(value) => map.serialize_entry(key, value)?,
                Value::Double(value) => map.serialize_entry(key, value)?,
                Value::StrList(list) => map.serialize_entry(key, list)?,
            }
        }
        map.end()
    }
}

fn rfc3339(unix_nanos: u64) -> String {
    format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(unix_nanos)).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A String takes every write.
        write!(text, "{byte:02x}").expect("writing to a String");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{record, with_parent};

    fn parsed(record: &Record) -> serde_json::Value {
        let mut text = String::new();
        line(&mut text, record);
        assert_eq!(text.matches('\n').count(), 1);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_span_reads_back() {
        let got = parsed(&with_parent(record(1)));
        for (key, want) in [
            ("name", "chat gpt-4o-mini"),
            ("kind", "client"),
            ("trace_id", "000102030405060708090a0b0c0d0e0f"),
            ("span_id", "0000000000000001"),
            ("parent_span_id", "00f067aa0ba902b7"),
            ("trace_state", "vendor=1"),
            ("start", "2023-11-14T22:13:20.000000123Z"),
            ("end", "2023-11-14T22:13:21.500000123Z"),
        ] {
            assert_eq!(got[key], want, "{key}");
        }
        assert_eq!(got["start_time_unix_nano"], 1_700_000_000_000_000_123_u64);
        assert_eq!(got["duration_ns"], 1_500_000_000_u64);
        assert_eq!(got["status"]["code"], "error");
        assert_eq!(got["pid"], 4242);
        assert_eq!(got["resource"]["service.name"], "shop");
        assert_eq!(got["attributes"]["gen_ai.usage.input_tokens"], 12);
        assert_eq!(got["attributes"]["gen_ai.response.finish_reasons"][0], "stop");
    }

    #[test]
    fn a_span_without_a_parent_says_so() {
        let got = parsed(&record(1));
        assert!(got["parent_span_id"].is_null() && got["trace_state"].is_null());
    }
}
