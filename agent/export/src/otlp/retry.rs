//! When to try again, and how little to say about it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Signal;

/// First wait.
const INITIAL: Duration = Duration::from_millis(500);
/// Longest wait that we choose ourselves: also the longest that a receiver that is back stays unnoticed.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a batch is offered to a receiver that answers "try again", so that one batch that it cannot take
/// does not block those behind it. One that cannot be reached is waited for as long as it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// Why a batch was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered.
    Unreachable(String),
    /// The receiver asks to try again, perhaps after a time that it names.
    Again { after: Option<Duration>, why: String },
    /// The receiver will never take something that is in it, or so much at once.
    Refused(String),
    /// The receiver will never take it.
    Rejected(String),
    /// The receiver takes nothing of this signal.
    Unsupported(String),
}

/// What the receiver says about a batch that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Spans of the batch that it refused all the same.
    pub(super) rejected: u64,
    /// Why, or what else it has to say.
    pub(super) message: String,
}

/// Exponential waits with jitter.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { next: INITIAL }
    }

    /// The next wait: between half of and the whole of the nominal one, so that many agents do not come back
    /// to a receiver at the same moment.
    pub(super) fn wait(&mut self) -> Duration {
        self.wait_with(fastrand::f64())
    }

    fn wait_with(&mut self, random: f64) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(LONGEST);
        nominal.mul_f64(0.5 + random / 2.0)
    }
}

/// Says once that deliveries fail and once that they work again, however many fail in between.
#[derive(Debug)]
pub(super) struct Outage {
    exporter: String,
    /// What is delivered, in the plural.
    items: &'static str,
    said: Option<(Trouble, Instant)>,
}

/// Kinds of trouble; each is worth one line until deliveries work again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Waiting,
    Rejecting,
    Partial,
}

impl Outage {
    pub(super) const fn new(exporter: String, signal: Signal) -> Self {
        let items = match signal {
            Signal::Traces => "spans",
            Signal::Logs => "events",
            Signal::Metrics => "points of metrics",
        };
        Self { exporter, items, said: None }
    }

    /// Kind and destination.
    pub(super) fn exporter(&self) -> &str {
        &self.exporter
    }

    /// A batch has to wait.
    pub(super) fn waiting(&mut self, why: &str) {
        if self.is_news(Trouble::Waiting) {
            tracing::warn!(
                "cannot deliver {} to {}: {why}; retrying (a full queue drops the newest)",
                self.items,
                self.exporter
            );
        }
    }

    /// A batch was lost for good.
    pub(super) fn rejected(&mut self, items: u64, why: &str) {
        if self.is_news(Trouble::Rejecting) {
            tracing::warn!("{} rejected {items} {}: {why}; they are lost", self.exporter, self.items);
        }
    }

    /// A batch was taken.
    pub(super) fn delivered(&mut self, accepted: &Accepted) {
        if accepted.rejected > 0 || !accepted.message.is_empty() {
            if self.is_news(Trouble::Partial) {
                let (exporter, items, message) = (&self.exporter, self.items, &accepted.message);
                match accepted.rejected {
                    0 => tracing::warn!("{exporter} took a batch of {items} and says: {message}"),
                    n => tracing::warn!("{exporter} rejected {n} {items} of a batch: {message}"),
                }
            }
        } else if let Some((_, since)) = self.said.take() {
            tracing::info!("{} accepts {} again, after {:.1?}", self.exporter, self.items, since.elapsed());
        }
    }

    fn is_news(&mut self, trouble: Trouble) -> bool {
        let since = self.said.map_or_else(Instant::now, |(_, since)| since);
        self.said.replace((trouble, since)).is_none_or(|(said, _)| said != trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_never_below_half() {
        let mut backoff = Backoff::new();
        let longest: Vec<_> = (0..7).map(|_| backoff.wait_with(1.0).as_millis()).collect();
        assert_eq!(longest, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(backoff.wait_with(0.0).as_millis(), 5_000);
    }

    #[test]
    fn trouble_is_news_once_until_it_is_over() {
        let mut outage = Outage::new("x".into(), Signal::Traces);
        assert!(outage.is_news(Trouble::Waiting));
        assert!(!outage.is_news(Trouble::Waiting));
        assert!(outage.is_news(Trouble::Rejecting));
        outage.delivered(&Accepted::default());
        assert!(outage.is_news(Trouble::Rejecting));
    }
}
