//! `tokentap config`: what a configuration comes to, and what may be in it.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Parser as _;
use serde_json::{Map, Value, json};

use crate::{
    cli::{Cli, ConfigCommand},
    config::{
        Config,
        file::{self, ConfigFile},
        layers::{FILE_VARIABLE, Layers, overriding},
    },
};

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is printed instead of a secret.
const MASK: &str = "****";

/// Prints what was asked for. False: the configuration is wrong, and it was said how.
///
/// # Errors
/// When standard output cannot be written.
pub fn configure(command: &ConfigCommand, variable: Lookup<'_>) -> anyhow::Result<bool> {
    let (text, valid) = match command {
        ConfigCommand::Schema => (format!("{:#}\n", schema()), true),
        ConfigCommand::Check { file, json } => check(file.clone(), *json, variable),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write")?;
    Ok(valid)
}

/// A setting as it will be used.
struct Resolved {
    key: String,
    values: Vec<String>,
    from: String,
}

fn check(named: Option<PathBuf>, json: bool, variable: Lookup<'_>) -> (String, bool) {
    let named = named.or_else(|| variable(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from));
    let loaded = match &named {
        Some(path) => file::load(path, true, variable),
        None => file::load(file::DEFAULT_PATH.as_ref(), false, variable),
    };
    let file = match loaded {
        Ok(file) => file.unwrap_or_default(),
        Err(faults) => {
            let lines: Vec<_> =
                faults.faults.iter().map(|(line, fault)| json!({"line": line, "fault": fault})).collect();
            let text = if json {
                format!("{:#}\n", json!({"file": faults.path, "valid": false, "faults": lines}))
            } else {
                faults.to_string().replace("\n       ", "\n") + "\n"
            };
            return (text, false);
        }
    };
    let settings = resolved(&file, variable);
    let (warnings, fault) = whole(&file, variable);
    let valid = fault.is_none();
    let text = if json {
        let rows: Vec<_> = settings
            .iter()
            .map(|setting| json!({"key": setting.key, "values": setting.values, "from": setting.from}))
            .collect();
        let document = json!({"file": file.path, "valid": valid, "fault": fault, "warnings": warnings, "settings": rows});
        format!("{document:#}\n")
    } else {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING).set_header(["SETTING", "VALUE", "FROM"]);
        for Resolved { key, values, from } in &settings {
            table.add_row([key.as_str(), &values.join(", "), from]);
        }
        let rows: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        let mut text = rows.join("\n") + "\n";
        warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
        if let Some(fault) = &fault {
            text.push_str(&format!("error: {fault}\n"));
        }
        text
    };
    (text, valid)
}

/// Each flag with its value and where that is from.
fn resolved(file: &ConfigFile, variable: Lookup<'_>) -> Vec<Resolved> {
    let mut settings = Vec::new();
    for arg in file::flags() {
        let Some(key) = arg.get_long() else { continue };
        let written = file.flags.iter().find(|setting| setting.key == key);
        let (values, from) = if let Some(name) = overriding(key, variable) {
            let layers = Layers { words: Vec::new(), file: None };
            (layers.variable(name, variable).into_iter().collect(), name.to_owned())
        } else if let Some(setting) = written {
            (setting.values.clone(), format!("{}:{}", file.path.display(), setting.line))
        } else {
            let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
            (defaults.collect(), "default".to_owned())
        };
        let values = values.into_iter().map(|value| shown(key, value)).collect();
        settings.push(Resolved { key: key.to_owned(), values, from });
    }
    for setting in &file.environment {
        let is_set = variable(&setting.key).is_some_and(|value| !value.trim().is_empty());
        let from = if is_set {
            "environment".to_owned()
        } else {
            format!("{}:{}", file.path.display(), setting.line)
        };
        let value = variable(&setting.key).filter(|_| is_set).or_else(|| setting.values.first().cloned());
        let values = value.into_iter().map(|value| shown(&setting.key, value)).collect();
        settings.push(Resolved { key: setting.key.clone(), values, from });
    }
    settings
}

/// A value without its secrets.
fn shown(key: &str, value: String) -> String {
    let key = key.to_ascii_lowercase();
    if value.is_empty() {
        "true".to_owned()
    } else if !["header", "key", "token", "secret", "password"].iter().any(|word| key.contains(word))
        || matches!(key.as_str(), "force-header")
    {
        value
    } else {
        let names = value
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, _)| format!("{name}={MASK}"));
        let names: Vec<String> = names.collect();
        if names.is_empty() { MASK.to_owned() } else { names.join(",") }
    }
}

