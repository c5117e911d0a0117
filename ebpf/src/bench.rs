//! Programs that do nothing, for the benchmark's baseline: what the traps alone cost.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

#[uprobe]
pub fn empty_uprobe(_ctx: ProbeContext) -> u32 {
    0
}

#[uretprobe]
pub fn empty_uretprobe(_ctx: RetProbeContext) -> u32 {
    0
}

#[uprobe(multi)]
pub fn empty_uprobe_multi(_ctx: ProbeContext) -> u32 {
    0
}

#[uretprobe(multi)]
pub fn empty_uretprobe_multi(_ctx: RetProbeContext) -> u32 {
    0
}
