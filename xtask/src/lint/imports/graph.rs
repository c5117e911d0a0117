//! Imports as a graph of files, and its circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::module::Package;

/// One file imports from another.
pub(super) struct Edge<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// The line of the first of them.
    line: usize,
    names: BTreeSet<&'a str>,
}

/// As `kernel.rs:3 -> pipeline.rs: Worker`.
impl fmt::Display for Edge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().copied().collect();
        write!(f, "{}:{} -> {}: {}", self.from, self.line, self.to, names.join(", "))
    }
}

pub(super) struct Graph<'a> {
    edges: BTreeMap<(&'a str, &'a str), Edge<'a>>,
}

impl<'a> Graph<'a> {
    pub(super) fn of(package: &'a Package) -> Self {
        let mut edges: BTreeMap<(&str, &str), Edge<'_>> = BTreeMap::new();
        for import in package.imports() {
            let (from, to) = (import.from, import.to);
            let edge = edges.entry((from, to)).or_insert_with(|| Edge {
                from,
                to,
                line: import.line,
                names: BTreeSet::new(),
            });
            edge.line = edge.line.min(import.line);
            edge.names.insert(import.name);
        }
        Self { edges }
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = &Edge<'a>> {
        self.edges.values()
    }

    /// The edges of each circle: between files that can be reached from each other.
    pub(super) fn circles(&self) -> Vec<Vec<&Edge<'a>>> {
        let files: BTreeSet<&str> = self.edges.keys().flat_map(|(from, to)| [*from, *to]).collect();
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            files.iter().map(|file| (*file, self.reachable(file))).collect();
        let mut done = BTreeSet::new();
        let mut circles = Vec::new();
        for file in &files {
            let circle: BTreeSet<&str> =
                reached[file].iter().copied().filter(|other| reached[other].contains(file)).collect();
            if circle.is_empty() || !done.insert(circle.clone()) {
                continue;
            }
            let inside = |edge: &&Edge<'_>| circle.contains(edge.from) && circle.contains(edge.to);
            circles.push(self.edges().filter(inside).collect());
        }
        circles
    }

    fn reachable(&self, file: &str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![file];
        while let Some(from) = next.pop() {
            for edge in self.edges().filter(|edge| edge.from == from) {
                if reached.insert(edge.to) {
                    next.push(edge.to);
                }
            }
        }
        reached
    }
}
