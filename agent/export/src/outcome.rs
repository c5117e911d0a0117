//! How the delivery of a batch ended.

use crate::counters::Loss;

/// How a batch ended: every span of it is in one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeliveryOutcome {
    /// Spans that the receiver has.
    pub(super) delivered: u64,
    /// Spans that it will never have, and why.
    pub(super) lost: Option<(Loss, u64)>,
}

impl DeliveryOutcome {
    pub(super) const fn delivered(n: u64) -> Self {
        Self { delivered: n, lost: None }
    }

    pub(super) const fn lost(why: Loss, n: u64) -> Self {
        Self { delivered: 0, lost: Some((why, n)) }
    }
}
