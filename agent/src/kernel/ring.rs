//! The reading end of the ring.
//!
//! The kernel lets the data be mapped twice in a row, so that a record that wraps around is contiguous, and
//! aya's reader does. Pages mapped twice count twice in what the process is seen to use; here they are mapped
//! once, and the rare record that wraps is copied together.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use aya::maps::MapData;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// Interval of reading the ring while frames arrive: the kernel side wakes the reader only for events and when the ring
/// fills, which spares the observed processes an interrupt per frame.
const BUSY_INTERVAL: Duration = Duration::from_millis(5);
/// The same when no frame arrived for [`IDLE_AFTER`].
const IDLE_INTERVAL: Duration = Duration::from_millis(200);
/// When the ring counts as idle.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// The ring that carries frames from the kernel side; owned by one thread.
pub struct Ring {
    records: Records,
    map: MapData,
    last: Instant,
}

impl Ring {
    pub(super) fn new(map: MapData, bytes: usize) -> io::Result<Self> {
        let records = Records::map(map.fd().as_fd(), bytes)?;
        Ok(Self { records, map, last: Instant::now() })
    }

    /// Hands every waiting record to `on_frame`, at most `limit` of them; returns how many there were.
    pub fn drain(&mut self, limit: usize, mut on_frame: impl FnMut(&[u8])) -> usize {
        let mut frames = 0;
        while frames < limit && self.records.next(&mut on_frame) {
            frames += 1;
        }
        if frames > 0 {
            self.last = Instant::now();
        }
        frames
    }

    /// Waits until the kernel side wakes the reader, or the interval is over.
    pub fn wait(&mut self) {
        let patience = if self.last.elapsed() < IDLE_AFTER { BUSY_INTERVAL } else { IDLE_INTERVAL };
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        let mut fds = [PollFd::from_borrowed_fd(self.map.fd().as_fd(), PollFlags::IN)];
        if let Err(error) = poll(&mut fds, Some(&timeout))
            && error != rustix::io::Errno::INTR
        {
            tracing::warn!(%error, "cannot wait for the ring, reading it in intervals");
            std::thread::sleep(patience);
        }
    }
}

/// Bits of a record's length word (include/uapi/linux/bpf.h).
const BUSY_BIT: u32 = 1 << 31;
const DISCARD_BIT: u32 = 1 << 30;
/// Length word and page offset in front of each record.
const RECORD_HEADER: usize = 8;

/// The mapped ring (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with the producer's,
/// the data.
struct Records {
    consumer: Mapping,
    producer: Mapping,
    /// Bytes of data: a power of two.
    size: usize,
    /// Where a record that wraps is put together.
    wrapped: Vec<u8>,
}

impl Records {
    fn map(fd: BorrowedFd<'_>, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let consumer = Mapping::new(fd, 0, page, ProtFlags::READ | ProtFlags::WRITE)?;
        let producer = Mapping::new(fd, page, page + size, ProtFlags::READ)?;
        Ok(Self { consumer, producer, size, wrapped: Vec::new() })
    }

    /// Shows the next record and frees its space; false when none is ready. Discarded records are passed over.
    fn next(&mut self, show: &mut impl FnMut(&[u8])) -> bool {
        let mut joined = std::mem::take(&mut self.wrapped);
        let shown = self.take_next(&mut joined, show);
        self.wrapped = joined;
        shown
    }

    fn take_next(&self, joined: &mut Vec<u8>, show: &mut impl FnMut(&[u8])) -> bool {
        let consumer = self.consumer.position();
        loop {
            let at = consumer.load(Ordering::Relaxed);
            if at == self.producer.position().load(Ordering::Acquire) {
                return false;
            }
            let start = at & (self.size - 1);
            let word = self.length(start).load(Ordering::Acquire);
            if word & BUSY_BIT != 0 {
                return false;
            }
            let len = (word & !DISCARD_BIT) as usize;
            let next = at.wrapping_add((len + RECORD_HEADER).next_multiple_of(RECORD_HEADER));
            if word & DISCARD_BIT == 0 {
                let from = (start + RECORD_HEADER) & (self.size - 1);
                let first = len.min(self.size - from);
                let (whole, rest) = (self.data(from, first), self.data(0, len - first));
                if rest.is_empty() {
                    show(whole);
                } else {
                    joined.clear();
                    joined.extend_from_slice(whole);
                    joined.extend_from_slice(rest);
                    show(joined);
                }
                self.consumer.position().store(next, Ordering::Release);
                return true;
            }
            consumer.store(next, Ordering::Release);
        }
    }

    fn length(&self, start: usize) -> &AtomicU32 {
        debug_assert!(start < self.size && start.is_multiple_of(RECORD_HEADER), "records are aligned");
        // SAFETY: within the mapped data, aligned to 8; the kernel writes it atomically.
        unsafe { AtomicU32::from_ptr(self.at(start).cast().as_ptr()) }
    }

    fn data(&self, from: usize, len: usize) -> &[u8] {
        assert!(from + len <= self.size, "a record lies in the ring");
        // SAFETY: within the mapped data; the kernel does not write what the consumer has not freed.
        unsafe { std::slice::from_raw_parts(self.at(from).as_ptr(), len) }
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        let page = rustix::param::page_size();
        // SAFETY: the mapping is one page longer than the data, and callers stay within the data.
        unsafe { self.producer.start.add(page + offset) }
    }
}

/// Memory shared with the kernel.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, offset: usize, len: usize, access: ProtFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, offset as u64) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, len })
    }

    /// The position at the start of the mapping.
    fn position(&self) -> &AtomicUsize {
        // SAFETY: the mapping is at least a page long and page-aligned; both sides access it atomically.
        unsafe { AtomicUsize::from_ptr(self.start.cast().as_ptr()) }
    }
}

// SAFETY: the memory belongs to this value alone on this side; the thread that owns it does not matter.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; nothing borrows from it any more.
        if let Err(error) = unsafe { munmap(self.start.cast().as_ptr(), self.len) } {
            tracing::debug!(%error, "the ring stays mapped");
        }
    }
}
