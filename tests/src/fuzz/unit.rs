//! Units of vector indexes: whatever they hold, searches end inside of them.

use std::convert::Infallible;

use bytes::Bytes;
use cairn_vector::hnsw::{BuildOptions, build};
use cairn_vector::search::{Effort, ExactDistances, Filter, Request, SearchError, SearchScratch};
use cairn_vector::unit::Unit;
use cairn_vector::{MemoryRows, Metric};

use super::{Seed, number};

/// Rows asked for.
const K: usize = 5;
/// Where the dimension stands.
const DIM_AT: usize = 16;

/// Distances that follow from ordinals alone: what is asked for must be rows of the unit.
struct Numbered {
    rows: usize,
}

impl ExactDistances for Numbered {
    type Error = Infallible;

    fn distances(&mut self, ordinals: &[u32], out: &mut [f32]) -> Result<(), Infallible> {
        for (ordinal, out) in ordinals.iter().zip(out) {
            assert!((*ordinal as usize) < self.rows, "row {ordinal} of {}", self.rows);
            *out = (ordinal % 17) as f32;
        }
        Ok(())
    }
}

pub(super) fn run(bytes: &[u8]) {
    // One for the searches that check blocks on the way, one that is checked before.
    let Ok(unit) = Unit::open(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(Some(unit.dim() as u64), number(bytes, DIM_AT).map(|word| word & 0xFFFF_FFFF));
    searches(&unit);
    let Ok(unit) = Unit::open(Bytes::copy_from_slice(bytes)) else {
        panic!("the same bytes are a unit once and none the next time");
    };
    let findings = unit.verify();
    if findings.is_empty() {
        // What nothing is wrong with gives all that is asked for.
        for id in unit.row_ids().take(100) {
            let ordinal = unit.ordinal_of(id).expect("an undamaged unit").expect("a row that is there");
            assert_eq!(unit.row_id(ordinal), Some(id));
        }
    }
    if unit.check_blocks(usize::MAX).is_ok() {
        searches(&unit);
    }
    let _may_be_damaged = unit.check_row_map();
}

fn searches(unit: &Unit) {
    let mut scratch = SearchScratch::default();
    let query: Vec<f32> = (0..unit.dim()).map(|c| (c % 5) as f32 - 1.5).collect();
    let odd: Vec<u64> = words(unit.len(), 0xAAAA_AAAA_AAAA_AAAA);
    let few: Vec<u64> = words(unit.len(), 1 << 7);
    for effort in [Effort::Recall(0.9), Effort::Width(8), Effort::Exact] {
        for filter in [None, Some(Filter::new(&odd)), Some(Filter::new(&few))] {
            let request = Request { query: &query, k: K, effort, filter };
            let mut exact = Numbered { rows: unit.len() };
            match unit.search(&request, &mut exact, &mut scratch) {
                Ok(found) => {
                    assert!(found.hits.len() <= K, "{} rows", found.hits.len());
                    for hit in found.hits {
                        assert!((hit.ordinal as usize) < unit.len(), "{hit:?}");
                        assert!(filter.is_none_or(|filter| filter.contains(hit.ordinal)), "{hit:?}");
                    }
                }
                Err(SearchError::Query(_) | SearchError::Unit(_)) => {}
                Err(SearchError::Exact(never)) => match never {},
            }
        }
    }
    for id in [0, 1, 7, u64::MAX] {
        let _may_be_damaged = unit.ordinal_of(id);
    }
}

/// A bitmap over `rows` rows that repeats `word`.
fn words(rows: usize, word: u64) -> Vec<u64> {
    let mut words = vec![word; rows.div_ceil(64)];
    if let (Some(last), left @ 1..) = (words.last_mut(), rows % 64) {
        *last &= (1 << left) - 1;
    }
    words
}

pub(super) fn seeds() -> Vec<Seed> {
    let built = |metric: Metric, rows: u32, dim: u32| {
        let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 256.0 + 0.25;
        let vectors: Vec<f32> = (0..rows * dim).map(number).collect();
        let ids: Vec<u64> = (0..u64::from(rows)).map(|row| row * 7).collect();
        let memory = MemoryRows::new(&vectors, dim as usize);
        build(&memory, &ids, &BuildOptions::new(metric), &|| false).expect("a unit").into_bytes()
    };
    vec![
        ("l2", built(Metric::L2, 70, 6)),
        ("cosine", built(Metric::Cosine, 30, 3)),
        ("inner-product", built(Metric::InnerProduct, 40, 5)),
        ("l1", built(Metric::L1, 20, 70)),
        ("one-row", built(Metric::L2, 1, 1)),
    ]
}
