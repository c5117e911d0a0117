//! io_uring: what a process submits to it and what has completed, read from the rings that the process maps.
//!
//! The rings are looked at when `io_uring_enter` returns. Bytes are copied when the process cannot have used the buffer
//! for something else yet, that is, when it has not taken the completion off the ring; else only their number is known.
//! Not followed: rings that the kernel polls (`IORING_SETUP_SQPOLL`) and registered descriptors.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tokentap_abi::{Counter, Kind, Syscall, UringKey, tracked};

use crate::{
    current::{self, TrackedThread, count},
    maps::{URING_CALLS, URINGS},
    preempted, ring, socket,
    state::{Transfer, Uring, UringCall},
    stream::{self, GO_ON, STOP},
    syscalls, target, transfer,
};

/// `struct io_uring_params`: `flags`, `sq_off`, `cq_off`.
const PARAMS_FLAGS: u64 = 8;
const PARAMS_SUBMISSIONS: u64 = 40;
const PARAMS_COMPLETIONS: u64 = 80;
/// `struct io_sqring_offsets`, `struct io_cqring_offsets`
const HEAD: u64 = 0;
const TAIL: u64 = 4;
const MASK: u64 = 8;
const ARRAY: u64 = 24;
const CQES: u64 = 20;
/// Offsets at which the parts of an io_uring are mapped.
const MAP_SUBMISSIONS: u64 = 0;
const MAP_COMPLETIONS: u64 = 0x800_0000;
const MAP_ENTRIES: u64 = 0x1000_0000;
/// `IORING_SETUP_*`
const SETUP_SQE128: u32 = 1 << 10;
const SETUP_CQE32: u32 = 1 << 11;
const SETUP_NO_SQARRAY: u32 = 1 << 16;
/// `IOSQE_FIXED_FILE`, `IOSQE_BUFFER_SELECT`
const FIXED_FILE: u8 = 1;
const BUFFER_SELECT: u8 = 1 << 5;
/// `IORING_CQE_F_MORE`, `IORING_CQE_F_NOTIF`
const MORE: u32 = 1 << 1;
const NOTIFICATION: u32 = 1 << 3;

/// `io_uring_setup(entries, params)`: the result is its descriptor.
#[inline(always)]
pub fn set_up(who: &TrackedThread, params: u64, result: i64) {
    if result < 0 {
        return;
    }
    if who.set_flag(tracked::IO_URING) {
        ring::bare(|header| current::fill(header, Kind::IoUring, who, 0), true);
    }
    let number = |at: u64| target::read::<u32>(params.wrapping_add(at)).unwrap_or(0);
    let uring = Uring {
        head: number(PARAMS_SUBMISSIONS + HEAD),
        mask: number(PARAMS_SUBMISSIONS + MASK),
        array: number(PARAMS_SUBMISSIONS + ARRAY),
        done_head: number(PARAMS_COMPLETIONS + HEAD),
        done_tail: number(PARAMS_COMPLETIONS + TAIL),
        done_mask: number(PARAMS_COMPLETIONS + MASK),
        done_entries: number(PARAMS_COMPLETIONS + CQES),
        flags: number(PARAMS_FLAGS),
        ..Uring::default()
    };
    if URINGS.insert(&who.fd(result as u32), &uring, 0).is_err() {
        count(Counter::MapFull, 1);
    }
}

/// `mmap` of a part of an io_uring.
#[inline(always)]
pub fn mapped(who: &TrackedThread, fd: u32, offset: u64, address: i64) {
    let Some(uring) = URINGS.get_ptr_mut(&who.fd(fd)) else { return };
    // SAFETY: a live map value.
    let uring = unsafe { &mut *uring };
    match offset {
        MAP_SUBMISSIONS => uring.submissions = address as u64,
        MAP_COMPLETIONS => uring.completions = address as u64,
        MAP_ENTRIES => uring.entries = address as u64,
        _ => {}
    }
}

/// `io_uring_enter(fd, …)` has returned. A program of its own, which the one at `sys_exit` goes on with.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn uring_enter(ctx: RawTracePointContext) -> i32 {
    if let Some(who) = TrackedThread::current()
        && let Ok(fd) = u32::try_from(syscalls::descriptor(ctx.arg::<u64>(0)))
    {
        entered(&who, fd).unwrap_or(());
    }
    0
}

#[repr(C)]
struct Progress<'a> {
    who: &'a TrackedThread,
    uring: &'a mut Uring,
    transfer: &'a mut Transfer,
}

#[inline(always)]
fn entered(who: &TrackedThread, fd: u32) -> Option<()> {
    // SAFETY: a live map value; threads that enter one ring at once follow what each sees.
    let uring = unsafe { &mut *URINGS.get_ptr_mut(&who.fd(fd))? };
    if uring.submissions == 0 || uring.entries == 0 {
        return None;
    }
    let completions = if uring.completions == 0 { uring.submissions } else { uring.completions };
    let number = |ring: u64, at: u32| target::read::<u32>(ring.wrapping_add(u64::from(at)));
    let head = number(uring.submissions, uring.head)?;
    let done = number(completions, uring.done_tail)?;
    let taken = number(completions, uring.done_head)?;
    // SAFETY: nobody else uses it meanwhile.
    let transfer = unsafe { &mut *preempted::transfer(who)? };
    transfer.under_way = 0;
    transfer.ring = fd;
    transfer.end = head;
    transfer.taken = taken;
    let mut progress = Progress { who, uring, transfer };
    stream::repeat(&mut progress, submission);
    progress.transfer.end = done;
    stream::repeat(&mut progress, completion);
    let transfer = progress.transfer;
    if transfer.under_way != 0 {
        stream::finish(&mut transfer.copy, Counter::LostTooLarge as u8);
    }
    Some(())
}

