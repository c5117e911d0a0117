//! Finds TLS code in files, and remembers which files have none.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    elf::{Elf, ElfError},
    file::{self, OpenFile, PLACE, Refused, Stamp},
    maps::{self, FileId, Mapping},
    mounts, openssl,
    point::TlsPoint,
};

/// Which functions of a TLS library are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sought {
    /// What the application calls.
    #[default]
    Calls,
    /// What ciphertext passes on its way into and out of the library: perhaps in a file of its own.
    Ciphertext,
}

/// TLS code in a file, and what distinguishes it from another file's code at the same offsets.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsCode {
    /// What the code is.
    pub library: &'static str,
    /// Where to probe it.
    pub points: Vec<TlsPoint>,
    /// The bytes at each of these places.
    code: Vec<[u8; PLACE]>,
    /// What the linker called the file's contents; empty when it did not.
    build_id: Vec<u8>,
}

impl TlsCode {
    fn search(file: &OpenFile, sought: Sought) -> Result<Option<Self>, ElfError> {
        let mut elf = Elf::parse(file.file())?;
        let points = match sought {
            Sought::Calls => Self::calls(&mut elf, file)?,
            Sought::Ciphertext => openssl::ciphertext_points(&elf.functions(openssl::CIPHERTEXT_SYMBOLS)?),
        };
        let Some(points) = points else { return Ok(None) };
        let code = points.iter().map(|point| file.bytes_at(point.offset)).collect::<io::Result<_>>()?;
        Ok(Some(Self::new(openssl::NAME, points, code, elf.build_id()?)))
    }

    /// Code with these bytes at its points, in their order.
    #[must_use]
    pub const fn new(
        library: &'static str,
        points: Vec<TlsPoint>,
        code: Vec<[u8; PLACE]>,
        build_id: Vec<u8>,
    ) -> Self {
        Self { library, points, code, build_id }
    }

    fn calls(elf: &mut Elf<'_>, file: &OpenFile) -> Result<Option<Vec<TlsPoint>>, ElfError> {
        let functions = elf.functions(openssl::SYMBOLS)?;
        let shutdown_state = openssl::shutdown_state_function(&functions).and_then(|offset| {
            let mut code = [0; openssl::SHUTDOWN_STATE_BYTES];
            let read = file.file().read_at(&mut code, offset).ok()?;
            openssl::shutdown_state(&code[..read])
        });
        Ok(openssl::points(&functions, shutdown_state))
    }

    /// Whether a file has this code at these places at this moment, and is in the state in which it was opened.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_in(&self, file: &OpenFile) -> io::Result<bool> {
        for (point, code) in self.points.iter().zip(&self.code) {
            if file.bytes_at(point.offset)? != *code {
                return Ok(false);
            }
        }
        let build_id = Elf::parse(file.file()).and_then(|mut elf| elf.build_id());
        Ok(build_id.is_ok_and(|id| id == self.build_id) && file.is_unchanged()?)
    }
}

/// A file with TLS code.
#[derive(Debug)]
pub struct Found {
    /// Its identity in `/proc/<pid>/maps`.
    pub id: FileId,
    /// Its name, for people.
    pub name: String,
    /// The open file.
    pub file: OpenFile,
    /// What is in it.
    pub code: Arc<TlsCode>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.code.library, self.name)
    }
}

/// Finds TLS code and remembers which files have none. Shared by the threads that look.
#[derive(Debug, Default)]
pub struct Finder {
    sought: Sought,
    known: Mutex<HashMap<Stamp, Option<Arc<TlsCode>>>>,
    /// Files without, by their identity in `maps`, and when that was looked up.
    plain: Mutex<HashMap<FileId, Instant>>,
}

/// Files remembered before the memory is started anew: more than one host has libraries.
const REMEMBERED: usize = 16 << 10;
/// A file that changed less than this ago is not remembered: file systems count time in steps of up to 10 ms, so that
/// a second change may not show. And what a file is remembered for is not looked up again within this time.
const SETTLED: Duration = Duration::from_millis(50);

impl Finder {
    /// Finds these functions.
    #[must_use]
    pub fn of(sought: Sought) -> Self {
        Self { sought, ..Self::default() }
    }

