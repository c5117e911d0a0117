//! SIGTERM and SIGINT: the first one drains, the second one ends the process at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether a signal came.
#[derive(Debug)]
pub struct Signals {
    received: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order the second signal finds the flag set by the first.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&received))?;
            signal_hook::flag::register(signal, Arc::clone(&received))?;
        }
        Ok(Self { received })
    }

    /// Whether a signal came.
    #[must_use]
    pub fn received(&self) -> bool {
        self.received.load(Ordering::Acquire)
    }
}
