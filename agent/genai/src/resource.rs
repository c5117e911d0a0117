//! What a span is about.

use crate::{Attribute, Value};

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
