//! Processes: who executes, has children, maps code, ends.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ANY, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel_str},
    macros::tracepoint,
    programs::TracePointContext,
};
use aya_log_ebpf::warn;
use tokentap_abi::{Counter, HEADER_LEN, Kind, Tracked};

use crate::{
    maps::{ADOPT, CALLS, EVENTS, TRACKED, Watched, count, unique},
    ring, socket,
};

/// `clone(2)`: the new task shares the thread group.
const CLONE_THREAD: u64 = 0x10000;
/// Longest file name an exec frame carries.
const NAME: usize = 208;
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;

/// include/trace/events/sched.h: `__data_loc char[] filename` at 8.
#[tracepoint]
pub fn process_exec(ctx: TracePointContext) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    // SAFETY: copied out at once.
    let follow = match unsafe { TRACKED.get(&tgid) } {
        Some(tracked) => tracked.follow,
        None if ADOPT.load() != 0 => 1,
        None => return 0,
    };
    // Another image has other handles: none of the old keys may match.
    let who = Watched { pid_tgid, generation: unique() };
    if TRACKED
        .insert(&tgid, &Tracked { generation: who.generation, follow, reserved: 0 }, u64::from(BPF_ANY))
        .is_err()
    {
        warn!(&ctx, "no room to track process {}", tgid);
        count(Counter::MapFull, 1);
    }
    let Some(mut entry) = EVENTS.reserve_bytes(HEADER_LEN + NAME, 0) else {
        count(Counter::EventsLost, 1);
        return 0;
    };
    let mut header = ring::header(Kind::Exec, &who, NAME as u32);
    header.stream = who.generation;
    let to = entry.as_mut_ptr();
    ring::put(to, &header);
    // SAFETY: the field is at 8 in every kernel; the name lies in the record, and the entry has room for it.
    let copied = unsafe {
        match ctx.read_at::<u32>(8) {
            Ok(location) => bpf_probe_read_kernel_str(
                to.add(HEADER_LEN).cast(),
                NAME as u32,
                ctx.as_ptr().add((location & 0xffff) as usize),
            ),
            Err(error) => i64::from(error),
        }
    };
    if copied < 0 {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(Counter::EventsLost, 1);
    } else {
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    }
    0
}

/// include/trace/events/task.h: `pid_t pid` at 8, `u64 clone_flags` at 32; runs in the parent, before the
/// child's first instruction.
#[tracepoint]
pub fn task_newtask(ctx: TracePointContext) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    // SAFETY: fields of the record, at these offsets in every kernel.
    let (Ok(child), Ok(clone_flags)) = (unsafe { (ctx.read_at::<u32>(8), ctx.read_at::<u64>(32)) }) else {
        return 0;
    };
    // SAFETY: copied out at once.
    let follow = (unsafe { TRACKED.get(&who.tgid()) }).map_or(0, |t| t.follow);
    if clone_flags & CLONE_THREAD != 0 || follow == 0 {
        return 0;
    }
    let generation = unique();
    if TRACKED.insert(&child, &Tracked { generation, follow, reserved: 0 }, u64::from(BPF_ANY)).is_err() {
        warn!(&ctx, "no room to track process {}, child of {}", child, who.tgid());
        count(Counter::MapFull, 1);
        return 0;
    }
    let mut header = ring::header(Kind::Fork, &who, 4);
    header.stream = generation;
    ring::event(&header, child);
    0
}

/// Runs once a thread; the thread group leader's is taken for the process. User space checks, and forgets it.
#[tracepoint]
pub fn process_exit(_ctx: TracePointContext) -> u32 {
    let Some(who) = Watched::current() else { return 0 };
    if who.pid_tgid as u32 == who.tgid() {
        let mut header = ring::header(Kind::Exit, &who, 0);
        header.stream = who.generation;
        ring::bare(&header, true);
    }
    0
}

/// A file mapped as executable may bring TLS code: `dlopen`, a lazy import, the dynamic linker at start.
#[tracepoint]
pub fn enter_mmap(ctx: TracePointContext) -> u32 {
    // SAFETY: fields of the record.
    let (Ok(prot), Ok(map_flags)) = (unsafe { (ctx.read_at::<u64>(32), ctx.read_at::<u64>(40)) }) else {
        return 0;
    };
    if prot & PROT_EXEC != 0 && map_flags & MAP_ANONYMOUS == 0 { socket::remember(0, 0, 0) } else { 0 }
}

/// Told at return, when the mapping is there to be looked at.
#[tracepoint]
pub fn exit_mmap(_ctx: TracePointContext) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    if CALLS.get_ptr(&pid_tgid).is_none() {
        return 0;
    }
    CALLS.remove(&pid_tgid).unwrap_or(());
    if let Some(who) = Watched::current() {
        ring::bare(&ring::header(Kind::Map, &who, 0), true);
    }
    0
}
