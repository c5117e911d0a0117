//! The configuration file: flags written down. Its keys are the long names of flags; a list is a flag that is repeated, a map one
//! that takes `name=value`. What the command line or a variable of the environment says wins.
//!
//! ```yaml
//! exe: ['python*', node]
//! otlp-endpoint: http://collector:4317
//! otlp-header: {authorization: 'Bearer ${env:TOKEN}'}
//! keep-errors: true
//! environment: {OTEL_EXPORTER_OTLP_COMPRESSION: zstd}
//! ```

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::cli::Cli;

/// Where the file is when nobody says.
pub const DEFAULT_PATH: &str = "/etc/tokentap/config.yaml";
/// The key of what is set as a variable of the environment would be.
const ENVIRONMENT: &str = "environment";

/// A setting of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag that it is, or the variable.
    pub key: String,
    /// As the command line would have them.
    pub values: Vec<String>,
    /// Its line in the file, from 1.
    pub line: u64,
}

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of flags.
    pub flags: Vec<Setting>,
    /// What it says of variables.
    pub environment: Vec<Setting>,
}

/// What is wrong with a file: all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFaults {
    /// The file.
    pub path: PathBuf,
    /// Each with its line, where it has one.
    pub faults: Vec<(Option<u64>, String)>,
}

impl std::error::Error for FileFaults {}

/// A line for each fault.
impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (line, fault)) in self.faults.iter().enumerate() {
            if number > 0 {
                f.write_str("\n       ")?;
            }
            write!(f, "{}", self.path.display())?;
            if let Some(line) = line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {fault}")?;
        }
        Ok(())
    }
}

/// The entries of a map, in order.
struct Entries(Vec<(Spanned<String>, Spanned<Value>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings, as `exe: python*`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }

            fn visit_unit<E>(self) -> Result<Entries, E> {
                Ok(Entries(Vec::new()))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// Reads the file, if there is one. `named`: somebody said that there is.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    path: &Path,
    named: bool,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<ConfigFile>, FileFaults> {
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text, variable).map(Some),
        Err(why) if why.kind() == io::ErrorKind::NotFound && !named => Ok(None),
        Err(why) => {
            Err(FileFaults { path: path.to_owned(), faults: vec![(None, format!("cannot be read: {why}"))] })
        }
    }
}

