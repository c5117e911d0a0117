//! Hashes of what was got.

use openssl::sha::{Sha256, sha256};

/// A hash, or several on end.
pub(crate) type Got = Vec<u8>;

/// The hash of some bytes.
pub(crate) fn hash(bytes: &[u8]) -> Got {
    sha256(bytes).to_vec()
}

/// The hash of several parts, in order.
pub(crate) fn join<I: IntoIterator<Item = Got>>(parts: I) -> Got {
    let mut all = Sha256::new();
    parts.into_iter().for_each(|part| all.update(&part));
    all.finish().to_vec()
}

/// In hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
