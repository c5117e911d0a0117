//! Whether a rule selects what a process executes.

use aya_ebpf::{
    helpers::generated::{bpf_get_current_cgroup_id, bpf_probe_read_kernel_str},
    macros::map,
    maps::PerCpuArray,
};
use tokentap_abi::PATTERN_BYTES;

use crate::{
    maps::{ALL, CGROUPS, HAS_CGROUPS, HAS_LOOP, PATTERN_COUNT, PATTERNS, RULE_FLAGS},
    preempted::Which,
    stream::{GO_ON, STOP, repeat},
    target::at_most,
};

/// Longest name that is compared and carried by a frame.
pub const NAME: usize = 256;

/// A name and the state of its comparison with patterns. One per CPU and program: the kernel does not start a program
/// again on a CPU where it runs.
#[repr(C)]
pub struct Name {
    pub bytes: [u8; NAME],
    /// Without its final zero.
    pub len: u32,
    /// Where the file name begins.
    file: u32,
    /// The pattern that is compared.
    pattern: u32,
    at: u32,
    pattern_at: u32,
    /// Where to go on in the pattern after a mismatch, 1 too many; 0: nowhere.
    star: u32,
    /// What the last `*` has taken so far.
    star_at: u32,
    matched: u32,
}

#[map]
static NAMES: PerCpuArray<Name> = PerCpuArray::with_max_entries(2, 0);

/// Reads the name that an image was started as, from kernel memory.
#[inline(always)]
pub fn name(address: u64, which: Which) -> Option<&'static mut Name> {
    // SAFETY: the only user of this entry, on this CPU.
    let name = unsafe { &mut *NAMES.get_ptr_mut(which as u32)? };
    // SAFETY: the helper checks the source; the destination has as many bytes.
    let copied = unsafe {
        bpf_probe_read_kernel_str(name.bytes.as_mut_ptr().cast(), NAME as u32, address as *const _)
    };
    name.len = if copied > 0 { (copied - 1) as u32 } else { 0 };
    Some(name)
}

/// The bits of [`tokentap_abi::tracked`] that rules give to a process that executes this; 0 when none selects it.
#[inline(always)]
pub fn selected(name: &mut Name) -> u32 {
    if ALL.load() != 0 {
        return RULE_FLAGS.load();
    }
    if HAS_CGROUPS.load() != 0 {
        // SAFETY: no arguments, always allowed; the value is copied out at once.
        if let Some(flags) = unsafe { CGROUPS.get(&bpf_get_current_cgroup_id()) } {
            return *flags;
        }
    }
    // Without `bpf_loop` user space compares, when it learns of the process.
    if PATTERN_COUNT.load() == 0 || HAS_LOOP.load() == 0 {
        return 0;
    }
    name.pattern = 0;
    name.matched = 0;
    name.file = 0;
    name.at = 0;
    repeat(&mut OnStack { name }, find_file);
    restart(name);
    repeat(&mut OnStack { name }, compare);
    if name.matched != 0 { RULE_FLAGS.load() } else { 0 }
}

/// What `bpf_loop` hands on must be a place on the stack.
#[repr(C)]
struct OnStack<'a> {
    name: &'a mut Name,
}

/// Looks for the last slash.
#[inline(never)]
extern "C" fn find_file(index: u32, state: &mut OnStack<'_>) -> u64 {
    let name = &mut *state.name;
    if index >= name.len || index >= NAME as u32 {
        return STOP;
    }
    if byte_of(name, index) == b'/' {
        name.file = index + 1;
    }
    GO_ON
}

/// Begins to compare with the next pattern.
#[inline(always)]
fn restart(name: &mut Name) {
    name.star = 0;
    name.star_at = 0;
    name.pattern_at = 0;
    name.at = match PATTERNS.get_ptr(name.pattern) {
        // SAFETY: a live map value, written before the programs were attached.
        Some(pattern) if unsafe { (*pattern).whole_path } == 0 => name.file,
        _ => 0,
    };
}

/// No byte: the pattern is at its end.
const END: u32 = 256;

/// One step of the usual comparison with `*` and `?`: on a mismatch the last `*` takes one byte more.
#[inline(never)]
extern "C" fn compare(_index: u32, state: &mut OnStack<'_>) -> u64 {
    let name = &mut *state.name;
    let Some(pattern) = PATTERNS.get_ptr(name.pattern) else { return STOP };
    // SAFETY: a live map value, written before the programs were attached.
    let pattern = unsafe { &*pattern };
    let end = pattern.len.min(PATTERN_BYTES as u32);
    // Not an `Option`: the verifier does not take a value that is left open where it does not matter.
    let mut wanted = END;
    if name.pattern_at < end {
        wanted = u32::from(byte_at(&pattern.bytes, name.pattern_at));
    }
    if wanted == u32::from(b'*') {
        name.pattern_at += 1;
        name.star = name.pattern_at;
        name.star_at = name.at;
        return GO_ON;
    }
    if name.at >= name.len {
        if wanted == END {
            name.matched = 1;
            return STOP;
        }
        return next_pattern(name);
    }
    let byte = u32::from(byte_of(name, name.at));
    if wanted == u32::from(b'?') || wanted == byte {
        name.pattern_at += 1;
        name.at += 1;
        return GO_ON;
    }
    if name.star == 0 {
        return next_pattern(name);
    }
    name.star_at += 1;
    name.at = name.star_at;
    name.pattern_at = name.star;
    GO_ON
}

#[inline(always)]
fn byte_of(name: &Name, index: u32) -> u8 {
    let index = at_most::<{ NAME as u64 - 1 }>(u64::from(index));
    // SAFETY: the index was clamped.
    unsafe { *name.bytes.get_unchecked(index as usize) }
}

#[inline(always)]
fn byte_at(bytes: &[u8; PATTERN_BYTES], index: u32) -> u8 {
    let index = at_most::<{ PATTERN_BYTES as u64 - 1 }>(u64::from(index));
    // SAFETY: the index was clamped.
    unsafe { *bytes.get_unchecked(index as usize) }
}

#[inline(always)]
fn next_pattern(name: &mut Name) -> u64 {
    name.pattern += 1;
    if name.pattern >= PATTERN_COUNT.load() {
        return STOP;
    }
    restart(name);
    GO_ON
}
