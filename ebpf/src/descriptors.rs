//! The kernel's own tables: what a descriptor is, and what ends with a thread.
//!
//! Without this knowledge a socket cannot be told from a file that took its number, or that came from another process.
//! The layout of the kernel's structures comes from its BTF, which user space reads when it loads the programs; where
//! there is none, [`KNOWN`] is 0 and the verifier drops everything here.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task},
};
use tokentap_abi::Open;

use crate::current::zero;

/// Offsets in bytes, by `structure.member`.
macro_rules! layout {
    ($($name:ident: $of:literal,)*) => {
        $(
            #[doc = $of]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(0);
        )*
    };
}

layout! {
    TASK_FILES: "task_struct.files",
    TASK_SIGNAL: "task_struct.signal",
    TASK_PID: "task_struct.pid",
    SIGNAL_LIVE: "signal_struct.live",
    FILES_FDT: "files_struct.fdt",
    FDT_MAX_FDS: "fdtable.max_fds",
    FDT_FD: "fdtable.fd",
    FILE_INODE: "file.f_inode",
    FILE_PRIVATE: "file.private_data",
    INODE_MODE: "inode.i_mode",
    INODE_NUMBER: "inode.i_ino",
    SOCKET_SK: "socket.sk",
    SOCK_FAMILY: "sock_common.skc_family",
    SOCK_PORT: "sock_common.skc_dport",
    SOCK_ADDRESS: "sock_common.skc_daddr",
    SOCK_ADDRESS6: "sock_common.skc_v6_daddr",
    BPRM_FILENAME: "linux_binprm.filename",
}

/// 1 when the offsets are set.
#[unsafe(no_mangle)]
pub static KNOWN: Global<u8> = Global::new(0);

/// [`Descriptor::kind`]: the kernel side cannot know.
pub const UNKNOWN: u64 = 0;
/// [`Descriptor::kind`]: there is none.
pub const CLOSED: u64 = 1;
/// [`Descriptor::kind`]: a file, a pipe, anything that is not a socket.
pub const OTHER: u64 = 2;
/// [`Descriptor::kind`]: a socket.
pub const SOCKET: u64 = 3;

/// What a descriptor of the running process is now. Numbers that are always set, because the verifier does not take a
/// value that is left open where it does not matter.
pub struct Descriptor {
    pub kind: u64,
    /// Of a socket, the number of its inode, which no other socket has; else 0.
    pub inode: u64,
    file: u64,
}

#[inline(always)]
fn kernel<T>(base: u64, offset: &Global<u32>) -> Option<T> {
    // SAFETY: the helper checks the address and reports a fault.
    unsafe { bpf_probe_read_kernel((base.wrapping_add(u64::from(offset.load()))) as *const T) }.ok()
}

/// Looks a descriptor up in the process's table, as the kernel does.
#[inline(always)]
pub fn descriptor(fd: u32) -> Descriptor {
    let mut is = Descriptor { kind: UNKNOWN, inode: zero(), file: zero() };
    if KNOWN.load() != 0 {
        look_up(fd, &mut is);
    }
    is
}

#[inline(never)]
fn look_up(fd: u32, is: &mut Descriptor) -> u64 {
    const S_IFMT: u16 = 0xf000;
    const S_IFSOCK: u16 = 0xc000;
    is.kind = CLOSED;
    // SAFETY: no arguments, always allowed.
    let task = unsafe { bpf_get_current_task() };
    let Some(files) = kernel::<u64>(task, &TASK_FILES) else { return 0 };
    let Some(table) = kernel::<u64>(files, &FILES_FDT) else { return 0 };
    if fd >= kernel::<u32>(table, &FDT_MAX_FDS).unwrap_or(0) {
        return 0;
    }
    let Some(slots) = kernel::<u64>(table, &FDT_FD) else { return 0 };
    // SAFETY: the helper checks the address and reports a fault.
    let slot = unsafe { bpf_probe_read_kernel((slots.wrapping_add(u64::from(fd) * 8)) as *const u64) };
    let file = slot.unwrap_or(0);
    if file == 0 {
        return 0;
    }
    let Some(inode) = kernel::<u64>(file, &FILE_INODE) else { return 0 };
    is.kind = OTHER;
    if kernel::<u16>(inode, &INODE_MODE).unwrap_or(0) & S_IFMT == S_IFSOCK {
        is.kind = SOCKET;
        is.inode = kernel(inode, &INODE_NUMBER).unwrap_or(0);
        is.file = file;
    }
    0
}

impl Descriptor {
    /// Puts the other end's address down, where there is one.
    #[inline(always)]
    pub fn peer(&self, open: &mut Open) {
        const AF_INET: u16 = 2;
        const AF_INET6: u16 = 10;
        if self.file == 0 {
            return;
        }
        let Some(socket) = kernel::<u64>(self.file, &FILE_PRIVATE) else { return };
        let Some(sock) = kernel::<u64>(socket, &SOCKET_SK) else { return };
        let Some(family) = kernel::<u16>(sock, &SOCK_FAMILY) else { return };
        let port = kernel::<u16>(sock, &SOCK_PORT).map_or(0, u16::from_be);
        if port == 0 && (family == AF_INET || family == AF_INET6) {
            return;
        }
        open.family = family;
        if family == AF_INET {
            open.port = port;
            if let Some([a, b, c, d]) = kernel::<[u8; 4]>(sock, &SOCK_ADDRESS) {
                open.addr[0] = a;
                open.addr[1] = b;
                open.addr[2] = c;
                open.addr[3] = d;
            }
        } else if family == AF_INET6 {
            open.port = port;
            if let Some(address) = kernel::<[u8; 16]>(sock, &SOCK_ADDRESS6) {
                open.addr = address;
            }
        }
    }
}

/// Whether the thread that is ending is its process's last one; `None` where that is not known.
#[inline(always)]
pub fn last_thread() -> Option<bool> {
    if KNOWN.load() == 0 {
        return None;
    }
    // SAFETY: no arguments, always allowed.
    let task = unsafe { bpf_get_current_task() };
    let signal: u64 = kernel(task, &TASK_SIGNAL)?;
    // kernel/exit.c: do_exit counts down before its tracepoint.
    Some(kernel::<i32>(signal, &SIGNAL_LIVE)? == 0)
}

/// The id of a task.
#[inline(always)]
pub fn pid_of(task: u64) -> Option<u32> {
    kernel(task, &TASK_PID)
}

/// Where the name is that an image was started as; in kernel memory.
#[inline(always)]
pub fn filename_of(bprm: u64) -> Option<u64> {
    kernel(bprm, &BPRM_FILENAME)
}
