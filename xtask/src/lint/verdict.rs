//! How a check ends.

/// How a check ended that did not fail.
pub(super) enum Verdict {
    Passed,
    Skipped(&'static str),
}
