//! tokentap's kernel side. It copies bytes and identifies connections; it parses nothing beyond the first
//! bytes that tell TLS, HTTP and the rest apart.
//!
//! Every program starts with a lookup that ends it for processes nobody watches. No program logs on a hot
//! path, reads a kernel struct (so no CO-RE is needed) or writes to the target.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unreachable_pub, reason = "programs are public to their macros only")]

mod bench;
mod maps;
mod process;
mod ring;
mod socket;
mod stream;
mod syscalls;
mod tls;

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
