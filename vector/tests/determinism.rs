//! The same rows and seed give the same bytes, on every machine and any number of threads.

mod data;

use std::process::{Child, Stdio};

use cairn_vector::hnsw::BuildOptions;
use cairn_vector::{Kernels, Metric};
use data::{Data, Shape};

#[test]
fn threads_do_not_matter() {
    for (shape, metric, dim) in [
        (Shape::Gaussian, Metric::L2, 24),
        (Shape::Mixed, Metric::Cosine, 24),
        (Shape::Flat, Metric::L2, 200),
    ] {
        let data = Data::new(shape, 6_000, dim, 1);
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
    let one = build(1);
    assert!(build(1) == one && build(2) != one);
}

/// Names the kernels a child process is to use.
const CHILD: &str = "CAIRN_TEST_KERNELS";

/// A change here means units built by older versions are built differently now: fine when intended. A change of the format needs
/// a new version number.
#[test]
fn golden() {
    if let Ok(name) = std::env::var(CHILD) {
        assert!(Kernels::choose(&name).is_some(), "{name}");
    }
    // Integers, so that the vectors do not depend on a random number crate.
    let base: Vec<f32> =
        (0..5_000_u32 * 6).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 16.0).collect();
    let data = Data { dim: 6, queries: base[..6].to_vec(), base };
    let sums: Vec<String> = Metric::ALL
        .into_iter()
        .map(|metric| format!("{:08x}", crc32c::crc32c(&data.build(&BuildOptions::new(metric)))))
        .collect();
    assert_eq!(sums, ["f6f287c4", "7d5af393", "81ed1f73", "7eee0c38"]);
    // Wide rows have sketches.
    let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 16.0;
    let wide = |i: u32| number(i / 200 * 7 + i % 7) + number(i % 200) + (i % 3) as f32;
    let base: Vec<f32> = (0..5_000 * 200).map(wide).collect();
    let data = Data { dim: 200, queries: base[..200].to_vec(), base };
    let sums: Vec<String> = [Metric::L2, Metric::Cosine, Metric::InnerProduct]
        .into_iter()
        .map(|metric| format!("{:08x}", crc32c::crc32c(&data.build(&BuildOptions::new(metric)))))
        .collect();
    assert_eq!(sums, ["759798c1", "1edabaf5", "345a12d6"]);
}

#[test]
fn instruction_sets_do_not_matter() {
    let program = std::env::current_exe().expect("this program");
    // All at once, so that no core waits for the slowest.
    let run = |kernels: &'static Kernels| {
        let mut command = std::process::Command::new(&program);
        let started =
            command.args(["golden", "--exact"]).env(CHILD, kernels.name).stdout(Stdio::null()).spawn();
        (kernels.name, started.expect("a child process"))
    };
    // The first is what `golden` uses in this process.
    let running: Vec<(&str, Child)> = Kernels::available().into_iter().skip(1).map(run).collect();
    for (name, mut child) in running {
        assert!(child.wait().expect("the child's end").success(), "{name}");
    }
}
