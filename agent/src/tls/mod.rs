//! Which TLS code a process uses: one file per library, and the search that finds them.
//!
//! Libraries are found by the functions that they export, in every file that a process maps as executable:
//! a renamed, bundled or statically linked copy is found like any other, and so is one whose file was deleted.

mod elf;
mod maps;
mod openssl;

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use maps::{Mapping, executable_files};

use crate::kernel::{FileId, TlsPoint};

/// TLS code in a file that a process has mapped.
#[derive(Clone, Debug)]
pub struct TlsCode {
    /// The file's identity.
    pub file: FileId,
    /// A path that opens it whatever its mount namespace, and when it was deleted.
    pub open: PathBuf,
    /// Its name, for people.
    pub name: String,
    /// What the code is.
    pub library: &'static str,
    /// Where to probe it.
    pub points: Arc<[TlsPoint]>,
}

/// Finds TLS code and remembers which files have none.
#[derive(Debug, Default)]
pub struct Finder {
    known: HashMap<(FileId, String), Option<Found>>,
}

#[derive(Clone, Debug)]
struct Found {
    library: &'static str,
    points: Arc<[TlsPoint]>,
}

/// Files remembered before the memory is started anew: more than one host has libraries.
const REMEMBERED: usize = 16 << 10;

impl Finder {
    /// The TLS code in a file that a process has mapped.
    #[must_use]
    pub fn in_mapping(&mut self, pid: u32, mapping: &Mapping) -> Option<TlsCode> {
        self.in_file(mapping.file, mapping.open(pid), mapping.name.clone())
    }

    /// The TLS code in a file that no process may have mapped yet.
    ///
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn at_path(&mut self, path: &Path) -> io::Result<Option<TlsCode>> {
        let file = maps::identify(&File::open(path)?)?;
        Ok(self.in_file(file, path.to_owned(), path.display().to_string()))
    }

    fn in_file(&mut self, file: FileId, open: PathBuf, name: String) -> Option<TlsCode> {
        let key = (file, name.clone());
        let found = match self.known.get(&key) {
            Some(found) => found.clone(),
            None => {
                // A process that ended meanwhile says nothing about its files.
                let found = search(&open, &name)?;
                if self.known.len() >= REMEMBERED {
                    self.known.clear();
                }
                self.known.insert(key, found.clone());
                found
            }
        }?;
        Some(TlsCode { file, open, name, library: found.library, points: found.points })
    }
}

/// `None`: it could not be read now. `Some(None)`: it has no TLS code.
fn search(open: &Path, name: &str) -> Option<Option<Found>> {
    let symbols =
        File::open(open).map_err(elf::ElfError::from).and_then(|file| elf::functions(&file, openssl::wanted));
    match symbols {
        Ok(symbols) => Some(
            openssl::points(&symbols).map(|points| Found { library: openssl::NAME, points: points.into() }),
        ),
        Err(elf::ElfError::Io(error)) => {
            tracing::debug!(file = name, %error, "not searched for TLS code");
            None
        }
        // A file that is no ELF (a mapped font, say) has no TLS code either.
        Err(elf::ElfError::Object(error)) => {
            tracing::debug!(file = name, %error, "not searched for TLS code");
            Some(None)
        }
    }
}

/// Where hosts keep shared libraries, for code that no process has mapped yet.
#[must_use]
pub fn system_libraries() -> Vec<PathBuf> {
    const FOLDERS: &[&str] =
        &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt/lib"];
    let mut found = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if openssl::is_library_name(&name.to_string_lossy()) {
                found.push(path);
            } else if name.to_string_lossy().ends_with("-linux-gnu") {
                let Ok(inner) = std::fs::read_dir(path) else { continue };
                found.extend(
                    inner
                        .flatten()
                        .filter(|e| openssl::is_library_name(&e.file_name().to_string_lossy()))
                        .map(|e| e.path()),
                );
            }
        }
    }
    found
}
