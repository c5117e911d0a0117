//! Probes out of files: the kernel takes its time for it, so a thread waits that has nothing else to do.

use std::sync::mpsc::Receiver;

use super::leases::Held;
use crate::{kernel::TlsProbes, privileges::drop_in_parallel};

/// Takes away what comes. All that waits goes at the same time: a writer may wait for any of it.
pub(super) fn detach_all_of(inbox: &Receiver<Vec<Held<TlsProbes>>>) {
    while let Ok(first) = inbox.recv() {
        detach(std::iter::once(first).chain(inbox.try_iter()).flatten().collect());
    }
}

/// Takes probes away. Each wait of the kernel's is over for all that wait at the same time.
pub(super) fn detach(probes: Vec<Held<TlsProbes>>) {
    const THREADS: usize = 64;
    drop_in_parallel(probes, THREADS);
}
