//! A build, and making its file of it, holds what was said before it began, and no more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_vector::hnsw::{BuildOptions, Estimate, build};
use cairn_vector::{MemoryRows, Metric};

/// Bytes that the process holds now, and the most since [`most_during`] began.
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    let now = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

fn given_back(bytes: usize) {
    HELD.fetch_sub(bytes, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator cannot be written without; this one hands every call on")]
// SAFETY: every call goes to the system's allocator as it came, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while one is copied to the other.
        taken(size);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        given_back(layout.size());
        moved
    }
}

/// `work`, and the most bytes that the process held meanwhile beyond what it held before.
fn most_during<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let done = work();
    (done, MOST.load(Ordering::Relaxed) - before)
}

/// The only test of this program: another one would be counted with it.
#[test]
fn builds_hold_what_they_say() {
    for (metric, rows, dim, threads) in [
        (Metric::L2, 700, 40, 1),
        (Metric::L1, 5_000, 24, 1),
        (Metric::Cosine, 5_000, 24, 2),
        // With sketches.
        (Metric::L2, 6_000, 300, 1),
        (Metric::InnerProduct, 6_000, 300, 3),
        (Metric::L2, 4_096, 1_536, 2),
    ] {
        // Around a few dozen centres, no two rows alike.
        let number = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 22;
        let component = |row: usize, c: usize| number(row % 40 * dim + c) * 4 + number(row * dim + c);
        let vectors: Vec<f32> =
            (0..rows).flat_map(|row| (0..dim).map(move |c| component(row, c) as f32)).collect();
        let ids: Vec<u64> = (0..rows as u64).collect();
        let options = BuildOptions { threads, ..BuildOptions::new(metric) };
        let estimate = Estimate::new(rows, dim, &options);
        let reader = MemoryRows::new(&vectors, dim);
        let (pieces, held) =
            most_during(|| build(&reader, &ids, &options, &|| false).expect("a unit").into_pieces());
        let what = format!("{metric:?}, {rows} rows of {dim}, {threads} threads: {held} bytes, {estimate:?}");
        assert!(held as u64 <= estimate.memory_bytes, "{what}");
        // A limit that is given for nothing makes more units than there need be.
        assert!(rows < 4_096 || held as u64 * 4 >= estimate.memory_bytes * 3, "{what}");
        assert!(pieces.iter().map(bytes::Bytes::len).sum::<usize>() > rows * dim, "{what}");
    }
}
