//! `cargo xtask conventions`: OpenTelemetry's semantic conventions as a table of our own form, so that tests need no file
//! from outside the repository.
//!
//! A line is `kind`, `name`, `type`, `unit`, `status` and the values of an enum, between tabs. Of an attribute the type is
//! the conventions' own, of a metric `instrument/value type`; a `-` stands for what there is not.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::tree;

/// The table, from the workspace root.
const TABLE: &str = "agent/conventions.tsv";
/// Files of the conventions that the table is made of.
const FILES: [&str; 5] = [
    "gen_ai_attributes.json",
    "gen_ai_metrics.json",
    "http_rpc.json",
    "resource_attributes.json",
    "hw_gpu.json",
];

/// Where the conventions lie beside the checkout; `None` when they do not.
pub(crate) fn source() -> Option<PathBuf> {
    let folder = tree::shared().join("semconv");
    folder.is_dir().then_some(folder)
}

/// Writes the table anew.
pub(crate) fn refresh() -> Result<()> {
    let Some(source) = source() else { bail!("../shared/semconv does not lie beside the checkout") };
    let path = tree::root().join(TABLE);
    fs::write(&path, table(&source)?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {TABLE}");
    Ok(())
}

/// Fails when the table differs from the conventions that lie beside the checkout.
pub(crate) fn compare(source: &Path) -> Result<()> {
    let ours =
        fs::read_to_string(tree::root().join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
    match first_difference(&ours, &table(source)?) {
        None => Ok(()),
        Some(difference) => {
            bail!(
                "{TABLE} differs from ../shared/semconv: {difference}; `cargo xtask conventions` makes it anew"
            )
        }
    }
}

fn first_difference(ours: &str, theirs: &str) -> Option<String> {
    let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
    for number in 1.. {
        match (ours.next(), theirs.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                return Some(format!(
                    "line {number} is `{}`, not `{}`",
                    a.unwrap_or_default(),
                    b.unwrap_or_default()
                ));
            }
        }
    }
    None
}

fn table(source: &Path) -> Result<String> {
    let read = |name: &str| -> Result<Value> {
        let path = source.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
    };
    let mut rows = BTreeMap::new();
    for file in FILES {
        collect(&read(file)?, &mut rows);
    }
    let sources = read("SOURCES.json")?;
    let base = &sources["base"];
    let mut out = format!(
        "# Facts of OpenTelemetry's semantic conventions: {} at {} of {}, with what was added since; and\n\
         # open-telemetry/semantic-conventions {}. Made by `cargo xtask conventions`.\n\
         # kind\tname\ttype\tunit\tstatus\tvalues\n",
        text(&base["repo"]),
        text(&base["commit"]),
        text(&base["date"]),
        text(&read("resource_attributes.json")?["source"]["version"]),
    );
    for ((kind, name), rest) in rows {
        writeln!(out, "{kind}\t{name}\t{rest}")?;
    }
    Ok(out)
}

/// Finds the attributes and metrics in a document, wherever they stand in it. Of several mentions the first counts.
fn collect(value: &Value, rows: &mut BTreeMap<(&'static str, String), String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, rows)),
        Value::Object(fields) => {
            let name = fields.get("name").and_then(Value::as_str);
            // Of what others export the names come along, for comparison.
            if let Some(name) = name.filter(|name| name.contains('.')) {
                let row = |kind: &str, unit: &str| {
                    format!("{kind}\t{unit}\t{}\t{}", status(value), values(&value["enum_values"]))
                };
                if let Some(instrument) = fields.get("instrument").and_then(Value::as_str) {
                    let kind = format!("{instrument}/{}", text(&value["value_type"]));
                    let row = row(&kind, text(&value["unit"]));
                    rows.entry(("metric", name.to_owned())).or_insert(row);
                } else if let Some(kind) = fields.get("type").and_then(Value::as_str) {
                    rows.entry(("attribute", name.to_owned())).or_insert_with(|| row(kind, "-"));
                }
            }
            fields.values().for_each(|field| collect(field, rows));
        }
        _ => {}
    }
}

fn status(entry: &Value) -> &'static str {
    let is_current = entry["deprecated_by"].is_null() && entry["status"] != "deprecated";
    if is_current { "current" } else { "deprecated" }
}

/// Values of an enum, which stand there alone or with what is said of each.
fn values(values: &Value) -> String {
    let names: Vec<&str> = values
        .as_array()
        .into_iter()
        .flatten()
        .map(|value| value.as_str().unwrap_or_else(|| text(&value["value"])))
        .collect();
    if names.is_empty() { "-".to_owned() } else { names.join("|") }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{collect, first_difference};

    #[test]
    fn attributes_and_metrics_are_found_wherever_they_stand() {
        let document = json!({
            "entities": [{ "attributes": [{ "name": "a.b", "type": "string", "enum_values": ["x", "y"] }] }],
            "metrics": [{
                "name": "c.d", "instrument": "histogram", "unit": "s", "value_type": "double",
                "attributes": [{ "name": "e.f", "level": "required" }],
            }],
            "old": { "name": "g.h", "type": "int", "deprecated_by": "a.b", "enum_values": null },
        });
        let mut rows = BTreeMap::new();
        collect(&document, &mut rows);
        let lines: Vec<String> = rows
            .into_iter()
            .map(|((kind, name), rest)| format!("{kind} {name} {}", rest.replace('\t', " ")))
            .collect();
        assert_eq!(
            lines,
            [
                "attribute a.b string - current x|y",
                "attribute g.h int - deprecated -",
                "metric c.d histogram/double s current -",
            ]
        );
    }

    #[test]
    fn a_table_that_differs_says_where() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n").unwrap(), "line 2 is `b`, not `c`");
        assert_eq!(first_difference("a\n", "a\nc\n").unwrap(), "line 2 is ``, not `c`");
    }
}
