//! The end of every system call: one program for all of them.
//!
//! At the end, descriptor, buffer and length are still in the registers, so that no entry needs to be remembered and a
//! call that was waiting when the agent came is seen. Which calls matter is looked up by number before anything else:
//! that, and one look-up of the process, is all that others pay.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_probe_read_kernel, generated::bpf_tail_call},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tokentap_abi::{Counter, Kind, SYSCALLS, Syscall, tail, tracked};

use crate::{
    current::{self, TrackedThread, zero},
    maps::{ARM64, CALLS, TAIL_CALLS},
    preempted, ring, socket,
    state::Call,
    transfer, uring,
};

/// Where the number of the call is in `struct pt_regs`.
const NUMBER_X86: u64 = 120;
const NUMBER_ARM64: u64 = 280;

/// include/trace/events/syscalls.h: `sys_exit(struct pt_regs *regs, long ret)`.
///
/// Not by aya's macro: its wrapper makes a function of the body, from which the kernel allows no tail call.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tracepoint/sys_exit")]
pub extern "C" fn sys_exit(ctx: *mut c_void) -> i32 {
    let ctx = RawTracePointContext::new(ctx);
    let (regs, result) = (ctx.arg::<u64>(0), ctx.arg::<i64>(1));
    let kind = kind_of(number(regs));
    if kind == Syscall::NONE.0 {
        return 0;
    }
    let Some(who) = TrackedThread::current() else { return 0 };
    if !preempted::handles_exit(&who) {
        return 0;
    }
    if kind & Syscall::TRANSFER == 0 {
        let next = match Syscall(kind) {
            Syscall::URING_ENTER => tail::URING_ENTER,
            Syscall::SENDFILE | Syscall::SPLICE => tail::PASSED_BY,
            _ => tail::OTHER,
        };
        // SAFETY: the program's own context, and a map that lives as long as the program. It does not come back from
        // there.
        unsafe { bpf_tail_call(ctx.as_ptr(), (&raw const TAIL_CALLS).cast_mut().cast(), next) };
        return 0;
    }
    let mut call = Call { fd: 0, kind, pointer: zero(), count: zero(), flags: zero(), result };
    if read_call(regs, &mut call) != 0 {
        transfer::transferred(&who, &call).unwrap_or(());
    }
    0
}

/// Behind [`sys_exit`], where that can be preempted.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tracepoint/sys_exit")]
pub extern "C" fn sys_exit_second(ctx: *mut c_void) -> i32 {
    repeat(&RawTracePointContext::new(ctx), false)
}

/// Behind [`sys_exit_second`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tracepoint/sys_exit")]
pub extern "C" fn sys_exit_third(ctx: *mut c_void) -> i32 {
    repeat(&RawTracePointContext::new(ctx), true)
}

#[inline(always)]
fn repeat(ctx: &RawTracePointContext, last: bool) -> i32 {
    if kind_of(number(ctx.arg::<u64>(0))) != Syscall::NONE.0
        && let Some(who) = TrackedThread::current()
        && preempted::repeats_exit(&who, last)
    {
        // SAFETY: as in `sys_exit`.
        unsafe {
            bpf_tail_call(ctx.as_ptr(), (&raw const TAIL_CALLS).cast_mut().cast(), tail::SYS_EXIT);
        }
    }
    0
}

/// The end of a call that moves no bytes through a buffer.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_other(ctx: RawTracePointContext) -> i32 {
    let (regs, result) = (ctx.arg::<u64>(0), ctx.arg::<i64>(1));
    if let Some(who) = TrackedThread::current()
        && let Some(args) = Args::read(regs)
    {
        ended(&who, kind_of(number(regs)), &args, result);
    }
    0
}

/// The end of `sendfile` and `splice`.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn passed_by(ctx: RawTracePointContext) -> i32 {
    let (regs, result) = (ctx.arg::<u64>(0), ctx.arg::<i64>(1));
    let splice = kind_of(number(regs)) == Syscall::SPLICE.0;
    if let Some(who) = TrackedThread::current()
        && let Some(args) = Args::read(regs)
    {
        let [first, second, third, ..] = args.0;
        // splice(in, offset, out, …): one of the two is a pipe. sendfile(out, in, …): what it comes from is no socket.
        let (from, to) = if splice { (first, third) } else { (second, first) };
        let reason = if splice { Counter::LostSplice as u8 } else { Counter::LostSendfile as u8 };
        transfer::unseen(&who, from as u32, Syscall::RECEIVES, result, reason);
        transfer::unseen(&who, to as u32, 0, result, reason);
    }
    0
}

/// The number of a call; 0xffff_ffff when it cannot be read.
#[inline(always)]
fn number(regs: u64) -> u32 {
    let at = if ARM64.load() == 0 { NUMBER_X86 } else { NUMBER_ARM64 };
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(regs.wrapping_add(at) as *const u32) }.unwrap_or(u32::MAX)
}

/// The entry of the table of calls; a number beyond it is none of ours.
#[inline(always)]
fn kind_of(number: u32) -> u8 {
    if number as usize >= SYSCALLS {
        return 0;
    }
    let table = (&raw const CALLS).cast::<u8>();
    // SAFETY: the index was checked; the table is read-only after load. One byte is read, not the whole table.
    unsafe { table.add(number as usize).read_volatile() }
}

