//! Series of metrics, as OTLP's JSON has them.

use std::collections::BTreeMap;

use serde_json::Value;

/// One series of a metric of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the process is.
    pub resource: BTreeMap<String, String>,
    /// Name of the scope.
    pub scope: String,
    /// What tells the series apart.
    pub attributes: BTreeMap<String, String>,
    /// The value of a counter, or the sum of a histogram.
    pub sum: f64,
    /// How many measurements a histogram has; 1 of a counter.
    pub count: u64,
    /// When counting began, in nanoseconds.
    pub since: u64,
    /// Ids of the spans that are examples.
    pub exemplars: Vec<String>,
}

impl Series {
    /// All series of a metric in a document.
    #[must_use]
    pub fn of(document: &Value, name: &str) -> Vec<Self> {
        let mut found = Vec::new();
        for resource in list(document, "resourceMetrics") {
            for scope in list(resource, "scopeMetrics") {
                for metric in list(scope, "metrics").iter().filter(|metric| metric["name"] == name) {
                    let points = ["sum", "histogram"].map(|kind| list(&metric[kind], "dataPoints"));
                    found.extend(points.into_iter().flatten().map(|point| {
                        Self {
                            resource: attributes(&resource["resource"]),
                            scope: scope["scope"]["name"].as_str().unwrap_or_default().to_owned(),
                            attributes: attributes(point),
                            sum: number(&point["asInt"]).or_else(|| number(&point["sum"])).unwrap_or(0.0),
                            count: number(&point["count"]).unwrap_or(1.0) as u64,
                            since: number(&point["startTimeUnixNano"]).unwrap_or(0.0) as u64,
                            exemplars: list(point, "exemplars")
                                .iter()
                                .filter_map(|exemplar| exemplar["spanId"].as_str().map(str::to_owned))
                                .collect(),
                        }
                    }));
                }
            }
        }
        found
    }

    /// Whether both are about the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.resource, &self.scope, &self.attributes) == (&other.resource, &other.scope, &other.attributes)
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// OTLP's JSON has integers of 64 bits as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| {
        let value = value.as_object()?.values().next()?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let pair = |pair: &Value| Some((pair["key"].as_str()?.to_owned(), text(&pair["value"])?));
    list(of, "attributes").iter().filter_map(pair).collect()
}
