//! The target's memory, and the registers in which it passes arguments.

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::helpers::{bpf_probe_read_user, generated::bpf_probe_read_user as bpf_probe_read_user_raw};

use crate::maps::ARM64;

/// Reads a value from the target's memory.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and reports a fault.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Reads into a value from the target's memory; false when it cannot be read.
#[inline(always)]
pub fn read_into<T>(address: u64, to: &mut T) -> bool {
    // SAFETY: as many bytes as there is room for; the helper checks the address.
    unsafe {
        bpf_probe_read_user_raw(ptr::from_mut(to).cast(), size_of::<T>() as u32, address as *const c_void)
            == 0
    }
}

/// Defines a read of one register from a probe's context. The kernel allows constant offsets only, so the compiler must
/// not merge the two branches: of those the verifier keeps one.
macro_rules! register {
    ($(#[$doc:meta])* $name:ident, x86_64: $x86:literal, arm64: $arm:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(ctx: *mut c_void) -> u64 {
            let value: u64;
            // SAFETY: `ctx` is a probe's `struct pt_regs`, which holds a register at this offset.
            unsafe {
                if ARM64.load() == 0 {
                    asm!(concat!("{value} = *(u64 *)({ctx} + ", $x86, ")"), value = out(reg) value, ctx = in(reg) ctx);
                } else {
                    asm!(concat!("{value} = *(u64 *)({ctx} + ", $arm, ")"), value = out(reg) value, ctx = in(reg) ctx);
                }
            }
            value
        }
    };
}

// arch/x86/include/asm/ptrace.h and arch/arm64/include/uapi/asm/ptrace.h, both stable.
register!(arg0, x86_64: 112, arm64: 0);
register!(arg1, x86_64: 104, arm64: 8);
register!(arg2, x86_64: 96, arm64: 16);
register!(arg3, x86_64: 88, arm64: 24);
register!(arg4, x86_64: 72, arm64: 32);
register!(
    /// What a function returned.
    returned, x86_64: 80, arm64: 0
);
register!(
    /// The stack pointer.
    stack, x86_64: 152, arm64: 248
);

/// What the stack pointer was when the function that has just returned was entered: on x86-64 the return address was on
/// the stack then.
#[inline(always)]
pub fn stack_at_entry(ctx: *mut c_void) -> u64 {
    let now = stack(ctx);
    if ARM64.load() == 0 { now.wrapping_sub(8) } else { now }
}

/// Clamps where the value is used. Opaque to LLVM, so that it is neither hoisted above a spill nor elided;
/// kernels up to 6.1 do not follow a bound through a spill.
#[inline(always)]
pub fn at_most<const MAX: u64>(mut n: u64) -> u64 {
    // SAFETY: register-only arithmetic.
    unsafe {
        asm!("if {n} <= {max} goto +1", "{n} = {max}", n = inout(reg) n, max = const MAX);
    };
    n
}
