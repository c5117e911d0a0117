//! Notices of files that change while they are probed: before the change by a broken lease, after it by inotify.

use std::{
    collections::BTreeSet,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, mpsc::Sender},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, ReadFlags},
    io::Errno,
};
use tokentap_tls::BreakNotices;

use super::{command::Command, detach::detach, leases::Leases};
use crate::kernel::TlsProbes;

/// What the thread `file-changes` waits for.
pub(super) struct Changes {
    pub(super) breaks: Option<Arc<BreakNotices>>,
    pub(super) leases: Arc<Leases<TlsProbes>>,
    pub(super) notices: Option<Arc<OwnedFd>>,
    pub(super) commands: Sender<Command>,
}

impl Changes {
    /// Takes away what a writer waits for, and passes notices on, as long as somebody takes them.
    pub(super) fn read(mut self) {
        while self.breaks.is_some() || self.notices.is_some() {
            let breaks = self.breaks.iter().map(|breaks| breaks.as_fd());
            let sources = breaks.chain(self.notices.iter().map(|notices| notices.as_fd()));
            let mut sources: Vec<PollFd<'_>> =
                sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
            match poll(&mut sources, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "probed files are not watched for changes any more");
                    return;
                }
            }
            // Both are read whatever the answer was: neither waits.
            if self.read_breaks().is_err() || self.read_notices().is_err() {
                return;
            }
        }
    }

    /// `Err` when the thread that receives commands has ended.
    fn read_breaks(&mut self) -> Result<(), Ended> {
        let Some(breaks) = &self.breaks else { return Ok(()) };
        if let Err(error) = breaks.take() {
            tracing::warn!(%error, "leases on probed files are not released any more: a process that opens one for writing waits until the kernel breaks the lease");
            self.breaks = None;
        }
        let broken = self.leases.take_broken();
        if broken.is_empty() {
            return Ok(());
        }
        let files: BTreeSet<String> = broken.iter().map(|held| held.file.clone()).collect();
        detach(broken);
        self.send(Command::Broken(files))
    }

    /// `Err` when the thread that receives commands has ended.
    fn read_notices(&mut self) -> Result<(), Ended> {
        let Some(notices) = self.notices.clone() else { return Ok(()) };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(notices.as_fd(), &mut buffer);
        loop {
            match reader.next() {
                Ok(notice) if notice.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    self.send(Command::Recheck)?
                }
                Ok(notice) if notice.events().contains(ReadFlags::MODIFY) => {
                    self.send(Command::Modified(notice.wd()))?;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => {
                    let error = io::Error::from(error);
                    tracing::warn!(%error, "probed files without a lease are not watched for changes any more");
                    self.notices = None;
                    return Ok(());
                }
            }
        }
    }

    fn send(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).map_err(|_| Ended)
    }
}

/// The prober has ended.
struct Ended;
