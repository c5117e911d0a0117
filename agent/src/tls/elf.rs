//! Functions in ELF files, by symbol. The files are the target's: nothing in them is trusted.

use std::{fs::File, io};

use object::{
    Object as _, ObjectSegment as _, ObjectSymbol as _, ObjectSymbolTable as _, SegmentFlags, SymbolKind,
    elf,
    read::{ReadCache, elf::ElfFile64},
};

/// A defined function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Symbol name.
    pub name: String,
    /// Offset of its first instruction from the start of the file.
    pub offset: u64,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Object(#[from] object::Error),
}

/// The functions whose symbol is `wanted` and whose code lies in the file. The full symbol table is looked
/// through only when the dynamic one, which is smaller, has none of them: a file that exports some of a
/// library's functions exports the others.
///
/// Reads only the headers and the symbol tables: a process can map files of any size.
pub(super) fn functions(file: &File, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Function>, ElfError> {
    let cache = ReadCache::new(file);
    let elf: ElfFile64<'_, object::Endianness, _> = ElfFile64::parse(&cache)?;
    let code: Vec<Segment> = elf
        .segments()
        .filter(|s| matches!(s.flags(), SegmentFlags::Elf { p_flags } if p_flags & elf::PF_X != 0))
        .map(|s| Segment { address: s.address(), range: s.file_range() })
        .collect();
    let mut found: Vec<Function> = Vec::new();
    for table in [elf.dynamic_symbol_table(), elf.symbol_table()].into_iter().flatten() {
        if !found.is_empty() {
            break;
        }
        for symbol in table.symbols() {
            if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
                continue;
            }
            let Ok(name) = symbol.name_bytes() else { continue };
            if !wanted(name) || found.iter().any(|f| f.name.as_bytes() == name) {
                continue;
            }
            if let Some(offset) = code.iter().find_map(|s| s.offset_of(symbol.address())) {
                found.push(Function { name: String::from_utf8_lossy(name).into_owned(), offset });
            }
        }
    }
    Ok(found)
}

/// An executable `PT_LOAD`.
struct Segment {
    address: u64,
    range: (u64, u64),
}

impl Segment {
    /// The kernel places uprobes by file offset; a symbol names an address.
    fn offset_of(&self, address: u64) -> Option<u64> {
        let (start, len) = self.range;
        let within = address.checked_sub(self.address)?;
        (within < len).then(|| start.checked_add(within))?
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn finds_a_function_of_this_very_program() {
        let file = File::open("/proc/self/exe").unwrap();
        let found = functions(&file, |name| name == b"main").unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].offset > 0);
    }

    #[test]
    fn hostile_files_are_errors_not_panics() {
        let exe = std::fs::read("/proc/self/exe").unwrap();
        let mut scrambled = exe[..4096].to_vec();
        for (i, byte) in scrambled.iter_mut().enumerate().skip(20) {
            *byte = byte.wrapping_mul(31).wrapping_add((i * 7) as u8);
        }
        for (name, bytes) in [
            ("empty", &b""[..]),
            ("no elf", &b"#!/bin/sh\n"[..]),
            ("cut", &exe[..700]),
            ("scrambled", &scrambled),
        ] {
            let mut file = tempfile();
            file.write_all(bytes).unwrap();
            let found = functions(&file, |_| true);
            assert!(found.map_or(true, |f| f.is_empty()), "{name}");
        }
    }

    fn tempfile() -> File {
        let fd = rustix::fs::memfd_create("elf", rustix::fs::MemfdFlags::empty()).unwrap();
        File::from(fd)
    }
}
