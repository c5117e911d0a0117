//! Sizes and patterns as people type them.

use std::{fmt, str::FromStr};

use tokentap_genai::glob;

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

/// A shell-like pattern: `*` is any run of characters, slashes included, `?` any one; the rest is literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// The pattern as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        glob(&self.0, text)
    }

    /// Whether a file matches: by its whole path when the pattern has a slash, else by its name.
    #[must_use]
    pub fn matches_file(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.matches(if self.0.contains('/') { path } else { name })
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("pattern is empty".into()) } else { Ok(Self(text.to_owned())) }
    }
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

    #[test]
    fn globs() {
        let cases = [
            ("python*", "/usr/bin/python3.11", true),
            ("python*", "/opt/python/bin/node", false),
            ("/opt/*", "/opt/app/bin/server", true),
            ("/opt/*", "/usr/bin/opt", false),
            ("*/bin/*3.1?", "/usr/bin/python3.11", true),
            ("*/bin/*3.1?", "/usr/bin/python3.1", false),
            ("node", "/usr/bin/node", true),
            ("node", "/usr/bin/nodejs", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("**", "", true),
            ("?", "", false),
            ("caf?", "café", true),
            ("caf??", "café", false),
        ];
        for (pattern, path, want) in cases {
            assert_eq!(pattern.parse::<Glob>().unwrap().matches_file(path), want, "{pattern} {path}");
        }
        assert!("".parse::<Glob>().is_err());
    }
}
