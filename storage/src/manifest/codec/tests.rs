#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::error::ErrorKind;
use crate::id::{Epoch, IndexId, ObjectId, TableId};
use crate::index::{Positions, UnitMeta, UnitSegment};
use crate::manifest::invariants::tests::{segment_entry, sound};
use crate::schema::{IdentityDef, TableDef};

const GOLDEN: &[u8] = include_bytes!("../golden/manifest-1.bin");
const GOLDEN_UNITS: &[u8] = include_bytes!("../golden/manifest-1-units.bin");

#[track_caller]
fn named<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{error}");
    assert!(error.message().starts_with("manifest/"), "{error}");
}

fn damage_everywhere<T: std::fmt::Debug>(good: &[u8], decode: impl Fn(&[u8]) -> Result<T>) {
    decode(good).unwrap();
    for at in 0..good.len() {
        named(decode(&good[..at]));
        for bit in 0..8 {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            named(decode(&bad));
        }
    }
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        let end = bad.len().min(at + 512);
        bad[at..end].fill(0);
        if bad != good {
            named(decode(&bad));
        }
    }
    named(decode(&[good, &[0]].concat()));
}

#[test]
fn every_flip_and_cut_of_a_root_is_named() {
    let bytes = encode_manifest(&sound()).unwrap();
    assert_eq!(decode_manifest("manifest/5", &bytes).unwrap().manifest, sound());
    damage_everywhere(&bytes, |b| decode_manifest("manifest/5", b));
}

#[test]
fn every_flip_and_cut_of_a_leaf_is_named() {
    let segments = vec![segment_entry(1, 0), segment_entry(2, 10)];
    let bytes = encode_leaf(&segments).unwrap();
    assert_eq!(decode_leaf("manifest/leaf/1", &bytes).unwrap(), segments);
    damage_everywhere(&bytes, |b| decode_leaf("manifest/leaf/1", b));
    named(decode_manifest("manifest/leaf/1", &bytes));
}

#[test]
fn a_mark_is_no_manifest_and_no_manifest_is_a_mark() {
    let mark = Mark { number: ManifestNumber(5), database_id: sound().database_id };
    let bytes = encode_mark(mark).unwrap();
    assert_eq!(decode_mark("manifest/5", &bytes).unwrap(), mark);
    damage_everywhere(&bytes, |b| decode_mark("manifest/5", b));
    named(decode_manifest("manifest/5", &bytes));
    named(decode_mark("manifest/5", &encode_manifest(&sound()).unwrap()));
}

#[test]
fn a_body_of_many_blocks_round_trips_and_names_the_damaged_one() {
    let segments: Vec<_> = (0..1000).map(|n| segment_entry(n, n * 10)).collect();
    let bytes = encode_leaf(&segments).unwrap();
    assert!(bytes.len() > 5 * BLOCK_BYTES);
    assert_eq!(decode_leaf("manifest/leaf/1", &bytes).unwrap(), segments);
    let mut bad = bytes.to_vec();
    bad[HEADER_BYTES + 3 * BLOCK_BYTES + 5] ^= 1;
    let error = decode_leaf("manifest/leaf/1", &bad).unwrap_err();
    assert!(
        error.message().ends_with(&format!("block at offset {}", HEADER_BYTES + 3 * BLOCK_BYTES)),
        "{error}"
    );
}

#[test]
fn a_length_far_beyond_the_bytes_is_refused() {
    for length in [u64::MAX, u64::MAX - 60, 1 << 40] {
        let mut bytes = encode_leaf(&[segment_entry(1, 0)]).unwrap().to_vec();
        bytes[32..40].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        named(decode_leaf("manifest/leaf/1", &bytes));
    }
}

#[test]
fn newer_formats_and_features_are_refused_by_name() {
    let body = serde_json::to_vec(&sound()).unwrap();
    let error = decode_manifest("manifest/5", &frame(Kind::Root, 1 << 3, 0, &body)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("reader feature bit 3"), "{error}");
    assert!(error.hint().unwrap().contains("newer than"));

    let decoded = decode_manifest("manifest/5", &frame(Kind::Root, 0, 1 << 9, &body)).unwrap();
    assert_eq!(decoded.unknown_writer_features, ["bit 9"]);

    let mut newer = frame(Kind::Root, 0, 0, &body).to_vec();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..40]);
    newer[40..44].copy_from_slice(&crc.to_le_bytes());
    let error = decode_manifest("manifest/5", &newer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("manifest format 2"), "{error}");
}

#[test]
fn valid_checksums_around_wrong_json_are_damage() {
    for body in ["", "{", "[]", "{\"number\":-1}", &"[".repeat(100_000)] {
        let bytes = frame(Kind::Root, 0, 0, body.as_bytes());
        assert_eq!(decode_manifest("manifest/5", &bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn golden_manifest_is_read_and_written_the_same() {
    assert_eq!(decode_manifest("manifest/5", GOLDEN).unwrap().manifest, sound());
    assert_eq!(encode_manifest(&sound()).unwrap(), GOLDEN, "the byte form changed");
}

/// A manifest with a unit over a whole segment and a part of another, or over whole ones.
fn with_unit(positions: Option<Positions>) -> Manifest {
    let mut manifest = sound();
    let id = |sequence| ObjectId { epoch: Epoch(2), sequence };
    manifest.tables[0].units.push(Arc::new(UnitMeta {
        id: id(9),
        table: TableId(1),
        index: IndexId(1),
        segments: vec![
            UnitSegment { id: id(1), left_out: 0, positions: None },
            UnitSegment { id: id(2), left_out: 1, positions },
        ],
        rows: 15,
        bytes: 40_000,
        xxh3: format!("{:032x}", 255),
        replaces: vec![],
        build_ms: 12,
        recall_permille: 0,
    }));
    manifest
}

#[test]
fn units_of_parts_of_segments_are_a_feature_of_readers() {
    let parts = with_unit(Some(Positions { from: 2, to: 9 }));
    assert_eq!(decode_manifest("manifest/5", GOLDEN_UNITS).unwrap().manifest, parts);
    assert_eq!(encode_manifest(&parts).unwrap(), GOLDEN_UNITS, "the byte form changed");
    assert_eq!(GOLDEN_UNITS[16..24], [1, 0, 0, 0, 0, 0, 0, 0], "who does not know of parts refuses it");
    let whole = encode_manifest(&with_unit(None)).unwrap();
    assert_eq!(whole[16..24], [0; 8], "and reads every other manifest");
    assert_eq!(decode_manifest("manifest/5", &whole).unwrap().manifest, with_unit(None));
}

#[test]
fn who_does_not_know_of_numbered_rows_must_not_write() {
    let mut manifest = sound();
    assert_eq!(encode_manifest(&manifest).unwrap()[24..32], [0; 8]);
    let mut def = TableDef::clone(&manifest.tables[0].def);
    let column = def.columns[0].id;
    def.identity = Some(IdentityDef { column, always: true, start: 1, increment: 1, min: 1, max: i64::MAX });
    manifest.tables[0].def = Arc::new(def);
    manifest.tables[0].numbered = Some(41);
    let bytes = encode_manifest(&manifest).unwrap();
    assert_eq!((&bytes[16..24], bytes[24]), (&[0; 8][..], 1), "who only reads need not know");
    let decoded = decode_manifest("manifest/5", &bytes).unwrap();
    assert_eq!((&decoded.manifest, decoded.unknown_writer_features.len()), (&manifest, 0));
}
