//! How much memory a thread holds, counted by the allocator of this test program.
//!
//! What a thread frees that another has taken counts as given back by it: readers that run on one thread are measured exactly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes held now.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that were held since [`most_during`] began.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
pub(crate) struct Counting;

/// `work`, and the most bytes that this thread held meanwhile beyond what it held before.
pub(crate) fn most_during<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let done = work();
    (done, usize::try_from(MOST.get() - before).unwrap_or(0))
}

fn changed(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ended = HELD.try_with(|held| {
        let now = held.get().saturating_add(bytes);
        held.set(now);
        MOST.try_with(|most| most.set(most.get().max(now)))
    });
}

#[expect(unsafe_code, reason = "an allocator cannot be written without; this one hands every call on")]
// SAFETY: every call goes to the system's allocator as it came. The counters are constants at first and have no destructor, so that
// counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        changed(layout.size().cast_signed());
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        changed(layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        changed(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        changed(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
