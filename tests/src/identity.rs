//! Who a process is, and what it may do: for agents that are not root, or that lack something.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use rustix::{
    process::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_gid,
        set_thread_groups, set_thread_uid,
    },
};

/// The user `nobody`.
const NOBODY: u32 = 65534;

/// Whose a process is, and with which capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Root, or else the user `nobody`.
    pub root: bool,
    /// All the capabilities that it has, or can get.
    pub capabilities: CapabilitySet,
}

impl Identity {
    /// Makes a command run with this identity.
    pub fn apply(self, command: &mut Command) {
        // SAFETY: between fork and exec, `become_it` makes system calls only: no allocation, no lock.
        unsafe { command.pre_exec(move || self.become_it()) };
    }

    /// This process is that from its next exec on.
    fn become_it(self) -> io::Result<()> {
        let all = 0..u64::from(u64::BITS);
        let each = all.map(|bit| CapabilitySet::from_bits_retain(1 << bit));
        for other in each.clone().filter(|one| !self.capabilities.contains(*one)) {
            // Fails only for bits that mean nothing to this kernel.
            if remove_capability_from_bounding_set(other).is_err() {
                break;
            }
        }
        if !self.root {
            set_keep_capabilities(true)?;
            set_thread_groups(&[])?;
            set_thread_gid(Gid::from_raw(NOBODY))?;
            set_thread_uid(Uid::from_raw(NOBODY))?;
        }
        let set = self.capabilities;
        set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: set })?;
        if !self.root {
            for one in each.filter(|one| set.contains(*one)) {
                configure_capability_in_ambient_set(one, true)?;
            }
        }
        Ok(())
    }
}

/// A capability by its name in the kernel's headers.
#[must_use]
pub fn capability(name: &str) -> Option<CapabilitySet> {
    CapabilitySet::from_name(name.strip_prefix("CAP_")?)
}
