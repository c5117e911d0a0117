//! The selection: `--pid`, `--exe`, `--all`, `--no-follow`.

use std::io;

use tokentap_abi::tracked;

use super::{NotObserved, glob::Glob, procfs};

/// Whether a process that was named by its id can be observed.
///
/// # Errors
/// Why it cannot.
pub(super) fn check_named(pid: u32) -> Result<(), NotObserved> {
    if pid == std::process::id() {
        return Err(NotObserved::Agent(pid));
    }
    match procfs::thread_group(pid) {
        None => return Err(NotObserved::Gone(pid)),
        Some(group) if group != pid => return Err(NotObserved::Thread(pid, group)),
        Some(_) => {}
    }
    if procfs::identity(pid).is_some_and(|identity| identity.kernel_thread) {
        return Err(NotObserved::KernelThread(pid));
    }
    match procfs::executable(pid) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotObserved::Ended(pid)),
        Err(error) => Err(NotObserved::Denied(pid, error)),
    }
}

/// Which processes are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    pids: Vec<u32>,
    exes: Vec<Glob>,
    all: bool,
    follow: bool,
}

impl Selector {
    /// A selection; `follow`: children of selected processes too.
    #[must_use]
    pub const fn new(pids: Vec<u32>, exes: Vec<Glob>, all: bool, follow: bool) -> Self {
        Self { pids, exes, all, follow }
    }

    /// The processes named by id.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// How the kernel side tracks what is selected: bits of [`tokentap_abi::tracked`].
    #[must_use]
    pub const fn tracking(&self) -> u32 {
        let follow = if self.follow { tracked::FOLLOW } else { 0 };
        if self.has_rules() { follow | tracked::BY_RULE } else { follow }
    }

    /// Whether children are wanted.
    #[must_use]
    pub const fn follow(&self) -> bool {
        self.follow
    }

    /// Whether every process is wanted.
    #[must_use]
    pub const fn all(&self) -> bool {
        self.all
    }

    /// Whether processes are wanted that do not exist yet.
    #[must_use]
    pub const fn has_rules(&self) -> bool {
        self.all || !self.exes.is_empty()
    }

    /// Whether processes that do not exist yet are wanted for sure: a rule may match them, or a process whose
    /// children are wanted has children, or has had some.
    #[must_use]
    pub fn selects_future_processes(&self) -> bool {
        self.has_rules() || self.follow && self.pids.iter().any(|pid| procfs::has_forked(*pid))
    }

    /// Whether an executable is wanted, by its path or by the name it was started as (a script's name, when
    /// its interpreter is the executable). A pattern with a slash is compared with the whole path.
    #[must_use]
    pub fn matches(&self, executable: Option<&str>, started_as: Option<&str>) -> bool {
        self.all
            || [executable, started_as].into_iter().flatten().any(|path| {
                let path = path.strip_suffix(" (deleted)").unwrap_or(path);
                self.exes.iter().any(|glob| glob.matches_file(path))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(patterns: &[&str]) -> Selector {
        Selector::new(vec![], patterns.iter().map(|p| p.parse().unwrap()).collect(), false, true)
    }

    #[test]
    fn names_and_paths_match() {
        let python = selector(&["python*"]);
        assert!(python.matches(Some("/usr/bin/python3.11"), None));
        assert!(python.matches(Some("/opt/venv/bin/python3 (deleted)"), None));
        assert!(python.matches(None, Some("/usr/bin/python3")), "gone before it could be looked at");
        assert!(!python.matches(Some("/usr/lib/python3/helper"), None));
        let path = selector(&["/opt/*/server"]);
        assert!(path.matches(Some("/opt/llm/server"), None));
        assert!(!path.matches(Some("/usr/bin/server"), None));
    }

    #[test]
    fn nothing_matches_without_rules() {
        assert!(!selector(&[]).matches(Some("/usr/bin/python3"), None));
        assert!(!selector(&[]).has_rules());
        assert!(Selector::new(vec![], vec![], true, true).matches(None, None));
    }
}
