//! Second programs at a tracepoint, each behind the first.
//!
//! Linux 7.0 and later leave preemption enabled while programs of tracepoints run. On a CPU where a thread was preempted in
//! a program, the kernel skips that program for all other threads until it goes on (`bpf_prog_get_recursion_context`):
//! without a word, an `exec` would not be seen, or what a system call moved. So the second program does what the first one
//! was skipped for. It is skipped itself only where a thread was preempted in it too, and it is rarely in there.

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_get_current_pid_tgid};
use tokentap_abi::{Counter, repeated};

use crate::{
    current::{TrackedThread, add_one, count},
    maps::{EXITS, HANDLED, NEW_EXIT, PREEMPTIBLE, REPEATED, TRANSFER},
    state::{Exit, Transfer},
};

/// Which of the two programs runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    First,
    Second,
}

/// A rare event of a thread.
#[derive(Clone, Copy)]
pub enum Event {
    /// A process executes a file.
    Exec,
    /// A process has a child.
    Fork,
}

impl Event {
    /// The event of a thread in [`HANDLED`]: a bit above all process ids.
    const fn key(self, thread: u64) -> u64 {
        thread | 1 << (63 - self as u64)
    }

    /// Its place in [`REPEATED`].
    const fn index(self) -> u32 {
        match self {
            Self::Exec => repeated::EXEC,
            Self::Fork => repeated::FORK,
        }
    }
}

/// Whether a rare event of the running thread is this program's to handle.
#[inline(always)]
pub fn handles(event: Event, which: Which) -> bool {
    let key = event.key(bpf_get_current_pid_tgid());
    match which {
        // What cannot be marked as handled is left to the second.
        Which::First => PREEMPTIBLE.load() == 0 || HANDLED.insert(&key, &1, u64::from(BPF_ANY)).is_ok(),
        Which::Second => {
            let repeats = HANDLED.remove(&key).is_err();
            if repeats && let Some(count) = REPEATED.get_ptr_mut(event.index()) {
                // SAFETY: a live, aligned map value.
                unsafe { add_one(count) };
            }
            repeats
        }
    }
}

/// [`Exit::state`]: no program has handled the thread's next end of a system call.
const IDLE: u64 = 0;
/// [`Exit::state`]: one has, and the last has not run yet.
const HANDLED_ALREADY: u64 = 1;
/// [`Exit::state`]: the last program repeats the first.
const LAST: u64 = 2;

/// In the first program at the end of a system call: whether it is to handle it.
#[inline(always)]
pub fn handles_exit(who: &TrackedThread) -> bool {
    if PREEMPTIBLE.load() == 0 {
        return true;
    }
    let exit = exit_of(who);
    if exit.is_null() {
        return false;
    }
    // SAFETY: the running thread's own entry.
    let state = unsafe { &mut (*exit).state };
    *state = if *state == LAST { IDLE } else { HANDLED_ALREADY };
    true
}

/// In a later one: whether all before were skipped, so that the first is to be repeated. The `last` one makes the entry ready
/// for the thread's next call.
#[inline(always)]
pub fn repeats_exit(who: &TrackedThread, last: bool) -> bool {
    let Some(exit) = EXITS.get_ptr_mut(&who.pid_tgid) else { return true };
    // SAFETY: the running thread's own entry.
    let state = unsafe { &mut (*exit).state };
    let repeats = *state != HANDLED_ALREADY;
    if last {
        *state = if repeats { LAST } else { IDLE };
    }
    repeats
}

/// The running thread's entry, made when there is none; null when there is no room.
#[inline(never)]
fn exit_of(who: &TrackedThread) -> *mut Exit {
    if let Some(exit) = EXITS.get_ptr_mut(&who.pid_tgid) {
        return exit;
    }
    if let Some(new) = NEW_EXIT.get(0)
        && EXITS.insert(&who.pid_tgid, new, 0).is_err()
    {
        count(Counter::MapFull, 1);
    }
    EXITS.get_ptr_mut(&who.pid_tgid).unwrap_or(core::ptr::null_mut())
}

/// Where the running program works on a system call that has returned. Nobody else uses it meanwhile: it is this CPU's
/// where programs are not preempted, else this thread's.
#[inline(always)]
pub fn transfer(who: &TrackedThread) -> Option<*mut Transfer> {
    if PREEMPTIBLE.load() == 0 {
        return TRANSFER.get_ptr_mut(0);
    }
    // SAFETY: a field of a live map value.
    EXITS.get_ptr_mut(&who.pid_tgid).map(|exit| unsafe { &raw mut (*exit).transfer })
}

/// Forgets a thread that ends.
#[inline(always)]
pub fn forget(who: &TrackedThread) {
    if PREEMPTIBLE.load() != 0 {
        EXITS.remove(&who.pid_tgid).unwrap_or(());
        HANDLED.remove(&Event::Fork.key(who.pid_tgid)).unwrap_or(());
    }
}
