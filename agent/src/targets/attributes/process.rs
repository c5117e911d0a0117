//! What an observed process says of itself.

use tokentap_genai::{Attribute, Value};

use super::HostAttributes;

/// What was read of a process. What could not be read is left empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its executable, else the name that it was executed by.
    pub executable: Option<String>,
    /// Command line.
    pub arguments: Vec<String>,
    /// Environment at its start.
    pub environment: Vec<(String, String)>,
    /// Cgroup paths.
    pub cgroups: Vec<String>,
    /// Parent's id.
    pub parent: Option<u32>,
    /// Start time in clock ticks since boot.
    pub start_ticks: Option<u64>,
}

impl Facts {
    /// Takes from `known` what is missing here.
    pub fn complete(&mut self, known: Self) {
        fn fill<T>(here: &mut Vec<T>, known: Vec<T>) {
            if here.is_empty() {
                *here = known;
            }
        }
        self.executable = self.executable.take().or(known.executable);
        fill(&mut self.arguments, known.arguments);
        fill(&mut self.environment, known.environment);
        fill(&mut self.cgroups, known.cgroups);
        self.parent = self.parent.or(known.parent);
        self.start_ticks = self.start_ticks.or(known.start_ticks);
    }
}

/// The attributes of a process on this host; `service_name` overrides what it calls itself.
///
/// `service.name`: its own `OTEL_SERVICE_NAME`, or that in `OTEL_RESOURCE_ATTRIBUTES`, else the script that
/// an interpreter runs, else the executable.
pub(super) fn attributes(
    pid: u32,
    facts: &Facts,
    service_name: Option<&str>,
    host: &HostAttributes,
) -> Vec<Attribute> {
    let mut out = Attributes(Vec::new());
    let own = own_attributes(&facts.environment);
    let executable = facts.executable.as_deref().map(|path| path.strip_suffix(" (deleted)").unwrap_or(path));
    let name = executable.map(file_name);
    let service = service_name
        .map(str::to_owned)
        .or_else(|| variable(&facts.environment, "OTEL_SERVICE_NAME").map(str::to_owned))
        .or_else(|| own.iter().find(|(key, _)| key == "service.name").map(|(_, value)| value.clone()))
        .or_else(|| script(name.unwrap_or_default(), &facts.arguments))
        .or_else(|| name.map(str::to_owned))
        .unwrap_or_else(|| "unknown_service".to_owned());
    out.set("service.name", Value::Str(service.into()));
    // The same process of the same boot has the same id, whichever agent sees it.
    let instance = format!("{}:{pid}:{}", host.id(), facts.start_ticks.unwrap_or(0));
    for (key, value) in own {
        out.set(key, Value::Str(value.into()));
    }
    out.set("service.instance.id", Value::Str(instance.into()));
    out.set("process.pid", Value::Int(i64::from(pid)));
    if let Some(parent) = facts.parent {
        out.set("process.parent_pid", Value::Int(i64::from(parent)));
    }
    if let (Some(name), Some(path)) = (name, executable) {
        out.set("process.executable.name", Value::Str(name.to_owned().into()));
        out.set("process.executable.path", Value::Str(path.to_owned().into()));
        if let Some(runtime) = runtime(name) {
            out.set("process.runtime.name", Value::Str(runtime.into()));
        }
    }
    if let Some(container) = facts.cgroups.iter().find_map(|path| container_id(path)) {
        out.set("container.id", Value::Str(container.to_owned().into()));
    }
    for attribute in host.attributes() {
        out.set(attribute.key.clone(), attribute.value.clone());
    }
    out.0
}

/// Attributes, each key once: the first one set stands.
struct Attributes(Vec<Attribute>);

impl Attributes {
    fn set(&mut self, key: impl Into<std::borrow::Cow<'static, str>>, value: Value) {
        let key = key.into();
        if !self.0.iter().any(|a| a.key == key) {
            self.0.push(Attribute { key, value });
        }
    }
}

fn variable<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    environment.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
}

/// `OTEL_RESOURCE_ATTRIBUTES`: `k=v,k=v` with percent-encoded values (resource SDK specification).
fn own_attributes(environment: &[(String, String)]) -> Vec<(String, String)> {
    let Some(text) = variable(environment, "OTEL_RESOURCE_ATTRIBUTES") else { return Vec::new() };
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), percent_decoded(value.trim())))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The script or module that an interpreter was told to run.
fn script(executable: &str, arguments: &[String]) -> Option<String> {
    runtime(executable)?;
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // `python -m module`, `java -jar file`
            "-m" | "-jar" => return arguments.next().map(|name| stem(name)),
            // Code on the command line has no name.
            "-c" | "-e" | "--eval" | "-p" | "-" => return None,
            "-W" | "-X" | "-r" | "--require" | "--import" | "-cp" | "-classpath" => {
                arguments.next();
            }
            option if option.starts_with('-') => {}
            // `bun run x`, `deno run x`
            "run" => {}
            path => return Some(stem(path)),
        }
    }
    None
}

