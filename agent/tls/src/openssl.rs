//! OpenSSL, and what has its interface: LibreSSL, BoringSSL and AWS-LC with symbols.

use tokentap_abi::TlsFunction;

use super::elf::Function;
use crate::point::TlsPoint;

/// For people.
pub(super) const NAME: &str = "OpenSSL";

/// Symbols, and what they are: [`FUNCTIONS`] has the same order.
pub(super) const SYMBOLS: &[&str] = &[
    "SSL_read",
    "SSL_read_ex",
    "SSL_write",
    "SSL_write_ex",
    "SSL_free",
    "SSL_write_ex2",
    "SSL_read_early_data",
    "SSL_write_early_data",
    "SSL_sendfile",
    "SSL_up_ref",
    "SSL_clear",
    SHUTDOWN_STATE,
];
/// `int SSL_get_shutdown(const SSL *ssl)`: not probed, but read, for where it finds what it returns.
const SHUTDOWN_STATE: &str = "SSL_get_shutdown";
const FUNCTIONS: &[TlsFunction] = &[
    TlsFunction::Read,
    TlsFunction::ReadEx,
    TlsFunction::Write,
    TlsFunction::WriteEx,
    TlsFunction::Free,
    TlsFunction::WriteEx2,
    TlsFunction::ReadEarlyData,
    TlsFunction::WriteEarlyData,
    TlsFunction::Sendfile,
    TlsFunction::UpRef,
    TlsFunction::Clear,
];

/// Functions that ciphertext passes on its way into and out of the library, and what they are.
pub(super) const CIPHERTEXT_SYMBOLS: &[&str] = &["BIO_write", "BIO_read"];
const CIPHERTEXT_FUNCTIONS: &[TlsFunction] = &[TlsFunction::BioWrite, TlsFunction::BioRead];

/// Bytes of a function that [`shutdown_state`] needs at most.
pub(super) const SHUTDOWN_STATE_BYTES: usize = 64;

/// Where [`SHUTDOWN_STATE`] is in the file.
pub(super) fn shutdown_state_function(functions: &[Function]) -> Option<u64> {
    functions.iter().find(|function| function.name == SHUTDOWN_STATE).map(|function| function.offset)
}

/// Where in an `SSL` the library keeps whether `close_notify` was received: the offset that `SSL_get_shutdown` loads its
/// result from just before it returns. `SSL_read_ex` returns the same for that as for every failure. `None` when the
/// code is none of the forms that are known.
pub(super) fn shutdown_state(code: &[u8]) -> Option<u32> {
    /// A larger one would be no member of an `SSL`.
    const MOST: u32 = 0x1000;
    let offset = if cfg!(target_arch = "aarch64") { arm64_load(code) } else { x86_64_load(code) };
    offset.filter(|offset| (1..MOST).contains(offset))
}

