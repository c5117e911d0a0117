//! Where the parts lie that come from outside, and the agent.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The workspace.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("/"))
}

/// `target/parts/<path>`.
///
/// # Panics
/// When it is not there: tests with real parts fail without them.
#[must_use]
pub fn part(path: &str) -> PathBuf {
    let part = root().join("target/parts").join(path);
    assert!(part.exists(), "{} is missing: install it with `cargo xtask setup`", part.display());
    part
}

/// A file below `tests/`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn file(path: &str) -> PathBuf {
    let file = root().join("tests").join(path);
    assert!(file.exists(), "{} is missing", file.display());
    file
}

/// A program of this package, built with what runs now.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let this = env::current_exe().expect("this program's own path");
    // Tests lie in a folder of their own beside the programs.
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: build it with `cargo build -p tokentap-tests --bins`"))
}

/// The agent: `$TOKENTAP_BIN`, else the release build.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn agent() -> PathBuf {
    let agent =
        env::var_os("TOKENTAP_BIN").map_or_else(|| root().join("target/release/tokentap"), PathBuf::from);
    assert!(
        agent.exists(),
        "{} is missing: build it with `cargo xtask build-ebpf && cargo build --release`, or name it in TOKENTAP_BIN",
        agent.display()
    );
    agent
}
