//! The reading end of the ring.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::log::KernelLog;

/// While frames flow the ring is looked at this often: the kernel side wakes us only for events and when the
/// ring fills, which spares the targets an interrupt per frame.
const BUSY: Duration = Duration::from_millis(5);
/// …and this often when none came for a while.
const IDLE: Duration = Duration::from_millis(50);
/// How long "a while" is.
const CALM: Duration = Duration::from_secs(1);

/// The ring that carries frames from the kernel side; owned by one thread.
pub struct Ring {
    ring: RingBuf<MapData>,
    logger: Option<EbpfLogger<KernelLog>>,
    last: Instant,
}

impl Ring {
    pub(super) fn new(ring: RingBuf<MapData>, logger: Option<EbpfLogger<KernelLog>>) -> Self {
        Self { ring, logger, last: Instant::now() }
    }

    /// Hands every waiting record to `on_frame`, at most `limit` of them; returns how many there were.
    pub fn drain(&mut self, limit: usize, mut on_frame: impl FnMut(&[u8])) -> usize {
        let mut frames = 0;
        while frames < limit {
            let Some(record) = self.ring.next() else { break };
            on_frame(&record);
            frames += 1;
        }
        if frames > 0 {
            self.last = Instant::now();
        }
        frames
    }

    /// Waits until the kernel side calls or it is time to look. Also passes the kernel side's log lines on.
    pub fn wait(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        let patience = if self.last.elapsed() < CALM { BUSY } else { IDLE };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        let mut fds = [PollFd::from_borrowed_fd(self.ring.as_fd(), PollFlags::IN)];
        if let Err(error) = poll(&mut fds, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            tracing::warn!(%error, "cannot wait for the ring, looking at intervals");
            std::thread::sleep(patience);
        }
    }
}
