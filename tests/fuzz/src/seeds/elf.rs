//! A shared library as small as one can be.

/// Functions that a TLS library exports.
const FUNCTIONS: [&str; 5] = ["SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex", "SSL_free"];

const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;
const SYMBOL: usize = 24;

const PROGRAM_BITS: u32 = 1;
const STRINGS: u32 = 3;
const DYNAMIC_SYMBOLS: u32 = 11;

/// An ELF file (System V ABI, chapters 4 and 5) with an executable segment and a table of dynamic symbols.
pub(super) fn library() -> Vec<u8> {
    let mut names = vec![0];
    let mut symbols = vec![0; SYMBOL];
    for (function, n) in FUNCTIONS.iter().zip(0_u64..) {
        let name = names.len() as u32;
        names.extend(function.as_bytes());
        names.push(0);
        // A global function in section 1.
        symbols.extend(name.to_le_bytes());
        symbols.extend([0x12, 0, 1, 0]);
        symbols.extend((0x1000 + 16 * n).to_le_bytes());
        symbols.extend(16_u64.to_le_bytes());
    }
    let code = vec![0xc3; 16 * FUNCTIONS.len()];
    let at = |parts: &[&[u8]]| HEADER + SEGMENT + parts.iter().map(|part| part.len()).sum::<usize>();
    let sections = at(&[&code, &symbols, &names]);

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // A shared object for x86-64.
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, HEADER as u64, sections as u64] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [HEADER, SEGMENT, 1, SECTION, 4, 3] {
        file.extend((half as u16).to_le_bytes());
    }
    // To be loaded, readable and executable.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let code_at = at(&[]) as u64;
    for word in [code_at, 0x1000, 0x1000, code.len() as u64, code.len() as u64, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code.iter().chain(&symbols).chain(&names));
    file.extend([0; SECTION]);
    file.extend(section(PROGRAM_BITS, at(&[]), code.len(), [0, 0], 0));
    file.extend(section(DYNAMIC_SYMBOLS, at(&[&code]), symbols.len(), [3, 1], SYMBOL));
    file.extend(section(STRINGS, at(&[&code, &symbols]), names.len(), [0, 0], 0));
    file
}

/// A section header; `link` and what it means depend on the type.
fn section(kind: u32, at: usize, len: usize, link: [u32; 2], entry: usize) -> Vec<u8> {
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    [
        0_u32.to_le_bytes().to_vec(),
        kind.to_le_bytes().to_vec(),
        words(&[0, 0, at as u64, len as u64]),
        link.iter().flat_map(|word| word.to_le_bytes()).collect(),
        words(&[1, entry as u64]),
    ]
    .concat()
}
