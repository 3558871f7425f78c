#![allow(clippy::unwrap_used)]
//! Collections of small databases in a store in memory, under a clock that is turned.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::task::Poll;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::database::tests::definition;
use crate::database::{self, Clock, OpenOptions, Root, now_us};
use crate::id::{CommitId, CommitVersion, Epoch, ObjectId, ObjectIds, RowId, TableId};
use crate::manifest::history::history_path;
use crate::repair::RepairStatus;
use crate::segment::EncodedKey;
use crate::transaction::{CommitOptions, CommitReceipt, LastWord, Transaction, TransactionBlock};
use crate::verify::{Finding, FindingStatus, VerifyScope};
use crate::wal::{CommitInfo, FENCE_BYTES};

const TABLE: TableId = TableId(1);

/// A store, and a clock that is ahead of the store's.
struct Bucket {
    store: Arc<InMemory>,
    ahead_us: Arc<AtomicI64>,
}

impl Bucket {
    fn new() -> Self {
        Self { store: Arc::new(InMemory::new()), ahead_us: Arc::default() }
    }

    fn turn(&self, hours: i64) {
        self.ahead_us.fetch_add(hours * 3_600_000_000, Ordering::Relaxed);
    }

    async fn open(&self) -> Arc<Database> {
        let ahead_us = Arc::clone(&self.ahead_us);
        let options = OpenOptions {
            store: Some(Arc::clone(&self.store) as Arc<dyn ObjectStore>),
            clock: Clock::new(move || now_us() + ahead_us.load(Ordering::Relaxed)),
            take_over: true,
            collects: false,
            compacts: false,
            wal_entry_bytes_max: 16 << 10,
            ..OpenOptions::default()
        };
        Database::open(Root::parse("s3://bucket/db").unwrap(), options).await.unwrap()
    }

    async fn writer(&self) -> Arc<Database> {
        let db = self.open().await;
        db.claim().await.unwrap();
        db
    }

