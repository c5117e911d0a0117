//! Which of several sources a setting comes from: the command line, else the variables of the environment, else their aliases,
//! else the configuration file, else the default.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::{self, ConfigFile, FileFaults};

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "TOKENTAP_CONFIG";

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Flags that variables of the environment stand for, too: where one of them is set, the file's flag is not used.
const VARIABLES: [(&str, &[&str]); 10] = [
    ("drain-timeout", &["TOKENTAP_DRAIN_TIMEOUT"]),
    (
        "otlp-endpoint",
        &[
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        ],
    ),
    ("otlp-protocol", &["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]),
    ("otlp-header", &["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"]),
    ("sampler", &["OTEL_TRACES_SAMPLER"]),
    ("sampler-arg", &["OTEL_TRACES_SAMPLER_ARG"]),
    ("metric-interval", &["OTEL_METRIC_EXPORT_INTERVAL"]),
    ("capture-content", &["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"]),
    ("propagators", &["OTEL_PROPAGATORS"]),
    ("log-level", &["OTEL_LOG_LEVEL"]),
];

/// The command line with what the file adds to it, and the file.
#[derive(Debug)]
pub struct Layers {
    /// Words of the command line.
    pub words: Vec<OsString>,
    /// The file, if there is one.
    pub file: Option<ConfigFile>,
}

impl Layers {
    /// Finds the file that `--config` or the variable names, or the default one, and puts it under the command line.
    ///
    /// # Errors
    /// All faults of the file.
    pub fn new(words: Vec<OsString>, variable: Lookup<'_>) -> Result<Self, FileFaults> {
        // Other commands observe nothing.
        let Some(command) = words.iter().skip(1).find_map(command) else {
            return Ok(Self { words, file: None });
        };
        let named = path(&words)
            .or_else(|| variable(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from));
        let file = match &named {
            Some(path) => file::load(path, true, variable)?,
            None => file::load(file::DEFAULT_PATH.as_ref(), false, variable)?,
        };
        let mut words = words;
        if let Some(file) = &file {
            for setting in &file.flags {
                if takes(command, &setting.key)
                    && !says(&words, &setting.key)
                    && overriding(&setting.key, variable).is_none()
                {
                    words.extend(
                        file::arguments(&setting.key, &setting.values).into_iter().map(OsString::from),
                    );
                }
            }
        }
        Ok(Self { words, file })
    }

    /// A variable of the environment, else what an alias says, else the file.
    pub fn variable(&self, name: &str, variable: Lookup<'_>) -> Option<String> {
        let set = |value: &String| !value.trim().is_empty();
        variable(name).filter(set).or_else(|| alias(name, variable)).or_else(|| {
            let settings = self.file.iter().flat_map(|file| &file.environment);
            settings.filter(|setting| setting.key == name).find_map(|setting| setting.values.first().cloned())
        })
    }
}

/// The variable that is set and wins over the flag of a file.
pub fn overriding(flag: &str, variable: Lookup<'_>) -> Option<&'static str> {
    let (_, names) = VARIABLES.iter().find(|(known, _)| *known == flag)?;
    let is_set = |name: &str| {
        variable(name).is_some_and(|value| !value.trim().is_empty()) || alias(name, variable).is_some()
    };
    names.iter().copied().find(|name| is_set(name))
}

/// What `--config` names.
fn path(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    None
}

fn command(word: &OsString) -> Option<&'static str> {
    ["run", "record", "replay"].into_iter().find(|command| word == command)
}

/// Whether the command has the flag.
fn takes(command: &str, flag: &str) -> bool {
    use clap::CommandFactory as _;
    let cli = crate::cli::Cli::command();
    let has = |command: &clap::Command| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
    has(&cli) || cli.find_subcommand(command).is_some_and(has)
}

/// Whether the command line has the flag. Which processes are observed is one setting: the command line's replaces the file's.
fn says(words: &[OsString], flag: &str) -> bool {
    const PROCESSES: [&str; 3] = ["pid", "exe", "all"];
    let flags: &[&str] = if PROCESSES.contains(&flag) { &PROCESSES } else { &[flag] };
    words.iter().any(|word| {
        let word = word.to_string_lossy();
        let name = word.strip_prefix("--").and_then(|word| word.split('=').next());
        name.is_some_and(|name| flags.contains(&name))
    })
}

/// What variables of other modules say of a standard one.
fn alias(name: &str, variable: Lookup<'_>) -> Option<String> {
    let get =
        |alias: &str| variable(alias).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    // They mean a plain connection where there is no scheme.
    let url =
        |endpoint: String| if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") };
    match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => get("OTEL_EXPORTER_ENDPOINT").map(url),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => get("OTEL_EXPORTER_PROTOCOL")
            .map(|protocol| if protocol == "http" { "http/protobuf".to_owned() } else { protocol }),
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => {
            let endpoint = url(get("OTEL_METRIC_EXPORTER_ENDPOINT")?);
            let is_grpc = get("OTEL_EXPORTER_PROTOCOL").is_none_or(|protocol| protocol == "grpc");
            Some(if is_grpc { endpoint } else { format!("{}/v1/metrics", endpoint.trim_end_matches('/')) })
        }
        "OTEL_BSP_SCHEDULE_DELAY" => get("OTEL_TRACE_EXPORT_INTERVAL_MS"),
        "OTEL_METRIC_EXPORT_INTERVAL" => get("OTEL_METRIC_EXPORT_INTERVAL_MS"),
        "OTEL_METRICS_EXPORTER" => get("OTEL_METRICS_ENABLED")
            .filter(|on| on.eq_ignore_ascii_case("false"))
            .map(|_| "none".to_owned()),
        "OTEL_TRACES_SAMPLER" => get("OTEL_SAMPLING_RATE").map(|_| "parentbased_traceidratio".to_owned()),
        "OTEL_TRACES_SAMPLER_ARG" => {
            let rate: f64 = get("OTEL_SAMPLING_RATE")?.parse().ok()?;
            Some(rate.clamp(0.0, 1.0).to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("tokentap").chain(line.split_ascii_whitespace()).map(OsString::from).collect()
    }

    /// The command line that comes of one, a file and variables.
    fn merged(line: &str, file: &str, vars: &[(&str, &str)]) -> String {
        let mut temporary = tempfile::NamedTempFile::new().expect("a file");
        temporary.write_all(file.as_bytes()).expect("written");
        let path = temporary.path().display().to_string();
        let variable = |name: &str| {
            let file = (name == FILE_VARIABLE).then(|| path.clone());
            file.or_else(|| {
                vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let layers = Layers::new(words(line), &variable).expect("valid");
        let words: Vec<_> =
            layers.words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn the_command_line_wins_over_variables_over_the_file() {
        let file = "exe: node\notlp-endpoint: http://file:4317\nsampler: always_off\nkeep-errors: true\n";
        assert_eq!(
            merged("run", file, &[]),
            "run --exe=node --otlp-endpoint=http://file:4317 --sampler=always_off --keep-errors"
        );
        assert_eq!(
            merged(
                "run --pid 7 --sampler always_on",
                file,
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4317")]
            ),
            "run --pid 7 --sampler always_on --keep-errors"
        );
        assert_eq!(
            merged("run --keep-errors", file, &[("OTEL_SAMPLING_RATE", "0.5")]),
            "run --keep-errors --exe=node --otlp-endpoint=http://file:4317"
        );
        // A recording exports nothing.
        assert_eq!(merged("record --out x", file, &[]), "record --out x --exe=node");
        assert_eq!(merged("config schema", file, &[]), "config schema");
    }

    #[test]
    fn variables_win_over_aliases_over_the_file() {
        let vars = [
            ("OTEL_EXPORTER_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_PROTOCOL", "http"),
            ("OTEL_METRIC_EXPORTER_ENDPOINT", "metrics:4318"),
            ("OTEL_SAMPLING_RATE", "7"),
            ("OTEL_METRICS_ENABLED", "False"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
            ("OTEL_TRACE_EXPORT_INTERVAL_MS", "5000"),
        ];
        let variable =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let setting =
            |key: &str, value: &str| file::Setting { key: key.into(), values: vec![value.into()], line: 1 };
        let environment = vec![
            setting("OTEL_EXPORTER_OTLP_ENDPOINT", "http://file:1"),
            setting("OTEL_EXPORTER_OTLP_TIMEOUT", "9"),
        ];
        let file = Some(ConfigFile { environment, ..ConfigFile::default() });
        let layers = Layers { words: Vec::new(), file };
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", Some("http://collector:4317")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", Some("http/protobuf")),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", Some("http://metrics:4318/v1/metrics")),
            ("OTEL_TRACES_SAMPLER", Some("parentbased_traceidratio")),
            ("OTEL_TRACES_SAMPLER_ARG", Some("1")),
            ("OTEL_METRICS_EXPORTER", Some("none")),
            ("OTEL_BSP_SCHEDULE_DELAY", Some("1")),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", Some("9")),
            ("OTEL_PROPAGATORS", None),
        ] {
            assert_eq!(layers.variable(name, &variable).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn the_file_is_where_the_command_line_says() {
        assert_eq!(path(&words("run --config /a --all")), Some("/a".into()));
        assert_eq!(path(&words("run --config=/b")), Some("/b".into()));
        assert_eq!(path(&words("run --all")), None);
        let missing = Layers::new(words("run --all --config /nonexistent"), &|_| None).expect_err("named");
        assert!(missing.to_string().contains("/nonexistent"));
    }
}
