//! Databases on an object store: who writes, who follows, who takes over.

use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::id::{CommitId, CommitVersion};
use crate::object::ReadMeter;
use crate::object::counting::CountingStore;
use crate::schema::TableLayout;
use crate::segment::RowIds;
use crate::transaction::CommitReceipt;
use crate::verify::FindingStatus;

fn rows(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|k| (k, format!("value {k}"))).collect()
}

fn options(store: &Arc<InMemory>) -> OpenOptions {
    OpenOptions {
        store: Some(Arc::clone(store) as Arc<dyn ObjectStore>),
        poll_interval: Duration::ZERO,
        ..OpenOptions::default()
    }
}

async fn open(store: &Arc<InMemory>) -> Arc<Database> {
    Database::open(Root::parse("s3://bucket/db").unwrap(), options(store)).await.unwrap()
}

async fn open_taking_over(store: &Arc<InMemory>) -> Arc<Database> {
    let options = OpenOptions { take_over: true, ..options(store) };
    Database::open(Root::parse("s3://bucket/db").unwrap(), options).await.unwrap()
}

async fn all(db: &Arc<Database>, table: TableId) -> Rows {
    contents(&db.snapshot().table(table).unwrap()).await.unwrap()
}

async fn there(store: &Arc<InMemory>, path: &str) -> bool {
    store.head(&Path::from(path)).await.is_ok()
}

#[tokio::test]
async fn whoever_only_reads_takes_nothing_from_the_writer() {
    let store = Arc::new(InMemory::new());
    let writer = open(&store).await;
    assert!(writer.follows() && !writer.is_read_only() && !there(&store, "writer").await);
    let table = create(&writer, "t", true).await.unwrap();
    assert!(!writer.follows() && there(&store, "writer").await);
    insert(&writer, table, &rows(0..3)).await.unwrap();

    let reader = open(&store).await;
    assert_eq!(all(&reader, table).await.len(), 3);
    insert(&writer, table, &rows(3..5)).await.unwrap();
    reader.refresh().await.unwrap();
    assert_eq!(all(&reader, table).await.len(), 5);
    // Also over a checkpoint, and with what came after it.
    writer.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&writer, table, &rows(5..6)).await.unwrap();
    reader.refresh().await.unwrap();
    reader.refresh().await.unwrap();
    assert_eq!(all(&reader, table).await.len(), 6);
    assert!(reader.follows());
    reader.close().await.unwrap();
    // A writer that is alive is named to whoever wants to write, who gets nothing.
    let other = open(&store).await;
    let error = other.begin(&other.snapshot()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains(&format!("pid {}", std::process::id())), "{error}");
    assert!(error.hint().unwrap().contains("--take-over"));
    insert(&writer, table, &rows(6..7)).await.unwrap();
    writer.close().await.unwrap();
    // Closed in order: the next one need not wait.
    insert(&other, table, &rows(7..8)).await.unwrap_err();
    other.refresh().await.unwrap();
    insert(&other, table, &rows(7..8)).await.unwrap();
    assert_eq!(all(&other, table).await, rows(0..8).into_iter().collect());
}

#[tokio::test]
async fn a_database_survives_its_writers() {
    let store = Arc::new(InMemory::new());
    let mut table = TableId(0);
    let mut expected = Rows::new();
    for round in 0..6 {
        let db = open_taking_over(&store).await;
        if round == 0 {
            table = create(&db, "t", true).await.unwrap();
        }
        let new = rows(round * 10..round * 10 + 7);
        insert(&db, table, &new).await.unwrap();
        expected.extend(new);
        if round % 3 == 1 {
            assert!(db.checkpoint(CheckpointReason::Statement).await.unwrap().triggered);
        }
        let gone: Vec<i64> = expected.keys().copied().step_by(4).collect();
        change(&db, table, &gone, &[]).await.unwrap();
        expected.retain(|k, _| !gone.contains(k));
        assert_eq!(all(&db, table).await, expected);
        for finding in db.verify(crate::verify::VerifyScope::Database).await.unwrap() {
            assert!(
                matches!(finding.status, FindingStatus::Ok | FindingStatus::Warning),
                "{} {}: {}",
                finding.object,
                finding.check,
                finding.detail
            );
        }
        // Every other one simply stops.
        if round % 2 == 0 {
            db.close().await.unwrap();
        }
    }
    assert_eq!(all(&open(&store).await, table).await, expected);
}

