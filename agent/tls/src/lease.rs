//! Read leases: while one is held on a file, the kernel makes whoever opens the file for writing, or truncates it, wait
//! until the lease is given up (fcntl(2), fs/locks.c).
//!
//! - The writer waits for at most `/proc/sys/fs/lease-break-time` (45 s); then the kernel takes the lease away. An open
//!   with `O_NONBLOCK` does not wait, it fails with `EWOULDBLOCK`; the next one succeeds.
//! - A lease is not given while somebody has the file open for writing, or maps it shared and writable.
//! - Several read leases on one file, by several descriptors, do not conflict.
//! - It takes the file's owner or `CAP_LEASE`, and a file system that has leases.
//! - Renaming, unlinking and changes of owner or mode do not wait for it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::{
            fs::{MetadataExt as _, OpenOptionsExt as _},
            net::UnixStream,
        },
    },
};

use super::OpenFile;

/// A read lease. It is given up when dropped.
///
/// It has a descriptor of its own, so that closing that is enough: to give up a lease in another way takes `CAP_LEASE`
/// again, which the threads that do it do not have. The descriptor keeps the file's mount busy, as a probe does.
#[derive(Debug)]
pub struct Lease(File);

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum NoLease {
    /// Somebody can write to the file at this moment.
    #[error("it is open for writing")]
    Writer,
    /// Its file system has no leases, or this process may not have one.
    #[error(transparent)]
    Unavailable(io::Error),
}

impl Lease {
    /// Takes a lease. It needs [`BreakNotices`], because of what the signal does without them.
    ///
    /// # Errors
    /// [`NoLease`] says whether it is of use to try again.
    pub fn take(file: &OpenFile, _installed: &BreakNotices) -> Result<Self, NoLease> {
        // The same file, and not another one of that name: this path is not looked up.
        let own = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file.path());
        let own = own.map_err(NoLease::Unavailable)?;
        match fcntl(own.as_fd(), libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(_) => Ok(Self(own)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(NoLease::Writer),
            Err(error) => Err(NoLease::Unavailable(error)),
        }
    }

    /// Whether the file has no name any more: no process that does not have it can come to it.
    #[must_use]
    pub fn is_of_deleted(&self) -> bool {
        self.0.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Whether a writer waits for it, or did so for too long.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !fcntl(self.0.as_fd(), libc::F_GETLEASE, 0).is_ok_and(|lease| lease == libc::F_RDLCK)
    }
}

fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: the descriptor is open; both commands take a number and touch no memory of this process.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The kernel's notices that leases are being broken: readable when there is one. They come as `SIGIO`, which would
/// end this process if it were not handled; the handler stays for as long as the process runs.
#[derive(Debug)]
pub struct BreakNotices(UnixStream);

impl BreakNotices {
    /// Installs the handler.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install() -> io::Result<Self> {
        let (ours, handlers) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(libc::SIGIO, handlers)?;
        Ok(Self(ours))
    }

    /// Takes all notices that are there.
    ///
    /// # Errors
    /// When there will be no more.
    pub fn take(&self) -> io::Result<()> {
        let mut buffer = [0; 64];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for BreakNotices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open_for_writing(path: &std::path::Path, flags: libc::c_int) -> io::Result<File> {
        OpenOptions::new().write(true).custom_flags(flags).open(path)
    }

    #[test]
    fn a_writer_shows_and_waits_and_several_leases_coexist() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        fs::write(&path, b"code").unwrap();
        let (file, notices) = (OpenFile::open(&path).unwrap(), BreakNotices::install().unwrap());
        let writer = open_for_writing(&path, 0).unwrap();
        assert!(matches!(Lease::take(&file, &notices), Err(NoLease::Writer)));
        drop(writer);
        let leases = [(); 2].map(|()| Lease::take(&file, &notices).unwrap());
        assert!(fs::read(&path).is_ok() && !leases[0].is_broken(), "reading is no matter");
        let refused = open_for_writing(&path, libc::O_NONBLOCK).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(leases.iter().all(Lease::is_broken));
        assert!(
            matches!(Lease::take(&file, &notices), Err(NoLease::Writer)),
            "one waits, or has just waited"
        );
        drop(leases);
        // The file that was checked is still open: it does not keep the lease.
        open_for_writing(&path, libc::O_NONBLOCK).unwrap();
    }
}
