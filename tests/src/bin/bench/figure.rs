//! A measured figure and how it is shown.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One measured value.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) limit: Option<Limit>,
}

/// What a value is compared with, measured in the same run.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// What is promised.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    RatioAtLeast(f64),
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, baseline: None, limit: None }
    }

    pub(crate) fn against(self, name: &'static str, value: f64) -> Self {
        Self { baseline: Some(Baseline { name, value }), ..self }
    }

    pub(crate) fn limited(self, limit: Limit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.value / baseline.value)
    }

    /// Whether the promise is kept; `None` when there is none.
    fn kept(&self) -> Option<bool> {
        match self.limit? {
            Limit::AtMost(most) => Some(self.value <= most),
            Limit::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name, "value": self.value, "unit": self.unit, "ratio": self.ratio(),
            "ratio_to": self.baseline.as_ref().map(|baseline| baseline.name), "kept": self.kept(),
        })
    }
}

/// All figures, one a line.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str, ratio: &str, limit: &str| {
        let text = format!("{name:<44} {value:>14}  {ratio:<28} {limit}");
        // A String takes every write.
        writeln!(out, "{}", text.trim_end()).expect("writing to a String");
    };
    line("FIGURE", "VALUE", "RATIO", "LIMIT");
    for figure in figures {
        let ratio = figure.baseline.as_ref().zip(figure.ratio());
        let ratio = ratio.map_or_else(String::new, |(to, ratio)| format!("{ratio:.2} of {}", to.name));
        let limit = figure.limit.map_or_else(String::new, |limit| {
            let verdict = if figure.kept() == Some(true) { "kept" } else { "MISSED" };
            match limit {
                Limit::AtMost(most) => format!("at most {most} {}: {verdict}", figure.unit),
                Limit::RatioAtLeast(least) => format!("at least {least} of it: {verdict}"),
            }
        });
        line(
            &figure.name,
            &format!("{:.*} {}", decimals(figure.value), figure.value, figure.unit),
            &ratio,
            &limit,
        );
    }
    out
}

/// Three significant digits, about.
fn decimals(value: f64) -> usize {
    match value.abs() {
        v if v < 1.0 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    }
}

/// The middle one; of an even number, the upper.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Limit, median, table};

    #[test]
    fn shows_ratio_and_verdict() {
        let figures = [
            Figure::new("throughput", 90.0, "calls/s")
                .against("no probes", 100.0)
                .limited(Limit::RatioAtLeast(0.9)),
            Figure::new("memory", 41.0, "MiB").limited(Limit::AtMost(40.0)),
        ];
        let text = table(&figures);
        assert!(text.contains("0.90 of no probes") && text.contains("at least 0.9 of it: kept"), "{text}");
        assert!(text.contains("at most 40 MiB: MISSED"), "{text}");
    }

    #[test]
    fn takes_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
