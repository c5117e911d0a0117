//! Where members of the kernel's structures are, from the BTF that the kernel carries (Documentation/bpf/btf.rst).
//!
//! The kernel side needs a few of them to know what a descriptor is; it takes them as numbers, so that one object
//! serves every kernel.

use std::{collections::HashMap, fs, sync::LazyLock};

/// The kernel's types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Each global variable of the kernel side with the member whose offset it takes.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("TASK_FILES", "task_struct", "files"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("TASK_PID", "task_struct", "pid"),
    ("SIGNAL_LIVE", "signal_struct", "live"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDT_MAX_FDS", "fdtable", "max_fds"),
    ("FDT_FD", "fdtable", "fd"),
    ("FILE_INODE", "file", "f_inode"),
    ("FILE_PRIVATE", "file", "private_data"),
    ("INODE_MODE", "inode", "i_mode"),
    ("INODE_NUMBER", "inode", "i_ino"),
    ("SOCKET_SK", "socket", "sk"),
    ("SOCK_FAMILY", "sock_common", "skc_family"),
    ("SOCK_PORT", "sock_common", "skc_dport"),
    ("SOCK_ADDRESS", "sock_common", "skc_daddr"),
    ("SOCK_ADDRESS6", "sock_common", "skc_v6_daddr"),
    ("BPRM_FILENAME", "linux_binprm", "filename"),
];

/// Offsets in bytes, by the name of the kernel side's variable; all that it has.
pub(super) type Layout = Vec<(&'static str, u32)>;

/// The running kernel's layout. `None`, with the reason in the log, when it cannot be had as a whole.
pub(super) fn of_this_kernel() -> Option<&'static Layout> {
    static LAYOUT: LazyLock<Option<Layout>> = LazyLock::new(read);
    LAYOUT.as_ref()
}

fn read() -> Option<Layout> {
    let bytes = fs::read(VMLINUX)
        .inspect_err(|error| tracing::debug!(%error, path = VMLINUX, "the kernel carries no BTF"))
        .ok()?;
    let layout = of(&bytes);
    if layout.is_none() {
        tracing::warn!(
            "the kernel's BTF lacks types: descriptors that were opened before the agent started are found through /proc, with a delay"
        );
    }
    layout
}

fn of(bytes: &[u8]) -> Option<Layout> {
    let btf = Btf::parse(bytes)?;
    MEMBERS.iter().map(|(variable, of, member)| Some((*variable, btf.offset(of, member)?))).collect()
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// BTF, as far as structures need it.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins, by id; type 0 is `void`.
    starts: Vec<usize>,
    /// Structures that are asked for, by name.
    named: HashMap<&'a [u8], usize>,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        const MAGIC: u16 = 0xeb9f;
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(bytes, 4)?;
        let section = |at| {
            let start = header.checked_add(word(bytes, at)?)? as usize;
            bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
        };
        let mut btf =
            Self { types: section(8)?, strings: section(16)?, starts: vec![0], named: HashMap::new() };
        let mut at = 0;
        while at < btf.types.len() {
            let info = word(btf.types, at + 4)?;
            if kind(info) == STRUCT && members(info) > 0 {
                let name = btf.string(word(btf.types, at)?)?;
                if MEMBERS.iter().any(|(_, of, _)| of.as_bytes() == name) {
                    btf.named.entry(name).or_insert(at);
                }
            }
            btf.starts.push(at);
            at = at.checked_add(12)?.checked_add(tail(info)?)?;
        }
        Some(btf)
    }

    fn string(&self, at: u32) -> Option<&'a [u8]> {
        self.strings.get(at as usize..)?.split(|byte| *byte == 0).next()
    }

    /// Offset of a member in bytes, also of one in an unnamed structure or union inside.
    fn offset(&self, of: &str, member: &str) -> Option<u32> {
        self.find(*self.named.get(of.as_bytes())?, member.as_bytes(), 0)
    }

    fn find(&self, at: usize, member: &[u8], depth: u32) -> Option<u32> {
        const DEEPEST: u32 = 8;
        let info = word(self.types, at + 4)?;
        if depth > DEEPEST || !matches!(kind(info), STRUCT | UNION) {
            return None;
        }
        (0..members(info) as usize).find_map(|index| {
            let entry = at + 12 + index * 12;
            let bits = word(self.types, entry + 8)?;
            // With the kind flag, the upper 8 bits are the width of a bit field.
            let bits = if info >> 31 == 1 { bits & 0xff_ffff } else { bits };
            let name = self.string(word(self.types, entry)?)?;
            if name == member {
                return Some(bits / 8);
            }
            let inner =
                *self.starts.get(word(self.types, entry + 4)? as usize).filter(|_| name.is_empty())?;
            Some(bits / 8 + self.find(inner, member, depth + 1)?)
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

const fn members(info: u32) -> u32 {
    info & 0xffff
}

/// Bytes behind the fixed part of a type; `None` for a kind that is not known.
const fn tail(info: u32) -> Option<usize> {
    let count = members(info) as usize;
    Some(match kind(info) {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Structure, union, data section, 64-bit enumeration.
        STRUCT | UNION | 15 | 19 => count * 12,
        // Enumeration, function prototype.
        6 | 13 => count * 8,
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure with an unnamed union inside, as `sock_common` has them.
    fn example() -> Vec<u8> {
        let strings = b"\0sock_common\0skc_daddr\0skc_family\0";
        let types: &[u32] = &[
            // 1: int
            0,
            1 << 24,
            4,
            32, // 2: union { u32 skc_daddr }
            0,
            5 << 24 | 1,
            4,
            13,
            1,
            0, // 3: struct sock_common { union; skc_family }
            1,
            4 << 24 | 2,
            16,
            0,
            2,
            64,
            23,
            1,
            96,
        ];
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_also_in_unnamed_unions() {
        let bytes = example();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("sock_common", "skc_family"), Some(12));
        assert_eq!(btf.offset("sock_common", "skc_daddr"), Some(8));
        assert_eq!(btf.offset("sock_common", "other"), None);
        assert_eq!(btf.offset("task_struct", "files"), None);
        assert_eq!(of(&bytes), None, "all or nothing");
    }

    #[test]
    fn broken_types_are_no_layout() {
        let whole = example();
        for end in 0..whole.len() {
            assert_eq!(of(&whole[..end]), None);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            assert_eq!(of(&bytes), None);
        }
    }
}