    /// Paths below `folder` that end with `end`, with their bytes.
    async fn listed(&self, folder: &str, end: &str) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let mut objects = self.store.list(Some(&Path::from(folder)));
        while let Some(object) = objects.next().await {
            let object = object.unwrap();
            if object.location.as_ref().ends_with(end) {
                found.insert(object.location.to_string(), object.size);
            }
        }
        found
    }

    async fn paths(&self, folder: &str, end: &str) -> BTreeSet<String> {
        self.listed(folder, end).await.into_keys().collect()
    }

    /// Ends `work`, and leaves objects of these paths as if it had been killed: it takes its own along otherwise.
    async fn killed<T>(&self, left: &BTreeSet<String>, work: T) {
        drop(work);
        while !self.paths("table", "").await.is_disjoint(left) {
            tokio::task::yield_now().await;
        }
        for path in left {
            self.put(path, 5).await;
        }
    }

    /// Waits until these are all the objects of tables.
    async fn gone_but(&self, objects: &BTreeSet<String>) {
        for _ in 0..10_000 {
            if self.paths("table", "").await == *objects {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("there are others than {objects:?}");
    }

    async fn put(&self, path: &str, bytes: usize) {
        self.store.put(&Path::from(path), Bytes::from(vec![7; bytes]).into()).await.unwrap();
    }
}

async fn create(db: &Arc<Database>, keyed: bool) {
    assert_eq!(database::tests::create(db, "t", keyed).await.unwrap(), TABLE);
}

/// Rows of these keys; 2,000 of them are more than a WAL entry takes.
async fn fill(transaction: &Transaction, keys: std::ops::Range<i64>) {
    let values: ArrayRef =
        Arc::new(StringViewArray::from_iter_values(keys.clone().map(|k| format!("the value of {k}"))));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    let mut writer = transaction.writer(TABLE).unwrap();
    writer
        .write(RecordBatch::try_new(definition(TABLE, "t", true).arrow_schema(), vec![keys, values]).unwrap())
        .await
        .unwrap();
    writer.finish().await.unwrap();
}

async fn insert(db: &Arc<Database>, keys: std::ops::Range<i64>) {
    let transaction = db.begin(&db.snapshot()).await.unwrap();
    fill(&transaction, keys).await;
    transaction.commit(CommitOptions::default()).await.unwrap();
}

/// More than twelve rows of segments are deleted by a `.deletes` object of the entry, fewer by the entry itself.
async fn delete(db: &Arc<Database>, keys: std::ops::Range<i64>) {
    let snapshot = db.snapshot();
    let table = snapshot.table(TABLE).unwrap();
    let encoder = table.key_encoder().unwrap().unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
    let encoded = encoder.encode(&[column]).unwrap();
    let keys: Vec<EncodedKey> = (0..encoded.len()).map(|i| encoded.to_owned(i)).collect();
    let ids: Vec<RowId> = table.lookup(&keys).await.unwrap().into_iter().flatten().collect();
    assert_eq!(ids.len(), keys.len());
    let transaction = db.begin(&snapshot).await.unwrap();
    transaction.delete(TABLE, &ids).unwrap();
    transaction.commit(CommitOptions::default()).await.unwrap();
}

/// A checkpoint; no collection follows it by itself.
async fn checkpoint(db: &Arc<Database>) -> ManifestNumber {
    let receipt = db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert!(receipt.triggered);
    receipt.manifest
}

async fn rows(db: &Arc<Database>) -> u64 {
    db.snapshot().table(TABLE).unwrap().row_count().await.unwrap()
}

async fn verified(db: &Arc<Database>) -> Vec<Finding> {
    let findings = db.verify(VerifyScope::Database).await.unwrap();
    for finding in &findings {
        assert!(!finding.is_bad(), "{} {}: {}", finding.object, finding.check, finding.detail);
    }
    findings.into_iter().filter(|finding| finding.status == FindingStatus::Warning).collect()
}

fn kinds(receipt: &CollectReceipt) -> Vec<ObjectKind> {
    receipt.collected.iter().map(|kind| kind.kind).collect()
}

/// A database whose first checkpoint (returned) names one `.deletes` object (returned), which the second has replaced.
async fn with_garbage(bucket: &Bucket) -> (Arc<Database>, ManifestNumber, String) {
    let db = bucket.writer().await;
    create(&db, true).await;
    insert(&db, 0..2_000).await;
    delete(&db, 0..20).await;
    let first = checkpoint(&db).await;
    let replaced = bucket.paths("table", ".deletes").await;
    assert_eq!(replaced.len(), 1);
    delete(&db, 20..25).await;
    checkpoint(&db).await;
    assert_eq!(bucket.paths("table", ".deletes").await.len(), 2);
    (db, first, replaced.into_iter().next().unwrap())
}

#[tokio::test]
async fn what_was_replaced_goes_when_no_reader_can_hold_it() {
    let bucket = Bucket::new();
    let (db, first, replaced) = with_garbage(&bucket).await;
    let before = bucket.paths("", "").await;
    assert_eq!(db.collect().await.unwrap().objects(), 0);
    assert_eq!(bucket.paths("", "").await, before);
    assert!(verified(&db).await.is_empty());

    bucket.turn(2);
    let logged: u64 = {
        let replay_from = db.manifests.read(first.next()).await.unwrap().replay_from;
        let log = bucket.listed("wal", "").await;
        let dead =
            |path: &String, bytes: u64| *path < crate::wal::object_path(replay_from) && bytes != FENCE_BYTES;
        log.iter().filter(|(path, bytes)| dead(path, **bytes)).count() as u64
    };
    assert!(logged >= 4);
    let receipt = db.collect().await.unwrap();
    assert_eq!(kinds(&receipt), [ObjectKind::Deletes, ObjectKind::Manifest, ObjectKind::Wal]);
    assert_eq!(receipt.collected.iter().map(|kind| kind.objects).collect::<Vec<_>>(), [1, 1, logged]);
    assert_eq!(receipt.oldest, Some(first.next()));
    let gone: BTreeSet<String> = before.difference(&bucket.paths("", "").await).cloned().collect();
    assert_eq!(gone.len() as u64, receipt.objects());
    assert!(gone.contains(&replaced) && gone.contains(&manifest_path(first)));
    // The claim stays, and the boundary tells where the rest begins.
    assert!(bucket.paths("manifest", "").await.contains(&manifest_path(ManifestNumber(1))));
    let (boundary, _) = Boundary::read(&*bucket.store).await.unwrap().unwrap();
    assert_eq!(boundary.oldest, first.next());

    assert!(verified(&db).await.is_empty());
    assert_eq!(db.collect().await.unwrap().objects(), 0);
    db.close().await.unwrap();
    let db = bucket.writer().await;
    assert_eq!(rows(&db).await, 1_975);
    assert!(verified(&db).await.is_empty());
    insert(&db, 5_000..5_010).await;
    checkpoint(&db).await;
    assert_eq!(rows(&db).await, 1_985);
}

#[tokio::test]
async fn what_a_killed_writer_has_left_goes_after_the_next_checkpoint() {
    let bucket = Bucket::new();
    let db = bucket.writer().await;
    create(&db, true).await;
    insert(&db, 0..2_000).await;
    let named = bucket.paths("table", "").await;
    let lost = db.begin(&db.snapshot()).await.unwrap();
    fill(&lost, 2_000..4_000).await;
    let left: BTreeSet<String> = bucket.paths("table", "").await.difference(&named).cloned().collect();
    assert!(left.len() >= 2, "a segment and its key filter");

    let next = bucket.writer().await;
    bucket.killed(&left, (lost, db)).await;
    bucket.put("table/1/notes.txt", 5).await;
    insert(&next, 4_000..4_010).await;
    bucket.turn(2);
    // Nothing tells yet that the log names none of them.
    next.collect().await.unwrap();
    assert!(bucket.paths("table", "").await.is_superset(&left));
    checkpoint(&next).await;
    next.collect().await.unwrap();
    let there = bucket.paths("table", "").await;
    assert!(there.is_disjoint(&left));
    assert!(there.is_superset(&named) && there.contains("table/1/notes.txt"));
    assert_eq!(rows(&next).await, 2_010);
}

#[tokio::test]
async fn objects_of_open_work_stay_until_it_ends() {
    let bucket = Bucket::new();
    let db = bucket.writer().await;
    // Without a key, so that loads do not conflict with what is written meanwhile.
    create(&db, false).await;
    let load = db.begin(&db.snapshot()).await.unwrap();
    fill(&load, 0..2_000).await;
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    let statement = db.begin(&block.snapshot()).await.unwrap();
    fill(&statement, 2_000..4_000).await;
    block.add(statement, &LastWord::default()).await.unwrap();
    let before = bucket.paths("table", "").await;
    let failed = db.begin(&db.snapshot()).await.unwrap();
    fill(&failed, 4_000..6_000).await;
    let left = bucket.paths("table", "").await.difference(&before).cloned().collect();
    bucket.killed(&left, failed).await;
    let segments = async || bucket.paths("table", ".parquet").await.len();
    assert_eq!(segments().await, 3);
    for round in 0..3 {
        insert(&db, 10_000 + round..10_001 + round).await;
        checkpoint(&db).await;
        bucket.turn(2);
        db.collect().await.unwrap();
    }
    // Each checkpoint wrote one. The failed load began after the others: nothing above their marks is settled.
    assert_eq!(segments().await, 6);
    load.commit(CommitOptions::default()).await.unwrap();
    block.commit(CommitOptions::default()).await.unwrap();
    drop(block);
    insert(&db, 20_000..20_001).await;
    checkpoint(&db).await;
    bucket.turn(2);
    db.collect().await.unwrap();
    // Those of the load and of the block, and one for each of the four checkpoints.
    assert_eq!(segments().await, 6);
    assert_eq!(rows(&db).await, 4_004);
    assert!(verified(&db).await.is_empty());
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_any_more_is_there_with_its_objects_or_takes_them_along() {
    type Commit = std::pin::Pin<Box<dyn Future<Output = Result<CommitReceipt>>>>;
    let bucket = Bucket::new();
    let db = bucket.writer().await;
    create(&db, true).await;
    insert(&db, 0..10).await;
    let mut first = 10;
    for in_block in [false, true] {
        for polls in 0.. {
            let (there, objects) = (rows(&db).await, bucket.paths("table", "").await);
            let keys = first..first + 2_000;
            first = keys.end;
            let mut commit: Commit = if in_block {
                let block = TransactionBlock::begin(Arc::clone(&db), false);
                let statement = db.begin(&block.snapshot()).await.unwrap();
                fill(&statement, keys).await;
                block.add(statement, &LastWord::default()).await.unwrap();
                Box::pin(async move { block.commit(CommitOptions::default()).await })
            } else {
                let transaction = db.begin(&db.snapshot()).await.unwrap();
                fill(&transaction, keys).await;
                Box::pin(transaction.commit(CommitOptions::default()))
            };
            assert!(bucket.paths("table", "").await.len() > objects.len());
            let mut ended = false;
            for _ in 0..polls {
                let polled = std::future::poll_fn(|context| Poll::Ready(commit.as_mut().poll(context))).await;
                if let Poll::Ready(result) = polled {
                    result.unwrap();
                    ended = true;
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(commit);
            db.writer().unwrap().order.settle_all().await;
            if rows(&db).await == there {
                assert!(!ended);
                bucket.gone_but(&objects).await;
            } else {
                assert_eq!(rows(&db).await, there + 2_000);
            }
            assert!(verified(&db).await.is_empty());
            if ended {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_fenced_deletes_nothing() {
    let bucket = Bucket::new();
    let (db, ..) = with_garbage(&bucket).await;
    let next = bucket.writer().await;
    bucket.turn(2);
    let before = bucket.paths("", "").await;
    let error = db.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(bucket.paths("", "").await, before);
    assert_eq!(db.begin(&db.snapshot()).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(db.jobs().iter().any(|job| job.kind == "collect" && job.status == "failed"));
    // A reader does not collect, the new writer does.
    let reader = bucket.open().await;
    assert_eq!(reader.collect().await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert!(next.collect().await.unwrap().objects() > 0);
    assert_eq!(rows(&next).await, 1_975);
}

#[tokio::test]
async fn what_is_read_here_stays_for_as_long_as_versions_are_kept() {
    for held in [true, false] {
        let bucket = Bucket::new();
        let db = bucket.writer().await;
        create(&db, true).await;
        insert(&db, 0..2_000).await;
        delete(&db, 0..20).await;
        checkpoint(&db).await;
        let replaced = bucket.paths("table", ".deletes").await;
        let reader = db.snapshot().table(TABLE).unwrap();
        delete(&db, 20..25).await;
        checkpoint(&db).await;
        bucket.turn(2);
        db.collect().await.unwrap();
        assert!(bucket.paths("table", ".deletes").await.is_superset(&replaced));
        let reader = held.then_some(reader);
        bucket.turn(if held { 30 } else { 0 });
        db.collect().await.unwrap();
        assert!(bucket.paths("table", ".deletes").await.is_disjoint(&replaced));
        drop(reader);
    }
}

#[tokio::test]
async fn retained_versions_keep_what_they_are_read_from() {
    let bucket = Bucket::new();
    let (db, first, replaced) = with_garbage(&bucket).await;
    let version = db.manifests.read(first).await.unwrap().version;
    bucket.turn(2);
    let there = async || {
        let paths = bucket.paths("", "").await;
        (paths.contains(&replaced), paths.contains(&manifest_path(first)))
    };
    db.collect_retaining(Retained { horizon: version, versions: BTreeSet::new() }).await.unwrap();
    assert_eq!(there().await, (true, true));
    let now = db.snapshot().version();
    for _ in 0..2 {
        let retained = Retained { horizon: now, versions: [CommitVersion(version.0 - 1)].into() };
        assert_eq!(db.collect_retaining(retained).await.unwrap().oldest, Some(first.next()));
        assert_eq!(there().await, (true, true));
    }
    // Nobody wants it any more, and the boundary has passed it.
    db.collect().await.unwrap();
    assert_eq!(there().await, (false, false));
    assert!(verified(&db).await.is_empty());
}

#[tokio::test]
async fn claims_and_fences_stay_however_many_there_are() {
    let bucket = Bucket::new();
    for round in 0..4_i64 {
        let db = bucket.writer().await;
        if round == 0 {
            create(&db, true).await;
        }
        insert(&db, round * 10..round * 10 + 10).await;
        checkpoint(&db).await;
        db.close().await.unwrap();
    }
    bucket.turn(2);
    let db = bucket.writer().await;
    db.collect().await.unwrap();
    let mut claims = 0;
    let mut kept = Vec::new();
    for path in bucket.paths("manifest", "").await {
        let Some(ObjectName::Manifest(number)) = ObjectName::of(&path) else { continue };
        let manifest = db.manifests.read(number).await.unwrap();
        claims += u32::from(manifest.is_claim);
        kept.extend((!manifest.is_claim).then_some(number));
    }
    // What was the newest when the clock was turned.
    assert_eq!((claims, kept.len()), (5, 1));
    let fences = bucket.listed("wal", "").await.into_values().filter(|bytes| *bytes == FENCE_BYTES).count();
    assert_eq!(fences, 5);
    assert_eq!(rows(&db).await, 40);
    assert!(verified(&db).await.is_empty());
}

#[tokio::test]
async fn history_and_probes_go_after_a_day() {
    let bucket = Bucket::new();
    let db = bucket.writer().await;
    let (history, probe) = (format!("history/{:020}", 1), "probe/7e57");
    bucket.put(&history, 10).await;
    bucket.put(probe, 10).await;
    for (hours, left) in [(23, 2), (1, 1), (2, 0)] {
        bucket.turn(hours);
        db.collect().await.unwrap();
        let paths = bucket.paths("", "").await;
        assert_eq!([history.as_str(), probe].iter().filter(|path| paths.contains(**path)).count(), left);
    }
}

#[tokio::test]
async fn verify_tells_orphans_and_missing_objects_with_their_sizes() {
    let bucket = Bucket::new();
    let (db, ..) = with_garbage(&bucket).await;
    let made = |epoch, sequence| ObjectId { epoch: Epoch(epoch), sequence };
    let settled = format!("table/1/{}.parquet", made(0, 9));
    let open = format!("manifest/leaf/{}", made(db.writer().unwrap().epoch.0, 1 << 30));
    let expected = [
        (open.as_str(), 17, "a statement that runs may yet name it"),
        (settled.as_str(), 100, "it is collected once manifest"),
        ("wal/notes.txt", 3, "never collects it"),
    ];
    for (path, bytes, _) in expected {
        bucket.put(path, bytes).await;
    }
    let orphans = verified(&db).await;
    assert_eq!(orphans.len(), 4);
    for (finding, (path, bytes, hint)) in orphans.iter().zip(expected) {
        assert_eq!((finding.object.as_str(), finding.check.as_str()), (path, "unreferenced objects"));
        assert!(finding.detail.starts_with(&format!("{bytes} bytes, ")), "{}", finding.detail);
        assert!(finding.hint.contains(hint), "{}", finding.hint);
    }
    assert_eq!((orphans[3].object.as_str(), orphans[3].detail.as_str()), ("total", "3 objects, 120 bytes"));

    let segments = bucket.listed("table", ".parquet").await;
    let (segment, bytes) = segments.iter().find(|(path, _)| **path != settled).unwrap();
    bucket.store.delete(&Path::from(segment.as_str())).await.unwrap();
    let findings = db.verify(VerifyScope::Database).await.unwrap();
    let missing = findings.iter().find(|finding| finding.status == FindingStatus::Missing).unwrap();
    assert_eq!(missing.object, *segment);
    assert!(missing.detail.contains(&format!("{bytes} bytes")), "{}", missing.detail);
    let rows = |finding: &&Finding| finding.check == "row ids, keys and row count";
    let of_tables: Vec<_> = findings.iter().filter(rows).map(|finding| finding.status).collect();
    assert!(of_tables.contains(&FindingStatus::Unknown), "not all rows were seen: {of_tables:?}");
}

#[tokio::test]
async fn verify_lists_a_thousand_orphans_and_counts_the_rest() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let store = db.object_store();
    let ids = ObjectIds::new(Epoch(0));
    for _ in 0..1_003 {
        let path = Path::from(format!("table/1/{}.parquet", ids.next()));
        store.put(&path, Bytes::from_static(b"xy").into()).await.unwrap();
    }
    let orphans = verified(&db).await;
    assert_eq!(orphans.len(), 1_001);
    assert_eq!(orphans[0].object, "table/1/00000000-00000001.parquet");
    assert_eq!(
        (orphans[1_000].object.as_str(), orphans[1_000].detail.as_str()),
        ("total", "1003 objects, 2006 bytes")
    );
}

#[tokio::test]
async fn in_memory_nothing_is_collected() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    create(&db, true).await;
    insert(&db, 0..2_000).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let receipt = db.collect().await.unwrap();
    assert!(receipt.collected.is_empty() && !receipt.more && receipt.oldest.is_none());
    assert!(!db.jobs().iter().any(|job| job.kind == "collect"));
}

#[tokio::test]
async fn a_version_names_all_of_its_objects() {
    let options = OpenOptions { wal_entry_bytes_max: 16 << 10, ..OpenOptions::default() };
    let db = Database::open(Root::Memory, options).await.unwrap();
    create(&db, true).await;
    insert(&db, 0..2_000).await;
    delete(&db, 0..20).await;
    insert(&db, 3_000..3_010).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    delete(&db, 20..40).await;
    let manifest = db.manifests.read(ManifestNumber(1)).await.unwrap();
    let (mut hot, mut cold) = (Named::default(), Named::default());
    hot.add_version(db.snapshot().state());
    cold.add_root(&manifest);
    let mut objects = db.object_store().list(Some(&Path::from("table")));
    let (mut all, mut since) = (0, 0);
    while let Some(object) = objects.next().await {
        let path = object.unwrap().location;
        let Some(ObjectName::Made(_, id)) = ObjectName::of(path.as_ref()) else { panic!("{path}") };
        all += 1;
        since += u32::from(!cold.contains(id));
        assert!(hot.contains(id), "{path}");
        // What the manifest does not name is not settled.
        assert!(cold.contains(id) || Some(id) >= manifest.settled, "{path}");
    }
    // Two segments with their key filters and two `.deletes` objects, one of them since the manifest.
    assert_eq!((all, since), (6, 1));
}

/// What is wrong, by VERIFY DEEP.
async fn wrong(db: &Arc<Database>) -> Vec<String> {
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    findings.into_iter().filter(Finding::is_bad).map(|finding| finding.object).collect()
}

/// A repair's rows about ids of commits: object, status, detail.
async fn given_up(db: &Arc<Database>, dry_run: bool) -> Vec<(String, RepairStatus, String)> {
    let rows = db.repair(VerifyScope::Database, dry_run, CommitInfo::default()).await.unwrap();
    assert!(rows.iter().all(|row| !row.is_open()), "{rows:?}");
    let given_up = rows.into_iter().filter(|row| row.action == "give up");
    given_up.map(|row| (row.object, row.status, row.detail)).collect()
}

#[tokio::test]
async fn ids_beside_manifests_that_were_collected_can_be_given_up() {
    let bucket = Bucket::new();
    let db = bucket.writer().await;
    create(&db, true).await;
    let (mut commits, mut paths) = (Vec::new(), Vec::new());
    for round in 0..5 {
        insert(&db, round * 10..round * 10 + 10).await;
        let last = db.versions().last().unwrap().clone();
        commits.push((last.commit_id, last.version));
        paths.push(history_path(checkpoint(&db).await));
    }
    let never = CommitId::random();
    assert_eq!(db.commit_version(never).await.unwrap(), None);
    bucket.turn(2);
    assert!(kinds(&db.collect().await.unwrap()).contains(&ObjectKind::Manifest));
    assert_eq!(bucket.paths("history", "").await.len(), 5);
    assert_eq!(wrong(&db).await, Vec::<String>::new());

    // One is gone, one is damaged; the manifests beside them were collected.
    bucket.store.delete(&Path::from(paths[1].as_str())).await.unwrap();
    bucket.put(&paths[3], 60).await;
    assert_eq!(db.commit_version(never).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(wrong(&db).await, [paths[3].as_str(), paths[1].as_str()]);
    let before = bucket.paths("", "").await;
    let planned = given_up(&db, true).await;
    assert_eq!(bucket.paths("", "").await, before, "a dry run writes nothing");
    let done = given_up(&db, false).await;
    for (rows, status) in [(planned, RepairStatus::Planned), (done, RepairStatus::Done)] {
        assert_eq!(rows.len(), 2, "{rows:?}");
        for ((object, found, detail), n) in rows.iter().zip([3, 1]) {
            assert_eq!((object, *found), (&paths[n], status));
            let lost = format!("the ids of commits {0} to {0} are lost", commits[n].1);
            assert!(detail.starts_with(&lost), "{detail}");
        }
    }
    assert_eq!(wrong(&db).await, Vec::<String>::new());
    for (n, (id, _)) in commits.iter().enumerate() {
        assert_eq!(db.commit_version(*id).await.unwrap().is_some(), n != 1 && n != 3, "{n}");
    }
    assert_eq!(db.commit_version(never).await.unwrap(), None);
    assert_eq!(db.earlier_commit(never).await.unwrap(), None);

    // Before the oldest stands nothing: it goes back to what must be there.
    bucket.put(&paths[0], 60).await;
    let done = given_up(&db, false).await;
    let lost = format!("the ids of commits 1 to {} are lost", commits[0].1);
    assert!(done.len() == 1 && done[0].2.starts_with(&lost), "{done:?}");
    assert_eq!(wrong(&db).await, Vec::<String>::new());
    assert_eq!(db.commit_version(never).await.unwrap(), None);

    // The oldest manifest that is left tells where its object ends, though the one before it is gone, and the next object too.
    insert(&db, 50..60).await;
    commits.push(db.versions().last().map(|last| (last.commit_id, last.version)).unwrap());
    paths.push(history_path(checkpoint(&db).await));
    for path in &paths[4..] {
        bucket.put(path, 60).await;
    }
    let done = given_up(&db, false).await;
    assert_eq!(done.len(), 2, "{done:?}");
    for ((object, _, detail), n) in done.iter().zip(4..) {
        let lost = format!("the ids of commits {0} to {0} are lost", commits[n].1);
        assert!(*object == paths[n] && detail.starts_with(&lost), "{done:?}");
    }
    assert_eq!(wrong(&db).await, Vec::<String>::new());
    assert_eq!(db.commit_version(never).await.unwrap(), None);
}
