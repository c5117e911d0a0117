//! Functions in files.

use tokentap_abi::TlsFunction;

/// A function in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsPoint {
    /// Which one.
    pub function: TlsFunction,
    /// Where its first instruction is, in bytes from the start of the file.
    pub offset: u64,
    /// Where in the connection object it is kept that the peer ended the connection, in bytes, for functions that do not
    /// return it; 0 when that is not known.
    pub state: u32,
}

impl TlsPoint {
    /// The cookie of its probes: the function in the low 32 bits, [`state`](Self::state) above.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        self.function as u64 | (self.state as u64) << 32
    }
}
