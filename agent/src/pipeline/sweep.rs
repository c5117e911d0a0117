//! When each stream is checked for stale exchanges.

use std::collections::BTreeSet;

use tokentap_wire::Nanos;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Checks of a stream within the time after which an exchange is stale…
const CHECKS_PER_TIMEOUT: u64 = 8;
/// …and the longest interval between two.
const MAX_INTERVAL: u64 = 60 * SECOND;

/// Streams with recent traffic, by the second in which each is due for a check. The cost of a sweep grows with the streams
/// that are due, not with those that are open.
#[derive(Debug)]
pub(super) struct SweepQueue {
    due: BTreeSet<(u64, u64)>,
    interval: u64,
    stale_after: u64,
}

impl SweepQueue {
    pub(super) fn new(stale_after: Nanos) -> Self {
        let interval = (stale_after.0 / CHECKS_PER_TIMEOUT).clamp(SECOND, MAX_INTERVAL);
        Self { due: BTreeSet::new(), interval, stale_after: stale_after.0 }
    }

    /// Adds a stream with traffic; returns the second in which it is due.
    pub(super) fn add(&mut self, stream: u64, now: Nanos) -> u64 {
        let second = now.0.saturating_add(self.interval) / SECOND;
        self.due.insert((second, stream));
        second
    }

    /// A stream ended.
    pub(super) fn remove(&mut self, stream: u64, second: u64) {
        self.due.remove(&(second, stream));
    }

    /// Takes a stream that is due.
    pub(super) fn take_due(&mut self, now: Nanos) -> Option<u64> {
        let first = self.due.first().filter(|(second, _)| *second <= now.0 / SECOND).copied()?;
        self.due.remove(&first);
        Some(first.1)
    }

    /// Whether every exchange of a stream is stale whose last traffic was at `last`.
    pub(super) const fn is_quiet(&self, last: Nanos, now: Nanos) -> bool {
        last.0.saturating_add(self.stale_after) < now.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_due_several_times_before_they_are_stale() {
        let mut queue = SweepQueue::new(Nanos(80 * SECOND));
        assert!(queue.is_empty());
        assert_eq!(queue.add(7, Nanos(0)), 10);
        let other = queue.add(8, Nanos(0));
        queue.remove(8, other);
        assert_eq!(queue.take_due(Nanos(10 * SECOND - 1)), None);
        assert_eq!(queue.take_due(Nanos(10 * SECOND)), Some(7));
        assert!(queue.is_empty());
        assert!(!queue.is_quiet(Nanos(0), Nanos(80 * SECOND)));
        assert!(queue.is_quiet(Nanos(0), Nanos(80 * SECOND + 1)));
    }

    #[test]
    fn short_and_long_limits_are_bounded() {
        assert_eq!(SweepQueue::new(Nanos(0)).add(1, Nanos(0)), 1);
        assert_eq!(SweepQueue::new(Nanos(u64::MAX)).add(1, Nanos(0)), 60);
    }
}
