//! What the kernel can tell of probes, without any tool of ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

/// Ids of all eBPF programs that are loaded.
///
/// # Panics
/// Without root.
#[must_use]
pub fn programs() -> BTreeSet<u32> {
    ids(11)
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

/// Goes through the ids that a `BPF_*_GET_NEXT_ID` command lists.
fn ids(command: libc::c_int) -> BTreeSet<u32> {
    /// The first members of the kernel's `union bpf_attr` for these commands.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        flags: u32,
    }
    let mut found = BTreeSet::new();
    let mut attr = NextId { start: 0, next: 0, flags: 0 };
    loop {
        // SAFETY: the kernel reads and writes no more of `attr` than the size it is told.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<NextId>()) };
        if result == 0 {
            found.insert(attr.next);
            attr.start = attr.next;
            continue;
        }
        let error = io::Error::last_os_error();
        assert!(error.raw_os_error() == Some(libc::ENOENT), "cannot list what eBPF has: {error}");
        return found;
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
