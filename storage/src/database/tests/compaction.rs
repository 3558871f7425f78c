//! Compaction against a model: the same rows under the same ids, before, during and after; nobody who reads loses one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::datatypes::UInt64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::database::{Clock, now_us};
use crate::error::ErrorKind;
use crate::fs::{FileSystem, RecordedStep, SimFileSystem, Step};
use crate::scratch::scratch;
use crate::transaction::{LastWord, TransactionBlock};
use crate::verify::{FindingStatus, VerifyScope};

fn options() -> OpenOptions {
    OpenOptions {
        wal_entry_bytes_max: 24 << 10,
        compacts: false,
        compact_segment_bytes: 16 << 10,
        ..OpenOptions::default()
    }
}

fn rows(range: std::ops::Range<i64>) -> Vec<(i64, String)> {
    range.map(|k| (k, format!("value {k}"))).collect()
}

/// Key -> row id and version of what is visible.
async fn addresses(table: &TableSnapshot) -> BTreeMap<i64, (u64, u64)> {
    let mut found = BTreeMap::new();
    for batch in table.hot_batches(&[0], true).unwrap() {
        let number = |column: usize| batch.column(column).as_primitive::<UInt64Type>();
        let keys = batch.column(0).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            found.insert(keys.value(row), (number(1).value(row), number(2).value(row)));
        }
    }
    for view in table.segments().await.unwrap() {
        let reader = table.open_segment(&view.meta).await.unwrap();
        let positions: Vec<u32> = (0..view.meta.rows as u32)
            .filter(|p| !view.deleted.as_ref().is_some_and(|d| d.contains(*p)))
            .collect();
        if positions.is_empty() {
            continue;
        }
        let batches = reader.read(&[0], RowChoice::Positions(&positions)).await.unwrap();
        let keys: Vec<i64> =
            batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        let ids = reader.row_ids_at(&positions).await.unwrap();
        let versions = reader.versions_at(&positions).await.unwrap();
        for ((key, id), version) in keys.into_iter().zip(ids).zip(versions) {
            assert!(found.insert(key, (id.0, version.0)).is_none(), "key {key} twice");
        }
    }
    found
}

async fn sound(db: &Arc<Database>) {
    for finding in db.verify(VerifyScope::Database).await.unwrap() {
        assert!(
            matches!(finding.status, FindingStatus::Ok | FindingStatus::Warning),
            "{} {}: {}",
            finding.object,
            finding.check,
            finding.detail
        );
    }
}

async fn unnamed(db: &Arc<Database>) -> Vec<String> {
    let findings = db.verify(VerifyScope::Database).await.unwrap();
    findings.into_iter().filter(|f| f.check == "unreferenced objects").map(|f| f.object).collect()
}

fn segments(db: &Arc<Database>, table: TableId) -> usize {
    db.snapshot().state().tables[&table].segments.len()
}

