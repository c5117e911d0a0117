//! Whether the agent does its work.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The ring is read several times a second, also when nothing comes: after this time without, its thread is stuck.
const RING_STALLED: Duration = Duration::from_secs(5);

/// What the parts of the agent say of themselves.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// The programs are loaded, and what was to be observed at the start is.
    observing: AtomicBool,
    /// Milliseconds from the start to when the ring was last read.
    ring_read: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), observing: AtomicBool::new(false), ring_read: AtomicU64::new(0) }
    }
}

impl Health {
    /// The programs are loaded, and what was to be observed at the start is; or not any more.
    pub fn set_observing(&self, observing: bool) {
        self.observing.store(observing, Relaxed);
    }

    /// The ring was read.
    pub fn ring_read(&self, now: Instant) {
        self.ring_read.store(millis(now.duration_since(self.started)), Relaxed);
    }

    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Why the agent is not ready; empty: it is. `attached` and `failed`: libraries in which probes were placed, and in which
    /// they could not be.
    #[must_use]
    pub fn faults(&self, attached: u64, failed: u64) -> Vec<String> {
        if !self.observing.load(Relaxed) {
            return vec!["observation has not begun, or has ended".into()];
        }
        let mut faults = Vec::new();
        let since = millis(self.uptime()).saturating_sub(self.ring_read.load(Relaxed));
        if Duration::from_millis(since) > RING_STALLED {
            faults.push(format!("the ring has not been read for {:.1} s", since as f64 / 1e3));
        }
        if attached == 0 && failed > 0 {
            faults.push(format!(
                "probes could be placed in none of {failed} libraries; the log has the reasons"
            ));
        }
        faults
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_observation_a_ring_that_is_read_and_probes_where_there_is_something_to_probe() {
        let past = |by| Health { started: Instant::now() - by, ..Health::default() };
        let health = Health::default();
        assert_eq!(health.faults(1, 0).len(), 1, "not begun");
        health.set_observing(true);
        health.ring_read(Instant::now());
        assert_eq!(health.faults(0, 0), [] as [String; 0], "nothing to attach to is no fault");
        assert_eq!(health.faults(1, 1), [] as [String; 0]);
        assert!(health.faults(0, 3)[0].contains("none of 3 libraries"));
        let stuck = past(Duration::from_secs(60));
        stuck.set_observing(true);
        stuck.ring_read(Instant::now() - Duration::from_secs(6));
        assert!(stuck.faults(1, 0)[0].contains("has not been read for 6."), "{:?}", stuck.faults(1, 0));
        health.set_observing(false);
        assert_eq!(health.faults(1, 0).len(), 1, "has ended");
    }
}
