//! An allocator that counts, for tests and benchmarks of what the parsers cost in memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts what the current thread allots.
struct Counting;

thread_local! {
    /// Allocations so far, bytes that are allotted now, and the most that were.
    static COUNT: Cell<(u64, i64, i64)> = const { Cell::new((0, 0, 0)) };
}

fn count(allocations: u64, bytes: i64) {
    // A thread that is ending has no count any more, and no test either.
    COUNT
        .try_with(|count| {
            let (before, now, peak) = count.get();
            count.set((before + allocations, now + bytes, peak.max(now + bytes)));
        })
        .unwrap_or_default();
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations that `work` makes on this thread, how many more bytes are allotted after it, and how many more were at most.
pub(crate) fn cost(work: impl FnOnce()) -> (u64, i64, i64) {
    let (allocations, bytes, _) = COUNT.get();
    COUNT.set((allocations, bytes, bytes));
    work();
    let (after, now, peak) = COUNT.get();
    (after - allocations, now - bytes, peak - bytes)
}
