//! The size of the ring, as people type it.

use std::{fmt, str::FromStr};

/// Smallest ring: one page.
const MIN_RING: u64 = 4 << 10;
/// Largest ring: offsets in it are 32 bits wide, two of which tell busy from discarded.
const MAX_RING: u64 = 1 << 30;

/// Size in bytes of the ring between kernel and agent: a power of two, 4 KiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize(u32);

impl RingSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl FromStr for RingSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = parse_size(text)?;
        if !(MIN_RING..=MAX_RING).contains(&bytes) {
            return Err("must be between 4KiB and 1GiB".into());
        }
        if !bytes.is_power_of_two() {
            let (below, above) = (1 << bytes.ilog2(), bytes.next_power_of_two());
            return Err(format!("must be a power of two: use {} or {}", Size(below), Size(above)));
        }
        u32::try_from(bytes).map(Self).map_err(|_| "must be between 4KiB and 1GiB".into())
    }
}

/// Bytes with an optional unit: `65536`, `64K`, `64KiB`, `16M`, `16MiB`, `1G`, `1GiB`, all powers of 1024.
///
/// # Errors
/// A sentence that says which forms are right.
fn parse_size(text: &str) -> Result<u64, String> {
    const FORMS: &str = "write it as 64K, 16M, 16MiB or a number of bytes";
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| format!("not a size: {FORMS}"))?;
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("unknown unit '{unit}': {FORMS}")),
    };
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 => write!(f, "{}GiB", n >> 30),
            n if n >= 1 << 20 => write!(f, "{}MiB", n >> 20),
            n => write!(f, "{}KiB", n >> 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes() {
        let bytes = |text: &str| text.parse::<RingSize>().map(RingSize::bytes);
        for (text, want) in
            [("4096", 4096), ("64K", 65536), ("64kib", 65536), ("16MiB", 16 << 20), ("1G", 1 << 30)]
        {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for (text, mend) in [
            ("10M", "use 8MiB or 16MiB"),
            ("5000", "use 4KiB or 8KiB"),
            ("1K", "between 4KiB and 1GiB"),
            ("2G", "between 4KiB and 1GiB"),
            ("16MB", "unknown unit 'MB'"),
            ("many", "not a size"),
            ("99999999999G", "too large"),
            ("99999999999999999999", "not a size"),
            ("", "not a size"),
            ("-1", "not a size"),
        ] {
            let said = bytes(text).unwrap_err();
            assert!(said.contains(mend), "{text}: {said}");
        }
    }
}
