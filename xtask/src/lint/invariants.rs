//! What ARCHITECTURE.md promises about the source and a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::verdict::Verdict;
use crate::shell::read;
use crate::tree;

/// No file is longer, so that each can be read in one sitting.
const MAX_LINES: usize = 600;

/// Words that may not stand in some files.
struct Rule {
    /// Paths that the rule is about, by how they start.
    under: &'static [&'static str],
    /// Paths that it is not about, by how they start.
    except: &'static [&'static str],
    /// Paths that it is about, by how they end.
    ending: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const SANS_IO: &[&str] = &["agent/wire/src/", "agent/genai/src/", "ebpf/abi/src/"];

const RULES: [Rule; 9] = [
    Rule {
        under: &["agent/"],
        except: &["agent/export/", "agent/src/telemetry"],
        ending: &[".rs"],
        words: &["opentelemetry::", "opentelemetry_"],
        why: "only agent/export and agent/src/telemetry know the OpenTelemetry SDK",
    },
    Rule {
        under: &["agent/"],
        except: &["agent/src/kernel"],
        ending: &[".rs"],
        words: &["aya::", "aya_obj::", "aya_log::"],
        why: "only agent/src/kernel knows aya",
    },
    Rule {
        under: &["agent/src/"],
        except: &["agent/src/privileges.rs"],
        ending: &[".rs"],
        words: &["thread::spawn", "thread::Builder", "thread::scope"],
        why: "only agent/src/privileges.rs starts threads, without capabilities that they do not need",
    },
    Rule {
        under: SANS_IO,
        except: &[],
        ending: &[".rs"],
        words: &[
            "Instant",
            "SystemTime",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "std::env",
            "std::fs",
            "std::process",
            "std::thread",
            "tokio::",
        ],
        why: "wire, genai and abi do no IO and read no clock",
    },
    Rule {
        under: SANS_IO,
        except: &[],
        ending: &[".rs"],
        words: &["println!", "eprintln!", "tracing::", "log::"],
        why: "wire and genai see content, so they do not log",
    },
    Rule {
        under: &["agent/wire/Cargo.toml", "agent/genai/Cargo.toml", "ebpf/abi/Cargo.toml"],
        except: &[],
        ending: &[".toml"],
        words: &["aya", "libc", "opentelemetry", "rustix", "tokio", "tracing"],
        why: "wire, genai and abi build without the operating system",
    },
    Rule {
        under: &["ebpf/src/"],
        except: &[],
        ending: &[".rs"],
        words: &["bpf_probe_write_user", "bpf_override_return", "bpf_send_signal", "bpf_send_signal_thread"],
        why: "the target is only read",
    },
    Rule {
        under: &[""],
        except: &[],
        ending: &[".rs", ".py", ".mjs", ".md", ".toml"],
        words: &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("db", "g!")],
        why: "nothing is left for later in the tree; open an issue",
    },
    Rule {
        under: &[""],
        except: &["Cargo.lock"],
        ending: &[""],
        words: &[
            concat!("crates", ".io"),
            concat!("pypi", ".org"),
            concat!("npmjs", ".org"),
            concat!("proxy.golang", ".org"),
            concat!("deb.debian", ".org"),
        ],
        why: "where packages come from is the machine's setting",
    },
];

/// Checks every file of the work tree that git does not ignore.
pub(super) fn check() -> Result<Verdict> {
    let files = read(Command::new("git").current_dir(tree::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut findings = Vec::new();
    for path in files.lines().collect::<BTreeSet<_>>() {
        let file = tree::root().join(path);
        // Deleted, but not yet for git.
        if !file.is_file() {
            continue;
        }
        let bytes = fs::read(&file).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            inspect(path, text, &mut findings);
        }
    }
    if findings.is_empty() {
        return Ok(Verdict::Passed);
    }
    bail!("{}", findings.join("\n"))
}

fn inspect(path: &str, text: &str, findings: &mut Vec<String>) {
    if path.ends_with(".rs") && text.lines().count() > MAX_LINES {
        findings.push(format!("{path}: more than {MAX_LINES} lines"));
    }
    for rule in RULES.iter().filter(|rule| rule.is_about(path)) {
        for (number, line) in product_lines(path, text, rule) {
            for word in rule.words.iter().filter(|word| contains_word(line, word)) {
                findings.push(format!("{path}:{number}: `{word}`: {}", rule.why));
            }
        }
    }
}

impl Rule {
    fn is_about(&self, path: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        starts(self.under) && !starts(self.except) && self.ending.iter().any(|ending| path.ends_with(ending))
    }
}

/// The lines a rule is about, with their numbers: all of them for a rule about the whole tree, else those that
/// are code, down to the tests at the end of a file.
fn product_lines<'a>(path: &str, text: &'a str, rule: &Rule) -> Vec<(usize, &'a str)> {
    let lines = text.lines().zip(1..).map(|(line, number)| (number, line));
    if rule.under == [""] {
        return lines.collect();
    }
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return Vec::new();
    }
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

/// Whether `word` stands in `line` and is not part of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let open_ended = !word.ends_with(is_name) || word.ends_with('_');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && (open_ended || !after.is_some_and(is_name))
    })
}

#[cfg(test)]
mod tests {
    use super::inspect;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let mut findings = Vec::new();
        inspect(path, text, &mut findings);
        assert_eq!(findings.len(), expected.len(), "{path}: {findings:?}");
        for (finding, expected) in findings.iter().zip(expected) {
            assert!(finding.contains(expected), "{finding}");
        }
    }

    #[test]
    fn layers_keep_to_themselves() {
        check("agent/src/pipeline.rs", "use aya::Ebpf;\n", &["agent/src/pipeline.rs:1"]);
        check("agent/src/kernel/load.rs", "use aya::Ebpf;\n", &[]);
        check("agent/src/pipeline.rs", "let papaya::fruit = 1;\n", &[]);
        check("agent/tls/src/lib.rs", "use opentelemetry_sdk::trace;\n", &["OpenTelemetry SDK"]);
        check("agent/wire/Cargo.toml", "tokio = \"1\"\n", &["operating system"]);
    }

    #[test]
    fn parsers_read_no_clock() {
        check("agent/wire/src/sse.rs", "let now = Instant::now();\n", &["no clock"]);
        check("agent/wire/src/sse.rs", "// Instant is for others\nstruct Instantly;\n", &[]);
        check("agent/wire/src/sse.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
        check("agent/genai/src/tests.rs", "use std::fs;\n", &[]);
    }

    #[test]
    fn the_target_is_only_read() {
        check("ebpf/src/tls.rs", "bpf_probe_write_user(at, of, len);\n", &["only read"]);
    }

    #[test]
    fn files_stay_short_and_finished() {
        check("agent/src/long.rs", &"\n".repeat(601), &["600 lines"]);
        check("README.md", concat!("TO", "DO: write\n"), &["README.md:1"]);
        check("README.md", concat!("https://", "pypi", ".org\n"), &["setting"]);
    }
}
