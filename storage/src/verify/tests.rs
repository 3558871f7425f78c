#![allow(clippy::unwrap_used)]
//! Damage of every kind, in every kind of object: DEEP names it, or opening does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Float32Type};
use cairn_vector::hnsw::{BuildOptions, build};
use cairn_vector::unit::Unit;
use cairn_vector::{MemoryRows, Metric};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::vectors::Trouble;
use super::*;
use crate::checkpoint::CheckpointReason;
use crate::database::tests::{change, create, insert, table_of};
use crate::database::{OpenOptions, Root};
use crate::id::{ColumnId, IndexId};
use crate::index::{IndexBuilder, IndexDef, IndexMetric};
use crate::schema::{ColumnType, TableDef};
use crate::scratch::scratch;
use crate::segment::RowChoice;
use crate::transaction::CommitOptions;
use crate::wal::CatalogEdit;

#[test]
fn what_could_not_be_read_is_not_called_damaged() {
    let found = |kind| Finding::new("x", "object hash", Err(Error::new(kind, "why")));
    for (kind, status) in [
        (ErrorKind::NotFound, FindingStatus::Missing),
        (ErrorKind::Corrupt, FindingStatus::Damaged),
        (ErrorKind::Unsupported, FindingStatus::Unknown),
        (ErrorKind::Unavailable, FindingStatus::Unknown),
        (ErrorKind::PermissionDenied, FindingStatus::Unknown),
    ] {
        let finding = found(kind);
        assert_eq!((finding.status, finding.is_bad()), (status, true), "{kind:?}");
        assert_eq!(finding.hint.contains("backup"), status != FindingStatus::Unknown, "{kind:?}");
    }
    assert!(!Finding::new("x", "object hash", Ok(counted(1, "row"))).is_bad());
    let newer = Finding::new("x", "object hash", Err(crate::error::newer("x", "it has format 2")));
    assert!(newer.hint.contains("nothing is damaged"), "{newer:?}");
    let at_stake = Error::corrupt("wal/1", "why").with_detail("versions 3 to 4 are at stake");
    let finding = Finding::new("wal", "frames and versions", Err(at_stake));
    assert!(finding.detail.ends_with("versions 3 to 4 are at stake"), "{}", finding.detail);
}

#[test]
fn one_is_one() {
    assert_eq!([counted(0, "row"), counted(1, "row"), counted(2, "row")], ["0 rows", "1 row", "2 rows"]);
}

fn rows(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|k| (k, format!("value {k}"))).collect()
}

/// Every kind of object but units: two segments with key filters, deletes in the manifest, entries in the log, two manifests.
async fn small(root: &Root) {
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..300)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    change(&db, table, &(0..40).collect::<Vec<_>>(), &rows(1_000..1_200)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &rows(2_000..2_003)).await.unwrap();
    change(&db, table, &[2_001], &[]).await.unwrap();
    db.close().await.unwrap();
}

/// All files but the lock, by their names.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found.remove("lock");
    found
}

/// What DEEP finds, or the error of opening.
async fn looked_at(root: &Root) -> Result<Vec<Finding>> {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let db = Database::open(root.clone(), options).await?;
    let findings = db.verify_deep(VerifyScope::Database).await;
    db.close().await?;
    findings
}

/// Whether a finding names the file, or opening refuses.
async fn is_noticed(root: &Root, name: &str, what: &str) {
    let findings = match looked_at(root).await {
        Ok(findings) => findings,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{name} {what}: {error}");
            return;
        }
    };
    let named = findings.iter().find(|f| f.status != FindingStatus::Ok && f.object == name);
    let named = named.unwrap_or_else(|| panic!("{name} {what}: {findings:#?}"));
    assert!(!named.detail.is_empty() && !named.hint.is_empty(), "{name} {what}: {named:?}");
}

#[tokio::test]
async fn damage_of_every_file_is_named() {
    let directory = scratch().unwrap();
    let path = directory.path().join("db");
    let root = Root::Path(path.clone());
    small(&root).await;
    let findings = looked_at(&root).await.unwrap();
    let strange: Vec<&Finding> = findings.iter().filter(|f| f.status != FindingStatus::Ok).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    let checks = ["replay", "unused bytes", "checksum and place", "checksum and id", "checksum and versions"];
    for check in checks {
        assert!(findings.iter().any(|f| f.check == check), "{check}: {findings:#?}");
    }

    let all = files(&path);
    for kind in ["CAIRN", "wal/tip", "manifest/", "history/", ".parquet", ".keys", ".deletes"] {
        assert!(all.keys().any(|name| name.contains(kind)), "{kind}: {:?}", all.keys());
    }
    for (name, good) in &all {
        let file = path.join(name);
        let length = good.len();
        for at in [0, length / 3, length / 2, length.saturating_sub(9), length - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&file, &bad).unwrap();
            is_noticed(&root, name, &format!("flipped at {at}")).await;
        }
        let mut zeroed = good.clone();
        zeroed[length / 2..(length / 2 + 512).min(length)].fill(0);
        let longer = [&good[..], b"x"].concat();
        let others = [zeroed, longer, good[..length / 2].to_vec(), good[..length - 1].to_vec(), Vec::new()];
        for (n, other) in others.iter().enumerate().filter(|(_, other)| *other != good) {
            std::fs::write(&file, other).unwrap();
            is_noticed(&root, name, &format!("changed in way {n}")).await;
        }
        std::fs::remove_file(&file).unwrap();
        is_noticed(&root, name, "removed").await;
        std::fs::write(&file, good).unwrap();
    }
    assert!(looked_at(&root).await.unwrap().iter().all(|f| f.status == FindingStatus::Ok));
}

