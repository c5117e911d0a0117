//! Every number of the agent at one moment, for machines and for people.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::metric::Metric;

/// A number, with what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub metric: Metric,
    /// Labels beside those of the metric.
    pub labels: Vec<(&'static str, String)>,
    /// How many.
    pub value: u64,
}

impl Row {
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fixed = self.metric.labels.iter().map(|(key, value)| (*key, *value));
        fixed.chain(self.labels.iter().map(|(key, value)| (*key, value.as_str())))
    }

    fn labels_for_people(&self) -> String {
        let labels: Vec<String> = self.labels().map(|(key, value)| format!("{key}={value}")).collect();
        labels.join(" ")
    }
}

/// As `tokentap.bytes.lost{stage=kernel,reason=ring_full}`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.name)?;
        let mut separator = '{';
        for (key, value) in self.labels() {
            write!(f, "{separator}{key}={value}")?;
            separator = ',';
        }
        if separator == ',' { f.write_str("}") } else { Ok(()) }
    }
}

/// Every number that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    rows: Vec<Row>,
}

impl Snapshot {
    pub(super) fn of(rows: impl Iterator<Item = Row>) -> Self {
        Self { rows: rows.filter(|row| row.value > 0).collect() }
    }

    /// What is not zero.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What says that something was lost.
    pub fn losses(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.metric.is_loss)
    }

    /// One JSON object: the name of each number, with its labels, and its value.
    #[must_use]
    pub fn to_json(&self) -> String {
        // What is made of strings and numbers is always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.rows.len()))?;
        for row in &self.rows {
            map.serialize_entry(&row.to_string(), &row.value)?;
        }
        map.end()
    }
}

/// A table; what says that something was lost is marked.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["", "NAME", "LABELS", "VALUE"]);
        for row in &self.rows {
            table.add_row([
                if row.metric.is_loss { "lost" } else { "" },
                row.metric.name,
                &row.labels_for_people(),
                &row.value.to_string(),
            ]);
        }
        if let Some(column) = table.column_mut(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
