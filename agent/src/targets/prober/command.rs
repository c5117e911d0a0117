//! What the prober is asked to do.

use std::{collections::BTreeSet, sync::mpsc::Sender, time::Instant};

use super::search::SearchResult;

/// What the prober is asked to do.
pub(super) enum Command {
    /// Search a process that mapped something at this time for TLS code; the answer, when somebody waits for it, is what
    /// was found.
    Scan(u32, Option<Instant>, Option<Sender<Vec<String>>>),
    /// A process has a TLS stream whose socket is not known.
    Bind(u32),
    /// The process is gone.
    Forget(u32),
    /// Probe for all processes of the host from now on; somebody may wait until it is done.
    ProbeHostWide(Option<Sender<()>>),
    /// A search is over.
    Searched(SearchResult),
    /// A watched file was written to.
    Modified(i32),
    /// Somebody wanted to write to these files, and can do it now: their probes are gone.
    Broken(BTreeSet<String>),
    /// Notices of changes were lost.
    Recheck,
    /// Take every probe away.
    Stop,
}