#[tokio::test]
async fn two_files_in_each_others_place_are_both_named() {
    let directory = scratch().unwrap();
    let path = directory.path().join("db");
    let root = Root::Path(path.clone());
    small(&root).await;
    let all = files(&path);
    for kind in [".parquet", ".keys", "history/", "manifest/"] {
        let pair: Vec<(&String, &Vec<u8>)> = all.iter().filter(|(name, _)| name.contains(kind)).collect();
        assert!(pair.len() >= 2, "{kind}: {:?}", all.keys());
        let ((one, its), (other, others)) = (pair[0], pair[1]);
        std::fs::write(path.join(one), others).unwrap();
        std::fs::write(path.join(other), its).unwrap();
        is_noticed(&root, one, "swapped").await;
        is_noticed(&root, other, "swapped").await;
        std::fs::write(path.join(one), its).unwrap();
        std::fs::write(path.join(other), others).unwrap();
    }
    // One that is of another database.
    let other = directory.path().join("other");
    small(&Root::Path(other.clone())).await;
    let bad = std::fs::read(other.join("CAIRN")).unwrap();
    std::fs::write(path.join("CAIRN"), &bad).unwrap();
    is_noticed(&root, "CAIRN", "of another database").await;
}

/// A finding about the object that is no `ok`.
fn about<'a>(findings: &'a [Finding], object: &str) -> &'a Finding {
    let found = findings.iter().find(|f| f.object == object && f.status != FindingStatus::Ok);
    found.unwrap_or_else(|| panic!("{object}: {findings:#?}"))
}

#[tokio::test]
async fn an_older_copy_of_what_grows_is_named() {
    let directory = scratch().unwrap();
    let path = directory.path().join("db");
    let root = Root::Path(path.clone());
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..10)).await.unwrap();
    let log = path.join(format!("wal/{:020}", db.wal_status().number.0));
    let (old_log, old_tip) = (std::fs::read(&log).unwrap(), std::fs::read(path.join("wal/tip")).unwrap());
    insert(&db, table, &rows(10..20)).await.unwrap();
    let new_log = std::fs::read(&log).unwrap();

    std::fs::write(&log, &old_log).unwrap();
    for findings in [
        db.verify(VerifyScope::Database).await.unwrap(),
        db.verify_deep(VerifyScope::Database).await.unwrap(),
    ] {
        let finding = about(&findings, "wal");
        assert!(finding.is_bad() && finding.detail.contains("it ends with version"), "{finding:?}");
    }
    std::fs::write(&log, &new_log).unwrap();
    std::fs::write(path.join("wal/tip"), &old_tip).unwrap();
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    let finding = about(&findings, "wal/tip");
    assert!(finding.detail.contains("while the log goes to version"), "{finding:?}");
    insert(&db, table, &rows(20..21)).await.unwrap();
    db.close().await.unwrap();

    std::fs::write(path.join("wal/tip"), &old_tip).unwrap();
    let findings = looked_at(&root).await.unwrap();
    let finding = about(&findings, "wal/tip");
    assert_eq!(finding.status, FindingStatus::Warning);
    assert!(finding.hint.contains("opening the database for writing"), "{finding:?}");
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    assert!(findings.iter().all(|f| f.status == FindingStatus::Ok), "{findings:#?}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn objects_that_only_a_bucket_has_are_checked() {
    let store = Arc::new(InMemory::new());
    let open = |read_only| {
        let store = Some(Arc::clone(&store) as Arc<dyn ObjectStore>);
        let options = OpenOptions { store, read_only, ..OpenOptions::default() };
        async move { Database::open(Root::parse("s3://bucket/db").unwrap(), options).await }
    };
    let db = open(false).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..10)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &rows(10..20)).await.unwrap();
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    assert!(findings.iter().all(|f| f.status == FindingStatus::Ok), "{findings:#?}");
    db.close().await.unwrap();

    let newest_of_log = db.wal_status().number.0 - 1;
    let last = crate::wal::object_path(crate::id::WalNumber(newest_of_log));
    for name in ["boundary", "writer", "CAIRN", last.as_str()] {
        let path = object_store::path::Path::from(name);
        let good = store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut flipped = good.to_vec();
        flipped[good.len() / 2] ^= 4;
        for bad in [Some(flipped), Some(good[..good.len() - 1].to_vec()), None] {
            match &bad {
                Some(bad) => drop(store.put(&path, bad.clone().into()).await.unwrap()),
                None => store.delete(&path).await.unwrap(),
            }
            let found = match open(true).await {
                Ok(db) => db.verify_deep(VerifyScope::Database).await.unwrap(),
                Err(error) => {
                    assert!(error.message().contains(name), "{name}: {error}");
                    continue;
                }
            };
            about(&found, name);
        }
        store.put(&path, good.into()).await.unwrap();
    }
}

