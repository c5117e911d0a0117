//! The direction of imports, between packages and between the modules of the agent.

use super::graph::Edge;

/// What each package may depend on, of our own; those that are not listed, on anything.
const PACKAGES: [(&str, &[&str]); 8] = [
    ("tokentap-abi", &[]),
    ("tokentap-ebpf", &["tokentap-abi"]),
    ("tokentap-wire", &["tokentap-abi"]),
    ("tokentap-genai", &["tokentap-wire"]),
    ("tokentap-tls", &["tokentap-abi"]),
    ("tokentap-tape", &["tokentap-abi", "tokentap-genai", "tokentap-wire"]),
    ("tokentap-export", &["tokentap-genai"]),
    (
        "tokentap",
        &[
            "tokentap-abi",
            "tokentap-export",
            "tokentap-genai",
            "tokentap-tape",
            "tokentap-tls",
            "tokentap-wire",
        ],
    ),
];

/// The modules of the agent, from the top: each may import from those of the lines below.
const LAYERS: [&[&str]; 8] = [
    &["main"],
    &["commands"],
    &["config"],
    &["cli"],
    &["pipeline"],
    &["targets"],
    &["kernel"],
    &["privileges", "signals", "telemetry", "threads"],
];

/// The name in a package's manifest.
pub(super) fn package_name(manifest: &str) -> Option<String> {
    let package = manifest.split("[package]").nth(1)?;
    let line = package.lines().find_map(|line| line.strip_prefix("name = \""))?;
    Some(line.trim_end_matches('"').to_owned())
}

/// Packages of ours that a manifest names and may not.
pub(super) fn wrong_dependencies(path: &str, name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = PACKAGES.iter().find(|(package, _)| *package == name) else { return Vec::new() };
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|package| package.starts_with("tokentap") && !allowed.contains(package))
        .map(|package| {
            format!("{path}: {name} may not depend on {package}: see the layers in ARCHITECTURE.md")
        })
        .collect()
}

/// What is wrong with an import between two modules of the agent.
pub(super) fn wrong_way(source: &str, edge: &Edge<'_>) -> Option<String> {
    let (from, to) = (top(edge.from), top(edge.to));
    if from == to || from == "lib" || to == "lib" {
        return None;
    }
    let layer = |module: &str| LAYERS.iter().position(|modules| modules.contains(&module));
    match (layer(from), layer(to)) {
        (Some(above), Some(below)) if above < below => None,
        (None, _) => {
            Some(format!("{source}{edge}: {from} has no layer; give it one in xtask/src/lint/imports"))
        }
        (_, None) => {
            Some(format!("{source}{edge}: {to} has no layer; give it one in xtask/src/lint/imports"))
        }
        _ => Some(format!(
            "{source}{edge}: {from} may not import from {to}, which is not below it; move what both need downwards"
        )),
    }
}

/// The top module that a file belongs to.
fn top(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}