#[tokio::test]
async fn a_writer_that_was_taken_over_only_answers_reads() {
    let store = Arc::new(InMemory::new());
    let first = open(&store).await;
    let table = create(&first, "t", true).await.unwrap();
    insert(&first, table, &rows(0..2)).await.unwrap();
    let second = open_taking_over(&store).await;
    second.claim().await.unwrap();
    let error = insert(&first, table, &rows(2..3)).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Fenced, "57P04"));
    assert_eq!(insert(&first, table, &rows(3..4)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(first.checkpoint(CheckpointReason::Statement).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(all(&first, table).await.len(), 2);
    first.close().await.unwrap();
    insert(&second, table, &rows(2..4)).await.unwrap();
    assert_eq!(all(&second, table).await, rows(0..4).into_iter().collect());
    // Its checkpoint meets the manifest of the claim as well.
    let third = open_taking_over(&store).await;
    third.claim().await.unwrap();
    assert_eq!(second.checkpoint(CheckpointReason::Statement).await.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_commit_is_found_by_its_id_and_made_once() {
    let store = Arc::new(InMemory::new());
    let id = CommitId::random();
    let again = |db: Arc<Database>, table: TableId| async move {
        let tx = db.begin(&db.snapshot()).await?;
        let mut writer = tx.writer(table)?;
        writer.write(batch(&rows(0..2))).await?;
        writer.finish().await?;
        tx.commit(CommitOptions { commit_id: Some(id), ..CommitOptions::default() }).await
    };
    let db = open(&store).await;
    let table = create(&db, "t", false).await.unwrap();
    assert_eq!(db.commit_version(id).await.unwrap(), None);
    let first = again(Arc::clone(&db), table).await.unwrap();
    assert!(!first.repeated);
    let repeated = again(Arc::clone(&db), table).await.unwrap();
    assert!(repeated.repeated && repeated.version == first.version);
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert!(again(Arc::clone(&db), table).await.unwrap().repeated);
    db.close().await.unwrap();
    let db = open(&store).await;
    assert_eq!(db.commit_version(id).await.unwrap().unwrap().version, first.version);
    assert!(again(Arc::clone(&db), table).await.unwrap().repeated);
    assert_eq!(db.snapshot().table(table).unwrap().row_count().await.unwrap(), 2);
}

fn id(n: u128) -> CommitId {
    CommitId(uuid::Uuid::from_u128(n))
}

/// Two rows, in a commit with an id of ours.
async fn named(db: &Arc<Database>, table: TableId, id: CommitId) -> Result<CommitReceipt> {
    let tx = db.begin(&db.snapshot()).await?;
    let mut writer = tx.writer(table)?;
    writer.write(batch(&rows(0..2))).await?;
    writer.finish().await?;
    tx.commit(CommitOptions { commit_id: Some(id), ..CommitOptions::default() }).await
}

async fn count(db: &Arc<Database>, table: TableId) -> u64 {
    db.snapshot().table(table).unwrap().row_count().await.unwrap()
}

/// Gets and heads, puts, lists.
fn requests(db: &Arc<Database>) -> (u64, u64, u64) {
    let objects = db.figures().objects.unwrap();
    (objects.gets + objects.heads, objects.puts, objects.lists)
}

#[tokio::test]
async fn a_new_id_costs_no_request() {
    let store = Arc::new(InMemory::new());
    let open = async || {
        let options = OpenOptions { collects: false, ..options(&store) };
        Database::open(Root::parse("s3://bucket/db").unwrap(), options).await.unwrap()
    };
    let db = open().await;
    let table = create(&db, "t", false).await.unwrap();
    for n in 0..20 {
        named(&db, table, id(n)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    db.close().await.unwrap();
    let db = open().await;
    named(&db, table, id(100)).await.unwrap();
    let (reads, puts, lists) = requests(&db);
    for n in 101..131 {
        assert!(!named(&db, table, id(n)).await.unwrap().repeated);
    }
    // One object of the log for each.
    assert_eq!(requests(&db), (reads, puts + 30, lists));
    // Nor when checkpoints have taken them out of the log.
    for n in 131..135 {
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        let (reads, puts, lists) = requests(&db);
        assert!(!named(&db, table, id(n)).await.unwrap().repeated);
        assert_eq!(requests(&db), (reads, puts + 1, lists));
    }
    // One that is there costs what it takes to read where it is.
    let (reads, puts, lists) = requests(&db);
    for n in [0, 19, 100, 133] {
        assert!(named(&db, table, id(n)).await.unwrap().repeated);
    }
    let after = requests(&db);
    assert!(after.0 > reads && after.0 <= reads + 4 * 16 && (after.1, after.2) == (puts, lists), "{after:?}");
    assert_eq!(count(&db, table).await, (20 + 35) * 2);
}

/// The commits with ids from 0 on have these versions, and are not made again.
async fn hold(db: &Arc<Database>, table: TableId, versions: &[CommitVersion]) {
    for (n, version) in (0..).zip(versions) {
        let receipt = named(db, table, id(n)).await.unwrap();
        assert_eq!((receipt.repeated, receipt.version), (true, *version));
        for found in [db.commit_version(id(n)).await, db.earlier_commit(id(n)).await] {
            assert_eq!(found.unwrap().unwrap().version, *version);
        }
    }
    assert_eq!(count(db, table).await, versions.len() as u64 * 2);
    assert_eq!(db.commit_version(id(1_000)).await.unwrap(), None);
}

#[tokio::test]
async fn a_repeated_commit_changes_nothing_wherever_its_id_stands() {
    let store = Arc::new(InMemory::new());
    let db = open(&store).await;
    let table = create(&db, "t", false).await.unwrap();
    let mut versions = vec![named(&db, table, id(0)).await.unwrap().version];
    hold(&db, table, &versions).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    hold(&db, table, &versions).await;
    let mut last = db;
    for round in 1..9 {
        // Taken over, closed in order, or begun anew; with ids in the log, in objects, and in both.
        let db = match round % 3 {
            0 => {
                last.close().await.unwrap();
                open(&store).await
            }
            _ => open_taking_over(&store).await,
        };
        if round % 2 == 0 {
            hold(&db, table, &versions).await;
        }
        versions.push(named(&db, table, id(round)).await.unwrap().version);
        hold(&db, table, &versions).await;
        if round % 4 != 1 {
            db.checkpoint(CheckpointReason::Statement).await.unwrap();
        }
        hold(&db, table, &versions).await;
        last = db;
    }
    // A reader finds them as well.
    let reader = open(&store).await;
    for (n, version) in (0..).zip(&versions) {
        assert_eq!(reader.commit_version(id(n)).await.unwrap().unwrap().version, *version);
        assert_eq!(reader.earlier_commit(id(n)).await.unwrap().unwrap().version, *version);
    }
}

#[tokio::test]
async fn what_a_later_writer_committed_is_not_committed_again() {
    let store = Arc::new(InMemory::new());
    let first = open(&store).await;
    let table = create(&first, "t", false).await.unwrap();
    for n in 0..2 {
        named(&first, table, id(n)).await.unwrap();
        first.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    // It has read what there is; then somebody else comes.
    assert_eq!(first.earlier_commit(id(2)).await.unwrap(), None);
    let second = open_taking_over(&store).await;
    let version = named(&second, table, id(2)).await.unwrap().version;
    second.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert_eq!(first.earlier_commit(id(2)).await.unwrap(), None);
    assert_eq!(named(&first, table, id(2)).await.unwrap_err().kind(), ErrorKind::Fenced);
    // Now it knows that it does not know.
    assert_eq!(first.earlier_commit(id(2)).await.unwrap().unwrap().version, version);
    let third = open_taking_over(&store).await;
    assert!(named(&third, table, id(2)).await.unwrap().repeated);
    assert_eq!(count(&third, table).await, 3 * 2);
}

#[tokio::test]
async fn an_id_that_nobody_can_look_for_is_not_taken_for_new() {
    let store = Arc::new(InMemory::new());
    let db = open(&store).await;
    let table = create(&db, "t", false).await.unwrap();
    named(&db, table, id(0)).await.unwrap();
    let receipt = db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    let path = Path::from(format!("history/{:020}", receipt.manifest.0));
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    store.put(&path, whole.slice(..whole.len() - 1).into()).await.unwrap();
    let db = open(&store).await;
    for n in 0..2 {
        let error = named(&db, table, id(n)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(&path.to_string()), "{error}");
    }
    // Commits without one go on.
    insert(&db, table, &rows(5..6)).await.unwrap();
    store.put(&path, whole.into()).await.unwrap();
    assert!(named(&db, table, id(0)).await.unwrap().repeated);
    assert!(!named(&db, table, id(1)).await.unwrap().repeated);
    assert_eq!(count(&db, table).await, 5);
}

#[tokio::test]
async fn a_prefix_with_other_things_is_refused() {
    let store = Arc::new(InMemory::new());
    store.put(&Path::from("photos/1.jpg"), "x".into()).await.unwrap();
    let root = Root::parse("s3://bucket/db").unwrap();
    let error = Database::open(root.clone(), options(&store)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.detail().unwrap().contains("photos/1.jpg"));
    let empty = Arc::new(InMemory::new());
    for options in
        [OpenOptions { read_only: true, ..options(&empty) }, OpenOptions { create: false, ..options(&empty) }]
    {
        assert_eq!(Database::open(root.clone(), options).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(!there(&empty, "CAIRN").await);
}

#[tokio::test]
async fn opening_costs_few_requests() {
    let store = Arc::new(InMemory::new());
    let db = open(&store).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let reader = open(&store).await;
    let objects = reader.figures().objects.unwrap();
    // The boundary before and after, the manifest and the one after it, two of the log.
    assert_eq!((objects.gets + objects.heads, objects.puts, objects.lists), (6, 0, 0));
}

#[tokio::test]
async fn a_key_is_asked_for_where_it_may_be_and_nowhere_else() {
    let store = Arc::new(InMemory::new());
    // Each load is a segment.
    let loads = OpenOptions { wal_entry_bytes_max: 1 << 10, compacts: false, ..options(&store) };
    let db = Database::open(Root::parse("s3://bucket/db").unwrap(), loads).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for n in 0..6 {
        insert(&db, table, &rows(1000 * n..1000 * n + 500)).await.unwrap();
    }
    db.close().await.unwrap();
    let reader = open(&store).await;
    let table = reader.snapshot().table(table).unwrap();
    assert_eq!(table.segments().await.unwrap().len(), 6);
    let encoder = table.key_encoder().unwrap().unwrap();
    let look_up = async |key: i64| {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![key]));
        let key = encoder.encode(&[column]).unwrap().to_owned(0);
        let before = requests(&reader).0;
        let found = table.lookup_for(&[key], &[0, 1]).await.unwrap();
        let ids: Vec<RowId> = found.into_iter().flatten().collect();
        let rows = table.rows(&ids, &[0, 1], false).await.unwrap();
        let values = rows.column(1).as_string_view();
        let value = (rows.num_rows() == 1).then(|| values.value(0).to_owned());
        (value, requests(&reader).0 - before)
    };
    // Footer, small key filter, the pages of both columns: of the oldest segment as of the newest.
    assert_eq!(look_up(7).await, (Some("value 7".to_owned()), 3));
    assert_eq!(look_up(5_499).await, (Some("value 5499".to_owned()), 3));
    assert_eq!(look_up(5_400).await, (Some("value 5400".to_owned()), 0));
    // Between two segments, and beyond all of them.
    for absent in [999, 500, 5_500, -1] {
        assert_eq!(look_up(absent).await, (None, 0), "{absent}");
    }
}

#[tokio::test]
async fn segments_over_each_other_are_opened_at_the_same_time() {
    let store = Arc::new(InMemory::new());
    let loads = OpenOptions { wal_entry_bytes_max: 1 << 10, compacts: false, ..options(&store) };
    let db = Database::open(Root::parse("s3://bucket/db").unwrap(), loads).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for n in 0..4 {
        let load: Vec<_> = (0..500).map(|k| (4 * k + n, format!("value {k}"))).collect();
        insert(&db, table, &load).await.unwrap();
    }
    db.close().await.unwrap();
    let counting = Arc::new(CountingStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>));
    let through = OpenOptions {
        store: Some(Arc::clone(&counting) as Arc<dyn ObjectStore>),
        read_only: true,
        ..options(&store)
    };
    let reader = Database::open(Root::parse("s3://bucket/db").unwrap(), through).await.unwrap();
    let table = reader.snapshot().table(table).unwrap();
    assert_eq!(table.segments().await.unwrap().len(), 4);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1_000]));
    let keys = [table.key_encoder().unwrap().unwrap().encode(&[column]).unwrap().to_owned(0)];
    counting.count();
    counting.hold();
    let release = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(counting.count(), 4, "the footers of all of them");
        counting.release(1_000);
    };
    let (found, ()) = futures::join!(table.lookup(&keys), release);
    assert!(found.unwrap()[0].is_some());
}

/// 60,000 rows of 16 columns, near each other row by row; returns the table. They are loaded, or were in the log before.
async fn near_rows(store: &Arc<InMemory>, are_loaded: bool, value: impl Fn(i64, i64) -> i64) -> TableId {
    const ROWS: i64 = 60_000;
    let wal_entry_bytes_max = if are_loaded { 1 << 20 } else { 64 << 20 };
    let loads = OpenOptions { wal_entry_bytes_max, compacts: false, ..options(store) };
    let db = Database::open(Root::parse("s3://bucket/db").unwrap(), loads).await.unwrap();
    let names: Vec<String> = (0..16).map(|n| format!("c{n}")).collect();
    let columns: Vec<_> = names.iter().map(|name| (name.as_str(), ColumnType::Int64)).collect();
    let transaction = db.begin(&db.snapshot()).await.unwrap();
    let id = transaction.next_table_id();
    let def = TableDef { layout: TableLayout::Rows, ..table_of(id, "t", &columns, true) };
    let schema = def.arrow_schema();
    transaction.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
    let mut writer = transaction.writer(id).unwrap();
    for first in (0..ROWS).step_by(8192) {
        let rows = first..(first + 8192).min(ROWS);
        let column = |c: i64| Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| value(row, c))));
        let arrays: Vec<ArrayRef> = (0..16).map(|c| column(c) as ArrayRef).collect();
        writer.write(RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap()).await.unwrap();
    }
    writer.finish().await.unwrap();
    transaction.commit(CommitOptions::default()).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    id
}

