//! OpenSSL, and what has its interface: LibreSSL, BoringSSL and AWS-LC with symbols.

use super::elf::Function;
use tokentap_abi::TlsFunction;

use crate::kernel::TlsPoint;

/// For people.
pub(super) const NAME: &str = "OpenSSL";

const FUNCTIONS: &[(&str, TlsFunction)] = &[
    ("SSL_read", TlsFunction::Read),
    ("SSL_read_ex", TlsFunction::ReadEx),
    ("SSL_write", TlsFunction::Write),
    ("SSL_write_ex", TlsFunction::WriteEx),
    ("SSL_free", TlsFunction::Free),
    ("SSL_write_ex2", TlsFunction::WriteEx2),
    ("SSL_read_early_data", TlsFunction::ReadEarlyData),
    ("SSL_write_early_data", TlsFunction::WriteEarlyData),
    ("SSL_sendfile", TlsFunction::Sendfile),
    ("SSL_up_ref", TlsFunction::UpRef),
    ("SSL_clear", TlsFunction::Clear),
];

/// Whether a symbol is one of ours.
pub(super) fn wanted(symbol: &[u8]) -> bool {
    symbol.starts_with(b"SSL_") && FUNCTIONS.iter().any(|(name, _)| name.as_bytes() == symbol)
}

/// The points to probe, when there is at least a way to read and a way to write.
pub(super) fn points(functions: &[Function]) -> Option<Vec<TlsPoint>> {
    let points: Vec<TlsPoint> = FUNCTIONS
        .iter()
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

    fn function(name: &str, offset: u64) -> Function {
        Function { name: name.to_owned(), offset }
    }

    #[test]
    fn reading_and_writing_are_both_needed() {
        assert_eq!(points(&[function("SSL_read", 16)]), None);
        assert_eq!(points(&[function("SSL_write_ex", 32), function("SSL_free", 1)]), None);
        let found = points(&[function("SSL_write", 32), function("SSL_read_ex", 16)]).unwrap();
        assert_eq!(
            found,
            [
                TlsPoint { function: TlsFunction::ReadEx, offset: 16 },
                TlsPoint { function: TlsFunction::Write, offset: 32 }
            ]
        );
    }

    #[test]
    fn names_are_compared_whole() {
        assert!(wanted(b"SSL_read"));
        assert!(!wanted(b"SSL_read_early_data_x"));
        assert!(!wanted(b"my_SSL_read"));
    }

    #[test]
    fn bundled_copies_are_named_like_the_library() {
        assert!(is_library_name("libssl.so.3"));
        assert!(is_library_name("libssl-81ffa89e.so.3"));
        assert!(!is_library_name("libssl3.a"));
        assert!(!is_library_name("libnss3.so"));
    }
}
