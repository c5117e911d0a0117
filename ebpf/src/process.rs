//! Processes: who executes, has children, ends. A process is tracked because user space says so, because its parent is,
//! or because a rule selects what it executes; all of that is decided before its first instruction.
//!
//! Raw tracepoints where the layout of the kernel's structures is known, else tracepoints, whose records are stable.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_RB_FORCE_WAKEUP,
    helpers::bpf_get_current_pid_tgid,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use tokentap_abi::{Counter, HEADER_LEN, Header, Kind, flags, tracked};

use crate::{
    current::{self, TrackedThread, count, unique},
    descriptors,
    maps::{AGENT, ALL, EVENTS, PATTERN_COUNT, THREADS, TRACKED},
    preempted::{self, Event, Which},
    ring,
    rules::{self, NAME, Name},
};

/// `clone(2)`: the new task shares the thread group.
const CLONE_THREAD: u64 = 0x10000;

/// include/trace/events/sched.h: `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    if let Some(address) = descriptors::filename_of(ctx.arg::<u64>(2)) {
        executed(address, Which::First);
    }
    0
}

/// Behind [`process_exec`].
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec_second(ctx: RawTracePointContext) -> i32 {
    if let Some(address) = descriptors::filename_of(ctx.arg::<u64>(2)) {
        executed(address, Which::Second);
    }
    0
}

/// The same as a record: `__data_loc char[] filename` at 8.
#[tracepoint]
pub fn process_exec_record(ctx: TracePointContext) -> u32 {
    // SAFETY: a field of the record, at this offset in every kernel.
    if let Ok(location) = unsafe { ctx.read_at::<u32>(8) } {
        executed((ctx.as_ptr() as u64).wrapping_add(u64::from(location & 0xffff)), Which::First);
    }
    0
}

/// include/trace/events/task.h: `task_newtask(struct task_struct *task, u64 clone_flags)`; runs in the parent, before
/// the child's first instruction.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_newtask(ctx: RawTracePointContext) -> i32 {
    new_task(&ctx, Which::First)
}

/// Behind [`task_newtask`].
#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn task_newtask_second(ctx: RawTracePointContext) -> i32 {
    new_task(&ctx, Which::Second)
}

#[inline(always)]
fn new_task(ctx: &RawTracePointContext, which: Which) -> i32 {
    let clone_flags = ctx.arg::<u64>(1);
    if clone_flags & CLONE_THREAD == 0
        && let Some(who) = TrackedThread::current()
        && let Some(child) = descriptors::pid_of(ctx.arg::<u64>(0))
    {
        forked(&who, child, which);
    }
    0
}

/// The same as a record: `pid_t pid` at 8, `u64 clone_flags` at 32.
#[tracepoint]
pub fn task_newtask_record(ctx: TracePointContext) -> u32 {
    let Some(who) = TrackedThread::current() else { return 0 };
    // SAFETY: fields of the record, at these offsets in every kernel.
    if let (Ok(child), Ok(clone_flags)) = unsafe { (ctx.read_at::<u32>(8), ctx.read_at::<u64>(32)) }
        && clone_flags & CLONE_THREAD == 0
    {
        forked(&who, child, Which::First);
    }
    0
}

/// Runs once a thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(_ctx: RawTracePointContext) -> i32 {
    exited();
    0
}

/// Behind [`process_exit`]: to what that one has done, there is nothing to do.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit_second(_ctx: RawTracePointContext) -> i32 {
    exited();
    0
}

#[inline(always)]
fn executed(filename: u64, which: Which) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    let before = TRACKED.get_ptr_mut(&tgid);
    if before.is_none()
        && ALL.load() == 0
        && PATTERN_COUNT.load() == 0
        && crate::maps::HAS_CGROUPS.load() == 0
    {
        return None;
    }
    if tgid == AGENT.load() || !preempted::handles(Event::Exec, which) {
        return None;
    }
    let name = rules::name(filename, which)?;
    let (old, mut bits) = match before {
        // SAFETY: a live map value, copied out at once.
        Some(entry) => unsafe {
            ((*entry).generation, (*entry).flags & (tracked::FOLLOW | tracked::BY_RULE))
        },
        None => (0, 0),
    };
    let mut is_tracked = before.is_some();
    if !is_tracked || bits == tracked::BY_RULE {
        bits = rules::selected(name);
        is_tracked = bits != 0;
    }
    // Another image has other handles: none of the old keys may match.
    let generation = unique();
    if is_tracked {
        current::track(tgid, generation, bits);
    } else if before.is_some() {
        TRACKED.remove(&tgid).unwrap_or(());
    }
    THREADS.remove(&pid_tgid).unwrap_or(());
    announce_exec(pid_tgid, generation, old, is_tracked, name);
    None
}

/// The frame carries both generations: the new one where others have the stream, the old one in its own place.
#[inline(always)]
fn announce_exec(pid_tgid: u64, generation: u64, old: u64, is_tracked: bool, name: &Name) {
    let who = TrackedThread { pid_tgid, generation: old, tracked: core::ptr::null_mut() };
    let Some(mut entry) = EVENTS.reserve_bytes(HEADER_LEN + NAME, 0) else {
        ring::lost_event();
        return;
    };
    let to = entry.as_mut_ptr();
    // SAFETY: the entry has room for a header, and ring entries are 8-byte aligned.
    let header = unsafe { &mut *to.cast::<Header>() };
    current::fill(header, Kind::Exec, &who, name.len.min(NAME as u32) as usize);
    header.stream = generation;
    if !is_tracked {
        header.flags = flags::UNTRACKED;
    }
    // SAFETY: the entry has room for the whole name behind the header.
    unsafe { to.add(HEADER_LEN).cast::<[u8; NAME]>().write(name.bytes) };
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}

#[inline(always)]
fn forked(who: &TrackedThread, child: u32, which: Which) {
    if who.flags() & tracked::FOLLOW == 0 || !preempted::handles(Event::Fork, which) {
        return;
    }
    let generation = unique();
    let bits = who.flags() & (tracked::FOLLOW | tracked::BY_RULE);
    if !current::track(child, generation, bits) {
        return;
    }
    ring::event(
        |header| {
            current::fill(header, Kind::Fork, who, 4);
            header.stream = generation;
        },
        &child,
    );
}

#[inline(always)]
fn exited() -> Option<()> {
    let who = TrackedThread::current()?;
    // SAFETY: only this thread uses its entry, and it is ending.
    if let Some(thread) = THREADS.get_ptr(&who.pid_tgid) {
        // SAFETY: as above.
        let depth = unsafe { (*thread).depth };
        if depth > 0 {
            count(Counter::CallsAbandoned, depth);
        }
        THREADS.remove(&who.pid_tgid).unwrap_or(());
    }
    preempted::forget(&who);
    let first = who.pid_tgid as u32 == who.tgid();
    let announce = |flags: u16| {
        ring::bare(
            |header| {
                current::fill(header, Kind::Exit, &who, 0);
                header.stream = who.generation;
                header.flags = flags;
            },
            // Nothing is urgent about it.
            false,
        )
    };
    match descriptors::last_thread() {
        Some(true) => {
            announce(flags::LAST_THREAD);
            // A later process may have the number.
            TRACKED.remove(&who.tgid()).unwrap_or(());
        }
        Some(false) => {}
        // User space looks whether others go on.
        None if first => {
            announce(0);
        }
        None => {}
    }
    Some(())
}