/// Reads the text of a file.
fn parse(
    path: &Path,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<ConfigFile, FileFaults> {
    let failed = |faults| FileFaults { path: path.to_owned(), faults };
    let entries: Entries = match serde_saphyr::from_str(text) {
        Ok(entries) => entries,
        Err(why) => {
            let line = why.location().map(|location| location.line());
            let why = why.to_string();
            let why = why.lines().next().unwrap_or_default();
            // The place is said once.
            let why = why
                .split_once(" column ")
                .and_then(|(_, why)| why.split_once(": "))
                .map_or(why, |(_, why)| why);
            let why = format!("{why} (settings are written as `exe: python*`)");
            return Err(failed(vec![(line, why)]));
        }
    };
    let mut file = ConfigFile { path: path.to_owned(), ..ConfigFile::default() };
    let mut faults = Vec::new();
    let known = flags();
    for (key, value) in entries.0 {
        let line = key.referenced.line();
        let mut fault = |why: String| faults.push((Some(line), why));
        let name = key.value.replace('_', "-");
        if name == ENVIRONMENT {
            match variables(&value.value, variable) {
                Ok(pairs) => {
                    let set = |(key, value)| Setting { key, values: vec![value], line };
                    file.environment.extend(pairs.into_iter().map(set));
                }
                Err(why) => fault(why),
            }
            continue;
        }
        let Some(arg) = known.iter().find(|arg| arg.get_long() == Some(&name)) else {
            let nearest = nearest(&name, known.iter().filter_map(Arg::get_long));
            fault(format!("unknown key '{}'{nearest}", key.value));
            continue;
        };
        match values(arg, &value.value, variable) {
            Ok(values) => match checked(&name, &values) {
                Ok(()) => file.flags.push(Setting { key: name, values, line }),
                // It may be a secret.
                Err(_) if value.value.to_string().contains("${") => {
                    fault(format!("{}: the value that a variable gives is not valid", key.value));
                }
                Err(why) => fault(why),
            },
            Err(why) => fault(format!("{}: {why}", key.value)),
        }
    }
    if faults.is_empty() { Ok(file) } else { Err(failed(faults)) }
}

/// Every flag that a file may have: those of the commands that observe.
pub fn flags() -> Vec<Arg> {
    let cli = Cli::command();
    let mut all: Vec<Arg> = Vec::new();
    for command in ["run", "record", "replay"].into_iter().filter_map(|name| cli.find_subcommand(name)) {
        all.extend(command.get_arguments().filter(|arg| is_setting(arg)).cloned());
    }
    all.extend(cli.get_arguments().filter(|arg| is_setting(arg)).cloned());
    all.sort_by(|a, b| a.get_long().cmp(&b.get_long()));
    all.dedup_by(|a, b| a.get_long() == b.get_long());
    all
}

fn is_setting(arg: &Arg) -> bool {
    // A file says nothing of other files, and help is no setting.
    arg.get_long().is_some_and(|long| !matches!(long, "help" | "version" | "config" | "out" | "with-content"))
}

/// Whether it is given or not, without a value.
pub fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Whether it may be repeated.
pub fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// What the command line would have for a value of a file.
fn values(
    arg: &Arg,
    value: &Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => interpolated(text, variable),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err("write a text or a number".to_owned()),
    };
    match value {
        Value::Bool(wanted) if is_switch(arg) => Ok(if *wanted { vec![String::new()] } else { Vec::new() }),
        _ if is_switch(arg) => Err("write true or false".into()),
        Value::Array(items) if is_list(arg) => items.iter().map(scalar).collect(),
        Value::Object(pairs) if is_list(arg) => {
            pairs.iter().map(|(name, value)| Ok(format!("{name}={}", scalar(value)?))).collect()
        }
        Value::Array(_) | Value::Object(_) => Err("takes one value".into()),
        Value::Null => Err("has no value".into()),
        value => Ok(vec![scalar(value)?]),
    }
}

fn variables(
    value: &Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, String> {
    let Value::Object(pairs) = value else {
        return Err(format!("{ENVIRONMENT}: write variables as NAME: value"));
    };
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Ok((name.clone(), interpolated(text, variable)?)),
        Value::Bool(_) | Value::Number(_) => Ok((name.clone(), value.to_string())),
        _ => Err(format!("{ENVIRONMENT}: {name}: write a text or a number")),
    };
    pairs.iter().map(pair).collect()
}

/// A text with its `${env:NAME}`, `${NAME}` and `${NAME:-default}` replaced; `$$` is a dollar sign.
fn interpolated(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        whole.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            whole.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or("'${' without '}': write ${env:NAME}")?;
            let inside = inside.strip_prefix("env:").unwrap_or(inside);
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            let value = variable(name).filter(|value| !value.is_empty());
            let value = value.or_else(|| default.map(str::to_owned));
            whole.push_str(&value.ok_or_else(|| {
                format!("the variable {name} is not set: set it, or write ${{{name}:-default}}")
            })?);
            rest = after;
        } else {
            whole.push('$');
        }
    }
    whole.push_str(rest);
    Ok(whole)
}

/// Whether the flag takes these values, by itself.
fn checked(name: &str, values: &[String]) -> Result<(), String> {
    let mut words = vec!["tokentap".to_owned(), "run".to_owned()];
    words.extend(arguments(name, values));
    let command: Command = Cli::command().subcommand_required(false);
    match command.try_get_matches_from(words) {
        Err(error)
            if matches!(
                error.kind(),
                clap::error::ErrorKind::InvalidValue
                    | clap::error::ErrorKind::ValueValidation
                    | clap::error::ErrorKind::TooManyValues
                    | clap::error::ErrorKind::WrongNumberOfValues
            ) =>
        {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            Err(first.strip_prefix("error: ").unwrap_or(first).to_owned())
        }
        // Alone it may lack others; the whole is checked at the end.
        _ => Ok(()),
    }
}

