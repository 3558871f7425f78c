//! An allocator that notes the largest request: a length read from a damaged file must not be believed.
//!
//! Owns: the figure of the process, and refusing what no case may ask for: a request beyond the limit fails, which ends the process unless
//! whoever asked can do without. Does not own: how much is too much (`judge`). It counts in the process that tries damaged databases and
//! lets everything pass in all others.
#![allow(
    unsafe_code,
    reason = "an allocator is handed and hands out bare memory; each call goes on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

/// Begins anew; from now on requests of `refused` bytes or more fail.
pub fn begin(refused: usize) {
    LARGEST.store(0, Ordering::Relaxed);
    REFUSED.store(refused, Ordering::Relaxed);
}

/// The largest request since [`begin`], in bytes, refused ones included.
#[must_use]
pub fn largest() -> usize {
    LARGEST.load(Ordering::Relaxed)
}

/// Notes a request; whether it may pass.
fn passes(bytes: usize) -> bool {
    LARGEST.fetch_max(bytes, Ordering::Relaxed);
    bytes < REFUSED.load(Ordering::Relaxed)
}

// SAFETY: every call is the system allocator's with the same arguments, or null, which means that there is no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !passes(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !passes(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if !passes(bytes) {
            return ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, bytes) }
    }
}
