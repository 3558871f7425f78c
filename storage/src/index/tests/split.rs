//! Indexes whose memory limit makes several units of them.

use std::time::Duration;

use super::*;
use crate::error::Result;
use crate::fs::{FileSystem, SimFileSystem};

fn rows_max(limit: u64) -> u64 {
    let def = definition(IndexMetric::L2, Some(limit));
    capacity::rows_max(&def, &def.indexes[0])
}

/// `rows` rows in one segment and one hot row, nothing built.
async fn load(db: &Arc<Database>, limit: u64, rows: i64) -> Model {
    let mut random = StdRng::seed_from_u64(21);
    create(db, IndexMetric::L2, Some(limit)).await;
    let model = fresh(&mut random, 0..rows);
    change(db, &[], &model).await;
    model
}

fn build_index_jobs(db: &Database) -> Vec<crate::jobs::JobRow> {
    db.jobs().into_iter().filter(|job| job.kind == "build_index").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_several_units_agree_with_the_model() {
    let size = Size { memory_limit: Some(least()), keys: 14_000, batch: 9_000, steps: 24 };
    for seed in 100..104 {
        let metric = [IndexMetric::L2, IndexMetric::Cosine, IndexMetric::InnerProduct][seed as usize % 3];
        let dir = scratch().unwrap();
        history(seed, metric, Root::Path(dir.path().join("db")), true, size).await;
    }
    history(104, IndexMetric::L2, Root::Memory, false, size).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_segment_is_cut_into_units_within_the_limit() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let model = load(&db, least(), 14_000).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.build_indexes(None).await.unwrap();
    let built = units(&db);
    let estimate = estimate(table(&db).def(), &table(&db).def().indexes[0], 14_000);
    assert_eq!(built.len() as u64, estimate.units);
    assert!(built.len() >= 3 && estimate.memory_bytes <= least(), "{estimate:?}");
    assert!(built.iter().all(|unit| unit.rows <= rows_max(least()) && unit.is_partial()));
    assert_eq!(built.iter().map(|unit| unit.rows).sum::<u64>(), model.values().flatten().count() as u64);
    assert_eq!(covered(&table(&db)).await, 14_000);
    let jobs = build_index_jobs(&db);
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert!(jobs[0].progress == 1.0 && jobs[0].parameters.ends_with(&format!("units={}", built.len())));

    // The same rows and seed give the same bytes.
    let bytes = |units: &[Arc<UnitMeta>]| -> Vec<_> {
        let mut bytes: Vec<_> = units.iter().map(|u| (u.segments.clone(), u.xxh3.clone())).collect();
        bytes.sort_by_key(|(segments, _)| segments[0].positions.map(|p| p.from));
        bytes
    };
    db.rebuild_indexes(TableId(1), None).await.unwrap();
    assert_eq!(bytes(&units(&db)), bytes(&built));
    assert!(ids(&db).is_disjoint(&built.iter().map(|u| u.id).collect()));

    // Deletes in one unit's part of the segment wear out that unit only.
    let before = ids(&db);
    let keys: Vec<i64> = model.keys().copied().take(2_500).collect();
    change(&db, &keys, &Model::new()).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.build_indexes(None).await.unwrap();
    assert_eq!(before.difference(&ids(&db)).count(), 1);
    assert_eq!(db.build_indexes(None).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_of_walked_units_is_at_the_target() {
    let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
    let limit = 20 << 20;
    let rows = 2 * rows_max(limit) as i64 + 2_000;
    let model = load(&db, limit, rows).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.build_indexes(None).await.unwrap();
    assert_eq!(units(&db).len(), 3);
    let mut random = StdRng::seed_from_u64(22);
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..100 {
        let query = vector(&mut random);
        let query = VectorQuery { query: &query, k: 10, width: None };
        let (hits, report) = nearest(&db, false, &query).await.unwrap();
        let (exact, _) = nearest(&db, true, &query).await.unwrap();
        assert_eq!((report.units.len(), report.exact.segments), (3, 0));
        assert!(report.units.iter().all(|unit| unit.code_distances < rows as u64 / 4), "{report:?}");
        found += hits.iter().filter(|hit| exact.contains(hit)).count();
        wanted += exact.len();
    }
    assert!(found * 100 >= wanted * 95, "{found} of {wanted} of {} rows", model.len());
}

fn simulated(fs: &SimFileSystem) -> OpenOptions {
    OpenOptions { fs: Some(Arc::new(fs.clone()) as Arc<dyn FileSystem>), ..OpenOptions::default() }
}

async fn open_simulated(fs: &SimFileSystem) -> Result<Arc<Database>> {
    Database::open(Root::Path("sim".into()), simulated(fs)).await
}

/// Waits until upkeep has nothing to do.
async fn settled(db: &Arc<Database>) {
    while db.build_indexes(None).await.unwrap() > 0 {}
}

#[test]
fn a_build_that_lost_power_goes_on_with_the_units_that_are_missing() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut resumed, mut at) = (0, 1);
    loop {
        let fs = SimFileSystem::new(at);
        let (fs, model, died) = runtime().block_on(async {
            let db = open_simulated(&fs).await.unwrap();
            let model = load(&db, least(), 10_000).await;
            // Not that of the handle, which begins builds in the background.
            crate::checkpoint::run(&db, CheckpointReason::Statement).await.unwrap();
            fs.crash_at_step(fs.steps() + at);
            let _ = db.build_indexes(None).await;
            let died = fs.is_dead();
            let _ = db.close().await;
            (fs, model, died)
        });
        // With the runtime every task of the dead handle is gone.
        let fs = fs.crash(at);
        runtime().block_on(async {
            let db = open_simulated(&fs).await.unwrap();
            let before = ids(&db);
            settled(&db).await;
            assert!(before.is_subset(&ids(&db)), "step {at}: rows that were covered are built again");
            assert_eq!(units(&db).len(), 3, "step {at}");
            assert_eq!(covered(&table(&db)).await, 10_000, "step {at}");
            resumed += usize::from(died && !before.is_empty() && before.len() < 3);
            let mut random = StdRng::seed_from_u64(at);
            check(&table(&db), &model, Metric::L2, &mut random, &format!("step {at}")).await;
            for finding in db.verify(VerifyScope::Database).await.unwrap() {
                assert!(
                    matches!(finding.status, FindingStatus::Ok | FindingStatus::Warning),
                    "step {at}: {finding:?}"
                );
            }
            db.close().await.unwrap();
        });
        if !died {
            break;
        }
        at += 4;
    }
    assert!(resumed > 0, "no crash fell between two units of {at} steps");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_a_build_and_the_next_opening_goes_on() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let model = load(&db, least(), 20_000).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let building = tokio::spawn({
        let db = Arc::clone(&db);
        async move { db.build_indexes(None).await }
    });
    while units(&db).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let progress: Vec<f64> = build_index_jobs(&db).iter().map(|job| job.progress).collect();
    assert!(progress.iter().any(|p| *p > 0.0), "{progress:?}");
    db.close().await.unwrap();
    let before = ids(&db);
    let ended = building.await.unwrap();
    assert!(before.len() == 5 || ended.is_err_and(|e| e.kind() == ErrorKind::Cancelled));
    drop(db);
    // Nothing of it is left that holds the lock.
    let db = Database::open(root, OpenOptions::default()).await.unwrap();
    settled(&db).await;
    assert!(before.is_subset(&ids(&db)) && units(&db).len() == 5);
    check(&table(&db), &model, Metric::L2, &mut StdRng::seed_from_u64(1), "reopened").await;
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_index_ends_its_build() {
    let dir = scratch().unwrap();
    let root = dir.path().join("db");
    let db = Database::open(Root::Path(root.clone()), OpenOptions::default()).await.unwrap();
    load(&db, least(), 20_000).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let building = tokio::spawn({
        let db = Arc::clone(&db);
        async move { db.build_indexes(None).await }
    });
    while units(&db).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut def = TableDef::clone(table(&db).def());
    def.indexes.clear();
    let gone: Vec<ObjectId> = loop {
        let tx = db.begin(&db.snapshot()).await.unwrap();
        let gone = ids(&db).into_iter().collect();
        tx.edit(CatalogEdit::PutTable(Arc::new(def.clone()))).unwrap();
        if tx.commit(CommitOptions::default()).await.is_ok() {
            break gone;
        }
    };
    db.remove_index_units(TableId(1), &gone).await;
    if let Err(error) = building.await.unwrap() {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    settled(&db).await;
    assert!(units(&db).is_empty());
    assert_eq!(std::fs::read_dir(root.join("table/1/index")).unwrap().count(), 0, "no object is left");
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_one_unit_costs_that_unit() {
    let dir = scratch().unwrap();
    let root = dir.path().join("db");
    let db = Database::open(Root::Path(root.clone()), OpenOptions::default()).await.unwrap();
    let model = load(&db, least(), 14_000).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    settled(&db).await;
    let before = units(&db);
    db.close().await.unwrap();
    drop(db);
    let file = root.join(before[1].path());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 3]).unwrap();
    let db = Database::open(Root::Path(root), OpenOptions::default()).await.unwrap();
    let mut random = StdRng::seed_from_u64(3);
    check(&table(&db), &model, Metric::L2, &mut random, "damaged").await;
    let query = vector(&mut random);
    let query = VectorQuery { query: &query, k: 5, width: None };
    let (_, report) = nearest(&db, false, &query).await.unwrap();
    assert_eq!(report.lost.iter().map(|(unit, _)| *unit).collect::<Vec<_>>(), [before[1].id]);
    assert_eq!(report.units.len(), before.len() - 1);
    assert!(report.exact.segments < 14_000 / 2, "the other parts of the segment are not compared");
    db.index_units_lost([before[1].id]);
    settled(&db).await;
    let after = ids(&db);
    assert!(before.iter().enumerate().all(|(i, unit)| after.contains(&unit.id) == (i != 1)));
    check(&table(&db), &model, Metric::L2, &mut random, "built again").await;
    assert!(!db.verify(VerifyScope::Database).await.unwrap().iter().any(crate::verify::Finding::is_bad));
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_writer_left_of_units_is_removed() {
    let dir = scratch().unwrap();
    let (db, _, file) = one_unit(dir.path(), 3_000).await;
    let root = db.root().clone();
    db.close().await.unwrap();
    drop(db);
    let orphan = file.with_file_name("00000001-00ffffff.hnsw");
    std::fs::write(&orphan, "half a unit").unwrap();
    let db = Database::open(root, OpenOptions::default()).await.unwrap();
    for _ in 0..12_000 {
        if !orphan.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!orphan.exists() && file.exists());
    db.close().await.unwrap();
}
