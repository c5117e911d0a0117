//! tokentap's kernel side. It copies bytes and identifies connections; it parses nothing beyond the first
//! bytes that tell TLS, HTTP and the rest apart.
//!
//! Every program starts with a look-up that ends it for processes that are not tracked. No program logs, or writes to
//! the target. The kernel's own structures are read in one place, [`descriptors`], by offsets that user space takes from the
//! kernel's BTF.
//!
//! | program | preempted by another program | nests in itself on a CPU | its scratch space |
//! |---|---|---|---|
//! | `tls_enter*`, `tls_return*` | yes, where the kernel is preemptible | yes, of another thread | the thread's entry |
//! | `sys_exit` | from Linux 7.0 on | no: the kernel skips it, and counts that | one per CPU; from 7.0 on the thread's entry |
//! | `process_exec*` | from Linux 7.0 on | no | one per CPU and program |
//! | `task_newtask*`, `process_exit` | from Linux 7.0 on | no | none |
//!
//! A stack of their own keeps the first kind apart (`tls::keep_own_stack`). What the others are skipped for where they can
//! be preempted, second programs do ([`preempted`]).
//!
//! None may fault: memory of the target that is not resident is counted as unreadable.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unreachable_pub, reason = "programs are public to their macros only")]

mod bench;
mod ciphertext;
mod classify;
mod current;
mod descriptors;
mod maps;
mod preempted;
mod process;
mod ring;
mod rules;
mod socket;
mod state;
mod stream;
mod syscalls;
mod target;
mod tls;
mod transfer;
mod uring;

/// `bpf_probe_read_user` is a GPL-only helper.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: a reachable panic path does not pass the verifier.
    loop {}
}
