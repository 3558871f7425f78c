#![allow(clippy::unwrap_used)]
//! What happens between a merge and its commit.

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::collect::UploadGuard;
use crate::database::tests::{Rows, change, contents, create, definition, insert};
use crate::database::{OpenOptions, Root};
use crate::id::ColumnId;
use crate::schema::TableDef;
use crate::scratch::scratch;
use crate::segment::cache::{CacheKey, Form};
use crate::transaction::CommitOptions;
use crate::wal::CatalogEdit;

fn rows(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|k| (k, format!("value {k}"))).collect()
}

fn options() -> OpenOptions {
    OpenOptions { compacts: false, compact_segment_bytes: 2 << 10, ..OpenOptions::default() }
}

/// A merge that is done and not published.
struct Open {
    db: Arc<Database>,
    table: TableSnapshot,
    inputs: Vec<Input>,
    gone: Vec<ObjectId>,
    outputs: Vec<Output>,
    retained: Retained,
    _upload: UploadGuard,
}

impl Open {
    async fn merge(db: &Arc<Database>, id: TableId, retained: Retained) -> Self {
        let writer = db.writer().unwrap();
        let upload = writer.uploads.begin(&writer.ids);
        let snapshot = db.snapshot();
        let table = snapshot.table(id).unwrap();
        let stopped = AtomicBool::new(false);
        let work =
            Work { database: db, reason: CompactReason::Statement, retained: &retained, stopped: &stopped };
        let limits = work.limits(table.def());
        let facts = policy::facts(table.state(), &retained);
        let plan = policy::next(&facts, &limits, &Pass::default()).unwrap();
        let inputs = work.open(&table, &plan).await.unwrap();
        let receipt = CompactReceipt::new(CompactReason::Statement);
        let outputs = work.merge(&table, inputs.clone(), 0, &limits, 1, &receipt).await.unwrap();
        Self { db: Arc::clone(db), table, inputs, gone: plan.gone, outputs, retained, _upload: upload }
    }

    async fn publish(&self) -> Result<CommitVersion> {
        let merged = Merged {
            table: &self.table,
            inputs: &self.inputs,
            gone: &self.gone,
            outputs: &self.outputs,
            horizon: self.retained.horizon,
        };
        publish::publish(&self.db, self.db.writer().unwrap(), &merged).await
    }
}

