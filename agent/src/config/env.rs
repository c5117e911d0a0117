//! Reading environment variables by the rules of the OpenTelemetry specification: empty is unset, and a
//! value that cannot be used is warned about and ignored.

use std::{fmt, str::FromStr, time::Duration};

/// A view of the environment that remembers what it had to ignore.
pub(super) struct Env<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Env<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, warnings: Vec::new() }
    }

    /// A variable, trimmed; `None` when unset or empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The first of several variables that is set, with its name.
    pub(super) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names.iter().find_map(|name| Some((*name, self.text(name)?)))
    }

    /// `true`, in any case, is true; everything else is false.
    pub(super) fn flag(&self, names: &[&str]) -> Option<bool> {
        self.first(names).map(|(_, value)| value.eq_ignore_ascii_case("true"))
    }

    /// The first of several variables that is set and parses.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, names: &[&str]) -> Option<T> {
        for name in names {
            let Some(value) = self.text(name) else { continue };
            match value.parse() {
                Ok(parsed) => return Some(parsed),
                Err(why) => self.ignored(name, &format!("'{value}': {why}")),
            }
        }
        None
    }

    /// A number that is at least `min`.
    pub(super) fn number(&mut self, names: &[&str], min: u64) -> Option<u64> {
        let (name, value) = self.first(names)?;
        match value.parse() {
            Ok(number) if number >= min => Some(number),
            _ => {
                self.ignored(name, &format!("'{value}' is not a whole number of at least {min}"));
                None
            }
        }
    }

    /// A number of milliseconds.
    pub(super) fn millis(&mut self, names: &[&str], min: u64) -> Option<Duration> {
        // A year and a bit: deadlines are sums of this and a clock.
        self.number(names, min).map(|ms| Duration::from_millis(ms.min(1 << 35)))
    }

    /// Notes that a variable was ignored, once: several signals may have read it. `why` must not hold a secret.
    pub(super) fn ignored(&mut self, name: &str, why: &str) {
        let warning = format!("ignoring {name}: {why}");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}
