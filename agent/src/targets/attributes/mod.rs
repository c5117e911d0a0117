//! What a span is about: the observed process and where it runs.

mod host;
mod process;

use std::sync::Arc;

use tokentap_genai::Resource;

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
