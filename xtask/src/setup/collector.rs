//! An OpenTelemetry Collector, compiled from its released modules.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{
    go,
    recipe::{once, place, recipe},
};
use crate::shell::run_logged;
use crate::tree;

const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.120.0";

/// The collector as `target/parts/otelcol/otelcol`.
pub(super) fn install() -> Result<()> {
    let (manifest, text) = recipe("otelcol.yaml")?;
    let what = "an OpenTelemetry Collector into target/parts/otelcol, about a minute";
    once("otelcol", &format!("{BUILDER}\n{text}"), what, || {
        let go = go::compiler()?;
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
