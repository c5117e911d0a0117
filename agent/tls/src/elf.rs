//! Functions in ELF files, by symbol. The files are the target's: nothing in them is trusted.
//!
//! Nothing is read as a whole. The strings of a symbol table are searched for the wanted names in blocks; only when
//! one is there, the symbols are read, in blocks too. What one file may cost is bounded ([`MAX_READ`]): a sparse
//! file of some kilobytes can claim tables of any size.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use object::{
    LittleEndian as LE, elf,
    elf::{FileHeader64, ProgramHeader64, SectionHeader64, Sym64},
    pod::{self, Pod},
};

/// A defined function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Symbol name.
    pub name: &'static str,
    /// Offset of its first instruction from the start of the file.
    pub offset: u64,
}

/// Why a file was not searched.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a 64-bit little-endian ELF file")]
    NotElf,
    #[error("its symbol tables are larger than {} MiB", MAX_READ >> 20)]
    TooLarge,
}

/// Most bytes that are read of one file.
const MAX_READ: u64 = 256 << 20;
/// Most program and section headers: the linker's limit without extended numbering.
const MAX_HEADERS: u16 = 0xff00;
/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// Most bytes of notes that are searched for a build id.
const MAX_NOTES: u64 = 4 << 10;
/// Most bytes of a build id that are kept: an SHA-256.
const MAX_BUILD_ID: usize = 32;

type Symbol = Sym64<LE>;
type Section = SectionHeader64<LE>;