/// A setting as words of the command line.
pub fn arguments(name: &str, values: &[String]) -> Vec<String> {
    let word =
        |value: &String| if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") };
    values.iter().map(word).collect()
}

/// The known name that a wrong one is nearest to, as the end of a sentence.
fn nearest<'n>(wrong: &str, known: impl Iterator<Item = &'n str>) -> String {
    let best = known.map(|name| (distance(wrong, name), name)).min();
    match best {
        Some((distance, name)) if distance <= wrong.len().div_ceil(3) => format!(": did you mean '{name}'?"),
        _ => ": `tokentap config schema` lists all".to_owned(),
    }
}

/// How many letters have to be put in, left out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = before + usize::from(from != *to);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConfigFile, FileFaults> {
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        parse(Path::new("c.yaml"), text, &variable)
    }

    fn faults(text: &str) -> Vec<(Option<u64>, String)> {
        read(text).expect_err(text).faults
    }

    #[test]
    fn every_kind_of_value_becomes_words_of_the_command_line() {
        let file = read(
            "exe: ['python*', node]\notlp-endpoint: http://c:4317\notlp_header:\n  authorization: Bearer ${env:TOKEN}\n\
             keep-errors: true\nall: false\nsampler-arg: 0.5\nstale-after: ${WAIT:-5m}\nhost-exclude: ['$$x']\n\
             environment: {OTEL_EXPORTER_OTLP_TIMEOUT: 5000}\n",
        )
        .expect("valid");
        let words: Vec<String> =
            file.flags.iter().flat_map(|setting| arguments(&setting.key, &setting.values)).collect();
        assert_eq!(
            words,
            [
                "--exe=python*",
                "--exe=node",
                "--otlp-endpoint=http://c:4317",
                "--otlp-header=authorization=Bearer s3cret",
                "--keep-errors",
                "--sampler-arg=0.5",
                "--stale-after=5m",
                "--host-exclude=$x",
            ]
        );
        assert_eq!((file.flags[1].key.as_str(), file.flags[1].line), ("otlp-endpoint", 2));
        let timeout = &file.environment[0];
        assert_eq!(
            (timeout.key.as_str(), &timeout.values[..]),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &["5000".to_owned()][..])
        );
        assert_eq!(read("").expect("an empty file").flags, []);
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_lines() {
        let told = faults(
            "exes: python\nall: maybe\nsemconv-metrics: newest\n# a comment\nsampler: [a, b]\notlp-header: {x: '${env:NOBODY}'}\n\
             stale-after: soon\nunheard-of-thing: 1\n",
        );
        let lines: Vec<Option<u64>> = told.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 6, 7, 8].map(Some), "{told:#?}");
        for ((_, why), part) in told.iter().zip([
            "unknown key 'exes': did you mean 'exe'?",
            "write true or false",
            "both, new or old",
            "takes one value",
            "the variable NOBODY is not set",
            "invalid value 'soon'",
            "`tokentap config schema` lists all",
        ]) {
            assert!(why.contains(part), "{part} in {why}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let told = faults("exe: python\n  all: [\n");
        assert!(told.len() == 1 && told[0].0.is_some(), "{told:?}");
        assert!(faults("- a\n- b\n")[0].1.contains("settings"), "{:?}", faults("- a\n- b\n"));
        let missing = load(Path::new("/nonexistent/c.yaml"), true, &|_| None).expect_err("named");
        assert!(missing.to_string().starts_with("/nonexistent/c.yaml: cannot be read"));
        assert_eq!(load(Path::new("/nonexistent/c.yaml"), false, &|_| None), Ok(None));
    }

    #[test]
    fn secrets_of_interpolation_are_not_in_faults() {
        let told = format!("{:?}", faults("sampler-arg: ${env:TOKEN}\n"));
        assert!(told.contains("is not valid") && !told.contains("s3cret"), "{told}");
    }
}
