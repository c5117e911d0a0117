//! What the kernel knows of the eBPF programs that are loaded: how often each ran, how long, and how often it
//! was not run although it should have been.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// One program, as far as we ask (`struct bpf_prog_info`, include/uapi/linux/bpf.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number.
    pub id: u32,
    /// Whether it runs on probes and tracepoints.
    pub traces: bool,
    /// Its name, cut at 15 bytes.
    pub name: String,
    /// Runs, counted while [`Statistics`] live.
    pub runs: u64,
    /// Nanoseconds of these runs.
    pub nanoseconds: u64,
    /// Runs that the kernel left out because a program was already running on that CPU, since it was loaded.
    pub skipped: u64,
}

/// Has the kernel count runs and their time, which costs each run some 50 ns; until it is dropped.
#[derive(Debug)]
pub struct Statistics(#[expect(dead_code, reason = "the kernel counts while it is open")] OwnedFd);

// Commands of bpf(2).
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const ENABLE_STATS: libc::c_int = 32;

impl Statistics {
    /// Starts.
    ///
    /// # Errors
    /// Without root, or on kernels before 5.8.
    pub fn start() -> io::Result<Self> {
        const RUN_TIME: u32 = 0;
        let mut attr = [RUN_TIME];
        descriptor(bpf(ENABLE_STATS, &mut attr)?).map(Self)
    }
}

/// All programs that are loaded.
///
/// # Errors
/// Without root.
pub fn all() -> io::Result<Vec<Program>> {
    let mut found = Vec::new();
    for id in ids()? {
        match info(id) {
            Ok(program) => found.push(program),
            // It went away in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The numbers of all programs that are loaded.
///
/// # Errors
/// Without root.
pub fn ids() -> io::Result<BTreeSet<u32>> {
    ids_by(PROG_GET_NEXT_ID)
}

/// The numbers that a `BPF_*_GET_NEXT_ID` command lists.
///
/// # Errors
/// Without root.
pub fn ids_by(command: libc::c_int) -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    // Where to begin, what comes next, flags.
    let mut attr = [0_u32; 3];
    loop {
        match bpf(command, &mut attr) {
            Ok(_) => {
                found.insert(attr[1]);
                attr[0] = attr[1];
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
}

fn info(id: u32) -> io::Result<Program> {
    #[repr(C)]
    struct InfoByFd {
        fd: u32,
        info_len: u32,
        info: u64,
    }
    // Offsets in `struct bpf_prog_info`; kernels that know less of it leave the rest zero.
    const SIZE: usize = 232;
    const KIND: usize = 0;
    /// `BPF_PROG_TYPE_KPROBE` (uprobes too), `_TRACEPOINT`, `_RAW_TRACEPOINT`, `_TRACING`.
    const TRACES: [u32; 4] = [2, 5, 17, 26];
    const NAME: usize = 64;
    const RUN_TIME: usize = 192;
    const RUN_COUNT: usize = 200;
    const RECURSION_MISSES: usize = 208;

    let program = descriptor(bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0])?)?;
    let mut info = [0_u8; SIZE];
    let mut attr = InfoByFd {
        fd: program.as_fd().as_raw_fd().cast_unsigned(),
        info_len: SIZE as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, std::slice::from_mut(&mut attr))?;
    let number = |at: usize| info[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let name = info[NAME..NAME + 16].split(|byte| *byte == 0).next().unwrap_or_default();
    let kind = info[KIND..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    Ok(Program {
        id,
        traces: TRACES.contains(&kind),
        name: String::from_utf8_lossy(name).into_owned(),
        runs: number(RUN_COUNT),
        nanoseconds: number(RUN_TIME),
        skipped: number(RECURSION_MISSES),
    })
}

/// The system call, with the beginning of its `union bpf_attr`.
fn bpf<T>(command: libc::c_int, attr: &mut [T]) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes no more of `attr` than the size that it is told; where that has a
    // pointer in it, the caller's memory behind it is as long as the length beside it says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::info;

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_missing() {
        if rustix::process::geteuid().is_root() {
            assert_eq!(info(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        }
    }
}
