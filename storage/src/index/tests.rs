#![allow(clippy::unwrap_used)]
//! Searches against a model: no row missing, no ghost, no old version, whatever happens in between.

mod compaction;
mod rounds;
mod split;
mod upkeep;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use cairn_vector::Metric;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::database::{Database, OpenOptions, Root};
use crate::error::ErrorKind;
use crate::id::{ColumnId, IndexId, ObjectId, RowId, SchemaVersion, TableId};
use crate::schema::{ColumnDef, ColumnType, TableDef};
use crate::scratch::scratch;
use crate::segment::{EncodedKey, RowChoice};
use crate::transaction::CommitOptions;
use crate::verify::{FindingStatus, VerifyScope};
use crate::version::TableSnapshot;
use crate::wal::CatalogEdit;

const DIM: usize = 6;

/// Key -> vector; None: NULL.
type Model = BTreeMap<i64, Option<[f32; DIM]>>;

fn definition(metric: IndexMetric, memory_limit_bytes: Option<u64>) -> TableDef {
    let column = |id, name: &str, column_type, nullable| ColumnDef {
        id: ColumnId(id),
        name: name.to_owned(),
        column_type,
        nullable,
        default: None,
        initial: None,
    };
    TableDef {
        id: TableId(1),
        schema: "public".to_owned(),
        name: "t".to_owned(),
        schema_version: SchemaVersion(1),
        columns: vec![
            column(1, "k", ColumnType::Int64, false),
            column(2, "v", ColumnType::Vector(DIM as u16), true),
        ],
        primary_key: vec![ColumnId(1)],
        sort: Vec::new(),
        next_column_id: ColumnId(3),
        layout: Default::default(),
        indexes: vec![IndexDef {
            id: IndexId(1),
            name: "t_v".to_owned(),
            column: ColumnId(2),
            metric,
            target_recall_permille: 950,
            m: 16,
            ef_construction: 200,
            builder: IndexBuilder::Partition,
            memory_limit_bytes,
        }],
        owner: None,
        identity: None,
    }
}

fn batch(rows: &Model) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.keys().copied()));
    let DataType::FixedSizeList(item, size) = ColumnType::Vector(DIM as u16).arrow() else { unreachable!() };
    let components: Vec<f32> = rows.values().flat_map(|v| v.unwrap_or([0.0; DIM])).collect();
    let valid: Vec<bool> = rows.values().map(Option::is_some).collect();
    let list = FixedSizeListArray::new(
        item,
        size,
        Arc::new(Float32Array::from(components)),
        Some(NullBuffer::from(valid)).filter(|n| n.null_count() > 0),
    );
    RecordBatch::try_new(definition(IndexMetric::L2, None).arrow_schema(), vec![keys, Arc::new(list)])
        .unwrap()
}

async fn create(db: &Arc<Database>, metric: IndexMetric, memory_limit: Option<u64>) {
    let tx = db.begin(&db.snapshot()).await.unwrap();
    tx.edit(CatalogEdit::PutTable(Arc::new(definition(metric, memory_limit)))).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
}

fn table(db: &Database) -> TableSnapshot {
    db.snapshot().table(TableId(1)).unwrap()
}

fn units(db: &Database) -> Vec<Arc<UnitMeta>> {
    table(db).state().units.to_vec()
}

fn ids(db: &Database) -> HashSet<ObjectId> {
    units(db).iter().map(|unit| unit.id).collect()
}

/// Rows that units cover.
async fn covered(table: &TableSnapshot) -> u64 {
    let views = table.segments().await.unwrap();
    table.coverage(&table.def().indexes[0], &views, table.state()).await.rows
}

/// Some thousand rows a unit: every row of it is compared, and answers are those of the model.
fn least() -> u64 {
    let def = definition(IndexMetric::L2, None);
    least_memory_limit(&def, &def.indexes[0])
}