fn stem(path: &str) -> String {
    let name = file_name(path);
    match name.rsplit_once('.') {
        Some((stem, "py" | "js" | "mjs" | "cjs" | "ts" | "mts" | "jar" | "rb" | "php" | "pl"))
            if !stem.is_empty() =>
        {
            stem.to_owned()
        }
        _ => name.to_owned(),
    }
}

fn file_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// The language runtime, when the executable is one (process conventions, `process.runtime.name`).
fn runtime(executable: &str) -> Option<&'static str> {
    const RUNTIMES: &[(&str, &str)] = &[
        ("python", "cpython"),
        ("pypy", "pypy"),
        ("node", "nodejs"),
        ("bun", "bun"),
        ("deno", "deno"),
        ("java", "jvm"),
        ("ruby", "ruby"),
        ("php", "php"),
        ("perl", "perl"),
    ];
    RUNTIMES.iter().find_map(|(prefix, name)| {
        let version = executable.strip_prefix(prefix)?;
        version.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-')).then_some(*name)
    })
}

/// The 64 hex digits by which container runtimes name their cgroups, whatever is around them.
fn container_id(cgroup: &str) -> Option<&str> {
    const LEN: usize = 64;
    let last = cgroup.rsplit('/').find(|part| part.len() >= LEN)?;
    let last = last.strip_suffix(".scope").unwrap_or(last);
    let id = last.get(last.len().checked_sub(LEN)?..)?;
    id.bytes().all(|b| b.is_ascii_hexdigit()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(executable: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let facts = Facts {
            executable: Some(executable.to_owned()),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Facts::default()
        };
        let attributes = attributes(42, &facts, None, &HostAttributes::default());
        match &attributes.iter().find(|a| a.key == "service.name").unwrap().value {
            Value::Str(name) => name.clone().into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_service_is_named_by_itself_first() {
        let env = &[("OTEL_SERVICE_NAME", "shop"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other")][..];
        assert_eq!(service("/usr/bin/python3.11", &["python3", "app.py"], env), "shop");
        assert_eq!(service("/usr/bin/python3.11", &["python3", "app.py"], &env[1..]), "other");
    }

    #[test]
    fn else_by_what_it_runs() {
        assert_eq!(service("/usr/bin/python3.11", &["python3", "-u", "/srv/app.py", "--port"], &[]), "app");
        assert_eq!(service("/usr/bin/python3", &["python3", "-m", "uvicorn", "main:app"], &[]), "uvicorn");
        assert_eq!(service("/usr/bin/python3", &["python3", "-c", "secret()"], &[]), "python3");
        assert_eq!(service("/usr/bin/node", &["node", "--require", "x.js", "server.mjs"], &[]), "server");
        assert_eq!(service("/usr/bin/java", &["java", "-jar", "/opt/gateway.jar"], &[]), "gateway");
        assert_eq!(service("/usr/bin/curl (deleted)", &["curl", "https://example.org"], &[]), "curl");
        assert_eq!(service("/usr/bin/nodemon", &["nodemon", "x.js"], &[]), "nodemon");
    }

    #[test]
    fn own_attributes_are_decoded_and_kept() {
        let facts = Facts {
            environment: vec![(
                "OTEL_RESOURCE_ATTRIBUTES".into(),
                "deployment.environment.name=prod, team=a%2Cb,broken,=x".into(),
            )],
            ..Facts::default()
        };
        let got = attributes(1, &facts, Some("flag"), &HostAttributes::default());
        let value = |key: &str| got.iter().find(|a| a.key == key).map(|a| a.value.clone());
        assert_eq!(value("team"), Some(Value::Str("a,b".into())));
        assert_eq!(value("deployment.environment.name"), Some(Value::Str("prod".into())));
        assert_eq!(value("service.name"), Some(Value::Str("flag".into())));
        assert_eq!(value("process.pid"), Some(Value::Int(1)));
    }

    #[test]
    fn container_ids_are_found_in_every_runtimes_path() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/besteffort/pod1/{id}"),
        ] {
            assert_eq!(container_id(&path), Some(id), "{path}");
        }
        assert_eq!(container_id("/user.slice/user-0.slice/session-1.scope"), None);
    }
}
