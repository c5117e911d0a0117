//! Boot time, which the kernel side stamps, to the wall clock, which spans carry.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rustix::time::{ClockId, clock_gettime};
use tokentap_wire::Nanos;

/// Converts times. Clones share the same offset.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Wall clock at boot, Unix nanoseconds.
    boot: Arc<AtomicU64>,
    live: bool,
}

impl Clock {
    /// This machine's clocks.
    #[must_use]
    pub fn live() -> Self {
        Self { boot: Arc::new(AtomicU64::new(boot_time())), live: true }
    }

    /// The clocks of a tape: its machine booted at this time, and no time passes but by its frames.
    #[must_use]
    pub fn recorded(boot_unix_nanos: u64) -> Self {
        Self { boot: Arc::new(AtomicU64::new(boot_unix_nanos)), live: false }
    }

    /// Reads the wall clock anew: it can be set at any time.
    pub fn adjust(&self) {
        if self.live {
            self.boot.store(boot_time(), Ordering::Relaxed);
        }
    }

    /// Wall clock at boot, Unix nanoseconds.
    #[must_use]
    pub fn boot_unix_nanos(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }

    /// A boot time on the wall clock, Unix nanoseconds.
    #[must_use]
    pub fn unix(&self, at: Nanos) -> u64 {
        self.boot_unix_nanos().saturating_add(at.0)
    }

    /// Boot time now; `None` when time passes only by frames.
    #[must_use]
    pub fn now(&self) -> Option<Nanos> {
        self.live.then(|| Nanos(nanos(ClockId::Boottime)))
    }
}

fn boot_time() -> u64 {
    nanos(ClockId::Realtime).saturating_sub(nanos(ClockId::Boottime))
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}