async fn row_ids(table: &TableSnapshot, keys: &[i64]) -> Vec<Option<RowId>> {
    let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
    let encoded = table.key_encoder().unwrap().unwrap().encode(&[column]).unwrap();
    let keys: Vec<EncodedKey> = (0..encoded.len()).map(|i| encoded.to_owned(i)).collect();
    table.lookup(&keys).await.unwrap()
}

/// Deletes `gone` and writes `rows` in one commit.
async fn change(db: &Arc<Database>, gone: &[i64], rows: &Model) {
    let tx = db.begin(&db.snapshot()).await.unwrap();
    let ids: Vec<RowId> = row_ids(&table(db), gone).await.into_iter().flatten().collect();
    tx.delete(TableId(1), &ids).unwrap();
    if !rows.is_empty() {
        let mut writer = tx.writer(TableId(1)).unwrap();
        writer.write(batch(rows)).await.unwrap();
        writer.finish().await.unwrap();
    }
    tx.commit(CommitOptions::default()).await.unwrap();
}

fn vector(random: &mut StdRng) -> [f32; DIM] {
    std::array::from_fn(|_| random.random_range(-1.0_f32..1.0))
}

fn fresh(random: &mut StdRng, keys: impl Iterator<Item = i64>) -> Model {
    keys.map(|k| (k, (!random.random_bool(0.2)).then(|| vector(random)))).collect()
}

async fn nearest(
    db: &Arc<Database>,
    exact: bool,
    query: &VectorQuery<'_>,
) -> crate::error::Result<(Vec<VectorHit>, SearchReport)> {
    table(db).searcher(1, Metric::L2, exact).await?.nearest(query)
}

/// Searches in every way and compares with the model.
async fn check(table: &TableSnapshot, model: &Model, metric: Metric, random: &mut StdRng, what: &str) {
    let query = vector(random);
    let k = random.random_range(1..30);
    let chosen: Option<Vec<i64>> = match random.random_range(0..4) {
        0 => Some(model.keys().copied().filter(|_| random.random_bool(0.02)).collect()),
        1 => Some(model.keys().copied().filter(|_| random.random_bool(0.5)).collect()),
        _ => None,
    };
    let rows = match &chosen {
        None => None,
        Some(keys) => {
            let ids = row_ids(table, keys).await.into_iter().flatten().map(|id| id.0).collect();
            Some(table.row_set(ids).await.unwrap())
        }
    };
    let counts = |key: &i64| chosen.as_ref().is_none_or(|keys| keys.binary_search(key).is_ok());
    let mut expected: Vec<f32> = model
        .iter()
        .filter(|(key, _)| counts(key))
        .filter_map(|(_, v)| Some(metric.distance((&v.as_ref()?[..]).into(), (&query[..]).into()).unwrap()))
        .collect();
    expected.sort_by(f32::total_cmp);
    expected.truncate(k);
    for (exact, width) in [(false, None), (false, Some(400)), (true, None)] {
        let mut searcher = table.searcher(1, metric, exact).await.unwrap();
        if let Some(rows) = &rows {
            searcher = searcher.among(rows.clone());
        }
        let (hits, report) = searcher.nearest(&VectorQuery { query: &query, k, width }).unwrap();
        let got: Vec<f32> = hits.iter().map(|hit| hit.distance).collect();
        assert_eq!(got, expected, "{what}, exact {exact}, width {width:?}, k {k}, {report:?}");
        // The rows are the newest versions of their keys.
        let ids: Vec<RowId> = hits.iter().map(|hit| hit.row).collect();
        assert_eq!(table.rows(&ids, &[0], false).await.unwrap().num_rows(), ids.len(), "{what}");
    }
}

/// How large a history's tables get.
#[derive(Clone, Copy)]
struct Size {
    /// Of its index; units of so few rows that every one is compared.
    memory_limit: Option<u64>,
    keys: i64,
    batch: i64,
    steps: u32,
}

const SMALL: Size = Size { memory_limit: None, keys: 3_000, batch: 400, steps: 40 };

