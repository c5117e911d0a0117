//! The entry and exit points of every socket call; what they do is in [`crate::socket`].
//!
//! Arguments of a `sys_enter_*` record lie at 16, 24, …, the result of a `sys_exit_*` record at 16
//! (kernel/trace/trace_syscalls.c); both are stable.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext};

use tokentap_abi::Direction;

use crate::{
    maps::{CALLS, Watched},
    socket::{self, Cursor, Pieces},
    stream::Copy,
};

/// A socket call in progress.
#[derive(Default)]
#[repr(C)]
pub struct Call {
    /// Stream id; 0 when it is made at return.
    pub stream: u64,
    /// Buffer, `iovec`s, `msghdr`, `mmsghdr`s or `sockaddr`, by the call.
    pub pointer: u64,
    /// Length, count of `iovec`s or of messages, by the call.
    pub count: u64,
    /// Entry time.
    pub time: u64,
    /// File descriptor.
    pub fd: u32,
    pub reserved: u32,
    pub copy: Copy,
    pub cursor: Cursor,
}

/// The `N`th argument.
#[inline(always)]
fn arg<const N: usize>(ctx: &TracePointContext) -> u64 {
    // SAFETY: a field of the record.
    unsafe { ctx.read_at::<u64>(16 + 8 * N) }.unwrap_or(0)
}

/// Does what a call's end asks for, with the call and its result, and forgets the call.
#[inline(always)]
fn ended(ctx: &TracePointContext, act: impl FnOnce(&Watched, &mut Call, i64) -> Option<()>) -> u32 {
    ended_or(ctx, act, |_, _| ())
}

/// As [`ended`]; `other` is for a call that was not remembered, with the thread and the result.
#[inline(always)]
fn ended_or(
    ctx: &TracePointContext,
    act: impl FnOnce(&Watched, &mut Call, i64) -> Option<()>,
    other: impl FnOnce(u64, i64),
) -> u32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: a field of the record.
    let Ok(result) = (unsafe { ctx.read_at::<i64>(16) }) else { return 0 };
    let Some(call) = CALLS.get_ptr_mut(&pid_tgid) else {
        other(pid_tgid, result);
        return 0;
    };
    // SAFETY: only this thread uses its entry, which stays until it is removed below.
    let call = unsafe { &mut *call };
    if let Some(who) = Watched::current() {
        act(&who, call, result).unwrap_or(());
    }
    CALLS.remove(&pid_tgid).unwrap_or(());
    0
}

/// Calls that move bytes: entry and exit programs of one.
macro_rules! transfer {
    ($enter:ident, $exit:ident, $dir:ident, $pieces:ident, socket_only: $only:literal, peek: $flags:expr) => {
        #[tracepoint]
        pub fn $enter(ctx: TracePointContext) -> u32 {
            let flags: fn(&TracePointContext) -> u64 = $flags;
            socket::enter_transfer(arg::<0>(&ctx) as u32, arg::<1>(&ctx), arg::<2>(&ctx), flags(&ctx), $only)
        }

        #[tracepoint]
        pub fn $exit(ctx: TracePointContext) -> u32 {
            ended_or(
                &ctx,
                |who, call, result| {
                    socket::exit_transfer(who, call, result, Direction::$dir, Pieces::$pieces)
                },
                |pid_tgid, result| socket::exit_ciphertext(pid_tgid, result, Direction::$dir),
            )
        }
    };
}

transfer!(enter_read, exit_read, Read, Flat, socket_only: false, peek: |_| 0);
transfer!(enter_readv, exit_readv, Read, Vector, socket_only: false, peek: |_| 0);
transfer!(enter_recvfrom, exit_recvfrom, Read, Flat, socket_only: true, peek: arg::<3>);
transfer!(enter_recvmsg, exit_recvmsg, Read, Message, socket_only: true, peek: arg::<2>);
transfer!(enter_recvmmsg, exit_recvmmsg, Read, Messages, socket_only: true, peek: arg::<3>);
transfer!(enter_write, exit_write, Write, Flat, socket_only: false, peek: |_| 0);
transfer!(enter_writev, exit_writev, Write, Vector, socket_only: false, peek: |_| 0);
transfer!(enter_sendto, exit_sendto, Write, Flat, socket_only: true, peek: |_| 0);
transfer!(enter_sendmsg, exit_sendmsg, Write, Message, socket_only: true, peek: |_| 0);
transfer!(enter_sendmmsg, exit_sendmmsg, Write, Messages, socket_only: true, peek: |_| 0);

#[tracepoint]
pub fn enter_sendfile64(ctx: TracePointContext) -> u32 {
    socket::enter_transfer(arg::<0>(&ctx) as u32, 0, arg::<3>(&ctx), 0, false)
}

#[tracepoint]
pub fn exit_sendfile64(ctx: TracePointContext) -> u32 {
    ended(&ctx, socket::exit_sendfile)
}

#[tracepoint]
pub fn enter_connect(ctx: TracePointContext) -> u32 {
    socket::enter_connect(arg::<0>(&ctx) as u32, arg::<1>(&ctx), arg::<2>(&ctx))
}

#[tracepoint]
pub fn exit_connect(ctx: TracePointContext) -> u32 {
    ended(&ctx, socket::exit_connect)
}

#[tracepoint]
pub fn enter_accept(ctx: TracePointContext) -> u32 {
    socket::remember(arg::<0>(&ctx) as u32, arg::<1>(&ctx), 0)
}

#[tracepoint]
pub fn exit_accept(ctx: TracePointContext) -> u32 {
    ended(&ctx, socket::exit_accept)
}

#[tracepoint]
pub fn enter_close(ctx: TracePointContext) -> u32 {
    socket::enter_close(arg::<0>(&ctx) as u32)
}

#[tracepoint]
pub fn enter_shutdown(ctx: TracePointContext) -> u32 {
    socket::enter_shutdown(arg::<0>(&ctx) as u32, arg::<1>(&ctx))
}

#[tracepoint]
pub fn enter_dup(ctx: TracePointContext) -> u32 {
    socket::enter_dup(arg::<0>(&ctx) as u32)
}

/// `fcntl(fd, F_DUPFD)` is how some runtimes duplicate; its other commands do not concern us.
#[tracepoint]
pub fn enter_fcntl(ctx: TracePointContext) -> u32 {
    const F_DUPFD: u64 = 0;
    const F_DUPFD_CLOEXEC: u64 = 1030;
    match arg::<1>(&ctx) {
        F_DUPFD | F_DUPFD_CLOEXEC => socket::enter_dup(arg::<0>(&ctx) as u32),
        _ => 0,
    }
}

/// For `dup`, `dup2`, `dup3` and `fcntl`: the result is the new descriptor.
#[tracepoint]
pub fn exit_dup(ctx: TracePointContext) -> u32 {
    ended(&ctx, socket::exit_dup)
}
