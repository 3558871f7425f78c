//! What a compaction leaves of an index: all of it. Rows keep their ids, by which units find them in whatever segment they stand.

use std::time::Duration;

use super::*;

/// Nothing begins by itself.
fn options() -> OpenOptions {
    OpenOptions { upkeep: false, compacts: false, ..OpenOptions::default() }
}

/// `parts` segments of `rows` rows each, the keys of one between those of the others.
async fn load(db: &Arc<Database>, random: &mut StdRng, parts: i64, rows: i64) -> Model {
    let mut model = Model::new();
    for part in 0..parts {
        let loaded = fresh(random, (0..rows).map(|row| parts * row + part));
        change(db, &[], &loaded).await;
        model.extend(loaded);
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    model
}

/// Deletes every key that `n` divides.
async fn delete(db: &Arc<Database>, model: &mut Model, n: i64) {
    let gone: Vec<i64> = model.keys().copied().filter(|key| key % n == 0).collect();
    change(db, &gone, &Model::new()).await;
    model.retain(|key, _| key % n != 0);
}

fn with_vector(model: &Model) -> u64 {
    model.values().flatten().count() as u64
}

/// How a search through the index is done.
async fn report(db: &Arc<Database>) -> SearchReport {
    let query = [0.5; DIM];
    nearest(db, false, &VectorQuery { query: &query, k: 10, width: None }).await.unwrap().1
}

async fn check_often(db: &Arc<Database>, model: &Model, random: &mut StdRng, what: &str) {
    for _ in 0..6 {
        check(&table(db), model, Metric::L2, random, what).await;
    }
}

/// Which rows of the only unit a search may give; None: all.
async fn searched(db: &Database) -> alive::Alive {
    let table = table(db);
    let views = table.segments().await.unwrap();
    let mut units = cover::cover(&table, &table.def().indexes[0], views).await.units;
    let cover::Answerer { unit, parts, whole } = units.pop().unwrap();
    assert!(units.is_empty());
    let mut opened = Vec::new();
    for part in parts {
        let source = exact::Source::open(&table, part, 1).await.unwrap();
        opened.push((source.part(), source.ids));
    }
    alive::alive(&unit, &opened, whole).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_leaves_no_row_out_leaves_searches_as_they_were() {
    let mut random = StdRng::seed_from_u64(54);
    let db = Database::open(Root::Memory, options()).await.unwrap();
    create(&db, IndexMetric::L2, None).await;
    let mut model = load(&db, &mut random, 3, 300).await;
    db.build_indexes(None).await.unwrap();
    assert!(searched(&db).await.is_none());
    db.compact(None).await.unwrap();
    assert_eq!(table(&db).state().segments.len(), 1);
    assert!(searched(&db).await.is_none(), "a search is to need no bitmap");
    check_often(&db, &model, &mut random, "merged").await;
    delete(&db, &mut model, 5).await;
    assert_eq!(searched(&db).await.unwrap().set as u64, with_vector(&model));
    check_often(&db, &model, &mut random, "deleted").await;
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_rows_are_found_in_the_unit_they_are_in() {
    let mut random = StdRng::seed_from_u64(51);
    let db = Database::open(Root::Memory, options()).await.unwrap();
    create(&db, IndexMetric::L2, None).await;
    let mut model = load(&db, &mut random, 4, 700).await;
    db.build_indexes(None).await.unwrap();
    let built = ids(&db);
    assert_eq!((built.len(), covered(&table(&db)).await), (1, 2_800));

    let (pinned, of_then) = (table(&db), model.clone());
    delete(&db, &mut model, 10).await;
    db.compact(None).await.unwrap();
    assert_eq!((table(&db).state().segments.len(), ids(&db)), (1, built.clone()));
    assert_eq!(covered(&table(&db)).await, model.len() as u64);
    let found = report(&db).await;
    assert!(found.units.len() == 1 && found.exact.segments == 0 && found.lost.is_empty(), "{found:?}");
    let searcher = table(&db).searcher(1, Metric::L2, false).await.unwrap();
    assert_eq!(searcher.planned(10, None).unwrap().units.len(), 1);
    check_often(&db, &model, &mut random, "merged").await;
    check(&pinned, &of_then, Metric::L2, &mut random, "pinned").await;

    // Rows that came since, and those that took the place of others, are compared, be they in memory, alone in a segment or merged.
    let keys: Vec<i64> = model.keys().copied().filter(|key| key % 19 == 0).collect();
    let rows = fresh(&mut random, keys.iter().copied());
    change(&db, &keys, &rows).await;
    let (changed, new) = (rows.len() as u64, with_vector(&rows));
    model.extend(rows);
    assert_eq!(report(&db).await.exact.hot, new);
    check_often(&db, &model, &mut random, "hot").await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert_eq!(covered(&table(&db)).await, model.len() as u64 - changed);
    assert_eq!(report(&db).await.exact.segments, new);
    check_often(&db, &model, &mut random, "beside").await;
    db.compact(None).await.unwrap();
    assert_eq!((table(&db).state().segments.len(), ids(&db)), (1, built.clone()));
    // What has no vector needs no unit.
    assert_eq!(covered(&table(&db)).await, model.len() as u64 - new);
    let found = report(&db).await;
    assert_eq!((found.units.len(), found.exact.segments), (1, new), "{found:?}");
    let searcher = table(&db).searcher(1, Metric::L2, false).await.unwrap();
    assert_eq!(searcher.planned(10, None).unwrap().exact.segments, new);
    check_often(&db, &model, &mut random, "merged again").await;
    delete(&db, &mut model, 7).await;
    assert_eq!(report(&db).await.units.len(), 1);
    check_often(&db, &model, &mut random, "deleted").await;
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    assert!(!findings.iter().any(crate::verify::Finding::is_bad), "{findings:?}");

    assert_eq!(db.build_indexes(None).await.unwrap(), 1);
    assert!(units(&db).len() == 1 && ids(&db).is_disjoint(&built));
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert_eq!(covered(&table(&db)).await, model.len() as u64);
    assert_eq!(report(&db).await.exact.segments, 0);
    check_often(&db, &model, &mut random, "built").await;
    assert_eq!(db.build_indexes(None).await.unwrap(), 0);
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_uncovered_while_units_are_built_anew() {
    let dir = scratch().unwrap();
    let mut random = StdRng::seed_from_u64(52);
    let db = Database::open(Root::Path(dir.path().join("db")), options()).await.unwrap();
    create(&db, IndexMetric::L2, Some(least())).await;
    let mut model = load(&db, &mut random, 3, 3_000).await;
    db.build_indexes(None).await.unwrap();
    let built = ids(&db);
    assert!(built.len() >= 2, "{} units", built.len());
    for (round, stops) in [(0, true), (1, false)] {
        delete(&db, &mut model, 9 + round).await;
        db.compact(None).await.unwrap();
        let all = model.len() as u64;
        assert_eq!(covered(&table(&db)).await, all, "round {round}");
        check_often(&db, &model, &mut random, "merged").await;
        let before = ids(&db);
        let building = tokio::spawn({
            let db = Arc::clone(&db);
            async move { db.build_indexes(None).await }
        });
        while !building.is_finished() {
            let now = table(&db);
            let rows = covered(&now).await;
            // Else one was replaced in between, and its file is gone.
            let newest = table(&db);
            if now.state().units.iter().all(|unit| newest.state().names_unit(unit.id)) {
                assert_eq!(rows, all, "round {round}");
            }
            check(&newest, &model, Metric::L2, &mut random, "while they are built").await;
            // What the first ones have is then in two units, also of the segments of the next compaction.
            if stops && !before.is_superset(&ids(&db)) {
                for job in db.jobs().into_iter().filter(|job| job.kind == "build_index") {
                    db.jobs.cancel(job.id);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ended = building.await.unwrap();
        assert!(ended.is_ok() || stops, "{ended:?}");
        check_often(&db, &model, &mut random, "built").await;
    }
    assert!(ids(&db).is_disjoint(&built));
    assert_eq!(report(&db).await.exact.segments, 0);
    let findings = db.verify_deep(VerifyScope::Database).await.unwrap();
    assert!(!findings.iter().any(crate::verify::Finding::is_bad), "{findings:?}");
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn openings_readers_and_lost_units_after_a_compaction() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let mut random = StdRng::seed_from_u64(53);
    let db = Database::open(root.clone(), options()).await.unwrap();
    create(&db, IndexMetric::L2, None).await;
    let mut model = load(&db, &mut random, 3, 500).await;
    db.build_indexes(None).await.unwrap();
    delete(&db, &mut model, 4).await;
    db.compact(None).await.unwrap();
    let unit = Arc::clone(&units(&db)[0]);

    let reader = Database::open(root.clone(), OpenOptions { read_only: true, ..options() }).await.unwrap();
    assert_eq!(covered(&table(&reader)).await, model.len() as u64);
    assert_eq!(report(&reader).await.exact.segments, 0);
    check_often(&reader, &model, &mut random, "read").await;
    reader.close().await.unwrap();
    drop(reader);
    db.close().await.unwrap();
    drop(db);

    let db = Database::open(root.clone(), options()).await.unwrap();
    assert_eq!(units(&db), [Arc::clone(&unit)]);
    assert_eq!(covered(&table(&db)).await, model.len() as u64);
    assert_eq!(report(&db).await.exact.segments, 0);
    check_often(&db, &model, &mut random, "opened").await;
    db.close().await.unwrap();
    drop(db);

    // Nothing finds its rows then; a merge goes on all the same, and so does a build.
    std::fs::remove_file(dir.path().join("db").join(unit.path())).unwrap();
    let db = Database::open(root, options()).await.unwrap();
    let found = report(&db).await;
    assert_eq!((found.lost.len(), found.exact.segments), (1, with_vector(&model)), "{found:?}");
    assert_eq!(covered(&table(&db)).await, 0);
    delete(&db, &mut model, 5).await;
    db.compact(None).await.unwrap();
    check_often(&db, &model, &mut random, "lost").await;
    db.index_units_lost([unit.id]);
    assert_eq!(db.build_indexes(None).await.unwrap(), 1);
    assert!(units(&db).len() == 1 && units(&db)[0].id != unit.id);
    assert_eq!(covered(&table(&db)).await, model.len() as u64);
    check_often(&db, &model, &mut random, "built again").await;
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_has_nothing_of_a_truncated_table_nor_of_an_index_made_anew() {
    let mut random = StdRng::seed_from_u64(55);
    let db = Database::open(Root::Memory, options()).await.unwrap();
    create(&db, IndexMetric::L2, None).await;
    let mut before = load(&db, &mut random, 3, 200).await;
    db.build_indexes(None).await.unwrap();
    delete(&db, &mut before, 6).await;
    db.compact(None).await.unwrap();
    let pinned = table(&db);
    assert_eq!(covered(&pinned).await, before.len() as u64);

    let tx = db.begin(&db.snapshot()).await.unwrap();
    tx.truncate(TableId(1)).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(covered(&table(&db)).await, 0);
    // The same keys, other rows.
    let model = load(&db, &mut random, 3, 200).await;
    assert_eq!(covered(&table(&db)).await, 0);
    assert_eq!(report(&db).await.exact.segments, with_vector(&model));
    check_often(&db, &model, &mut random, "truncated").await;
    check(&pinned, &before, Metric::L2, &mut random, "pinned").await;
    assert_eq!(db.build_indexes(None).await.unwrap(), 1);
    assert_eq!(units(&db).len(), 1);
    db.compact(None).await.unwrap();
    assert_eq!(covered(&table(&db)).await, model.len() as u64);
    check_often(&db, &model, &mut random, "merged").await;
    check(&pinned, &before, Metric::L2, &mut random, "pinned still").await;

    let def = TableDef::clone(table(&db).def());
    let bare = TableDef { indexes: Vec::new(), ..def.clone() };
    for def in [bare, def] {
        let tx = db.begin(&db.snapshot()).await.unwrap();
        tx.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
        tx.commit(CommitOptions::default()).await.unwrap();
    }
    assert!(units(&db).is_empty());
    assert_eq!(report(&db).await.exact.segments, with_vector(&model));
    check_often(&db, &model, &mut random, "made anew").await;
    assert_eq!(db.build_indexes(None).await.unwrap(), 1);
    assert_eq!(covered(&table(&db)).await, model.len() as u64);
    check_often(&db, &model, &mut random, "built").await;
    db.close().await.unwrap();
}
