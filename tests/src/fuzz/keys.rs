//! Key filters.

use cairn_storage::segment::KeyFilter;
use cairn_storage::segment::key::filter_hash;

use super::{Seed, is_answer};

pub(super) fn run(bytes: &[u8]) {
    match KeyFilter::decode("table/1/1.keys", bytes) {
        Ok(filter) => {
            assert_eq!(filter.encode(), bytes);
            assert!(filter.memory_bytes() <= bytes.len());
            for hash in [0, 1, u64::MAX, 1 << 63, filter_hash(bytes)] {
                let _may_be_there = filter.contains(hash);
            }
        }
        Err(error) => is_answer(&error),
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let filter = |keys: u64| {
        let hashes: Vec<u64> = (0..keys).map(|key| filter_hash(&key.to_be_bytes())).collect();
        KeyFilter::build(hashes.into_iter()).encode().to_vec()
    };
    vec![("none", filter(0)), ("one", filter(1)), ("hundred", filter(100))]
}
