//! Manifests, their leaves and the small objects beside them. Each input is given to all of their readers: it is for one of them, and
//! the others must refuse it.

use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::fs::SimFileSystem;
use cairn_storage::fuzzing;
use cairn_storage::id::{CommitId, CommitVersion, Epoch, ManifestNumber, RowId, TableId, WalNumber};
use cairn_storage::manifest::codec::{decode_leaf, decode_manifest, encode_leaf, encode_manifest};
use cairn_storage::manifest::identity::{decode_identity, encode_identity};
use cairn_storage::manifest::store::manifest_path;
use cairn_storage::manifest::{
    Access, CatalogRecord, HistoryMark, LeafRef, Manifest, ManifestStore, SegmentEntry, SegmentList,
    TableRecord,
};
use cairn_storage::schema::ViewDef;
use cairn_storage::wal::WalTip;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::executor::block_on;
use uuid::Uuid;

use super::journal::mark;
use super::log::{deletes, flat, nested, object, segment, unit, write};
use super::{DATABASE, Seed, is_answer, number, sealed};

pub(super) fn run(bytes: &[u8]) {
    root(bytes);
    leaf(bytes);
    match decode_identity(bytes) {
        Ok(id) => assert_eq!(encode_identity(id), bytes),
        Err(error) => is_answer(&error),
    }
    match fuzzing::boundary(bytes) {
        Ok(again) => assert_eq!(again, bytes),
        Err(error) => is_answer(&error),
    }
    if let Some(again) = fuzzing::writer(bytes).expect("a note that was read") {
        let twice = fuzzing::writer(&again).expect("a note that was read");
        assert_eq!(twice.as_ref(), Some(&again), "a note is written in two ways");
    }
    match fuzzing::history(&Bytes::copy_from_slice(bytes)) {
        Ok(found) => assert!(found.iter().all(Option::is_some), "a commit is there and not found"),
        Err(error) => is_answer(&error),
    }
    tip(bytes);
}

/// A manifest reads back as it was written, and is what the store of manifests takes or refuses.
fn root(bytes: &[u8]) {
    let manifest = match decode_manifest("manifest/1", bytes) {
        Ok(decoded) => decoded.manifest,
        Err(error) => return is_answer(&error),
    };
    if let Ok(again) = encode_manifest(&manifest) {
        let back = decode_manifest("manifest/1", &again).expect("a manifest that was written");
        assert_eq!(back.manifest, manifest);
    }
    block_on(async {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from(manifest_path(manifest.number));
        store.put(&path, Bytes::copy_from_slice(bytes).into()).await.expect("a store in memory");
        let manifests = ManifestStore::new(store, Access::Read);
        match manifests.read(manifest.number).await {
            Ok(read) => {
                for table in &read.tables {
                    if let Err(error) = manifests.load_table(table).await {
                        is_answer(&error);
                    }
                }
            }
            Err(error) => is_answer(&error),
        }
    });
}

fn leaf(bytes: &[u8]) {
    match decode_leaf("manifest/leaf/1", bytes) {
        Ok(segments) => {
            if let Ok(again) = encode_leaf(&segments) {
                let back = decode_leaf("manifest/leaf/1", &again).expect("a leaf that was written");
                assert_eq!(back, segments);
            }
        }
        Err(error) => is_answer(&error),
    }
}

