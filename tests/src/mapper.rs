//! A process that maps files on command, and what it finds in its memory.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    parts,
    process::{PATIENCE, Process},
};

/// A process that maps what it is told to (clients/mapper.py).
#[derive(Debug)]
pub struct Mapper(Process);

impl Mapper {
    /// Started under its own name.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start() -> Self {
        Self::start_as(&python())
    }

    /// Started under this name, by which a rule selects it.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start_as(python: &Path) -> Self {
        let mut command = Command::new(python);
        command.arg(parts::file("clients/mapper.py"));
        let process = Process::spawn(command);
        process.wait_for_line("line that says ready", |line| (line == "ready").then_some(()));
        Self(process)
    }

    /// Its process id, as an argument.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Its answer.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn ask(&mut self, what: &str, argument: impl Display) -> String {
        let before = self.0.stdout().all().len();
        self.0.write(&format!("{what} {argument}\n"));
        let answer = self.0.stdout().wait(PATIENCE, |lines| lines.get(before).cloned());
        answer.unwrap_or_else(|| panic!("no answer to {what}\n{}", self.0.transcript()))
    }

    /// Has it load a library.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn load(&mut self, library: &Path) {
        assert_eq!(self.ask("load", library.display()), "loaded");
    }

    /// Whether the library's code in its memory is as in the file, byte for byte: a probe shows as a difference.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn is_intact(&mut self, library: &Path) -> bool {
        self.ask("differs", library.display()) == "differs 0"
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn end(mut self) {
        self.0.close_stdin();
        assert!(self.0.wait(PATIENCE).success(), "{}", self.0.transcript());
    }
}

/// Whether somebody who maps the file now finds it probed.
///
/// # Panics
/// When it cannot be found out.
#[must_use]
pub fn is_probed(library: &Path) -> bool {
    let mut other = Mapper::start();
    other.load(library);
    let probed = !other.is_intact(library);
    other.end();
    probed
}

/// A library of the system, by the start of its name.
///
/// # Panics
/// When it cannot be found out.
#[must_use]
pub fn system_library(name: &str) -> PathBuf {
    let maps = Command::new("ldd").arg(which("curl")).output().expect("ldd runs");
    let maps = String::from_utf8_lossy(&maps.stdout).into_owned();
    let line = maps.lines().find(|line| line.trim_start().starts_with(name));
    let path = line.and_then(|line| line.split_whitespace().nth(2));
    fs::canonicalize(path.unwrap_or_else(|| panic!("curl uses no {name}\n{maps}"))).expect("it is there")
}

/// The interpreter itself: what the search path has can be a script.
///
/// # Panics
/// When it cannot be found out.
#[must_use]
pub fn python() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let output = output.expect("python3 runs").stdout;
    fs::canonicalize(String::from_utf8_lossy(&output).trim()).expect("its own path")
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a search path");
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {program} on the search path"))
}

/// A folder with a copy of libssl that no rule could foresee.
///
/// # Panics
/// When it cannot be found out.
#[must_use]
pub fn folder_with_library() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("libown.so");
    fs::copy(system_library("libssl"), &library).expect("a copy");
    (folder, library)
}
