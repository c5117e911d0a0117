//! A measured figure and how it is shown.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One measured value.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The same of the agent that this one is compared with.
    pub(crate) before: Option<f64>,
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
        Self { name: name.into(), value, unit, before: None, baseline: None, limit: None }
    }

    pub(crate) fn against(self, name: &'static str, value: f64) -> Self {
        Self { baseline: Some(Baseline { name, value }), ..self }
    }

    /// A figure of the agent, and of the one that it is compared with.
    pub(crate) fn of(name: impl Into<String>, values: &Compared<f64>, unit: &'static str) -> Self {
        Self { before: values.before, ..Self::new(name, values.now, unit) }
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

    pub(crate) fn json(&self, scenario: &str) -> Value {
        json!({
            "scenario": scenario, "name": self.name, "value": self.value, "unit": self.unit,
            "before": self.before, "ratio": self.ratio(),
            "ratio_to": self.baseline.as_ref().map(|baseline| baseline.name), "kept": self.kept(),
        })
    }
}

/// What was measured of the agent, and of the one that it is compared with.
#[derive(Clone, Default)]
pub(crate) struct Compared<T> {
    pub(crate) before: Option<T>,
    pub(crate) now: T,
}

impl<T> Compared<T> {
    pub(crate) fn map<U>(&self, value: impl Fn(&T) -> U) -> Compared<U> {
        Compared { before: self.before.as_ref().map(&value), now: value(&self.now) }
    }
}

/// All figures, one a line.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut out = String::new();
    let compared = figures.iter().any(|figure| figure.before.is_some());
    let mut line = |name: &str, before: &str, value: &str, ratio: &str, limit: &str| {
        let before = if compared { format!("{before:>14}") } else { String::new() };
        let text = format!("{name:<52} {before} {value:>14}  {ratio:<26} {limit}");
        // A String takes every write.
        writeln!(out, "{}", text.trim_end()).expect("writing to a String");
    };
    let show = |value: f64, unit: &str| format!("{value:.*} {unit}", decimals(value));
    line("FIGURE", "BEFORE", if compared { "NOW" } else { "VALUE" }, "RATIO", "LIMIT");
    for figure in figures {
        let ratio = figure.baseline.as_ref().zip(figure.ratio());
        let ratio = ratio.map_or_else(String::new, |(to, ratio)| format!("{ratio:.2} of {}", to.name));
        let limit = figure.limit.map_or_else(String::new, |limit| {
            let verdict = if figure.kept() == Some(true) { "kept" } else { "MISSED" };
            match limit {
                Limit::AtMost(most) => {
                    format!("at most {}: {verdict}", format!("{most} {}", figure.unit).trim_end())
                }
                Limit::RatioAtLeast(least) => format!("at least {least} of it: {verdict}"),
            }
        });
        line(
            &figure.name,
            &figure.before.map_or_else(String::new, |before| show(before, figure.unit)),
            &show(figure.value, figure.unit),
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

/// The smallest.
pub(crate) fn best(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

/// The middle one; of an even number, the upper.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Compared, Figure, Limit, best, median, table};

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
    fn shows_what_it_was_before() {
        let values = Compared { before: Some(4.0), now: 0.2 };
        let text = table(&[Figure::of("exit", &values, "s").limited(Limit::AtMost(1.0))]);
        assert!(text.contains("BEFORE") && text.contains("4.00 s") && text.contains("0.200 s"), "{text}");
        assert!(!table(&[Figure::new("exit", 1.0, "s")]).contains("BEFORE"));
    }

    #[test]
    fn takes_the_middle_and_the_best() {
        assert_eq!(best(&[3.0, 1.0, 2.0]), 1.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
