//! What the kernel can tell of probes, without any tool of ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

use crate::programs;

/// Ids of all eBPF programs that are loaded.
///
/// # Panics
/// Without root.
#[must_use]
pub fn programs() -> BTreeSet<u32> {
    programs::ids().unwrap_or_else(|e| panic!("cannot list eBPF programs: {e}"))
}

/// The first bytes of a function of a library, in the memory of a process: a probe on it shows there.
///
/// # Panics
/// When the process has no such library, or the library no such function.
#[must_use]
pub fn code_of(process: u32, library: &str, function: &str) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("the process runs");
    let bases: BTreeMap<&str, u64> = maps
        .lines()
        .filter(|line| line.contains(library))
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let start = u64::from_str_radix(fields.next()?.split('-').next()?, 16).ok()?;
            let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
            (offset == 0).then_some((fields.nth(2)?, start))
        })
        .collect();
    let (path, base) =
        bases.first_key_value().unwrap_or_else(|| panic!("{process} has no {library}\n{maps}"));
    let data = fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let elf = object::File::parse(&*data).unwrap_or_else(|e| panic!("{path}: {e}"));
    let symbol = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(function));
    let address = symbol.unwrap_or_else(|| panic!("{path} has no {function}")).address();
    let first = elf.segments().map(|segment| segment.address()).min().unwrap_or(0);
    let memory = File::open(format!("/proc/{process}/mem")).expect("root reads a process's memory");
    let mut code = vec![0; 16];
    memory.read_exact_at(&mut code, base + address - first).expect("a function's code is mapped");
    code
}
