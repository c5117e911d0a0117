//! A span as a receiver got it.

use std::collections::BTreeMap;

use serde_json::Value;

/// One span with its resource. Attribute values are plain JSON: strings, booleans, numbers, lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Span name.
    pub name: String,
    /// `CLIENT`, `SERVER`, ...
    pub kind: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits, empty for a root span.
    pub parent_span_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// The ids of the spans that it links to.
    pub links: Vec<String>,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// Whether the status is an error.
    pub failed: bool,
    /// Span attributes.
    pub attributes: BTreeMap<String, Value>,
    /// Resource attributes.
    pub resource: BTreeMap<String, Value>,
}

impl Span {
    /// The value of an attribute; null when it has none.
    #[must_use]
    pub fn get(&self, key: &str) -> &Value {
        self.attributes.get(key).unwrap_or(&Value::Null)
    }

    /// The span of a line of the agent's `--console=json`.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn from_console(line: &str) -> Self {
        let span: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let map = |key: &str| {
            let object = span[key].as_object().unwrap_or_else(|| panic!("no {key}: {line}"));
            object.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Self {
            name: text(&span, "name"),
            kind: text(&span, "kind").to_uppercase(),
            trace_id: text(&span, "trace_id"),
            parent_span_id: text(&span, "parent_span_id"),
            span_id: text(&span, "span_id"),
            links: list(&span, "links").iter().map(|link| text(link, "span_id")).collect(),
            start: nanoseconds(&span["start_time_unix_nano"]),
            end: nanoseconds(&span["end_time_unix_nano"]),
            failed: span["status"]["code"] == "error",
            attributes: map("attributes"),
            resource: map("resource"),
        }
    }

    /// The spans of an OTLP document in its JSON form, as receivers write it.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn from_otlp(document: &Value) -> Vec<Self> {
        let mut spans = Vec::new();
        for group in list(document, "resourceSpans") {
            let resource = attributes(&group["resource"]);
            for scope in list(group, "scopeSpans") {
                spans.extend(list(scope, "spans").iter().map(|span| Self {
                    name: text(span, "name"),
                    kind: kind(&span["kind"]),
                    trace_id: text(span, "traceId"),
                    parent_span_id: text(span, "parentSpanId"),
                    span_id: text(span, "spanId"),
                    links: list(span, "links").iter().map(|link| text(link, "spanId")).collect(),
                    start: nanoseconds(&span["startTimeUnixNano"]),
                    end: nanoseconds(&span["endTimeUnixNano"]),
                    failed: matches!(
                        span["status"]["code"].to_string().as_str(),
                        "2" | "\"STATUS_CODE_ERROR\""
                    ),
                    attributes: attributes(span),
                    resource: resource.clone(),
                }));
            }
        }
        spans
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn kind(value: &Value) -> String {
    match (value.as_u64(), value.as_str()) {
        (Some(2), _) => "SERVER".into(),
        (Some(3), _) => "CLIENT".into(),
        (_, Some(name)) => name.trim_start_matches("SPAN_KIND_").into(),
        _ => value.to_string(),
    }
}

fn nanoseconds(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap_or_default()
}

fn attributes(owner: &Value) -> BTreeMap<String, Value> {
    list(owner, "attributes").iter().map(|pair| (text(pair, "key"), any_value(&pair["value"]))).collect()
}

/// OTLP's `AnyValue`; 64-bit integers are strings in its JSON form.
fn any_value(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        "intValue" => inner
            .as_str()
            .and_then(|text| text.parse::<i64>().ok())
            .map_or_else(|| inner.clone(), Value::from),
        "arrayValue" => list(inner, "values").iter().map(any_value).collect(),
        _ => inner.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_otlp_json() {
        let spans = Span::from_otlp(&json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "app"}}]},
            "scopeSpans": [{"spans": [{
                "name": "chat m", "kind": 3, "traceId": "0af7651916cd43dd8448eb211c80319c", "status": {"code": 2},
                "startTimeUnixNano": "1795000000000000001", "endTimeUnixNano": "1795000000000000002",
                "attributes": [
                    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
                    {"key": "gen_ai.response.finish_reasons",
                     "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}},
                ],
            }]}],
        }]}));
        let [span] = spans.as_slice() else { panic!("one span") };
        assert_eq!(
            (span.kind.as_str(), span.failed, span.start),
            ("CLIENT", true, 1_795_000_000_000_000_001)
        );
        assert_eq!(span.resource["service.name"], "app");
        assert_eq!(span.get("gen_ai.usage.input_tokens"), 12);
        assert_eq!(*span.get("gen_ai.response.finish_reasons"), json!(["stop"]));
        assert_eq!(*span.get("error.type"), Value::Null);
    }
}