async fn history(seed: u64, metric: IndexMetric, root: Root, reopen: bool, size: Size) {
    let mut random = StdRng::seed_from_u64(seed);
    let options = || OpenOptions { compacts: false, ..OpenOptions::default() };
    let mut db = Database::open(root.clone(), options()).await.unwrap();
    create(&db, metric, size.memory_limit).await;
    let mut model = Model::new();
    let mut pinned: Vec<(TableSnapshot, Model)> = Vec::new();
    for step in 0..size.steps {
        let what = format!("seed {seed} step {step}");
        match random.random_range(0..9) {
            0..3 => {
                let first = random.random_range(0..size.keys);
                let keys: Vec<i64> = (first..first + random.random_range(1..size.batch)).collect();
                let rows = fresh(&mut random, keys.iter().copied());
                change(&db, &keys, &rows).await;
                model.extend(rows);
            }
            3 => {
                let gone: Vec<i64> = model.keys().copied().filter(|_| random.random_bool(0.2)).collect();
                change(&db, &gone, &Model::new()).await;
                model.retain(|k, _| gone.binary_search(k).is_err());
            }
            4 | 5 => drop(db.checkpoint(CheckpointReason::Statement).await.unwrap()),
            6 => drop(db.build_indexes(None).await.unwrap()),
            7 => drop(db.compact(None).await.unwrap()),
            _ if reopen => {
                pinned.clear();
                if random.random_bool(0.5) {
                    db.close().await.unwrap();
                }
                drop(db);
                // The lock goes with the last task that holds the handle.
                db = loop {
                    match Database::open(root.clone(), options()).await {
                        Ok(db) => break db,
                        Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                    }
                };
            }
            _ => pinned.push((table(&db), model.clone())),
        }
        check(&table(&db), &model, metric.metric(), &mut random, &what).await;
        for (snapshot, model) in &pinned {
            check(snapshot, model, metric.metric(), &mut random, &format!("{what}, pinned")).await;
        }
    }
    db.build_indexes(None).await.unwrap();
    check(&table(&db), &model, metric.metric(), &mut random, "at the end").await;
    assert_eq!(db.build_indexes(None).await.unwrap(), 0, "upkeep comes to an end");
    for finding in db.verify(VerifyScope::Database).await.unwrap() {
        assert!(matches!(finding.status, FindingStatus::Ok | FindingStatus::Warning), "{finding:?}");
    }
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_agree_with_the_model_through_every_history() {
    for seed in 0..6 {
        for metric in [IndexMetric::L2, IndexMetric::Cosine, IndexMetric::InnerProduct] {
            let dir = scratch().unwrap();
            history(seed, metric, Root::Path(dir.path().join("db")), true, SMALL).await;
        }
        history(seed, IndexMetric::L2, Root::Memory, false, SMALL).await;
    }
}

/// A database with one unit over `rows` rows, and the unit's file.
async fn one_unit(dir: &std::path::Path, rows: i64) -> (Arc<Database>, Model, std::path::PathBuf) {
    let mut random = StdRng::seed_from_u64(9);
    let root = dir.join("db");
    let db = Database::open(Root::Path(root.clone()), OpenOptions::default()).await.unwrap();
    create(&db, IndexMetric::L2, None).await;
    let model = fresh(&mut random, 0..rows);
    change(&db, &[], &model).await;
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.build_indexes(None).await.unwrap();
    let unit = Arc::clone(&table(&db).state().units[0]);
    (db, model, root.join(unit.path()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_unit_costs_speed_and_is_built_again() {
    let dir = scratch().unwrap();
    let mut random = StdRng::seed_from_u64(10);
    for damage in ["removed", "cut short", "header flipped", "zeros inside", "one bit", "all flipped"] {
        let dir = dir.path().join(damage.replace(' ', "-"));
        let (db, model, file) = one_unit(&dir, 3_000).await;
        let root = db.root().clone();
        db.close().await.unwrap();
        drop(db);
        let mut bytes = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        match damage {
            "removed" => {}
            "cut short" => std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
            "header flipped" => {
                bytes[20] ^= 0x40;
                std::fs::write(&file, &bytes).unwrap();
            }
            "zeros inside" => {
                bytes[1_024..60_000].fill(0);
                std::fs::write(&file, &bytes).unwrap();
            }
            "one bit" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&file, &bytes).unwrap();
            }
            _ => {
                bytes.iter_mut().for_each(|b| *b ^= 0xff);
                std::fs::write(&file, &bytes).unwrap();
            }
        }
        let db = Database::open(root, OpenOptions::default()).await.unwrap();
        check(&table(&db), &model, Metric::L2, &mut random, damage).await;
        let query = vector(&mut random);
        let query = VectorQuery { query: &query, k: 5, width: None };
        let (_, report) = nearest(&db, false, &query).await.unwrap();
        assert_eq!(report.lost.len(), 1, "{damage}");
        assert!(report.exact.segments > 0 && report.exact.why.contains("lost"), "{damage}: {report:?}");
        let findings = db.verify(VerifyScope::Database).await.unwrap();
        assert!(
            findings.iter().any(|f| f.is_bad() && f.object.ends_with(".hnsw")),
            "{damage}: VERIFY names it"
        );
        db.index_units_lost(report.lost.iter().map(|(unit, _)| *unit));
        for _ in 0..12_000 {
            if nearest(&db, false, &query).await.unwrap().1.lost.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let (_, report) = nearest(&db, false, &query).await.unwrap();
        assert!(report.lost.is_empty() && report.units.len() == 1, "{damage}: {report:?}");
        check(&table(&db), &model, Metric::L2, &mut random, damage).await;
        assert!(!db.verify(VerifyScope::Database).await.unwrap().iter().any(crate::verify::Finding::is_bad));
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_indexes_the_one_that_covers_more_is_used() {
    let dir = scratch().unwrap();
    let (db, model, _) = one_unit(dir.path(), 3_000).await;
    let mut def = TableDef::clone(table(&db).def());
    let built = def.indexes[0].clone();
    def.indexes.insert(0, IndexDef { id: IndexId(2), name: "t_v2".to_owned(), ..built });
    let tx = db.begin(&db.snapshot()).await.unwrap();
    tx.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
    tx.commit(CommitOptions::default()).await.unwrap();
    // Pinned before the job in the background has built the new one.
    let pinned = table(&db);
    assert!(pinned.state().units.iter().all(|unit| unit.index == IndexId(1)), "built already");
    let searcher = pinned.searcher(1, Metric::L2, false).await.unwrap();
    assert_eq!(searcher.index().map(|index| index.id), Some(IndexId(1)));
    let report = searcher.planned(5, None).unwrap();
    let (_, ran) = searcher.nearest(&VectorQuery { query: &[0.5; DIM], k: 5, width: None }).unwrap();
    assert_eq!(report.units.iter().map(|u| u.plan).collect::<Vec<_>>(), [ran.units[0].plan]);
    assert_eq!((report.exact.segments, report.exact.hot), (ran.exact.segments, ran.exact.hot));
    let exact = pinned.searcher(1, Metric::L2, true).await.unwrap();
    let (planned, ran) = (
        exact.planned(5, None).unwrap(),
        exact.nearest(&VectorQuery { query: &[0.5; DIM], k: 5, width: None }),
    );
    assert_eq!(planned.exact.segments, ran.unwrap().1.exact.segments);
    assert_eq!(planned.exact.segments, model.values().flatten().count() as u64);
}

/// No bound on its distances holds, so no unit answers: every row does.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_square_does_not_fit_is_compared_with_every_row() {
    let dir = scratch().unwrap();
    let (db, model, _) = one_unit(dir.path(), 2_000).await;
    for scale in [3e19_f32, 1e38] {
        let query: Vec<f32> = (0..DIM).map(|i| if i % 2 == 0 { scale } else { -scale / 3.0 }).collect();
        let query = VectorQuery { query: &query, k: 9, width: None };
        let (hits, report) = nearest(&db, false, &query).await.unwrap();
        let (expected, _) = nearest(&db, true, &query).await.unwrap();
        let pairs = |hits: &[VectorHit]| -> Vec<(u64, f32)> {
            hits.iter().map(|hit| (hit.row.0, hit.distance)).collect()
        };
        assert_eq!(pairs(&hits), pairs(&expected));
        let distance = |v: &[f32; DIM]| Metric::L2.distance((&v[..]).into(), query.query.into()).unwrap();
        let mut distances: Vec<f32> = model.values().flatten().map(distance).collect();
        distances.sort_by(f32::total_cmp);
        assert_eq!(hits.iter().map(|hit| hit.distance).collect::<Vec<_>>(), distances[..9]);
        assert!(report.units.is_empty() && report.exact.why.contains("too long"), "{report:?}");
        assert_eq!(report.exact.segments, distances.len() as u64);
    }
}

fn ask(query: &[f32]) -> VectorQuery<'_> {
    VectorQuery { query, k: 10, width: Some(40) }
}

/// A unit too large to be read when it is opened: searches check what they use, a task the rest.
#[tokio::test(flavor = "multi_thread")]
async fn damage_anywhere_in_a_large_unit_is_found_behind_the_first_search() {
    let dir = scratch().unwrap();
    let mut random = StdRng::seed_from_u64(12);
    let (db, _, file) = one_unit(dir.path(), 14_000).await;
    let root = db.root().clone();
    let vectors: Vec<_> = (0..5).map(|_| vector(&mut random)).collect();
    db.close().await.unwrap();
    drop(db);
    let clean = std::fs::read(&file).unwrap();
    assert!(clean.len() > 2 << 20, "{} bytes", clean.len());
    for part in 0..8 {
        let mut bytes = clean.clone();
        bytes[part * clean.len() / 8 + 1_000] ^= 0x10;
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
        for query in &vectors {
            let (right, _) = nearest(&db, true, &ask(query)).await.unwrap();
            let (hits, report) = nearest(&db, false, &ask(query)).await.unwrap();
            let recalled = hits.iter().filter(|hit| right.contains(hit)).count();
            assert!(recalled >= 8 && hits.len() == 10, "part {part}: {report:?}");
        }
        let mut report = nearest(&db, false, &ask(&vectors[0])).await.unwrap().1;
        for _ in 0..12_000 {
            if !report.lost.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            report = nearest(&db, false, &ask(&vectors[0])).await.unwrap().1;
        }
        assert_eq!(report.lost.len(), 1, "part {part}: {report:?}");
        assert!(report.lost[0].1.contains("checksum"), "part {part}: {report:?}");
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_vectors_are_an_error_and_never_a_wrong_distance() {
    let dir = scratch().unwrap();
    let (db, _, _) = one_unit(dir.path(), 3_000).await;
    let root = db.root().clone();
    let segment = dir.path().join("db").join(table(&db).state().segments[0].meta.path());
    db.close().await.unwrap();
    drop(db);
    let clean = std::fs::read(&segment).unwrap();
    let mut random = StdRng::seed_from_u64(11);
    let (mut refused, query) = (0, vector(&mut random));
    let query = VectorQuery { query: &query, k: 20, width: None };
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let (right, _) = nearest(&db, true, &query).await.unwrap();
    db.close().await.unwrap();
    drop(db);
    for _ in 0..40 {
        let mut bytes = clean.clone();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::remove_file(&segment).unwrap();
        std::fs::write(&segment, &bytes).unwrap();
        let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
        match nearest(&db, true, &query).await {
            Ok((hits, _)) => assert_eq!(hits, right, "byte {at}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
                refused += 1;
            }
        }
        drop(
            table(&db)
                .open_segment(&table(&db).state().segments[0].meta)
                .await
                .map(|r| r.batches(&[1], RowChoice::All, 10)),
        );
        db.close().await.unwrap();
    }
    assert!(refused > 20, "{refused} of 40 flips noticed");
}