const DIM: usize = 4;

fn with_index() -> TableDef {
    let columns = [("k", ColumnType::Int64), ("e", ColumnType::Vector(DIM as u16))];
    let mut def = table_of(TableId(1), "t", &columns, true);
    def.indexes.push(IndexDef {
        id: IndexId(1),
        name: "t_e".to_owned(),
        column: ColumnId(2),
        metric: IndexMetric::L2,
        target_recall_permille: 950,
        m: 16,
        ef_construction: 200,
        builder: IndexBuilder::Partition,
        memory_limit_bytes: None,
    });
    def
}

fn vectors_of(keys: std::ops::Range<i64>) -> RecordBatch {
    let DataType::FixedSizeList(item, size) = ColumnType::Vector(DIM as u16).arrow() else { unreachable!() };
    let component = |key: i64, n: usize| ((key * 37 + n as i64 * 101) % 257) as f32 / 16.0;
    let components: Vec<f32> = keys.clone().flat_map(|k| (0..DIM).map(move |n| component(k, n))).collect();
    let list = FixedSizeListArray::new(item, size, Arc::new(Float32Array::from(components)), None);
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    RecordBatch::try_new(with_index().arrow_schema(), vec![keys, Arc::new(list)]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_not_of_its_rows_is_named() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let tx = db.begin(&db.snapshot()).await.unwrap();
    tx.edit(CatalogEdit::PutTable(Arc::new(with_index()))).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let mut writer = tx.writer(TableId(1)).unwrap();
    writer.write(vectors_of(0..300)).await.unwrap();
    writer.finish().await.unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.build_indexes(None).await.unwrap();
    let findings = db.verify_deep(VerifyScope::Table(TableId(1))).await.unwrap();
    let finding = findings.iter().find(|f| f.object.ends_with(".hnsw")).unwrap();
    assert!(finding.detail.starts_with("300 rows of 1 segment, each with its vector"), "{finding:?}");

    let snapshot = db.snapshot();
    let state = &snapshot.state().tables[&TableId(1)];
    let subject =
        segment::Subject { database: &db, depth: Depth::Deep, table: state, at: snapshot.version() };
    let (mut ids, mut data) = (Vec::new(), Vec::new());
    let reader = subject.open(&state.segments[0].meta).await.unwrap();
    for batch in reader.read(&[1], RowChoice::All).await.unwrap() {
        let from = ids.len() as u32;
        let positions: Vec<u32> = (from..from + batch.num_rows() as u32).collect();
        ids.extend(reader.row_ids_at(&positions).await.unwrap().into_iter().map(|id| id.0));
        let list = batch.column(0).as_fixed_size_list();
        data.extend_from_slice(list.values().as_primitive::<Float32Type>().values());
    }
    let unit = |ids: &[u64], data: &[f32]| {
        let rows = MemoryRows::new(data, DIM);
        let built = build(&rows, ids, &BuildOptions::new(Metric::L2), &|| false).unwrap();
        Unit::open(built.into_bytes().into()).unwrap()
    };
    let meta = &state.units[0];
    assert!(vectors::compare(&subject, meta, &unit(&ids, &data)).await.is_ok());
    let mut moved = data.clone();
    moved.rotate_left(DIM);
    let more = [&ids[..], &[9_999]].concat();
    let with_more = [&data[..], &data[..DIM]].concat();
    for (other, why) in [
        (unit(&ids, &moved), "from its vector"),
        (unit(&ids[1..], &data[DIM..]), "is not in it"),
        (unit(&more, &with_more), "row id 9999 is not in its segments"),
    ] {
        let Err(Trouble::Unit(error)) = vectors::compare(&subject, meta, &other).await else {
            panic!("{why}")
        };
        assert!(error.message().contains(why), "{why}: {error}");
    }
    db.close().await.unwrap();
}