/// Four segments of 100 rows each that lie over each other.
async fn four(db: &Arc<Database>) -> (TableId, Rows) {
    let table = create(db, "t", true).await.unwrap();
    let mut model = Rows::new();
    for round in 0..4_i64 {
        let new: Vec<_> = rows(0..400).into_iter().filter(|(k, _)| k % 4 == round).collect();
        insert(db, table, &new).await.unwrap();
        model.extend(new);
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    (table, model)
}

async fn delete(db: &Arc<Database>, table: TableId, model: &mut Rows, keys: &[i64]) {
    assert_eq!(change(db, table, keys, &[]).await.unwrap(), keys.len());
    model.retain(|k, _| !keys.contains(k));
}

fn newest(db: &Arc<Database>) -> Retained {
    newest_only(db.writer().unwrap())
}

#[tokio::test]
async fn deletes_that_come_during_the_merge_are_carried_over() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), options()).await.unwrap();
    let (table, mut model) = four(&db).await;
    delete(&db, table, &mut model, &(0..40).collect::<Vec<_>>()).await;
    let open = Open::merge(&db, table, newest(&db)).await;
    assert_eq!(open.inputs.len(), 4);
    assert_eq!(open.outputs.iter().map(|o| o.meta.rows).sum::<u64>(), 360);
    assert!(open.outputs.len() > 1, "it is cut");
    // By id, in bulk, by id and then moved into an object, and by id again.
    delete(&db, table, &mut model, &[40, 41]).await;
    delete(&db, table, &mut model, &(50..90).collect::<Vec<_>>()).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    delete(&db, table, &mut model, &[100, 300, 399]).await;
    insert(&db, table, &rows(1_000..1_010)).await.unwrap();
    model.extend(rows(1_000..1_010));
    let before = db.snapshot().table(table).unwrap();
    open.publish().await.unwrap();
    let now = db.snapshot().table(table).unwrap();
    assert_eq!(contents(&now).await.unwrap(), model);
    assert_eq!(contents(&before).await.unwrap(), model, "who reads goes on reading");
    let carried: u64 = now.state().segments.iter().filter_map(|s| s.deletes.as_ref()).map(|d| d.len()).sum();
    assert_eq!(carried, 42, "those that are in no object yet go by row id");
    drop((before, now, open));
    // From the log alone, then from a manifest.
    drop(db);
    let db = Database::open(root.clone(), options()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), model);
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(root, options()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), model);
    assert_eq!(change(&db, table, &[42, 350], &[]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_table_that_is_not_what_it_was_is_left_alone() {
    for what in ["truncated", "dropped", "compacted"] {
        let db = Database::open(Root::Memory, options()).await.unwrap();
        let (table, mut model) = four(&db).await;
        let open = Open::merge(&db, table, newest(&db)).await;
        match what {
            "compacted" => assert!(db.compact(Some(table)).await.unwrap().triggered),
            what => {
                let tx = db.begin(&db.snapshot()).await.unwrap();
                match what {
                    "truncated" => tx.truncate(table).unwrap(),
                    _ => tx.edit(CatalogEdit::DropTable { table }).unwrap(),
                }
                tx.commit(CommitOptions::default()).await.unwrap();
                model.clear();
            }
        }
        let version = db.snapshot().version();
        assert_eq!(open.publish().await.unwrap_err().kind(), ErrorKind::Conflict, "{what}");
        assert_eq!(db.snapshot().version(), version, "{what}");
        match db.snapshot().table(table) {
            Some(now) => assert_eq!(contents(&now).await.unwrap(), model, "{what}"),
            None => assert_eq!(what, "dropped"),
        }
    }
}

#[tokio::test]
async fn rows_that_a_retained_version_sees_stay() {
    let db = Database::open(Root::Memory, options()).await.unwrap();
    let (table, mut model) = four(&db).await;
    let seen = db.snapshot().version();
    delete(&db, table, &mut model, &(0..40).collect::<Vec<_>>()).await;
    let later = db.snapshot().version();
    delete(&db, table, &mut model, &(40..80).collect::<Vec<_>>()).await;
    // Of the rows that are deleted the first forty are seen by nobody but `seen`.
    let all = Retained { horizon: later, versions: std::collections::BTreeSet::from([seen]) };
    let some = Retained { horizon: later, ..Retained::default() };
    for (retained, kept) in [(all, 400), (some, 360)] {
        Open::merge(&db, table, retained).await.publish().await.unwrap();
        let now = db.snapshot().table(table).unwrap();
        let segments = &now.state().segments;
        assert_eq!(segments.iter().map(|s| s.meta.rows).sum::<u64>(), kept);
        let deleted: u64 = segments.iter().filter_map(|s| s.deletes.as_ref()).map(|d| d.len()).sum();
        assert_eq!(deleted, kept - 320);
        assert_eq!(contents(&now).await.unwrap(), model);
        assert_eq!(db.snapshot().state().horizon, later);
    }
}

#[tokio::test]
async fn a_merge_that_is_stopped_leaves_nothing() {
    let dir = scratch().unwrap();
    let db = Database::open(Root::Path(dir.path().to_owned()), options()).await.unwrap();
    let (table, model) = four(&db).await;
    let count = || std::fs::read_dir(dir.path().join("table").join(table.to_string())).unwrap().count();
    let (before, stopped) = (count(), AtomicBool::new(true));
    let retained = newest(&db);
    let snapshot = db.snapshot();
    let state = snapshot.table(table).unwrap();
    let reason = CompactReason::Statement;
    let work = Work { database: &db, reason, retained: &retained, stopped: &stopped };
    let limits = work.limits(state.def());
    let facts = policy::facts(state.state(), &retained);
    let plan = policy::next(&facts, &limits, &Pass::default()).unwrap();
    let inputs = work.open(&state, &plan).await.unwrap();
    let receipt = CompactReceipt::new(reason);
    let error = work.merge(&state, inputs, 0, &limits, 1, &receipt).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(count(), before);
    assert_eq!(contents(&state).await.unwrap(), model);
}

#[tokio::test]
async fn the_next_checkpoint_removes_what_was_replaced() {
    let dir = scratch().unwrap();
    let db = Database::open(Root::Path(dir.path().to_owned()), options()).await.unwrap();
    let (table, model) = four(&db).await;
    let count = || std::fs::read_dir(dir.path().join("table").join(table.to_string())).unwrap().count();
    let open = Open::merge(&db, table, newest(&db)).await;
    let replaced: Vec<ObjectId> = open.inputs.iter().map(|input| input.reader.meta().id).collect();
    let form = Form::of(db.snapshot().table(table).unwrap().def());
    let is_kept = |id: &ObjectId| db.shared.cache.get(CacheKey::Opened(*id, form)).is_some();
    assert!(replaced.iter().all(is_kept));
    // Not even who has published it needs to tell.
    open.publish().await.unwrap();
    let outputs = open.outputs.len();
    assert_eq!(count(), 2 * (4 + outputs));
    drop(open);
    assert!(db.checkpoint(CheckpointReason::Statement).await.unwrap().triggered);
    assert_eq!(count(), 2 * outputs);
    assert!(!replaced.iter().any(is_kept), "nothing of them is mapped");
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), model);
}

#[tokio::test]
async fn what_lies_beside_each_other_is_not_merged_again_after_opening() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), options()).await.unwrap();
    // The first column of the key tells no two segments apart.
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let table = tx.next_table_id();
    let def = TableDef { primary_key: vec![ColumnId(1), ColumnId(2)], ..definition(table, "t", true) };
    tx.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    for round in 0..4 {
        let new: Vec<_> = (0..100).map(|i| (7, format!("value {:04}", 4 * i + round))).collect();
        insert(&db, table, &new).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    assert!(db.compact(Some(table)).await.unwrap().triggered);
    let runs = |db: &Arc<Database>| -> Vec<ObjectId> {
        db.snapshot()
            .table(table)
            .unwrap()
            .state()
            .segments
            .iter()
            .map(|segment| segment.meta.run())
            .collect()
    };
    let made = runs(&db);
    assert!(made.len() > 1 && made.iter().all(|run| *run == made[0]), "{made:?}");
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(root, options()).await.unwrap();
    assert!(!db.compact(Some(table)).await.unwrap().triggered);
    assert_eq!(runs(&db), made);
    // One that comes lies over them.
    insert(&db, table, &[(7, "value 0100 and a half".to_owned())]).await.unwrap();
    assert!(db.compact(Some(table)).await.unwrap().triggered);
    let again = runs(&db);
    assert!(again.len() > 1 && again.iter().all(|run| *run == again[0] && *run != made[0]), "{again:?}");
}
