//! What of prompts and completions is exported: flags, then the environment.

use tokentap_genai::{ContentOptions, Hidden, Redaction};

use super::{env::Env, error::ConfigError};
use crate::cli::{self, CaptureContent, Hide, SWITCHES};

/// The conventions' variable.
const CAPTURE: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";

/// `None`: no content is captured.
pub(super) fn resolve(
    flags: &cli::Content,
    env: &mut Env<'_>,
) -> Result<Option<ContentOptions>, ConfigError> {
    let capture = flags.capture_content.or_else(|| env.parsed(&[CAPTURE]));
    let Some(CaptureContent(Some(destination))) = capture else { return Ok(None) };
    let mut hidden = Hidden::default();
    for (name, switch) in &SWITCHES {
        let variable = format!("FI_HIDE_{}", name.replace('-', "_").to_ascii_uppercase());
        *switch(&mut hidden) = env.flag(&[&variable]).unwrap_or(false);
    }
    for Hide(index) in &flags.hide {
        *SWITCHES[*index].1(&mut hidden) = true;
    }
    let mut redaction = Redaction::default();
    for pattern in &flags.redact {
        redaction.add(pattern).map_err(|why| ConfigError::Redact { pattern: pattern.clone(), why })?;
    }
    Ok(Some(ContentOptions {
        destination,
        max_bytes: flags.content_max_bytes,
        hidden,
        redaction: (!flags.no_redaction).then_some(redaction),
    }))
}
