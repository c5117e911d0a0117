//! Numbers in the text format that Prometheus scrapes, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Names are converted as OpenTelemetry's specification says
//! (compatibility/prometheus_and_openmetrics.md): dots become underscores, units are spelled out, counters end in `_total`.

use std::fmt::Write as _;

use crate::telemetry::snapshot::Row;

/// Content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All rows, those of one name together.
pub(super) fn text(rows: &[Row]) -> String {
    let mut rows: Vec<(String, &Row)> = rows.iter().map(|row| (name(row), row)).collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut text = String::new();
    let mut last = "";
    for (name, row) in &rows {
        if name != last {
            let kind = if row.metric.is_gauge() { "gauge" } else { "counter" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}");
            last = name;
        }
        text.push_str(name);
        let mut separator = '{';
        for (key, value) in row.labels() {
            let _ = write!(text, "{separator}{}=\"{}\"", word(key), escaped(value));
            separator = ',';
        }
        if separator == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {}", row.value);
    }
    text
}

fn name(row: &Row) -> String {
    let mut name = word(row.metric.name);
    let unit = match row.metric.unit {
        "By" => "bytes",
        "s" => "seconds",
        "us" => "microseconds",
        _ => "",
    };
    if !unit.is_empty() && !name.split('_').any(|part| part == unit) {
        name = format!("{name}_{unit}");
    }
    if row.metric.is_gauge() { name } else { name + "_total" }
}

/// What is no letter, digit or underscore becomes one.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