/// `mov disp(%rdi), %eax`, perhaps `xor %edi, %edi`, `ret`.
fn x86_64_load(code: &[u8]) -> Option<u32> {
    (0..code.len()).find_map(|at| {
        let (offset, rest) = match &code[at..] {
            [0x8b, 0x47, offset, rest @ ..] if *offset < 0x80 => (u32::from(*offset), rest),
            [0x8b, 0x87, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
            _ => return None,
        };
        matches!(rest, [0xc3, ..] | [0x31, 0xff, 0xc3, ..]).then_some(offset)
    })
}

/// `ldr w0, [x0, #offset]`, `ret`.
fn arm64_load(code: &[u8]) -> Option<u32> {
    const LOAD: u32 = 0xb940_0000;
    const RETURN: u32 = 0xd65f_03c0;
    let words: Vec<u32> = code.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let load = words.windows(2).find(|pair| pair[0] & !(0xfff << 10) == LOAD && pair[1] == RETURN)?;
    Some((load[0] >> 10 & 0xfff) * 4)
}

/// The points to probe, when there is at least a way to read and a way to write; `shutdown_state` as above.
pub(super) fn points(functions: &[Function], shutdown_state: Option<u32>) -> Option<Vec<TlsPoint>> {
    let points: Vec<TlsPoint> = SYMBOLS
        .iter()
        .zip(FUNCTIONS)
        .filter_map(|(name, function)| {
            let found = functions.iter().find(|f| f.name == *name)?;
            let state = shutdown_state.filter(|_| *function == TlsFunction::ReadEx).unwrap_or(0);
            Some(TlsPoint { function: *function, offset: found.offset, state })
        })
        .collect();
    let has = |a, b| points.iter().any(|p| p.function == a || p.function == b);
    (has(TlsFunction::Read, TlsFunction::ReadEx) && has(TlsFunction::Write, TlsFunction::WriteEx))
        .then_some(points)
}

/// The points that ciphertext passes, when both are there.
pub(super) fn ciphertext_points(functions: &[Function]) -> Option<Vec<TlsPoint>> {
    let names = CIPHERTEXT_SYMBOLS.iter().zip(CIPHERTEXT_FUNCTIONS);
    names
        .map(|(name, function)| {
            let found = functions.iter().find(|f| f.name == *name)?;
            Some(TlsPoint { function: *function, offset: found.offset, state: 0 })
        })
        .collect()
}

/// Whether a file name is that of the library itself.
pub(super) fn is_library_name(name: &str) -> bool {
    name.starts_with("libssl") && name.contains(".so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_writing_are_both_needed() {
        let function = |name, offset| Function { name, offset };
        assert_eq!(points(&[function("SSL_read", 16)], None), None);
        let found = points(&[function("SSL_read", 16), function("SSL_write_ex", 32)], Some(68)).unwrap();
        assert_eq!(
            found,
            [
                TlsPoint { function: TlsFunction::Read, offset: 16, state: 0 },
                TlsPoint { function: TlsFunction::WriteEx, offset: 32, state: 0 },
            ]
        );
    }

    #[test]
    fn ciphertext_is_followed_in_both_directions_or_not_at_all() {
        let function = |name, offset| Function { name, offset };
        assert_eq!(ciphertext_points(&[function("BIO_read", 16)]), None);
        let found = ciphertext_points(&[function("BIO_read", 16), function("BIO_write", 32)]).unwrap();
        assert_eq!(
            found,
            [
                TlsPoint { function: TlsFunction::BioWrite, offset: 32, state: 0 },
                TlsPoint { function: TlsFunction::BioRead, offset: 16, state: 0 },
            ]
        );
    }

    #[test]
    fn bundled_copies_are_named_like_the_library() {
        assert!(is_library_name("libssl.so.3"));
        assert!(is_library_name("libssl-81ffa89e.so.3"));
        assert!(!is_library_name("libssl3.a"));
        assert!(!is_library_name("libnss3.so"));
    }

    #[test]
    fn the_state_of_a_connection_is_found_in_the_code_that_reads_it() {
        // OpenSSL 3.0 as Debian builds it, with and without the clearing of registers; 3.5.
        let forms: [(&[u8], u32); 3] = [
            (&[0x8b, 0x47, 0x44, 0x31, 0xff, 0xc3], 0x44),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x8b, 0x47, 0x44, 0xc3], 0x44),
            (
                &[
                    0x48, 0x85, 0xff, 0x74, 0x23, 0x8b, 0x07, 0x85, 0xc0, 0x75, 0x0d, 0x8b, 0x87, 0x84, 0, 0,
                    0, 0xc3,
                ],
                0x84,
            ),
        ];
        for (code, offset) in forms {
            assert_eq!(x86_64_load(code), Some(offset));
            assert_eq!(x86_64_load(&code[..code.len() - 1]), None, "it must return what it loaded");
        }
        assert_eq!(arm64_load(&[0x00, 0x44, 0x40, 0xb9, 0xc0, 0x03, 0x5f, 0xd6]), Some(0x44));
        assert_eq!(arm64_load(&[0x00, 0x44, 0x40, 0xb9, 0, 0, 0, 0]), None);
        assert_eq!(shutdown_state(&[0x8b, 0x87, 0xff, 0xff, 0xff, 0x7f, 0xc3]), None);
    }
}