/// What the whole comes to: warnings, and why it cannot be used.
fn whole(file: &ConfigFile, variable: Lookup<'_>) -> (Vec<String>, Option<String>) {
    let mut words = vec![OsString::from("tokentap"), OsString::from("run")];
    let usable = file.flags.iter().filter(|setting| overriding(&setting.key, variable).is_none());
    words.extend(
        usable.flat_map(|setting| file::arguments(&setting.key, &setting.values)).map(OsString::from),
    );
    let names_processes = file
        .flags
        .iter()
        .any(|setting| matches!(setting.key.as_str(), "pid" | "exe" | "all") && !setting.values.is_empty());
    if !names_processes {
        // The command line will.
        words.push("--all".into());
    }
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return (Vec::new(), Some(first.strip_prefix("error: ").unwrap_or(first).to_owned()));
        }
    };
    let layers = Layers { words: Vec::new(), file: Some(file.clone()) };
    match Config::resolve(cli, &|name| layers.variable(name, variable), true) {
        Ok(config) => (config.warnings, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    }
}

/// A JSON schema of the file, of the flags that it may have.
fn schema() -> Value {
    let mut properties = Map::new();
    for arg in file::flags() {
        let Some(key) = arg.get_long() else { continue };
        let scalar = json!({"type": ["string", "number", "boolean"]});
        let mut property = if file::is_switch(&arg) {
            json!({"type": "boolean"})
        } else if file::is_list(&arg) {
            json!({"anyOf": [scalar, {"type": "array", "items": scalar}, {"type": "object", "additionalProperties": scalar}]})
        } else {
            scalar
        };
        let help =
            arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        property["description"] = help.into();
        if let Some(default) = arg.get_default_values().first().filter(|_| !file::is_switch(&arg)) {
            property["default"] = default.to_string_lossy().into();
        }
        properties.insert(key.to_owned(), property);
    }
    let variables = json!({
        "type": "object",
        "description": "Variables of the environment, where that does not have them.",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    });
    properties.insert("environment".to_owned(), variables);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tokentap configuration",
        "description": "Flags of tokentap, written down: what the command line or the environment says wins.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, vars: &[(&str, &str)], json: bool) -> (String, bool) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let variable =
            |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        check(Some(file.path().to_owned()), json, &variable)
    }

    #[test]
    fn every_setting_is_shown_with_its_origin_and_without_secrets() {
        let text = "exe: node\notlp-header: {authorization: 'Bearer abcdef'}\nsampler: always_off\nkeep-errors: true\n\
                    environment: {OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4317'}\n";
        let (shown, valid) = checked(text, &[("OTEL_TRACES_SAMPLER", "always_on")], true);
        assert!(valid && !shown.contains("abcdef"), "{shown}");
        let document: Value = serde_json::from_str(&shown).expect("JSON");
        let settings = document["settings"].as_array().expect("settings");
        let of = |key: &str| {
            let setting =
                settings.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("{key}"));
            let from = setting["from"].as_str().expect("an origin");
            (setting["values"].clone(), from.rsplit(':').next().expect("a line").to_owned())
        };
        assert_eq!(of("exe"), (json!(["node"]), "1".into()));
        assert_eq!(of("otlp-header"), (json!(["authorization=****"]), "2".into()));
        assert_eq!(of("sampler"), (json!(["always_on"]), "OTEL_TRACES_SAMPLER".into()));
        assert_eq!(of("keep-errors"), (json!(["true"]), "4".into()));
        assert_eq!(of("drain-timeout"), (json!(["20s"]), "default".into()));
        assert_eq!(of("force-header"), (json!(["x-force-trace"]), "default".into()));
        assert_eq!(of("OTEL_EXPORTER_OTLP_ENDPOINT"), (json!(["http://c:4317"]), "5".into()));
    }

    #[test]
    fn what_is_wrong_is_told_in_parts_and_as_a_whole() {
        let (text, valid) = checked("exes: a\nall: maybe\n", &[], false);
        assert!(!valid && text.lines().count() == 2 && text.contains(":1: unknown key 'exes'"), "{text}");
        let (text, valid) = checked("exe: a\nall: true\n", &[], false);
        assert!(!valid && text.contains("error: "), "{text}");
        let (text, valid) = checked("exe: a\nsampler: sometimes\n", &[], false);
        assert!(!valid && text.contains("error: --sampler: 'sometimes'"), "{text}");
        let (text, valid) = checked("", &[("OTEL_TRACES_SAMPLER", "x")], false);
        assert!(valid && text.contains("warning: ignoring OTEL_TRACES_SAMPLER"), "{text}");
    }

    #[test]
    fn the_schema_has_every_flag_and_no_other_key() {
        let schema = schema();
        for (key, kind) in [("all", json!("boolean")), ("sampler", json!(["string", "number", "boolean"]))] {
            assert_eq!(schema["properties"][key]["type"], kind, "{key}");
        }
        assert!(schema["properties"]["exe"]["anyOf"].is_array());
        assert!(schema["properties"]["config"].is_null() && schema["properties"]["help"].is_null());
        assert_eq!(schema["additionalProperties"], false);
    }
}
