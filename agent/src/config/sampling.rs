//! Which spans are exported: flags, then `OTEL_TRACES_SAMPLER` and its argument.

use tokentap_export::config::{Sampler, SamplingConfig};

use super::{env::Env, error::ConfigError};
use crate::cli;

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// # Errors
/// A flag with a bad value; a variable with one is ignored with a warning.
pub(super) fn resolve(flags: &cli::Sampling, env: &mut Env<'_>) -> Result<SamplingConfig, ConfigError> {
    let bad = |flag, why: String| ConfigError::Sampler { flag, why };
    let in_range = |ratio: &f64| (0.0..=1.0).contains(ratio);
    let ratio = match flags.sampler_arg {
        Some(ratio) if in_range(&ratio) => ratio,
        Some(ratio) => return Err(bad("--sampler-arg", format!("{ratio} is not a share: use 0 to 1"))),
        None => env_ratio(env).unwrap_or(1.0),
    };
    let sampler = match &flags.sampler {
        Some(name) => {
            Sampler::named(name, ratio).map_err(|why| bad("--sampler", format!("'{name}': {why}")))?
        }
        None => env_sampler(env, ratio).unwrap_or_default(),
    };
    Ok(SamplingConfig { sampler, rules: flags.sampling_rule.clone(), keep_errors: flags.keep_errors })
}

fn env_ratio(env: &mut Env<'_>) -> Option<f64> {
    let text = env.text(ARGUMENT)?;
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Some(ratio),
        _ => {
            env.ignored(ARGUMENT, &format!("'{text}' is not a share: use 0 to 1"));
            None
        }
    }
}

fn env_sampler(env: &mut Env<'_>, ratio: f64) -> Option<Sampler> {
    let name = env.text(SAMPLER)?;
    Sampler::named(&name, ratio).inspect_err(|why| env.ignored(SAMPLER, &format!("'{name}': {why}"))).ok()
}

/// The header that forces a trace, unless it is turned off.
pub(super) fn force_header(flags: &cli::Sampling) -> Option<String> {
    let name = flags.force_header.trim().to_ascii_lowercase();
    (!name.is_empty() && name != "none").then_some(name)
}
