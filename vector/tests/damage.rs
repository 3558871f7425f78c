//! A damaged unit is reported, and searched without panic or endless loop.

mod data;

use bytes::Bytes;
use cairn_vector::Metric;
use cairn_vector::hnsw::BuildOptions;
use cairn_vector::search::{Effort, SearchScratch};
use cairn_vector::unit::{Unit, UnitError};
use data::{Data, Shape};

fn small() -> (Data, Vec<u8>) {
    let data = Data::new(Shape::Clustered, 70, 6, 1);
    let bytes = data.build(&BuildOptions::new(Metric::L2));
    (data, bytes)
}

/// Whether something notices; a unit that opens is searched in every way.
fn noticed(data: &Data, bytes: Vec<u8>, scratch: &mut SearchScratch) -> bool {
    let Ok(unit) = Unit::open(Bytes::from(bytes)) else { return true };
    for effort in [Effort::Recall(0.9), Effort::Width(8), Effort::Exact] {
        data.search(&unit, (&data.queries, 5, effort), None, scratch);
    }
    unit.row_ids().for_each(drop);
    assert!((0..80).filter(|&id| unit.contains(id)).count() <= 80);
    !unit.verify().is_empty()
}

#[test]
fn every_flipped_byte_is_noticed() {
    let (data, bytes) = small();
    let mut scratch = SearchScratch::default();
    assert!(!noticed(&data, bytes.clone(), &mut scratch));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(noticed(&data, damaged, &mut scratch), "byte {at} of {}", bytes.len());
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let (_, bytes) = small();
    for length in 0..bytes.len() {
        let cut = Unit::open(Bytes::copy_from_slice(&bytes[..length]));
        assert!(matches!(cut, Err(UnitError::Damaged { .. })), "length {length}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(matches!(Unit::open(Bytes::from(longer)), Err(UnitError::Damaged { .. })));
}

#[test]
fn random_graphs_are_walked_to_an_end() {
    let data = Data::new(Shape::Gaussian, 6_000, 8, 20);
    let bytes = data.build(&BuildOptions { threads: 2, ..BuildOptions::new(Metric::L2) });
    let mut scratch = SearchScratch::default();
    for step in [3, 17, 64, 1_001] {
        let mut damaged = bytes.clone();
        // Header, section table and tail stay, or it would not open.
        let end = damaged.len() - 2_000;
        let mut state = step as u32;
        for at in (1_024..end).step_by(step) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            damaged[at] ^= (state >> 24) as u8;
        }
        let Ok(unit) = Unit::open(Bytes::from(damaged)) else { continue };
        for query in data.queries() {
            for effort in [Effort::Width(10), Effort::Width(500), Effort::Recall(0.99)] {
                data.search(&unit, (query, 10, effort), None, &mut scratch);
            }
        }
        assert!(!unit.verify().is_empty());
    }
}

#[test]
fn newer_units_are_refused_by_name() {
    let (_, bytes) = small();
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert_eq!(Unit::open(Bytes::from(newer)).err(), Some(UnitError::Newer { format: 2, features: 0 }));
    let mut feature = bytes;
    feature[13] = 1;
    assert_eq!(Unit::open(Bytes::from(feature)).err(), Some(UnitError::Newer { format: 1, features: 256 }));
}
