//! Which TLS code a process uses: one file per library, and the search that finds them.
//!
//! Libraries are found by the functions that they export, in every file that a process maps as executable:
//! a renamed, bundled or statically linked copy is found like any other, and so is one whose file was deleted.
//!
//! Files are the targets': to open or read one can take for ever (a dead server behind it). Whatever touches one
//! here belongs on a thread that can be given up.

mod elf;
mod file;
mod finder;
mod lease;
mod maps;
mod mounts;
mod openssl;
mod point;
mod system;

pub use file::{OpenFile, PLACE, Refused, Stamp};
pub use finder::{Finder, Found, Sought, TlsCode};
pub use lease::{BreakNotices, Lease, NoLease};
pub use maps::{FileId, Mapping, executable_files};
pub use point::TlsPoint;
pub use system::system_libraries;