fn files(root: &Path, table: TableId) -> BTreeSet<String> {
    let folder = root.join("table").join(table.to_string());
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

async fn delete(db: &Arc<Database>, table: TableId, keys: &[i64]) {
    assert_eq!(change(db, table, keys, &[]).await.unwrap(), keys.len());
}

async fn checkpoint(db: &Arc<Database>) {
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
}

/// Any history gives the rows of the model, to the newest version and to every older one that somebody holds.
async fn history(seed: u64, keyed: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let mut db = Database::open(root.clone(), options()).await.unwrap();
    let table = create(&db, "t", keyed).await.unwrap();
    let (mut model, mut next_key) = (Rows::new(), 0);
    let mut held: Vec<(TableSnapshot, Rows)> = Vec::new();
    let reader = OpenOptions { read_only: true, ..options() };
    let mut follower = Database::open(root.clone(), reader.clone()).await.unwrap();
    for step in 0..60 {
        let what = format!("seed {seed} keyed {keyed} step {step}");
        match random.random_range(0..16) {
            0..5 => {
                let most = if random.random_bool(0.2) { 800 } else { 60 };
                let new: i64 = random.random_range(1..most);
                let mut new = rows(next_key..next_key + new);
                next_key += new.len() as i64;
                if random.random_bool(0.3) {
                    new.reverse();
                }
                insert(&db, table, &new).await.unwrap();
                model.extend(new);
            }
            // Without a key rows are not found again by it.
            5..8 if keyed => {
                let share = if random.random_bool(0.3) { 0.5 } else { 0.02 };
                let keys: Vec<i64> = model.keys().copied().filter(|_| random.random_bool(share)).collect();
                let again: Vec<_> = keys
                    .iter()
                    .filter(|_| random.random_bool(0.5))
                    .map(|k| (*k, format!("{k} at {step}")))
                    .collect();
                assert_eq!(change(&db, table, &keys, &again).await.unwrap(), keys.len());
                model.retain(|k, _| !keys.contains(k));
                model.extend(again);
            }
            8 if random.random_bool(0.2) => {
                let tx = db.begin(&db.snapshot()).await.unwrap();
                tx.truncate(table).unwrap();
                tx.commit(CommitOptions::default()).await.unwrap();
                model.clear();
            }
            5..11 => checkpoint(&db).await,
            11..13 => {
                let before = addresses(&db.snapshot().table(table).unwrap()).await;
                db.compact(Some(table)).await.unwrap();
                let after = addresses(&db.snapshot().table(table).unwrap()).await;
                assert_eq!(before, after, "{what}");
            }
            13 => held.push((db.snapshot().table(table).unwrap(), model.clone())),
            14 => {
                let version = db.snapshot().version();
                follower.wait_for_version(version, Duration::from_secs(120)).await.unwrap();
                held.push((follower.snapshot().table(table).unwrap(), model.clone()));
            }
            _ => {
                held.clear();
                db.close().await.unwrap();
                drop(db);
                db = Database::open(root.clone(), options()).await.unwrap();
                follower = Database::open(root.clone(), reader.clone()).await.unwrap();
            }
        }
        assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), model, "{what}");
        if keyed && let Some(key) = model.keys().next() {
            let snapshot = db.snapshot().table(table).unwrap();
            assert_eq!(ids_of(&snapshot, &[*key, next_key]).await.unwrap().len(), 1, "{what}");
        }
        for (snapshot, rows) in &held {
            assert_eq!(&contents(snapshot).await.unwrap(), rows, "{what}, held");
        }
    }
    sound(&db).await;
    held.clear();
    drop(follower);
    // What is held by nobody goes with the next checkpoint that has something to write.
    db.compact(None).await.unwrap();
    insert(&db, table, &rows(next_key..next_key + 1)).await.unwrap();
    if keyed {
        delete(&db, table, &[next_key]).await;
    }
    checkpoint(&db).await;
    let state = Arc::clone(&db.snapshot().state().tables[&table]);
    let dead: u64 = state.segments.iter().filter_map(|s| s.deletes.as_ref()).map(|d| d.len()).sum();
    assert!(dead <= 1, "{dead} dead rows after COMPACT");
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_gives_the_rows_of_the_model() {
    for seed in 0..12 {
        history(seed, seed % 3 != 2).await;
    }
}

