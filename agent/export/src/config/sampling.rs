//! Which spans are exported. Metrics count every call.

use std::{fmt, str::FromStr, time::Duration};

/// Which spans are exported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingConfig {
    /// Decides where no rule does.
    pub sampler: Sampler,
    /// The first that matches a call without a sampled or dropped parent decides.
    pub rules: Vec<SamplingRule>,
    /// Every call that failed or is incomplete is exported, unless its parent was dropped.
    pub keep_errors: bool,
}

/// A standard sampler, as `OTEL_TRACES_SAMPLER` names it; the ratio is `OTEL_TRACES_SAMPLER_ARG`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampler {
    /// `always_on`
    AlwaysOn,
    /// `always_off`
    AlwaysOff,
    /// `traceidratio`
    TraceIdRatio(f64),
    /// `parentbased_always_on`
    #[default]
    ParentBasedAlwaysOn,
    /// `parentbased_always_off`
    ParentBasedAlwaysOff,
    /// `parentbased_traceidratio`
    ParentBasedTraceIdRatio(f64),
}

impl Sampler {
    /// The sampler of this name; `ratio` is what those with a ratio use.
    ///
    /// # Errors
    /// What would be a name.
    pub fn named(name: &str, ratio: f64) -> Result<Self, &'static str> {
        match name {
            "always_on" => Ok(Self::AlwaysOn),
            "always_off" => Ok(Self::AlwaysOff),
            "traceidratio" => Ok(Self::TraceIdRatio(ratio)),
            "parentbased_always_on" => Ok(Self::ParentBasedAlwaysOn),
            "parentbased_always_off" => Ok(Self::ParentBasedAlwaysOff),
            "parentbased_traceidratio" => Ok(Self::ParentBasedTraceIdRatio(ratio)),
            _ => Err("use always_on, always_off, traceidratio or one of them with parentbased_ before it"),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlwaysOn => "always_on",
            Self::AlwaysOff => "always_off",
            Self::TraceIdRatio(_) => "traceidratio",
            Self::ParentBasedAlwaysOn => "parentbased_always_on",
            Self::ParentBasedAlwaysOff => "parentbased_always_off",
            Self::ParentBasedTraceIdRatio(_) => "parentbased_traceidratio",
        }
    }
}

/// What share of some calls is exported. What is absent matches every call. Parses from pairs, as in
/// `ratio=0.1,provider=openai,operation=chat,service=web-*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingRule {
    /// `service.name`, where `*` stands for any run of characters.
    pub service: Option<String>,
    /// `gen_ai.provider.name`
    pub provider: Option<String>,
    /// `gen_ai.operation.name`
    pub operation: Option<String>,
    /// Whether the call failed.
    pub error: Option<bool>,
    /// The call took at least this long.
    pub min_duration: Option<Duration>,
    /// The call used at least this many tokens, in and out.
    pub min_tokens: Option<u64>,
    /// The share that is exported, by trace id: 0 to 1.
    pub ratio: f64,
}

impl FromStr for SamplingRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rule = Self { ratio: f64::NAN, ..Self::default() };
        for pair in text.split(',') {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("'{pair}': write it as key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            let bad = |why: &str| format!("{key}={value}: {why}");
            match key {
                "ratio" => {
                    let ratio: f64 = value.parse().map_err(|_| bad("not a number"))?;
                    if !(0.0..=1.0).contains(&ratio) {
                        return Err(bad("use 0 to 1"));
                    }
                    rule.ratio = ratio;
                }
                "service" => rule.service = Some(value.to_owned()),
                "provider" => rule.provider = Some(value.to_owned()),
                "operation" => rule.operation = Some(value.to_owned()),
                "error" => rule.error = Some(value.parse().map_err(|_| bad("use true or false"))?),
                "min_duration" => {
                    rule.min_duration =
                        Some(humantime::parse_duration(value).map_err(|e| bad(&e.to_string()))?);
                }
                "min_tokens" => rule.min_tokens = Some(value.parse().map_err(|_| bad("not a whole number"))?),
                _ => {
                    return Err(format!(
                        "unknown key '{key}': use ratio, service, provider, operation, error, min_duration or min_tokens"
                    ));
                }
            }
        }
        if rule.ratio.is_nan() { Err("say what share is exported, as ratio=0.1".into()) } else { Ok(rule) }
    }
}

/// As it parses.
impl fmt::Display for SamplingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ratio={}", self.ratio)?;
        for (key, value) in
            [("service", &self.service), ("provider", &self.provider), ("operation", &self.operation)]
        {
            if let Some(value) = value {
                write!(f, ",{key}={value}")?;
            }
        }
        if let Some(error) = self.error {
            write!(f, ",error={error}")?;
        }
        if let Some(duration) = self.min_duration {
            write!(f, ",min_duration={}", humantime::format_duration(duration))?;
        }
        if let Some(tokens) = self.min_tokens {
            write!(f, ",min_tokens={tokens}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_shown() {
        for text in [
            "ratio=0.5",
            "ratio=0,service=web-*,provider=openai,operation=chat,error=false,min_duration=2s,min_tokens=10",
        ] {
            assert_eq!(text.parse::<SamplingRule>().map(|rule| rule.to_string()), Ok(text.to_owned()));
        }
        for (text, part) in [
            ("service=x", "ratio=0.1"),
            ("ratio=2", "0 to 1"),
            ("ratio=1,host=x", "unknown key 'host'"),
            ("x", "key=value"),
        ] {
            assert!(text.parse::<SamplingRule>().is_err_and(|why| why.contains(part)), "{text}");
        }
    }
}
