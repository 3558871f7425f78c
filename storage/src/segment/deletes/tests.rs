#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use object_store::memory::InMemory;
use rand::Rng;

use super::*;
use crate::error::ErrorKind;
use crate::segment::testing::{object_id, random};

fn model(pairs: &[(u32, u64)]) -> BTreeMap<u32, u64> {
    let mut model = BTreeMap::new();
    for &(position, version) in pairs {
        let seen = model.entry(position).or_insert(version);
        *seen = version.min(*seen);
    }
    model
}

fn vector(pairs: &[(u32, u64)]) -> DeletionVector {
    DeletionVector::from_pairs(pairs.iter().map(|&(p, v)| (p, CommitVersion(v))))
}

fn pairs(seed: u64, count: usize, versions: u64) -> Vec<(u32, u64)> {
    let mut random = random(seed);
    (0..count).map(|_| (random.random_range(0..500_000), random.random_range(5..5 + versions))).collect()
}

#[test]
fn vectors_behave_as_their_model() {
    for (seed, versions) in [(1, 1), (2, 3), (3, 1000)] {
        let (a, b) = (pairs(seed, 3000, versions), pairs(seed + 100, 2000, versions));
        let merged = vector(&a).merge(&vector(&b));
        let expected = model(&[a, b].concat());
        let got: BTreeMap<u32, u64> = merged.iter().map(|(p, v)| (p, v.0)).collect();
        assert_eq!(got, expected);
        assert_eq!(merged.len(), expected.len() as u64);
        for version in [0, 4, 5, 6, 7, 500, 5000] {
            let visible = merged.deleted_at(CommitVersion(version));
            let model: Vec<u32> = expected.iter().filter(|(_, v)| **v <= version).map(|(p, _)| *p).collect();
            assert_eq!(visible.iter().collect::<Vec<_>>(), model);
        }
        for position in (0..500_000).step_by(997) {
            assert_eq!(merged.version_of(position).map(|v| v.0), expected.get(&position).copied());
        }
        assert_eq!(merged, merged.merge(&merged), "replay changes nothing");
    }
    let none = vector(&[]);
    assert!(none.is_empty());
    assert_eq!(none.merge(&vector(&[(1, 2)])), vector(&[(1, 2)]));
}

#[test]
fn bytes_are_pinned() {
    let vector = vector(&[(1, 7), (2, 9), (70_000, 8)]);
    let bytes = codec::encode(&vector, object_id(2), true).unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, include_str!("../golden/three_rows.deletes.hex").trim());
    assert_eq!(codec::decode("x", &bytes, object_id(2), None).unwrap(), vector);
}

#[test]
fn any_damage_is_named() {
    let bytes = codec::encode(&vector(&pairs(4, 60, 9)), object_id(2), true).unwrap();
    for at in 0..bytes.len() {
        for mask in [1, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= mask;
            let error = codec::decode("a.deletes", &bad, object_id(2), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        }
        assert!(codec::decode("a.deletes", &bytes[..at], object_id(2), None).is_err());
    }
    assert!(codec::decode("a.deletes", &bytes, object_id(3), None).is_err(), "another segment's");
}

/// The same with the checksums of what it says.
fn sealed(mut object: Vec<u8>) -> Vec<u8> {
    object.truncate(object.len() - codec::own_checksum_bytes(object.len()));
    let sums: Vec<u8> = object.chunks(65_536).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
    object.extend_from_slice(&sums);
    object.extend_from_slice(&crc32c::crc32c(&sums).to_le_bytes());
    object
}

#[test]
fn a_newer_one_is_told_from_a_damaged_one() {
    let good = codec::encode(&vector(&pairs(4, 60, 9)), object_id(2), true).unwrap();
    assert_eq!(sealed(good.clone()), good);
    // Also when lengths mean something else there, or there are more.
    for length in [0, 1, 1 << 40] {
        for more in [0, 8, 70_000] {
            let mut later = good.clone();
            later[8] |= 0x10;
            later[40..48].copy_from_slice(&u64::to_le_bytes(length));
            later.truncate(later.len() - codec::own_checksum_bytes(later.len()));
            later.resize(later.len() + more, 7);
            later.resize(later.len() + later.len().div_ceil(65_536) * 4 + 4, 0);
            let error = codec::decode("a.deletes", &sealed(later), object_id(2), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().starts_with("a.deletes was written by a newer Cairn"), "{error}");
        }
    }
}

#[test]
fn lengths_at_the_end_of_numbers_are_damage() {
    let good = codec::encode(&vector(&[(1, 7)]), object_id(2), true).unwrap();
    for (at, short) in [(40, 56), (40, 57), (40, 60), (48, 56), (48, 80), (48, 0)] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&(u64::MAX - short).to_le_bytes());
        let bad = sealed(bad);
        let error = codec::decode("a.deletes", &bad, object_id(2), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{short} below the end at {at}: {error}");
    }
}

#[tokio::test]
async fn objects_come_back() {
    let store = InMemory::new();
    let table = TableId(7);
    let every = vector(&pairs(5, 40_000, 90));
    let meta = every.put(&store, object_id(9), table, object_id(2), true).await.unwrap();
    assert_eq!(meta.path(), "table/7/00000003-00000002.00000003-00000009.deletes");
    assert!(meta.bytes > 65_536);
    assert_eq!(DeletionVector::load(&store, &meta).await.unwrap(), every);

    let spilled = vector(&[(3, 0), (9, 0)]);
    let meta = spilled.put(&store, object_id(10), table, object_id(2), false).await.unwrap();
    assert!(DeletionVector::load(&store, &meta).await.is_err(), "its version comes with the commit");
    let loaded = DeletionVector::load(&store, &meta.committed(CommitVersion(44))).await.unwrap();
    assert_eq!(loaded, vector(&[(3, 44), (9, 44)]));
}