#[tokio::test]
async fn segments_become_few_and_sorted_and_files_go() {
    let dir = scratch().unwrap();
    let db = Database::open(Root::Path(dir.path().to_owned()), options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..20_i64 {
        let keys = (0..30).map(|i| i * 20 + round);
        insert(&db, table, &keys.map(|k| (k, format!("value {k}"))).collect::<Vec<_>>()).await.unwrap();
        checkpoint(&db).await;
    }
    delete(&db, table, &(0..600).step_by(2).collect::<Vec<_>>()).await;
    assert_eq!(segments(&db, table), 20);
    let before = files(dir.path(), table);
    let receipt = db.compact(Some(table)).await.unwrap();
    assert!(receipt.triggered);
    assert_eq!((receipt.tables, receipt.replaced), (1, 20));
    assert_eq!((receipt.rows, receipt.dropped), (300, 300));
    let state = Arc::clone(&db.snapshot().state().tables[&table]);
    assert_eq!(receipt.segments as usize, state.segments.len());
    assert!(state.segments.len() < 20 && state.segments.iter().all(|s| s.meta.sorted && s.deletes.is_none()));
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 300);
    // The pass ended with a checkpoint: nothing but what is named is left.
    let after = files(dir.path(), table);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    assert_eq!(after.len(), 2 * state.segments.len());
    assert!(unnamed(&db).await.is_empty());
    let again = db.compact(Some(table)).await.unwrap();
    assert!(!again.triggered);
    let jobs: Vec<_> = db.jobs().into_iter().filter(|job| job.kind == "compact").collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].status.as_str(), jobs[0].rows), ("completed", 300));
    assert!(jobs[0].parameters.contains("public.t"));
}