/// What a call was made with.
pub struct Args([u64; 6]);

/// arch/x86/include/asm/ptrace.h, from `r10` to `cs`.
#[derive(Clone, Copy)]
#[repr(C)]
struct X86 {
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    number: u64,
    ip: u64,
    cs: u64,
}

const X86_START: u64 = 56;
/// Segment of 64-bit code: others number their calls differently.
const USER_CS: u64 = 0x33;

/// arch/arm64/include/asm/ptrace.h, from `pstate` to `orig_x0`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Arm64 {
    pstate: u64,
    first: u64,
}

const ARM64_START: u64 = 264;
/// `PSR_MODE32_BIT`
const ARM64_32_BIT: u64 = 0x10;

impl Args {
    /// `None` for calls of 32-bit code, which is not followed.
    #[inline(always)]
    pub fn read(regs: u64) -> Option<Self> {
        let mut args = Self([zero(), zero(), zero(), zero(), zero(), zero()]);
        (read_args(regs, &mut args) != 0).then_some(args)
    }
}

/// The descriptor that a call was made with; more than fits 32 bits when it cannot be read. A function of its own, so that
/// its stack space is free again.
#[inline(never)]
pub fn descriptor(regs: u64) -> u64 {
    Args::read(regs).map_or(u64::MAX, |args| args.0[0] & 0xffff_ffff)
}

/// As [`descriptor`].
#[inline(never)]
fn read_args(regs: u64, args: &mut Args) -> u64 {
    // SAFETY: the helper checks the addresses.
    unsafe {
        if ARM64.load() == 0 {
            let Ok(regs) = bpf_probe_read_kernel(regs.wrapping_add(X86_START) as *const X86) else {
                return 0;
            };
            args.0 = [regs.di, regs.si, regs.dx, regs.r10, regs.r8, regs.r9];
            u64::from(regs.cs == USER_CS)
        } else {
            let Ok(registers) = bpf_probe_read_kernel(regs as *const [u64; 6]) else { return 0 };
            args.0 = registers;
            let Ok(state) = bpf_probe_read_kernel(regs.wrapping_add(ARM64_START) as *const Arm64) else {
                return 0;
            };
            args.0[0] = state.first;
            u64::from(state.pstate & ARM64_32_BIT == 0)
        }
    }
}

/// The arguments of a call that moves bytes.
#[inline(never)]
fn read_call(regs: u64, call: &mut Call) -> u64 {
    let Some(args) = Args::read(regs) else { return 0 };
    let [fd, pointer, count, fourth, ..] = args.0;
    call.fd = fd as u32;
    call.pointer = pointer;
    call.count = count;
    call.flags = match call.kind & (Syscall::FLAGS_THIRD | Syscall::FLAGS_FOURTH) {
        Syscall::FLAGS_THIRD => count,
        Syscall::FLAGS_FOURTH => fourth,
        _ => 0,
    };
    1
}

#[inline(always)]
fn ended(who: &TrackedThread, kind: u8, args: &Args, result: i64) {
    let [a, b, c, d, e, f] = args.0;
    let fd = a as u32;
    match Syscall(kind) {
        Syscall::CONNECT => socket::connect(who, fd, b, result),
        Syscall::ACCEPT => socket::accept(who, b, result),
        Syscall::CLOSE => socket::close(who, fd),
        Syscall::CLOSE_RANGE => socket::close_range(who, fd, b as u32, c, result),
        Syscall::SHUTDOWN => socket::shutdown(who, fd, b, result),
        Syscall::DUP => socket::duplicated(who, fd, result),
        Syscall::FCNTL => fcntl(who, fd, b, result),
        Syscall::MMAP => mapped(who, c, d, e as u32, f, result),
        Syscall::URING_SETUP => uring::set_up(who, b, result),
        _ => {}
    }
}

/// `fcntl(fd, F_DUPFD)` is how some runtimes duplicate; its other commands do not matter here.
#[inline(always)]
fn fcntl(who: &TrackedThread, fd: u32, command: u64, result: i64) {
    const F_DUPFD: u64 = 0;
    const F_DUPFD_CLOEXEC: u64 = 1030;
    if command == F_DUPFD || command == F_DUPFD_CLOEXEC {
        socket::duplicated(who, fd, result);
    }
}

/// A file mapped as executable may bring TLS code: `dlopen`, a lazy import, the dynamic linker at start.
#[inline(always)]
fn mapped(who: &TrackedThread, protection: u64, map_flags: u64, fd: u32, offset: u64, result: i64) {
    const PROT_EXEC: u64 = 4;
    const MAP_ANONYMOUS: u64 = 0x20;
    if map_flags & MAP_ANONYMOUS != 0 || (-4095..0).contains(&result) {
        return;
    }
    if protection & PROT_EXEC != 0 {
        ring::bare(|header| current::fill(header, Kind::Map, who, 0), true);
    } else if who.flags() & tracked::IO_URING != 0 {
        uring::mapped(who, fd, offset, result);
    }
}
