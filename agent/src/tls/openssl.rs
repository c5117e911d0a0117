//! OpenSSL, and what has its interface: LibreSSL, BoringSSL and AWS-LC with symbols.

use tokentap_abi::TlsFunction;

use super::elf::Function;
use crate::kernel::TlsPoint;

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
];
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

/// The points to probe, when there is at least a way to read and a way to write.
pub(super) fn points(functions: &[Function]) -> Option<Vec<TlsPoint>> {
    let points: Vec<TlsPoint> = SYMBOLS
        .iter()
        .zip(FUNCTIONS)
        .filter_map(|(name, function)| {
            let found = functions.iter().find(|f| f.name == *name)?;
            Some(TlsPoint { function: *function, offset: found.offset })
        })
        .collect();
    let has = |a, b| points.iter().any(|p| p.function == a || p.function == b);
    (has(TlsFunction::Read, TlsFunction::ReadEx) && has(TlsFunction::Write, TlsFunction::WriteEx))
        .then_some(points)
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
        assert_eq!(points(&[function("SSL_read", 16)]), None);
        let found = points(&[function("SSL_read", 16), function("SSL_write_ex", 32)]).unwrap();
        assert_eq!(
            found,
            [
                TlsPoint { function: TlsFunction::Read, offset: 16 },
                TlsPoint { function: TlsFunction::WriteEx, offset: 32 },
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
}