/// An ELF file that is open.
pub(super) struct Elf<'a> {
    file: &'a File,
    header: FileHeader64<LE>,
    /// Executable `PT_LOAD`s.
    code: Vec<Segment>,
    /// Where notes are: offset and size.
    notes: Vec<(u64, u64)>,
    /// How much may still be read.
    budget: u64,
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    pub(super) fn parse(file: &'a File) -> Result<Self, ElfError> {
        let mut ident = [0; size_of::<FileHeader64<LE>>()];
        file.read_exact_at(&mut ident, 0).map_err(not_elf_when_short)?;
        let header: FileHeader64<LE> = *one(&ident).ok_or(ElfError::NotElf)?;
        if header.e_ident.magic != elf::ELFMAG
            || header.e_ident.class != elf::ELFCLASS64
            || header.e_ident.data != elf::ELFDATA2LSB
        {
            return Err(ElfError::NotElf);
        }
        let mut found = Self { file, header, code: Vec::new(), notes: Vec::new(), budget: MAX_READ };
        let count = found.header.e_phnum.get(LE);
        if count > 0 && usize::from(found.header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
            return Err(ElfError::NotElf);
        }
        let (mut code, mut notes) = (Vec::new(), Vec::new());
        found.entries(found.header.e_phoff.get(LE), u64::from(count), |header: &ProgramHeader64<LE>| {
            let (offset, size) = (header.p_offset.get(LE), header.p_filesz.get(LE));
            match header.p_type.get(LE) {
                elf::PT_LOAD if header.p_flags.get(LE).contains(elf::PF_X) => {
                    code.push(Segment { address: header.p_vaddr.get(LE), range: (offset, size) });
                }
                elf::PT_NOTE => notes.push((offset, size)),
                _ => {}
            }
        })?;
        Ok(Self { code, notes, ..found })
    }

    /// The build id of its notes: identifies what the linker wrote. Empty when there is none.
    pub(super) fn build_id(&mut self) -> Result<Vec<u8>, ElfError> {
        for (offset, size) in self.notes.clone() {
            let mut notes = vec![0; usize::try_from(size.min(MAX_NOTES)).unwrap_or(0)];
            self.read(offset, &mut notes)?;
            if let Some(id) = build_id(&notes) {
                return Ok(id[..id.len().min(MAX_BUILD_ID)].to_vec());
            }
        }
        Ok(Vec::new())
    }

    /// The functions whose symbol is one of `wanted` and whose code lies in the file. The full symbol table is
    /// looked through only when the dynamic one, which is smaller, has none of them: a file that exports some of a
    /// library's functions exports the others.
    pub(super) fn functions(&mut self, wanted: &[&'static str]) -> Result<Vec<Function>, ElfError> {
        let count = self.header.e_shnum.get(LE);
        if count == 0
            || count > MAX_HEADERS
            || usize::from(self.header.e_shentsize.get(LE)) != size_of::<Section>()
        {
            return Ok(Vec::new());
        }
        let sections = self.header.e_shoff.get(LE);
        let mut tables: Vec<Section> = Vec::new();
        self.entries(sections, u64::from(count), |section: &Section| {
            // A file has one of each kind.
            if matches!(section.sh_type.get(LE), elf::SHT_DYNSYM | elf::SHT_SYMTAB) && tables.len() < 2 {
                tables.push(*section);
            }
        })?;
        tables.sort_by_key(|table| table.sh_type.get(LE) != elf::SHT_DYNSYM);
        for table in tables {
            let link = u64::from(table.sh_link.get(LE));
            if link >= u64::from(count) {
                continue;
            }
            let mut strings = Vec::new();
            let at = sections.saturating_add(link * size_of::<Section>() as u64);
            self.entries(at, 1, |section: &Section| strings.push(*section))?;
            let Some(strings) = strings.pop() else { continue };
            let names = self.places(strings.sh_offset.get(LE), strings.sh_size.get(LE), wanted)?;
            let found = self.named(&table, &names)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Where in a string table names stand: a symbol's name is the offset of its first byte. A name can also be
    /// the end of a longer one.
    fn places(
        &mut self,
        offset: u64,
        size: u64,
        wanted: &[&'static str],
    ) -> Result<Vec<(u32, &'static str)>, ElfError> {
        /// A name that stands in more places than this is somebody's joke.
        const MOST: usize = 1024;
        let longest = wanted.iter().map(|name| name.len()).max().unwrap_or(0);
        let mut found = Vec::new();
        // The end of the block before, in which a name can begin.
        let mut window: Vec<u8> = Vec::new();
        let mut start = 0_u64;
        self.blocks(offset, size, |block| {
            window.extend_from_slice(block);
            for end in memchr::memchr_iter(0, &window) {
                let name = wanted.iter().find(|name| window[..end].ends_with(name.as_bytes()));
                if let Some(name) = name
                    && let Ok(place) = u32::try_from(start + (end - name.len()) as u64)
                    && found.len() < MOST
                    && found.last() != Some(&(place, *name))
                {
                    found.push((place, *name));
                }
            }
            let keep = window.len().saturating_sub(longest);
            window.drain(..keep);
            start += keep as u64;
        })?;
        Ok(found)
    }

    /// The defined functions of a symbol table with one of these names.
    fn named(&mut self, table: &Section, names: &[(u32, &'static str)]) -> Result<Vec<Function>, ElfError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let code = std::mem::take(&mut self.code);
        let mut found: Vec<Function> = Vec::new();
        // The first entry is reserved and names nothing (gABI, "Symbol Table").
        let size = size_of::<Symbol>() as u64;
        let count = (table.sh_size.get(LE) / size).saturating_sub(1);
        let start = table.sh_offset.get(LE).saturating_add(size);
        let read = self.entries(start, count, |symbol: &Symbol| {
            if symbol.st_info.st_type() != elf::STT_FUNC || symbol.st_shndx.get(LE) == elf::SHN_UNDEF {
                return;
            }
            let place = symbol.st_name.get(LE);
            let Some((_, name)) = names.iter().find(|(known, _)| *known == place) else { return };
            if found.iter().any(|function| function.name == *name) {
                return;
            }
            if let Some(offset) = code.iter().find_map(|s| s.offset_of(symbol.st_value.get(LE))) {
                found.push(Function { name, offset });
            }
        });
        self.code = code;
        read.map(|()| found)
    }

    /// Reads a table of `count` entries.
    fn entries<T: Pod>(&mut self, offset: u64, count: u64, mut each: impl FnMut(&T)) -> Result<(), ElfError> {
        let size = size_of::<T>();
        // Whole entries in each block.
        let block = BLOCK / size * size;
        self.blocks_of(block, offset, count.saturating_mul(size as u64), |bytes| {
            bytes.chunks_exact(size).filter_map(one::<T>).for_each(&mut each);
        })
    }

    fn blocks(&mut self, offset: u64, size: u64, each: impl FnMut(&[u8])) -> Result<(), ElfError> {
        self.blocks_of(BLOCK, offset, size, each)
    }

    fn blocks_of(
        &mut self,
        block: usize,
        offset: u64,
        size: u64,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ElfError> {
        if size > self.budget {
            return Err(ElfError::TooLarge);
        }
        let mut buffer = vec![0; block.min(usize::try_from(size).unwrap_or(block))];
        let mut done = 0;
        while done < size {
            let want = buffer.len().min(usize::try_from(size - done).unwrap_or(usize::MAX));
            let at = offset.checked_add(done).ok_or(ElfError::NotElf)?;
            self.read(at, &mut buffer[..want])?;
            each(&buffer[..want]);
            done += want as u64;
        }
        Ok(())
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ElfError> {
        self.budget = self.budget.checked_sub(into.len() as u64).ok_or(ElfError::TooLarge)?;
        self.file.read_exact_at(into, offset).map_err(not_elf_when_short)
    }
}

/// A file that ends within what its headers promise is no ELF file.
fn not_elf_when_short(error: io::Error) -> ElfError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => {
            ElfError::NotElf
        }
        _ => ElfError::Io(error),
    }
}

fn one<T: Pod>(bytes: &[u8]) -> Option<&T> {
    pod::from_bytes(bytes).ok().map(|(value, _rest)| value)
}

/// The build id among notes (elf(5)): name size, descriptor size and type, four bytes each, then both padded to four.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    let padded = |size: usize| size.checked_next_multiple_of(4);
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| usize::try_from(u32::from_le_bytes(head[at..at + 4].try_into().ok()?)).ok();
        let (name_size, size, kind) = (word(0)?, word(4)?, word(8)?);
        let description = rest.get(padded(name_size)?..)?;
        if kind == 3 && rest.get(..name_size) == Some(b"GNU\0") {
            return description.get(..size);
        }
        notes = description.get(padded(size)?..)?;
    }
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

    fn functions(file: &File, wanted: &[&'static str]) -> Result<Vec<Function>, ElfError> {
        Elf::parse(file)?.functions(wanted)
    }

    #[test]
    fn finds_a_function_of_this_very_program() {
        let file = File::open("/proc/self/exe").unwrap();
        let found = functions(&file, &["main", "no_such_function"]).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].offset > 0);
        assert!(functions(&file, &["no_such_function"]).unwrap().is_empty());
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
            let found = functions(&file_of(&[(0, bytes)]), &["main"]);
            assert!(found.map_or(true, |f| f.is_empty()), "{name}");
        }
    }

    const STRINGS: u64 = 1 << 20;
    const SYMBOLS: u64 = 2 << 20;

    /// A library of one page of code with a table of `symbols` (name offset and address) over `strings`; `claims` is
    /// the size that the table says it has.
    fn library(strings: &[u8], symbols: &[(u32, u64)], claims: u64) -> File {
        let mut header = FileHeader64::<LE>::default_for_test();
        header.extend([0; 64]);
        let section = |kind: u32, link: u32, offset: u64, size: u64| {
            let words = [kind.to_le_bytes(), [0; 4]].concat();
            let mut section = [0_u8; 64];
            section[4..8].copy_from_slice(&words[..4]);
            section[24..32].copy_from_slice(&offset.to_le_bytes());
            section[32..40].copy_from_slice(&size.to_le_bytes());
            section[40..44].copy_from_slice(&link.to_le_bytes());
            section
        };
        header.extend(section(elf::SHT_SYMTAB.0, 2, SYMBOLS, claims));
        header.extend(section(elf::SHT_STRTAB.0, 0, STRINGS, strings.len() as u64));
        let reserved = [(0, 0)];
        let table: Vec<u8> = reserved
            .iter()
            .chain(symbols)
            .flat_map(|(name, address)| {
                let mut symbol = [0; 24];
                symbol[..4].copy_from_slice(&name.to_le_bytes());
                symbol[4] = elf::STT_FUNC.0;
                symbol[6] = 1;
                symbol[8..16].copy_from_slice(&address.to_le_bytes());
                symbol
            })
            .collect();
        file_of(&[(0, &header), (STRINGS, strings), (SYMBOLS, &table), (SYMBOLS + claims, b"end")])
    }

    trait ForTest {
        /// A header with one executable segment and three sections behind it.
        fn default_for_test() -> Vec<u8>;
    }

    impl ForTest for FileHeader64<LE> {
        fn default_for_test() -> Vec<u8> {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.resize(16, 0);
            bytes.extend([3_u16, 62].map(u16::to_le_bytes).as_flattened());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend([0_u64, 64, 120].map(u64::to_le_bytes).as_flattened());
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend([64_u16, 56, 1, 64, 3, 0].map(u16::to_le_bytes).as_flattened());
            bytes.extend([1_u32, 5].map(u32::to_le_bytes).as_flattened());
            bytes.extend(
                [0x1000_u64, 0x5000, 0x5000, 0x1000, 0x1000, 0x1000].map(u64::to_le_bytes).as_flattened(),
            );
            bytes
        }
    }

    #[test]
    fn names_are_found_across_blocks_and_at_the_end_of_longer_ones() {
        let mut strings = vec![b'x'; BLOCK - 4];
        let first = u32::try_from(strings.len()).unwrap();
        strings.extend(b"SSL_read\0my_SSL_write\0");
        let file = library(&strings, &[(first, 0x5010), (first + 12, 0x5020), (first + 9, 0x5030)], 72);
        let found = functions(&file, &["SSL_read", "SSL_write"]).unwrap();
        let found: Vec<_> = found.iter().map(|f| (f.name, f.offset)).collect();
        assert_eq!(found, [("SSL_read", 0x1010), ("SSL_write", 0x1020)]);
    }

    #[test]
    fn a_table_that_claims_gigabytes_is_refused() {
        let file = library(b"\0SSL_read\0", &[(1, 0x5010)], 3 << 30);
        assert!(matches!(functions(&file, &["SSL_read"]), Err(ElfError::TooLarge)));
        // Nobody needs the symbols when no name is wanted.
        assert_eq!(functions(&file, &["SSL_write"]).unwrap(), []);
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let note = |kind: u32, name: &[u8], text: &[u8]| {
            let mut note = Vec::new();
            for word in [name.len(), text.len()] {
                note.extend(u32::try_from(word).unwrap().to_le_bytes());
            }
            note.extend(kind.to_le_bytes());
            for part in [name, text] {
                note.extend(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let notes = [note(1, b"stapsdt\0", b"12345"), note(3, b"GNU\0", b"abcdefgh")].concat();
        assert_eq!(build_id(&notes), Some(&b"abcdefgh"[..]));
        assert_eq!(build_id(&notes[..notes.len() - 4]), None);
        assert_eq!(build_id(b"\xff\xff\xff\xff\xff\xff\xff\xff\x03\0\0\0"), None);
    }

    fn file_of(parts: &[(u64, &[u8])]) -> File {
        let mut file = File::from(rustix::fs::memfd_create("elf", rustix::fs::MemfdFlags::empty()).unwrap());
        file.flush().unwrap();
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }
}