/// Remembers the next submission.
#[inline(never)]
extern "C" fn submission(_index: u32, progress: &mut Progress<'_>) -> u64 {
    let uring = &mut *progress.uring;
    if uring.submitted == progress.transfer.end {
        return STOP;
    }
    let mut index = uring.submitted
        & target::read::<u32>(uring.submissions.wrapping_add(u64::from(uring.mask))).unwrap_or(0);
    uring.submitted = uring.submitted.wrapping_add(1);
    if uring.flags & SETUP_NO_SQARRAY == 0 {
        let slot = uring.submissions.wrapping_add(u64::from(uring.array)).wrapping_add(u64::from(index) * 4);
        index = target::read::<u32>(slot).unwrap_or(0);
    }
    let size = if uring.flags & SETUP_SQE128 != 0 { 128 } else { 64 };
    let entry = uring.entries.wrapping_add(u64::from(index) * size);
    let Some(entry) = target::read::<Submission>(entry) else { return GO_ON };
    if entry.flags & FIXED_FILE != 0 {
        return GO_ON;
    }
    let Some(kind) = kind_of(entry.opcode) else { return GO_ON };
    let call = UringCall {
        address: entry.address,
        count: u64::from(entry.len),
        fd: entry.fd,
        kind,
        hidden: u8::from(entry.flags & BUFFER_SELECT != 0),
        reserved: 0,
    };
    let generation = progress.who.generation;
    let key = UringKey { generation, user_data: entry.user_data, ring: progress.transfer.ring, reserved: 0 };
    if URING_CALLS.insert(&key, &call, 0).is_err() {
        count(Counter::MapFull, 1);
    }
    GO_ON
}

/// `struct io_uring_sqe`, up to `user_data`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: u32,
    offset: u64,
    address: u64,
    len: u32,
    msg_flags: u32,
    user_data: u64,
}

/// The system call that an operation stands for; `Some(0)` is `close`.
#[inline(always)]
const fn kind_of(opcode: u8) -> Option<u8> {
    const MOVES: u8 = Syscall::TRANSFER | Syscall::SOCKET_ONLY;
    Some(match opcode {
        // READV, READ_FIXED and READ, RECVMSG, RECV
        1 => Syscall::TRANSFER | Syscall::RECEIVES | Syscall::VECTOR,
        4 | 22 => Syscall::TRANSFER | Syscall::RECEIVES,
        10 => MOVES | Syscall::RECEIVES | Syscall::MESSAGE,
        27 => MOVES | Syscall::RECEIVES,
        // WRITEV, WRITE_FIXED and WRITE, SENDMSG and SENDMSG_ZC, SEND and SEND_ZC
        2 => Syscall::TRANSFER | Syscall::VECTOR,
        5 | 23 => Syscall::TRANSFER,
        9 | 48 => MOVES | Syscall::MESSAGE,
        26 | 47 => MOVES,
        // CLOSE
        19 => 0,
        _ => return None,
    })
}

/// `struct io_uring_cqe`
#[derive(Clone, Copy)]
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// Copies a piece of what a completion moved, or takes in the next one: one loop, because the verifier follows a loop in a
/// loop for very long.
#[inline(never)]
extern "C" fn completion(_index: u32, progress: &mut Progress<'_>) -> u64 {
    if progress.transfer.under_way != 0 {
        if transfer::copy_piece(progress.transfer, progress.who) == STOP {
            stream::finish(&mut progress.transfer.copy, Counter::LostTooLarge as u8);
            progress.transfer.under_way = 0;
        }
        return GO_ON;
    }
    next_completion(progress)
}

/// Takes in the next completion.
#[inline(always)]
fn next_completion(progress: &mut Progress<'_>) -> u64 {
    let uring = &mut *progress.uring;
    if uring.completed == progress.transfer.end {
        return STOP;
    }
    let at = uring.completed;
    uring.completed = at.wrapping_add(1);
    let ring = if uring.completions == 0 { uring.submissions } else { uring.completions };
    let index = at & target::read::<u32>(ring.wrapping_add(u64::from(uring.done_mask))).unwrap_or(0);
    let size = if uring.flags & SETUP_CQE32 != 0 { 32 } else { 16 };
    let entry = ring.wrapping_add(u64::from(uring.done_entries)).wrapping_add(u64::from(index) * size);
    let Some(done) = target::read::<Completion>(entry) else { return GO_ON };
    if done.flags & NOTIFICATION != 0 {
        return GO_ON;
    }
    let generation = progress.who.generation;
    let key = UringKey { generation, user_data: done.user_data, ring: progress.transfer.ring, reserved: 0 };
    let Some(call) = URING_CALLS.get_ptr(&key) else { return GO_ON };
    // SAFETY: a live map value, which stays readable until the program ends.
    let call = unsafe { &*call };
    let hidden = call.hidden != 0;
    // In place, because stack space is short.
    let moved = &mut progress.transfer.operation;
    moved.fd = call.fd;
    moved.kind = call.kind;
    moved.pointer = call.address;
    moved.count = call.count;
    moved.flags = 0;
    moved.result = i64::from(done.result);
    if done.flags & MORE == 0 {
        URING_CALLS.remove(&key).unwrap_or(());
    }
    if moved.kind == 0 {
        socket::close(progress.who, moved.fd);
        return GO_ON;
    }
    // A completion that the process has taken: it may have used the buffer since.
    if moved.result > 0 && (hidden || (at.wrapping_sub(progress.transfer.taken) as i32) < 0) {
        transfer::unseen(progress.who, moved.fd, moved.kind, moved.result, Counter::LostIoUring as u8);
    } else {
        progress.transfer.under_way = transfer::begin_operation();
    }
    GO_ON
}
