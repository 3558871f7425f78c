//! An index whose table changes all the time, and that nobody looks after.

use std::time::Duration;

use cairn_vector::search::Strategy;

use super::*;

const ROWS: i64 = 16_000;
const ROUNDS: u64 = 20;
/// Rows that each round updates.
const UPDATED: usize = 800;
/// Rows that each round deletes, and as many that it inserts.
const REPLACED: usize = 320;
const QUERIES: usize = 60;

/// Waits until nothing runs any more and no unit is due.
async fn quiet(db: &Arc<Database>) {
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    let mut looks = 0;
    while looks < 5 {
        assert!(tokio::time::Instant::now() < end, "{:?}", db.jobs());
        tokio::time::sleep(Duration::from_millis(20)).await;
        looks = if db.jobs.is_running() { 0 } else { looks + 1 };
    }
    while db.build_indexes(None).await.unwrap() > 0 {}
}

/// The share of the nearest rows that searches through the index find.
async fn recall(db: &Arc<Database>, seed: u64) -> f64 {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..QUERIES {
        let query = vector(&mut random);
        let query = VectorQuery { query: &query, k: 10, width: None };
        let (hits, report) = nearest(db, false, &query).await.unwrap();
        let (exact, _) = nearest(db, true, &query).await.unwrap();
        let walks = report.units.iter().any(|unit| matches!(unit.strategy, Strategy::Walk { .. }));
        assert!(walks && report.lost.is_empty(), "{report:?}");
        // What no unit covers is few enough not to be worth one.
        assert!(report.exact.segments <= 4_096, "{report:?}");
        found += hits.iter().filter(|hit| exact.contains(hit)).count();
        wanted += exact.len();
    }
    assert_eq!(wanted, 10 * QUERIES);
    found as f64 / wanted as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_stays_through_rounds_of_updates_and_deletes() {
    let options = OpenOptions { compact_delay: Duration::ZERO, ..OpenOptions::default() };
    let db = Database::open(Root::Memory, options).await.unwrap();
    create(&db, IndexMetric::L2, None).await;
    let mut random = StdRng::seed_from_u64(31);
    let mut model = fresh(&mut random, 0..ROWS);
    change(&db, &[], &model).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    quiet(&db).await;
    let before = recall(&db, 32).await;

    let mut next = ROWS;
    for _ in 0..ROUNDS {
        let keys: Vec<i64> = model.keys().copied().collect();
        let mut gone: Vec<i64> =
            (0..UPDATED + REPLACED).map(|_| keys[random.random_range(0..keys.len())]).collect();
        gone.sort_unstable();
        gone.dedup();
        let deleted: Vec<i64> = gone.iter().copied().filter(|_| random.random_bool(0.3)).collect();
        let kept = gone.iter().copied().filter(|key| deleted.binary_search(key).is_err());
        let mut rows = fresh(&mut random, kept.chain(next..next + REPLACED as i64));
        next += REPLACED as i64;
        change(&db, &gone, &rows).await;
        model.retain(|key, _| deleted.binary_search(key).is_err());
        model.append(&mut rows);
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    quiet(&db).await;

    let now = table(&db);
    assert_eq!(now.row_count().await.unwrap(), model.len() as u64);
    let jobs = |kind: &str| db.jobs().iter().filter(|job| job.kind == kind).count();
    assert!(jobs("compact") > 0 && jobs("build_index") > 1, "{:?}", db.jobs());
    assert!(now.state().segments.len() <= 8, "{} segments", now.state().segments.len());
    let after = recall(&db, 33).await;
    assert!(after >= 0.95 && after >= before - 0.02, "{after} after {ROUNDS} rounds, {before} before");
    let query = vector(&mut random);
    let (hits, _) = nearest(&db, true, &VectorQuery { query: &query, k: 50, width: None }).await.unwrap();
    let distance = |v: &[f32; DIM]| Metric::L2.distance((&v[..]).into(), (&query[..]).into()).unwrap();
    let mut expected: Vec<f32> = model.values().flatten().map(distance).collect();
    expected.sort_by(f32::total_cmp);
    assert_eq!(hits.iter().map(|hit| hit.distance).collect::<Vec<f32>>(), expected[..50]);
    assert!(!db.verify(VerifyScope::Database).await.unwrap().iter().any(crate::verify::Finding::is_bad));
    db.close().await.unwrap();
}