#[tokio::test]
async fn of_rows_that_lie_near_each_other_one_is_looked_up_in_few_requests() {
    for are_loaded in [true, false] {
        check_lookups_of_near_rows(are_loaded).await;
    }
}

async fn check_lookups_of_near_rows(are_loaded: bool) {
    let store = Arc::new(InMemory::new());
    // Of no order but the key.
    let value = |row: i64, column: i64| match column {
        0 => row,
        column => (xxh3_64_with_seed(&row.to_le_bytes(), column as u64) % 1000) as i64,
    };
    let table = near_rows(&store, are_loaded, value).await;
    let columns: Vec<usize> = (0..16).collect();
    let reader = open(&store).await;
    let table = reader.snapshot().table(table).unwrap().metered(ReadMeter::default());
    let encoder = table.key_encoder().unwrap().unwrap();
    let look_up = async |key: i64| {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![key]));
        let wanted = encoder.encode(&[column]).unwrap().to_owned(0);
        let ids: Vec<RowId> =
            table.lookup_for(&[wanted], &columns).await.unwrap().into_iter().flatten().collect();
        let rows = table.rows(&ids, &columns, false).await.unwrap();
        assert_eq!(rows.num_rows(), 1);
        for (at, column) in (0..).zip(rows.columns()) {
            assert_eq!(column.as_primitive::<Int64Type>().value(0), value(key, at));
        }
    };
    // With opening, which is 6.
    look_up(40_000).await;
    let first = reader.figures().objects.unwrap();
    assert!(first.gets + first.heads <= 10 && first.read_bytes <= 1_000_000, "{first:?}");
    // In another row group, of which nothing is known but the footer.
    look_up(3).await;
    let second = reader.figures().objects.unwrap();
    assert_eq!((second.gets, second.heads), (first.gets + 1, first.heads));
    let segment = table.segments().await.unwrap().swap_remove(0);
    // A load knows the ids without a column of them, a checkpoint does not.
    assert_eq!(segment.meta.row_ids == RowIds::Column, !are_loaded);
    let groups = table.open_segment(&segment.meta).await.unwrap().metadata().num_row_groups();
    assert_eq!(groups, 4);
}