fn tip(bytes: &[u8]) {
    let fs = SimFileSystem::new(1);
    write(&fs, "wal/tip", bytes);
    if let Some(tip) = WalTip::read(&fs).expect("a file that is there") {
        let words = [tip.number.0, tip.offset, tip.version.0].map(Some);
        assert_eq!(words, [0, 8, 16].map(|at| number(bytes, at)));
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let segments = vec![entry(2), entry(3)];
    let leaves = SegmentList::Leaves(vec![LeafRef {
        id: object(300),
        first: object(2),
        segments: 2,
        rows: 20,
        bytes: 1400,
        crc32c: 5,
        xxh3: format!("{:032x}", 253),
    }]);
    let written = |manifest: &Manifest| encode_manifest(manifest).expect("a sound manifest").to_vec();
    let claim =
        Manifest { number: ManifestNumber(2), is_claim: true, ..manifest(SegmentList::Inline(vec![])) };
    vec![
        ("manifest", written(&manifest(SegmentList::Inline(segments.clone())))),
        ("manifest-leaves", written(&manifest(leaves))),
        ("manifest-claim", written(&claim)),
        ("leaf", encode_leaf(&segments).expect("a sound leaf").to_vec()),
        ("identity", encode_identity(DATABASE).to_vec()),
        ("boundary", boundary(2, 5)),
        ("writer", br#"{"host":"here","pid":12,"epoch":3,"time_us":1700000000000000}"#.to_vec()),
        (
            "writer-closed",
            br#"{"host":"here","pid":12,"epoch":3,"time_us":17,"closed":true,"journal":true}"#.to_vec(),
        ),
        ("history", history(7, 3)),
        ("tip", mark(3, 4096, 17)),
    ]
}

fn entry(sequence: u64) -> SegmentEntry {
    SegmentEntry {
        segment: Arc::new(segment(sequence)),
        deletes: vec![deletes(sequence)],
        dropped_at: (sequence == 3).then_some(CommitVersion(9)),
    }
}

fn manifest(segments: SegmentList) -> Manifest {
    let view = ViewDef {
        schema: "main".to_owned(),
        name: "dear".to_owned(),
        sql: "SELECT id FROM flat".to_owned(),
        search_path: "main".to_owned(),
        owner: None,
    };
    let flat = TableRecord {
        def: Arc::new(flat()),
        flushed: CommitVersion(9),
        next_row_id: RowId(1000),
        numbered: None,
        segments,
        units: vec![Arc::new(unit())],
        dropped_at: None,
    };
    let nested = TableRecord {
        def: Arc::new(nested()),
        flushed: CommitVersion(9),
        next_row_id: RowId(1),
        numbered: None,
        segments: SegmentList::Inline(Vec::new()),
        units: Vec::new(),
        dropped_at: Some(CommitVersion(8)),
    };
    Manifest {
        number: ManifestNumber(1),
        database_id: DATABASE,
        epoch: Epoch(3),
        commit_id: CommitId(Uuid::from_u128(2)),
        version: CommitVersion(10),
        time_us: 1_700_000_000_000_000,
        replay_from: WalNumber(4),
        replay_epoch: Epoch(2),
        is_claim: false,
        horizon: CommitVersion(3),
        next_table_id: TableId(3),
        settled: Some(object(400)),
        history: vec![HistoryMark { version: CommitVersion(7), time_us: 1_700_000_000_000_000 }],
        catalog: CatalogRecord { schemas: vec!["main".to_owned()], views: vec![Arc::new(view)] },
        tables: vec![flat, nested],
    }
}

/// As the documentation of `storage/src/database/boundary.rs` has it.
fn boundary(oldest: u64, newest: u64) -> Vec<u8> {
    let mut out = b"CAIRNBND".to_vec();
    out.extend_from_slice(&oldest.to_le_bytes());
    out.extend_from_slice(&newest.to_le_bytes());
    out.extend_from_slice(DATABASE.0.as_bytes());
    out.extend_from_slice(&[0; 4]);
    sealed::last_checksum(&out).expect("a boundary")
}

/// As the documentation of `storage/src/manifest/history.rs` has it.
fn history(first: u64, commits: u64) -> Vec<u8> {
    let mut out = b"CAIRNHIS".to_vec();
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&commits.to_le_bytes());
    for commit in 0..commits {
        out.extend_from_slice(Uuid::from_u128(u128::from(commit) + 1).as_bytes());
        out.extend_from_slice(&(1_700_000_000_000_000 + commit).to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    sealed::last_checksum(&out).expect("a history")
}
