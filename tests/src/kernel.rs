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

/// What belongs to eBPF, by kind and id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objects(BTreeSet<(&'static str, u32)>);

/// Each kind as `/proc/<pid>/fdinfo` names its id, with the `BPF_*_GET_NEXT_ID` command.
const KINDS: [(&str, libc::c_int); 3] = [("prog_id", 11), ("map_id", 12), ("link_id", 31)];

impl Objects {
    /// All of this kernel.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn all() -> Self {
        Self(
            KINDS
                .iter()
                .flat_map(|(kind, command)| ids(*command).into_iter().map(|id| (*kind, id)))
                .collect(),
        )
    }

    /// Those that a process has descriptors of; none when it is gone.
    #[must_use]
    pub fn of(process: u32) -> Self {
        let entries = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
        let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        let found = texts.flat_map(|text| {
            let line = |kind| text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
            KINDS.map(|(kind, _)| Some((kind, line(kind)?.trim().parse().ok()?)))
        });
        Self(found.flatten().collect())
    }

    /// Those that are in both.
    #[must_use]
    pub fn both(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Those that are in either.
    #[must_use]
    pub fn either(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn ids(command: libc::c_int) -> BTreeSet<u32> {
    programs::ids_by(command).unwrap_or_else(|e| panic!("cannot list what eBPF has: {e}"))
}

/// Counts how often the uprobe programs of a process run, as long as it lives.
#[derive(Debug)]
pub struct ProgramRuns {
    process: u32,
    before: String,
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl ProgramRuns {
    /// Of a process that has loaded its programs.
    ///
    /// # Panics
    /// Without root.
    #[must_use]
    pub fn of(process: u32) -> Self {
        let before = fs::read_to_string(STATISTICS).expect("root may ask for statistics of programs");
        fs::write(STATISTICS, "1").expect("root may ask for statistics of programs");
        Self { process, before }
    }

    /// The runs so far.
    ///
    /// # Panics
    /// When the process has ended.
    #[must_use]
    pub fn count(&self) -> u64 {
        /// `BPF_PROG_TYPE_KPROBE`, which uprobe programs are, too.
        const KPROBE: &str = "prog_type:\t2";
        let folder = fs::read_dir(format!("/proc/{}/fdinfo", self.process)).expect("the process runs");
        let programs = folder.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        let programs = programs.filter(|text| text.lines().any(|line| line == KPROBE));
        let runs = programs.filter_map(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("run_cnt:"))
                .and_then(|n| n.trim().parse::<u64>().ok())
        });
        runs.sum()
    }
}

impl Drop for ProgramRuns {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATISTICS, self.before.trim()) {
            eprintln!("statistics of programs stay on: {error}");
        }
    }
}

/// The first bytes of a function of a library, in the memory of a process: a probe on it shows there.
///
/// # Panics
/// When the process has no such library, or the library no such function.
#[must_use]
pub fn code_of(process: u32, library: &str, function: &str) -> Vec<u8> {
    codes_of(process, library, function)[0].clone()
}

/// Whether there is a probe on a function of a library, in the memory of a process, whoever placed it.
///
/// # Panics
/// As [`code_of`].
#[must_use]
pub fn is_probed(process: u32, library: &str, function: &str) -> bool {
    let [memory, file] = codes_of(process, library, function);
    memory != file
}

/// The first bytes of a function, in memory and in the file.
fn codes_of(process: u32, library: &str, function: &str) -> [Vec<u8>; 2] {
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
    let segment = elf.segments().find_map(|segment| segment.data_range(address, 16).ok().flatten());
    [code, segment.unwrap_or_else(|| panic!("{path} has no code of {function}")).to_vec()]
}
