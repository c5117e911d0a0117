//! What a span is about: the observed process and where it runs.

mod host;
mod process;

use std::sync::Arc;

use tokentap_genai::Resource;

pub use host::HostAttributes;
pub use process::Facts;

/// Attributes that are set here, with what they are.
pub const DOCUMENTED: [(&str, &str); 13] = [
    (
        "service.name",
        "`--service-name`, else the process's own `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES`, else the script that an \
         interpreter runs, else the executable",
    ),
    ("service.instance.id", "One for each image of a process on a host"),
    ("process.pid", "Process id, in the agent's namespace"),
    ("process.parent_pid", "Id of the parent process"),
    ("process.executable.name", "File name of the executable"),
    ("process.executable.path", "Path of the executable, in the process's mount namespace"),
    ("process.runtime.name", "The interpreter, when the executable is one that is known"),
    ("container.id", "Id of the container, from the process's cgroup"),
    ("host.name", "Name of the host, as `uname -n`"),
    ("host.id", "`/etc/machine-id`"),
    ("host.arch", "Architecture of the host"),
    ("os.type", "`linux`"),
    ("os.version", "Kernel release"),
];

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
