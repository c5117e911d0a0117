//! Which file imports from which: no circle between files, and between the modules of the agent and between packages only
//! in the direction that ARCHITECTURE.md draws.

mod graph;
mod layers;
mod module;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::verdict::Verdict;
use crate::{shell::read, tree};
use graph::Graph;
use module::Package;

/// Checks every package of the workspace.
pub(super) fn check() -> Result<Verdict> {
    let listed = read(Command::new("git").current_dir(tree::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
        "*Cargo.toml",
    ]))?;
    let mut files = BTreeMap::new();
    for path in listed.lines().filter(|path| tree::root().join(path).is_file()) {
        let text =
            fs::read_to_string(tree::root().join(path)).with_context(|| format!("cannot read {path}"))?;
        files.insert(path.to_owned(), text);
    }
    let findings = findings(&files)?;
    if findings.is_empty() {
        return Ok(Verdict::Passed);
    }
    bail!("{}", findings.join("\n"))
}

/// What is wrong with the imports of these files, by path.
fn findings(files: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (path, manifest) in files.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let folder = Path::new(path).parent().unwrap_or_else(|| Path::new("")).to_string_lossy().into_owned();
        let Some(name) = layers::package_name(manifest) else { continue };
        findings.extend(layers::wrong_dependencies(path, &name, manifest));
        let source = if folder.is_empty() { "src/".to_owned() } else { format!("{folder}/src/") };
        let sources: BTreeMap<&str, &str> = files
            .iter()
            .filter(|(path, _)| path.starts_with(&source) && path.ends_with(".rs"))
            .map(|(path, text)| (&path[source.len()..], text.as_str()))
            .collect();
        let package = Package::parse(&name, &sources).with_context(|| format!("package {name}"))?;
        let graph = Graph::of(&package);
        for circle in graph.circles() {
            findings
                .push(format!("{folder}: a circle of imports; move what both need into a file of its own"));
            findings.extend(circle.iter().map(|edge| format!("  {source}{edge}")));
        }
        if name == "tokentap" {
            findings.extend(graph.edges().filter_map(|edge| layers::wrong_way(&source, edge)));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::findings;

    const MANIFEST: &str = "[package]\nname = \"some\"\n";

    fn found(manifest: &str, files: &[(&str, &str)]) -> Vec<String> {
        let mut all = BTreeMap::from([("some/Cargo.toml".to_owned(), manifest.to_owned())]);
        all.extend(files.iter().map(|(path, text)| (format!("some/src/{path}"), (*text).to_owned())));
        findings(&all).unwrap()
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], parts: &[&str]) {
        let found = found(MANIFEST, files).join("\n");
        assert_eq!(found.is_empty(), parts.is_empty(), "{found}");
        for part in parts {
            assert!(found.contains(part), "{part} is not in\n{found}");
        }
    }

    #[test]
    fn two_files_that_import_from_each_other_are_a_circle() {
        let root = ("lib.rs", "mod a;\nmod b;\n");
        check(
            &[
                root,
                ("a.rs", "use crate::b::B;\npub struct A;\n"),
                ("b.rs", "use super::a::A;\npub struct B;\n"),
            ],
            &["some/src/a.rs:1 -> b.rs: B", "some/src/b.rs:1 -> a.rs: A"],
        );
        check(&[root, ("a.rs", "use crate::b::B;\n"), ("b.rs", "pub struct B;\n")], &[]);
    }

    #[test]
    fn a_name_is_of_the_file_that_defines_it_and_not_of_the_one_that_passes_it_on() {
        let root = ("lib.rs", "mod a;\n");
        let passes_on = ("a/mod.rs", "mod x;\nmod y;\npub use x::X;\npub use self::y::*;\n");
        check(
            &[root, passes_on, ("a/x.rs", "use super::Y;\npub struct X;\n"), ("a/y.rs", "pub struct Y;\n")],
            &[],
        );
        check(
            &[
                root,
                passes_on,
                ("a/x.rs", "use super::Y;\npub struct X;\n"),
                ("a/y.rs", "use crate::a::{X};\npub struct Y;\n"),
            ],
            &["x.rs:1 -> a/y.rs: Y", "y.rs:1 -> a/x.rs: X"],
        );
    }

    #[test]
    fn a_parent_that_uses_a_child_that_uses_the_parent_is_a_circle() {
        let child = ("a/x.rs", "use super::Shared;\npub struct X;\n");
        check(
            &[("lib.rs", "mod a;\n"), ("a/mod.rs", "mod x;\nuse x::X;\npub struct Shared(X);\n"), child],
            &["a/mod.rs:2 -> a/x.rs: X", "a/x.rs:1 -> a/mod.rs: Shared"],
        );
        check(
            &[
                ("lib.rs", "mod a;\n"),
                ("a/mod.rs", "mod x;\npub struct Shared;\nfn f() { x::g(); }\n"),
                child,
            ],
            &["a/mod.rs:3 -> a/x.rs: g"],
        );
        check(
            &[("lib.rs", "mod a;\n"), ("a/mod.rs", "mod x;\npub use x::X;\npub struct Shared;\n"), child],
            &[],
        );
    }

    #[test]
    fn grouped_imports_and_paths_in_code_count_and_tests_do_not() {
        let root = ("lib.rs", "mod a;\nmod b;\nmod c;\n");
        let a = ("a.rs", "use crate::{b::{self, B}, c::C};\npub struct A;\n");
        check(
            &[root, a, ("b.rs", "pub struct B(crate::a::A);\n"), ("c.rs", "pub struct C;\n")],
            &["some/src/b.rs:1 -> a.rs: A", "some/src/a.rs:1 -> b.rs: B"],
        );
        let test = "pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n";
        check(&[root, a, ("b.rs", test), ("c.rs", "#[cfg(test)]\nuse crate::a::A;\npub struct C;\n")], &[]);
    }

    #[test]
    fn the_modules_of_the_agent_import_downwards() {
        let agent = "[package]\nname = \"tokentap\"\n";
        let root = ("lib.rs", "mod pipeline;\nmod kernel;\n");
        let down = [root, ("pipeline.rs", "use crate::kernel::Ring;\n"), ("kernel.rs", "pub struct Ring;\n")];
        assert!(found(agent, &down).is_empty());
        let up =
            [root, ("pipeline.rs", "pub struct Worker;\n"), ("kernel.rs", "use crate::pipeline::Worker;\n")];
        let found = found(agent, &up).join("\n");
        assert!(found.contains("kernel.rs:1") && found.contains("pipeline"), "{found}");
    }

    #[test]
    fn packages_depend_on_what_is_below_them() {
        let wire = |rest: &str| format!("[package]\nname = \"tokentap-wire\"\n{rest}");
        assert!(found(&wire("[dependencies]\nmemchr.workspace = true\n"), &[]).is_empty());
        assert!(found(&wire("[dev-dependencies]\ntokentap-genai.workspace = true\n"), &[]).is_empty());
        let wrong = found(&wire("[dependencies]\ntokentap-genai.workspace = true\n"), &[]).join("\n");
        assert!(wrong.contains("tokentap-wire") && wrong.contains("tokentap-genai"), "{wrong}");
    }
}