    /// The TLS code in a file that a process has mapped.
    ///
    /// # Errors
    /// When the file cannot be looked through.
    pub fn in_mapping(&self, pid: u32, mapping: &Mapping) -> Result<Option<Found>, Refused> {
        let now = Instant::now();
        if lock(&self.plain).get(&mapping.file).is_some_and(|at| now - *at < SETTLED) {
            return Ok(None);
        }
        let path = mapping.open(pid);
        // Most files have none, and need not be opened to know it again.
        let (stamp, mount) = file::stat(&path)?;
        if lock(&self.known).get(&stamp).is_some_and(Option::is_none) {
            remember(&mut lock(&self.plain), mapping.file, now);
            return Ok(None);
        }
        mounts::check(&pid.to_string(), mount, stamp.device)?;
        let file = OpenFile::open(&path)?;
        Ok(self.in_file(&file)?.map(|code| Found {
            id: mapping.file,
            name: mapping.name.clone(),
            file,
            code,
        }))
    }

    /// The TLS code in a file that no process may have mapped yet.
    ///
    /// # Errors
    /// When the file cannot be looked through.
    pub fn at_path(&self, path: &Path) -> Result<Option<Found>, Refused> {
        let (stamp, mount) = file::stat(path)?;
        mounts::check("self", mount, stamp.device)?;
        let file = OpenFile::open(path)?;
        let Some(code) = self.in_file(&file)? else { return Ok(None) };
        let id = maps::identify(file.file().as_fd())?;
        Ok(Some(Found { id, name: path.display().to_string(), file, code }))
    }

    fn in_file(&self, file: &OpenFile) -> Result<Option<Arc<TlsCode>>, Refused> {
        if let Some(known) = lock(&self.known).get(&file.stamp) {
            return Ok(known.clone());
        }
        let (found, refused) = match TlsCode::search(file, self.sought) {
            Ok(found) => (found.map(Arc::new), None),
            // A file that is no ELF (a mapped font, say) has no TLS code either.
            Err(ElfError::NotElf) => (None, None),
            // Said once: it is known from now on as a file that has none.
            Err(error @ ElfError::TooLarge) => (None, Some(Refused::Symbols(error.to_string()))),
            Err(ElfError::Io(error)) => return Err(error.into()),
        };
        if is_settled(&file.stamp) {
            remember(&mut lock(&self.known), file.stamp, found.clone());
        }
        refused.map_or(Ok(found), Err)
    }
}

fn remember<K: Eq + Hash, V>(known: &mut HashMap<K, V>, key: K, value: V) {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, value);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_settled(stamp: &Stamp) -> bool {
    let (seconds, nanos) = stamp.changed;
    let changed = SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(seconds).unwrap_or(0), nanos);
    changed.elapsed().is_ok_and(|age| age > SETTLED)
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use tokentap_abi::TlsFunction;

    use super::*;

    /// This test's own program, with a function that is taken for one of the library's.
    #[test]
    fn code_is_known_by_its_bytes_and_not_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::copy("/proc/self/exe", &path).unwrap();
        let functions = Elf::parse(&fs::File::open(&path).unwrap()).unwrap().functions(&["main"]).unwrap();
        let point = TlsPoint { function: TlsFunction::Read, offset: functions[0].offset, state: 0 };
        let open = || OpenFile::open(&path).unwrap();
        let code = TlsCode {
            library: "test",
            points: vec![point],
            code: vec![open().bytes_at(point.offset).unwrap()],
            build_id: Elf::parse(open().file()).unwrap().build_id().unwrap(),
        };
        assert!(!code.build_id.is_empty());
        let before = open();
        assert!(code.is_in(&before).unwrap());
        // The same bytes in another file are the same code.
        let copy = folder.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        assert!(code.is_in(&OpenFile::open(&copy).unwrap()).unwrap());
        // One byte at a place is another.
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(point.offset).unwrap()] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(!code.is_in(&open()).unwrap());
        assert!(!code.is_in(&before).unwrap(), "opened before, and changed since");
    }

    #[test]
    fn files_that_just_changed_are_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, b"no library").unwrap();
        let finder = Finder::default();
        assert!(finder.at_path(&path).unwrap().is_none());
        assert!(lock(&finder.known).is_empty());
        let settled = SystemTime::now() + 2 * SETTLED;
        while SystemTime::now() < settled {
            thread::yield_now();
        }
        assert!(finder.at_path(&path).unwrap().is_none());
        assert_eq!(lock(&finder.known).len(), 1);
    }
}