#[tokio::test]
async fn what_is_closed_claims_nothing() {
    let store = Arc::new(InMemory::new());
    let db = open(&store).await;
    db.close().await.unwrap();
    assert_eq!(db.begin(&db.snapshot()).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert!(!there(&store, "writer").await && db.follows());
}

#[tokio::test]
async fn who_was_fenced_and_closes_does_not_speak_for_the_next() {
    let store = Arc::new(InMemory::new());
    let first = open(&store).await;
    create(&first, "t", true).await.unwrap();
    let second = open_taking_over(&store).await;
    second.claim().await.unwrap();
    // It does not know yet.
    first.close().await.unwrap();
    let third = open(&store).await;
    assert_eq!(third.claim().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_a_reader_has_seen_expires_also_when_its_process_writes_since() {
    let store = Arc::new(InMemory::new());
    let first = open(&store).await;
    let table = create(&first, "t", true).await.unwrap();
    insert(&first, table, &rows(0..100)).await.unwrap();
    first.checkpoint(CheckpointReason::Statement).await.unwrap();
    first.close().await.unwrap();

    let db = open(&store).await;
    let seen = db.snapshot().table(table).unwrap();
    db.claim().await.unwrap();
    let (snapshot, segments) = (db.snapshot(), seen.segments().await.unwrap());
    let now = snapshot.table(table).unwrap();
    let opened = now.open_segment(&segments[0].meta).await.unwrap();
    store.delete(&Path::from(segments[0].meta.path())).await.unwrap();
    let missed = async |table: &TableSnapshot| contents(table).await.unwrap_err().kind();
    assert_eq!(missed(&seen).await, ErrorKind::SnapshotExpired);
    assert_eq!(missed(&now).await, ErrorKind::Corrupt, "nobody collects what the writer still names");
    // Its own collector gives up what was held for too long.
    let pins = &db.shared.pins;
    pins.give_up_before(snapshot.state().manifest);
    assert_eq!(missed(&now).await, ErrorKind::Corrupt);
    pins.give_up_before(snapshot.state().manifest.next());
    assert_eq!(missed(&now).await, ErrorKind::SnapshotExpired);
    let error = opened.read(&[0, 1], RowChoice::All).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
}

#[tokio::test]
async fn fences_of_claims_that_changed_nothing_are_not_read_again() {
    let store = Arc::new(InMemory::new());
    let db = open(&store).await;
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    for _ in 0..6 {
        let db = open(&store).await;
        db.claim().await.unwrap();
        db.close().await.unwrap();
    }
    let reader = open(&store).await;
    let requests = || {
        let objects = reader.figures().objects.unwrap();
        objects.gets + objects.heads
    };
    // As many as without any fence: the last one is the first of the two of the log.
    assert_eq!(requests(), 6);
    assert_eq!(ids_of(&reader.snapshot().table(table).unwrap(), &[7]).await.unwrap().len(), 1);
    assert!(requests() <= 10, "{}", requests());
    // Entries keep their place, whoever comes and goes.
    for key in 100..103 {
        let db = open(&store).await;
        insert(&db, table, &rows(key..key + 1)).await.unwrap();
        db.close().await.unwrap();
        let db = open(&store).await;
        db.claim().await.unwrap();
        db.close().await.unwrap();
    }
    assert_eq!(all(&open(&store).await, table).await, rows(0..103).into_iter().collect());
    // Also for one that has read along from before.
    reader.refresh().await.unwrap();
    reader.refresh().await.unwrap();
    assert_eq!(all(&reader, table).await.len(), 103);
}

#[tokio::test]
async fn ids_of_commits_are_remembered_while_somebody_may_have_missed_them() {
    let store = Arc::new(InMemory::new());
    let db = open(&store).await;
    let table = create(&db, "t", false).await.unwrap();
    let commit = async |id: CommitId| {
        let tx = db.begin(&db.snapshot()).await.unwrap();
        let mut writer = tx.writer(table).unwrap();
        writer.write(batch(&rows(0..1))).await.unwrap();
        writer.finish().await.unwrap();
        let options = CommitOptions { commit_id: Some(id), ..CommitOptions::default() };
        tx.commit(options).await.unwrap().repeated
    };
    let order = &db.writer().unwrap().order;
    for _ in 0..5 {
        assert!(!commit(CommitId::random()).await);
    }
    assert_eq!(order.named_kept(), 5);
    // Whoever looks for an id now does not see it come.
    let asking = order.asking();
    let late = CommitId::random();
    assert!(!commit(late).await);
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert_eq!(order.named_kept(), 1);
    let refused = order.accept(Some(late), |_| Err(crate::error::Error::internal("it was not remembered")));
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Conflict);
    drop(asking);
    insert(&db, table, &rows(1..2)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert_eq!(order.named_kept(), 0);
    assert!(commit(late).await, "it is found where it was written");
}
