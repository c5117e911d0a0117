//! How the delivery of a batch ended.

use crate::counters::Loss;

/// How a batch ended, as far as it has: every span that is done with is in one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeliveryOutcome {
    /// Spans that the receiver has.
    pub(super) delivered: u64,
    /// Spans that it will never have, and why.
    pub(super) lost: Vec<(Loss, u64)>,
}

impl DeliveryOutcome {
    pub(super) const fn delivered(n: u64) -> Self {
        Self { delivered: n, lost: Vec::new() }
    }

    pub(super) fn lost(why: Loss, n: u64) -> Self {
        Self { delivered: 0, lost: vec![(why, n)] }
    }

    /// Spans that are done with.
    pub(super) fn items(&self) -> u64 {
        self.delivered + self.lost.iter().map(|(_, n)| n).sum::<u64>()
    }

    /// Adds how another part of the batch ended.
    pub(super) fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        for (why, n) in other.lost {
            match self.lost.iter_mut().find(|(known, _)| *known == why) {
                Some((_, known)) => *known += n,
                None => self.lost.push((why, n)),
            }
        }
    }
}
