//! The same rows and seed give the same bytes, on every machine and any number of threads.

mod data;

use cairn_vector::Metric;
use cairn_vector::hnsw::BuildOptions;
use data::{Data, Shape};

#[test]
fn threads_do_not_matter() {
    for (shape, metric) in
        [(Shape::Gaussian, Metric::L2), (Shape::Mixed, Metric::Cosine), (Shape::Clustered, Metric::L1)]
    {
        let data = Data::new(shape, 6_000, 24, 1);
        let build = |threads| data.build(&BuildOptions { threads, ..BuildOptions::new(metric) });
        let alone = build(1);
        for threads in [2, 5] {
            assert!(build(threads) == alone, "{shape:?} {metric:?} with {threads} threads");
        }
    }
}

#[test]
fn seeds_matter() {
    let data = Data::new(Shape::Gaussian, 3_000, 8, 1);
    let build = |seed| data.build(&BuildOptions { seed, ..BuildOptions::new(Metric::L2) });
    assert!(build(1) == build(1) && build(1) != build(2));
}

/// A change here means units built by older versions are built differently now: fine when intended. A change of the format needs
/// a new version number.
#[test]
fn golden() {
    // Integers, so that the vectors do not depend on a random number crate.
    let base: Vec<f32> =
        (0..5_000_u32 * 6).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 16.0).collect();
    let data = Data { dim: 6, queries: base[..6].to_vec(), base };
    let sums: Vec<String> = Metric::ALL
        .into_iter()
        .map(|metric| format!("{:08x}", crc32c::crc32c(&data.build(&BuildOptions::new(metric)))))
        .collect();
    assert_eq!(sums, ["00000000"; 4]);
}
