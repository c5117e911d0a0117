//! What this kernel offers, where that can be tried.

use std::sync::LazyLock;

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, UProbeMultiFeature},
};

use super::version::kernel_version;

/// Whether the kernel has a helper; programs do without when that is unknown.
pub(super) fn helper(name: &str, id: BpfHelper) -> bool {
    aya::sys::is_helper_supported(ProgramType::KProbe, id).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell whether the kernel has {name}");
        false
    })
}

/// Whether multi-uprobe links can be scoped to one process: else there is one perf event per probe.
pub(super) fn has_multi_uprobes() -> bool {
    /// Where the fix of the scope is, for those who may not try it.
    const FIXED: (u32, u32) = (6, 11);
    static SUPPORTED: LazyLock<bool> = LazyLock::new(|| {
        aya::sys::is_uprobe_multi_supported(UProbeMultiFeature::ProcessScopedPidFilter).unwrap_or_else(
            |error| {
                tracing::debug!(%error, "cannot tell whether the kernel has multi-uprobe links");
                kernel_version() >= FIXED
            },
        )
    });
    *SUPPORTED
}
