//! How much memory a run takes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts what the current thread allots.
struct Counting;

thread_local! {
    /// Bytes that are allotted now, and the most that were since [`peak`] began to look.
    static COUNT: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

fn count(bytes: i64) {
    // A thread that is ending has no count any more, and runs no target either.
    COUNT
        .try_with(|count| {
            let (now, most) = count.get();
            count.set((now + bytes, most.max(now + bytes)));
        })
        .unwrap_or_default();
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` had allotted at one time, above what was there before it.
pub fn peak(work: impl FnOnce()) -> i64 {
    let (before, _) = COUNT.get();
    COUNT.set((before, before));
    work();
    COUNT.get().1 - before
}

#[cfg(test)]
mod tests {
    use super::peak;

    #[test]
    fn the_peak_is_what_was_there_at_one_time() {
        let peak = peak(|| {
            for _ in 0..10 {
                drop(std::hint::black_box(vec![0_u8; 1000]));
            }
        });
        assert_eq!(peak, 1000);
    }
}
