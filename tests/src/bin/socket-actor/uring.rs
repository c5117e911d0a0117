//! Calls by io_uring, by its system calls (`include/uapi/linux/io_uring.h`).

use std::{
    fs::File,
    io::{self, Write as _},
    net::SocketAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::ensure;
use clap::ValueEnum;
use tokentap_tests::messages::{missing, request};

use crate::connect::connect;

/// What goes through the ring.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Way {
    /// Requests and answers, one operation after the other
    Both,
    /// Answers only
    Reads,
    /// Requests and answers of several connections at once
    Several,
}

const CONNECTIONS: usize = 4;
const CALLS: usize = 3;
const ENTRIES: u32 = 16;
const RECEIVE: u8 = 27;
const SEND: u8 = 26;

/// Calls on one connection, or on several at once.
pub(crate) fn calls(how: Way, server: SocketAddr) -> anyhow::Result<()> {
    let mut ring = Ring::new()?;
    let count = if matches!(how, Way::Several) { CONNECTIONS } else { 1 };
    let connections: Vec<File> = (0..count).map(|_| connect(server)).collect::<Result<_, _>>()?;
    for _ in 0..CALLS {
        let mut message = request("mock", server);
        if matches!(how, Way::Reads) {
            (&connections[0]).write_all(&message)?;
        } else {
            for (number, connection) in connections.iter().enumerate() {
                ring.submit(SEND, connection, &mut message, number as u64);
            }
            for (_, sent) in ring.complete(count as u32)? {
                ensure!(sent == message.len(), "{sent} bytes were sent");
            }
        }
        let mut answers = vec![Vec::new(); count];
        // A buffer for each connection, unused until its operation has completed.
        let mut buffers = vec![vec![0; 16 << 10]; count];
        loop {
            let open: Vec<usize> = (0..count).filter(|&number| missing(&answers[number]) > 0).collect();
            if open.is_empty() {
                break;
            }
            for &number in &open {
                ring.submit(RECEIVE, &connections[number], &mut buffers[number], number as u64);
            }
            for (number, received) in ring.complete(open.len() as u32)? {
                ensure!(received > 0, "the answer ends early");
                answers[number].extend_from_slice(&buffers[number][..received]);
            }
        }
    }
    Ok(())
}

struct Ring {
    descriptor: OwnedFd,
    parameters: Parameters,
    submissions: *mut u8,
    completions: *mut u8,
    entries: *mut Submission,
    waiting: u32,
}

/// `struct io_uring_params`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Parameters {
    submission_entries: u32,
    completion_entries: u32,
    flags: u32,
    thread_cpu: u32,
    thread_idle: u32,
    features: u32,
    workqueue: u32,
    reserved: [u32; 3],
    submission: Offsets,
    completion: Offsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`. The sixth is `dropped` and `cqes`, the seventh `array`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    flags_or_overflow: u32,
    dropped_or_completions: u32,
    array_or_flags: u32,
    reserved: [u32; 3],
}

/// `struct io_uring_sqe`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Submission {
    operation: u8,
    flags: u8,
    priority: u16,
    descriptor: i32,
    offset: u64,
    address: u64,
    length: u32,
    operation_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_cqe`
#[derive(Clone, Copy)]
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

impl Ring {
    fn new() -> io::Result<Self> {
        let mut parameters = Parameters::default();
        // SAFETY: `parameters` is what the kernel expects.
        let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &raw mut parameters) };
        let number = i32::try_from(result).ok().filter(|number| *number >= 0);
        let number = number.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just made this descriptor for us.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        let map = |offset: i64, length: usize| {
            // SAFETY: new memory, which stays mapped until the process ends.
            let at = unsafe {
                let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                libc::mmap(ptr::null_mut(), length, protection, flags, number, offset)
            };
            if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at) }
        };
        let Parameters { submission, completion, .. } = parameters;
        let submissions = submission.array_or_flags + 4 * parameters.submission_entries;
        let completions = completion.dropped_or_completions as usize
            + parameters.completion_entries as usize * size_of::<Completion>();
        let entries = parameters.submission_entries as usize * size_of::<Submission>();
        Ok(Self {
            submissions: map(0, submissions as usize)?.cast(),
            completions: map(0x800_0000, completions)?.cast(),
            entries: map(0x1000_0000, entries)?.cast(),
            descriptor,
            parameters,
            waiting: 0,
        })
    }

    /// Puts an operation on the ring; its buffer must live until it has completed.
    fn submit(&mut self, operation: u8, descriptor: &File, buffer: &mut [u8], user_data: u64) {
        let at = self.parameters.submission;
        let (tail, mask) = (number(self.submissions, at.tail), number(self.submissions, at.mask));
        let next = tail.load(Ordering::Relaxed);
        let index = next & mask.load(Ordering::Relaxed);
        let entry = Submission {
            operation,
            descriptor: descriptor.as_raw_fd(),
            address: buffer.as_mut_ptr() as u64,
            length: buffer.len() as u32,
            user_data,
            ..Submission::default()
        };
        // SAFETY: masked, it is one of the entries.
        unsafe { self.entries.add(index as usize).write(entry) };
        number(self.submissions, at.array_or_flags + 4 * index).store(index, Ordering::Relaxed);
        tail.store(next.wrapping_add(1), Ordering::Release);
        self.waiting += 1;
    }

    /// Has the kernel do what was submitted, and waits for so many completions: what each was for, and its result.
    fn complete(&mut self, count: u32) -> anyhow::Result<Vec<(usize, usize)>> {
        const GET_EVENTS: u32 = 1;
        // SAFETY: numbers only.
        let entered = unsafe {
            let (ring, set) = (self.descriptor.as_raw_fd(), ptr::null::<u8>());
            libc::syscall(libc::SYS_io_uring_enter, ring, self.waiting, count, GET_EVENTS, set, 0)
        };
        ensure!(entered == i64::from(self.waiting), "io_uring_enter: {}", io::Error::last_os_error());
        self.waiting = 0;
        let at = self.parameters.completion;
        let head = number(self.completions, at.head);
        let mask = number(self.completions, at.mask).load(Ordering::Relaxed);
        let mut done = Vec::new();
        let mut next = head.load(Ordering::Relaxed);
        while next != number(self.completions, at.tail).load(Ordering::Acquire) {
            // SAFETY: an entry before the tail has been written.
            let entry = unsafe {
                let entries = self.completions.add(at.dropped_or_completions as usize).cast::<Completion>();
                entries.add((next & mask) as usize).read()
            };
            ensure!(
                entry.result >= 0,
                "an operation failed: {}",
                io::Error::from_raw_os_error(-entry.result)
            );
            done.push((usize::try_from(entry.user_data)?, usize::try_from(entry.result)?));
            next = next.wrapping_add(1);
        }
        head.store(next, Ordering::Release);
        Ok(done)
    }
}

/// A number that both sides use.
fn number<'a>(ring: *mut u8, offset: u32) -> &'a AtomicU32 {
    // SAFETY: the kernel says that an aligned number is there; the ring stays mapped until the process ends.
    unsafe { AtomicU32::from_ptr(ring.add(offset as usize).cast()) }
}
