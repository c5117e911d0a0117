//! What a span is about: the observed process and where it runs.

mod host;
mod process;

use std::sync::Arc;

use tokentap_genai::{Attribute, Value};

pub use host::HostAttributes;
pub use process::Facts;

/// Makes the [`Resource`] of a process of what was read of it.
#[derive(Clone, Debug, Default)]
pub struct Describer {
    host: HostAttributes,
    service_name: Option<String>,
}

impl Describer {
    /// For processes of this host; `service_name` overrides what they call themselves.
    #[must_use]
    pub fn of_this_host(service_name: Option<String>) -> Self {
        Self { host: HostAttributes::read(), service_name }
    }

    /// The resource of a process, as far as it is known.
    #[must_use]
    pub fn resource(&self, pid: u32, facts: &Facts) -> Arc<Resource> {
        let attributes = process::attributes(pid, facts, self.service_name.as_deref(), &self.host);
        Arc::new(Resource::new(attributes))
    }
}

/// The attributes of one observed process. Shared by every span of that process behind one `Arc`, whose
/// address is its identity: exporters group spans by it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    attributes: Vec<Attribute>,
}

impl Resource {
    /// A resource with these attributes, each key once.
    #[must_use]
    pub const fn new(attributes: Vec<Attribute>) -> Self {
        Self { attributes }
    }

    /// Every attribute, in the order given.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|a| a.key == key).map(|a| &a.value)
    }

    /// `service.name`, when it is a string.
    #[must_use]
    pub fn service_name(&self) -> Option<&str> {
        match self.get("service.name") {
            Some(Value::Str(name)) => Some(name),
            _ => None,
        }
    }
}
