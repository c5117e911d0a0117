//! Patterns of executables.

use std::str::FromStr;

use tokentap_genai::glob;

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

#[cfg(test)]
mod tests {
    use super::*;

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
