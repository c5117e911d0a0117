//! The host that the observed processes run on.

use std::fs;

use tokentap_genai::{Attribute, Value};

/// `host.*` and `os.*`: the same for every process here, read once.
#[derive(Clone, Debug, Default)]
pub struct HostAttributes {
    attributes: Vec<Attribute>,
    id: String,
}

impl HostAttributes {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let id = fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned();
        let mut attributes = vec![
            text("host.name", uname.nodename().to_string_lossy()),
            text("host.arch", architecture(&uname.machine().to_string_lossy())),
            text("os.type", "linux"),
            text("os.version", uname.release().to_string_lossy()),
        ];
        if !id.is_empty() {
            attributes.push(text("host.id", id.as_str()));
        }
        Self { attributes, id }
    }

    /// All of them.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// `host.id`, empty when the host has none.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

fn text(key: &'static str, value: impl Into<String>) -> Attribute {
    Attribute { key: key.into(), value: Value::Str(value.into().into()) }
}

/// The conventions' names for `uname -m`.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
