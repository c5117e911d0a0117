//! Which kernel runs.

/// Major and minor version of the running kernel.
pub(super) fn kernel_version() -> (u32, u32) {
    version(&release())
}

/// Whether programs at raw tracepoints run with preemption enabled, as they do since Linux 7.0 (`__bpf_trace_run`).
pub(super) fn preempts_tracepoints() -> bool {
    kernel_version() >= (7, 0)
}

/// Major and minor version of a kernel release, as `6.1.0-44-cloud-amd64`.
pub(super) fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The release of the running kernel.
pub(super) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_compare() {
        assert_eq!(version("6.1.0-44-cloud-amd64"), (6, 1));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), (5, 15));
        assert!(version("5.4.0") < (5, 15));
        assert!(version("6.18.44-fc-v669") > (5, 15));
        assert_eq!(version("strange"), (0, 0));
    }
}
