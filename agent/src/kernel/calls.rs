//! The system calls that matter, by the numbers of this architecture.

use tokentap_abi::{SYSCALLS, Syscall};

/// Numbers differ between architectures, and some calls exist on one only.
const CALLS: &[(libc::c_long, Syscall)] = &[
    (libc::SYS_read, Syscall::transfer(Syscall::RECEIVES)),
    (libc::SYS_readv, Syscall::transfer(Syscall::RECEIVES | Syscall::VECTOR)),
    (libc::SYS_preadv2, Syscall::transfer(Syscall::RECEIVES | Syscall::VECTOR)),
    (libc::SYS_recvfrom, Syscall::transfer(Syscall::RECEIVES | Syscall::SOCKET_ONLY | Syscall::FLAGS_FOURTH)),
    (
        libc::SYS_recvmsg,
        Syscall::transfer(Syscall::RECEIVES | Syscall::MESSAGE | Syscall::SOCKET_ONLY | Syscall::FLAGS_THIRD),
    ),
    (
        libc::SYS_recvmmsg,
        Syscall::transfer(
            Syscall::RECEIVES | Syscall::MESSAGES | Syscall::SOCKET_ONLY | Syscall::FLAGS_FOURTH,
        ),
    ),
    (libc::SYS_write, Syscall::transfer(0)),
    (libc::SYS_writev, Syscall::transfer(Syscall::VECTOR)),
    (libc::SYS_pwritev2, Syscall::transfer(Syscall::VECTOR)),
    (libc::SYS_sendto, Syscall::transfer(Syscall::SOCKET_ONLY)),
    (libc::SYS_sendmsg, Syscall::transfer(Syscall::MESSAGE | Syscall::SOCKET_ONLY)),
    (libc::SYS_sendmmsg, Syscall::transfer(Syscall::MESSAGES | Syscall::SOCKET_ONLY)),
    (libc::SYS_sendfile, Syscall::SENDFILE),
    (libc::SYS_splice, Syscall::SPLICE),
    (libc::SYS_connect, Syscall::CONNECT),
    (libc::SYS_accept, Syscall::ACCEPT),
    (libc::SYS_accept4, Syscall::ACCEPT),
    (libc::SYS_close, Syscall::CLOSE),
    (libc::SYS_close_range, Syscall::CLOSE_RANGE),
    (libc::SYS_shutdown, Syscall::SHUTDOWN),
    (libc::SYS_dup, Syscall::DUP),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_dup2, Syscall::DUP),
    (libc::SYS_dup3, Syscall::DUP),
    (libc::SYS_fcntl, Syscall::FCNTL),
    (libc::SYS_mmap, Syscall::MMAP),
    (libc::SYS_io_uring_setup, Syscall::URING_SETUP),
    (libc::SYS_io_uring_enter, Syscall::URING_ENTER),
];

/// The kernel side's table: what is done at the end of each call.
pub(super) fn table() -> [u8; SYSCALLS] {
    let mut table = [Syscall::NONE.0; SYSCALLS];
    for (number, call) in CALLS {
        if let Some(entry) = usize::try_from(*number).ok().and_then(|number| table.get_mut(number)) {
            *entry = call.0;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_place() {
        let table = table();
        assert_eq!(table.iter().filter(|kind| **kind != Syscall::NONE.0).count(), CALLS.len());
        assert_eq!(table[libc::SYS_getppid as usize], Syscall::NONE.0);
    }
}