#[tokio::test]
async fn upkeep_keeps_tables_small_by_itself() {
    let (root, mut options) = (Root::Memory, options());
    options.compacts = true;
    options.compact_delay = Duration::ZERO;
    options.compact_segment_bytes = 1 << 20;
    let db = Database::open(root, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    let mut model = Rows::new();
    for round in 0..40_i64 {
        let new = rows(round * 20..round * 20 + 20);
        insert(&db, table, &new).await.unwrap();
        model.extend(new);
        let gone: Vec<i64> = (round * 20..round * 20 + 5).collect();
        loop {
            match change(&db, table, &gone, &[]).await {
                Ok(_) => break,
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => panic!("{e}"),
            }
        }
        model.retain(|k, _| !gone.contains(k));
        checkpoint(&db).await;
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    while segments(&db, table) > 10 {
        assert!(tokio::time::Instant::now() < end, "{} segments", segments(&db, table));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), model);
    assert!(db.jobs().iter().any(|job| job.kind == "compact" && job.status == "completed"));
    sound(&db).await;
    db.close().await.unwrap();
}

#[tokio::test]
async fn loads_that_pass_the_memory_by_are_merged_by_themselves() {
    let mut options = options();
    (options.compacts, options.compact_delay) = (true, Duration::ZERO);
    options.compact_segment_bytes = 1 << 20;
    let db = Database::open(Root::Memory, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    let mut model = Rows::new();
    for round in 0..16_i64 {
        let new: Vec<(i64, String)> =
            (round * 400..round * 400 + 400).map(|k| (k, format!("{k:0>200}"))).collect();
        insert(&db, table, &new).await.unwrap();
        assert!(!db.snapshot().state().tables[&table].is_hot());
        model.extend(new);
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    while segments(&db, table) > 7 {
        assert!(tokio::time::Instant::now() < end, "{} segments", segments(&db, table));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), model);
    sound(&db).await;
    db.close().await.unwrap();
}

#[tokio::test]
async fn nothing_runs_by_itself_when_it_is_switched_off() {
    let options = OpenOptions { compact_delay: Duration::ZERO, ..options() };
    let db = Database::open(Root::Memory, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..10_i64 {
        insert(&db, table, &rows(round * 5..round * 5 + 5)).await.unwrap();
        checkpoint(&db).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(segments(&db, table), 10);
    assert!(db.jobs().iter().all(|job| job.kind != "compact"));
}

#[tokio::test]
async fn a_delete_by_position_meets_a_compaction() {
    let db = Database::open(Root::Memory, options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..3_i64 {
        insert(&db, table, &rows(round * 50..round * 50 + 50)).await.unwrap();
        checkpoint(&db).await;
    }
    // Planned before, committed after: a few rows by their ids, many by their positions.
    let snapshot = db.snapshot();
    let begun = |keys: Vec<i64>| {
        let (db, snapshot) = (Arc::clone(&db), snapshot.clone());
        async move {
            let ids = ids_of(&snapshot.table(table).unwrap(), &keys).await.unwrap();
            let tx = db.begin(&snapshot).await.unwrap();
            tx.delete(table, &ids).unwrap();
            tx
        }
    };
    let (few, many) = (begun(vec![1, 60]).await, begun((30..140).collect()).await);
    let same = begun((120..149).collect()).await;
    assert!(db.compact(Some(table)).await.unwrap().triggered);
    assert!(snapshot.table(table).unwrap().state().segments.len() > segments(&db, table));
    many.commit(CommitOptions::default()).await.unwrap();
    // Its rows are found again, and somebody else has deleted some of them; so with one by one.
    for late in [same, few] {
        let error = late.commit(CommitOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    delete(&db, table, &[1]).await;
    let expected: Rows = rows(0..30).into_iter().chain(rows(140..150)).filter(|(k, _)| *k != 1).collect();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
    sound(&db).await;
    checkpoint(&db).await;
    db.compact(Some(table)).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
}

#[tokio::test]
async fn rows_are_followed_through_several_compactions() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..3_i64 {
        insert(&db, table, &rows(round * 50..round * 50 + 50)).await.unwrap();
        checkpoint(&db).await;
    }
    // Its rows are so many that COMMIT names them by position.
    let block = TransactionBlock::begin(Arc::clone(&db), false);
    let snapshot = block.snapshot();
    let statement = db.begin(&snapshot).await.unwrap();
    let gone: Vec<i64> = (20..120).collect();
    statement.delete(table, &ids_of(&snapshot.table(table).unwrap(), &gone).await.unwrap()).unwrap();
    block.add(statement, &LastWord::default()).await.unwrap();
    for round in 0..2_i64 {
        assert!(db.compact(Some(table)).await.unwrap().triggered, "round {round}");
        insert(&db, table, &rows(1_000 + 10 * round..1_010 + 10 * round)).await.unwrap();
        checkpoint(&db).await;
    }
    block.commit(CommitOptions::default()).await.unwrap();
    let kept = rows(0..20).into_iter().chain(rows(120..150)).chain(rows(1_000..1_020));
    let expected: Rows = kept.collect();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
    sound(&db).await;
    // From the log.
    drop((block, snapshot, db));
    let db = Database::open(root, options()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
}

#[tokio::test]
async fn what_is_truncated_or_dropped_leaves_no_file() {
    let dir = scratch().unwrap();
    let db = Database::open(Root::Path(dir.path().to_owned()), options()).await.unwrap();
    let (kept, dropped) = (create(&db, "t", true).await.unwrap(), create(&db, "u", false).await.unwrap());
    for table in [kept, dropped] {
        insert(&db, table, &rows(0..100)).await.unwrap();
    }
    checkpoint(&db).await;
    let old = db.snapshot();
    let tx = db.begin(&db.snapshot()).await.unwrap();
    tx.truncate(kept).unwrap();
    tx.edit(CatalogEdit::DropTable { table: dropped }).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    db.compact(None).await.unwrap();
    // Somebody still reads.
    for table in [kept, dropped] {
        assert_eq!(contents(&old.table(table).unwrap()).await.unwrap().len(), 100);
        assert!(!files(dir.path(), table).is_empty());
    }
    drop(old);
    insert(&db, kept, &rows(0..1)).await.unwrap();
    checkpoint(&db).await;
    assert_eq!(files(dir.path(), dropped), BTreeSet::new());
    assert_eq!(files(dir.path(), kept).len(), 2);
    sound(&db).await;
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(Root::Path(dir.path().to_owned()), options()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(kept).unwrap()).await.unwrap().len(), 1);
    assert!(db.snapshot().table(dropped).is_none());
}

#[tokio::test]
async fn a_reader_in_another_process_keeps_what_it_stands_on() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    for round in 0..4_i64 {
        insert(&db, table, &rows(round * 50..round * 50 + 50)).await.unwrap();
        checkpoint(&db).await;
    }
    let follower = Database::open(root.clone(), OpenOptions { read_only: true, ..options() }).await.unwrap();
    let seen = follower.snapshot().table(table).unwrap();
    let before = files(dir.path(), table);
    delete(&db, table, &[3]).await;
    assert!(db.compact(Some(table)).await.unwrap().triggered);
    assert!(before.is_subset(&files(dir.path(), table)), "the reader's files stay");
    assert_eq!(contents(&seen).await.unwrap().len(), 200);
    follower.wait_for_version(db.snapshot().version(), Duration::from_secs(120)).await.unwrap();
    assert_eq!(contents(&follower.snapshot().table(table).unwrap()).await.unwrap().len(), 199);
    assert_eq!(contents(&seen).await.unwrap().len(), 200);
    drop((seen, follower));
    delete(&db, table, &[5]).await;
    checkpoint(&db).await;
    let left = files(dir.path(), table);
    assert!(before.is_disjoint(&left), "{left:?}");
    assert!(unnamed(&db).await.is_empty());
}

#[tokio::test]
async fn manifests_go_when_nobody_stands_on_them_and_many_newer_ones_are_there() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    // Files are of the machine's time: the clock is a day behind it first.
    let ahead_us = Arc::new(AtomicI64::new(-25 * 3_600_000_000));
    let options = || {
        let ahead_us = Arc::clone(&ahead_us);
        let clock = Clock::new(move || now_us() + ahead_us.load(Ordering::Relaxed));
        OpenOptions { clock, ..options() }
    };
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = create(&db, "t", false).await.unwrap();
    let write = async |db: &Arc<Database>, keys: std::ops::Range<i64>| {
        for key in keys {
            insert(db, table, &rows(key..key + 1)).await.unwrap();
            checkpoint(db).await;
        }
    };
    let manifests = || -> Vec<u64> {
        let entries = std::fs::read_dir(dir.path().join("manifest")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut numbers: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    };
    let reading = || Database::open(root.clone(), OpenOptions { read_only: true, ..options() });
    write(&db, 0..2).await;
    let follower = reading().await.unwrap();
    let seen = follower.snapshot().table(table).unwrap();
    write(&db, 2..35).await;
    assert_eq!(manifests(), (1..=35).collect::<Vec<_>>(), "commits of all can be asked for by their ids");
    // One of those that are lost is told, and so are commits that are not found any more.
    for lost in ["history/00000000000000000002", "manifest/00000000000000000002"] {
        let (path, aside) = (dir.path().join(lost), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
        assert!(findings.iter().any(|finding| finding.is_bad() && finding.object == lost), "{findings:?}");
        std::fs::rename(&aside, &path).unwrap();
    }
    ahead_us.store(0, Ordering::Relaxed);
    let day = std::time::Duration::from_secs(25 * 3600);
    for entry in std::fs::read_dir(dir.path().join("history")).unwrap() {
        let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(std::time::SystemTime::now() - day).unwrap();
    }
    write(&db, 35..36).await;
    assert_eq!(manifests(), (2..=36).collect::<Vec<_>>(), "those from the reader's on stay");
    assert_eq!(contents(&seen).await.unwrap().len(), 2);
    sound(&db).await;
    drop((seen, follower));
    write(&db, 36..37).await;
    assert_eq!(manifests(), (6..=37).collect::<Vec<_>>());
    sound(&db).await;
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    assert!(findings.iter().all(|finding| !finding.is_bad()), "{findings:?}");
    // One that is missing among them is told, as ever.
    let (path, aside) = (dir.path().join("manifest/00000000000000000020"), dir.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    let findings = db.verify(VerifyScope::Database).await.unwrap();
    let missing: Vec<_> = findings.iter().filter(|finding| finding.is_bad()).map(|f| &f.object).collect();
    assert_eq!(missing, ["manifest/00000000000000000020"]);
    std::fs::rename(&aside, &path).unwrap();
    db.close().await.unwrap();
    drop(db);
    // The newest is found although the first is gone.
    let reader = reading().await.unwrap();
    assert_eq!(contents(&reader.snapshot().table(table).unwrap()).await.unwrap().len(), 37);
    drop(reader);
    let db = Database::open(root.clone(), options()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 37);
    write(&db, 37..38).await;
    assert_eq!(manifests(), (7..=38).collect::<Vec<_>>());
    sound(&db).await;
}

#[tokio::test]
async fn a_crash_while_manifests_go_leaves_the_others_side_by_side() {
    let ahead_us = Arc::new(AtomicI64::new(0));
    let on = |fs: &SimFileSystem| {
        let ahead_us = Arc::clone(&ahead_us);
        let clock = Clock::new(move || now_us() + ahead_us.load(Ordering::Relaxed));
        OpenOptions { fs: Some(Arc::new(fs.clone()) as Arc<dyn FileSystem>), clock, ..options() }
    };
    let root = || Root::Path(PathBuf::from("simulated"));
    let disk = SimFileSystem::new(1);
    let db = Database::open(root(), on(&disk)).await.unwrap();
    let table = create(&db, "t", false).await.unwrap();
    for key in 0..36_i64 {
        if key == 35 {
            ahead_us.fetch_add(25 * 3_600_000_000, Ordering::Relaxed);
            disk.record();
        }
        insert(&db, table, &rows(key..key + 1)).await.unwrap();
        checkpoint(&db).await;
    }
    let removes =
        |step: &RecordedStep| matches!(step.step, Step::Remove) && step.path.starts_with("manifest/0");
    let steps: Vec<RecordedStep> = disk.recorded().into_iter().skip_while(|step| !removes(step)).collect();
    assert_eq!(steps.iter().filter(|step| removes(step)).count(), 4);
    for (seed, step) in (1..).zip(&steps) {
        for found in [step.before.crash(seed), step.before.restart(seed)] {
            let db = Database::open(root(), on(&found)).await.unwrap();
            assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 36);
            sound(&db).await;
            insert(&db, table, &rows(36..37)).await.unwrap();
            checkpoint(&db).await;
            assert_eq!(found.list("manifest").unwrap().len(), 32, "before step {}", step.number);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_checkpoints_and_compactions_at_once() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().to_owned());
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    let mut tasks = Vec::new();
    for writer in 0..4_i64 {
        let db = Arc::clone(&db);
        tasks.push(tokio::spawn(async move {
            for i in 0..40 {
                let first = writer * 100_000 + i * 100;
                let until_done = |keys: Vec<i64>, new: Vec<(i64, String)>| {
                    let db = Arc::clone(&db);
                    async move {
                        loop {
                            match change(&db, table, &keys, &new).await {
                                Ok(found) => break assert_eq!(found, keys.len()),
                                Err(e) if e.kind() == ErrorKind::Conflict => {}
                                Err(e) => panic!("{e}"),
                            }
                        }
                    }
                };
                until_done(Vec::new(), rows(first..first + 20)).await;
                // Few by id, many by position.
                let gone = if i % 4 == 3 { 15 } else { 3 };
                until_done((first..first + gone).collect(), Vec::new()).await;
            }
        }));
    }
    let upkeep = |compacts: bool| {
        let db = Arc::clone(&db);
        tokio::spawn(async move {
            for _ in 0..10 {
                match compacts {
                    true => drop(db.compact(None).await.unwrap()),
                    false => drop(db.checkpoint(CheckpointReason::Statement).await.unwrap()),
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        })
    };
    let upkeep = [upkeep(true), upkeep(false)];
    for task in tasks.into_iter().chain(upkeep) {
        task.await.unwrap();
    }
    let expected = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    assert_eq!(expected.len(), 4 * (30 * 17 + 10 * 5));
    sound(&db).await;
    db.close().await.unwrap();
    drop(db);
    let db = Database::open(root, options()).await.unwrap();
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), expected);
}
