//! Vector search through SQL: our side of `benches/vector_sql.py`, one JSON object a line in, one out.
//!
//! Owns: a database of `items(id, label, pick, embedding)` made from a Parquet file, searches of it in every spelling and
//! without SQL, a plain sum over the same bytes. Does not own: what is asked, recall and the rivals (the script).
//!
//! With one thread everything runs on the thread that asks, as an application's own call would.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cairn_engine::{Engine, EngineOptions, Output, Root, Session};
use cairn_storage::fs::{FileSystem, OsFileSystem};
use cairn_storage::index::VectorQuery;
use cairn_vector::Metric;
use cairn_vector::unit::Unit;
use clap::Args;
use datafusion::arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Int64Type, UInt64Type};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::{Result, millis};

/// Widths of the curve.
const WIDTHS: [usize; 11] = [10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 200];
/// Independent sums, so that additions do not wait for each other.
const LANES: usize = 64;

/// What to search, and how.
#[derive(Args)]
pub(crate) struct Options {
    /// Parquet file with the columns id, label, pick and vector.
    #[arg(long)]
    base: PathBuf,
    /// Parquet file with the column vector.
    #[arg(long)]
    queries: PathBuf,
    /// Rows of the base, those with id below it.
    #[arg(long)]
    rows: u64,
    /// Recall that the index aims at.
    #[arg(long, default_value_t = 0.99)]
    target: f64,
    /// Threads of searches; 1: the one that asks.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Open, search twice and end.
    #[arg(long)]
    open_only: bool,
    /// Build the database when it is not there, and end.
    #[arg(long)]
    build_only: bool,
}

/// Vectors of one dimension, one after the other.
struct Vectors {
    dim: usize,
    values: Vec<f32>,
}

impl Vectors {
    /// Those of the column `vector`, at most `rows`.
    fn read(file: &Path, rows: usize) -> Result<Self> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file)?)?;
        let place = builder.schema().fields().iter().position(|f| f.name() == "vector");
        let place = place.ok_or_else(|| format!("{} has no column vector", file.display()))?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), [place]);
        let mut vectors = Self { dim: 0, values: Vec::new() };
        for batch in builder.with_projection(mask).with_limit(rows).build()? {
            let batch = batch?;
            let list = batch.column(0).as_fixed_size_list_opt().ok_or("vector is no fixed-size list")?;
            let values =
                list.values().as_primitive_opt::<Float32Type>().ok_or("vector is not of 32-bit floats")?;
            vectors.dim = usize::try_from(list.value_length())?;
            vectors.values.extend_from_slice(values.values());
        }
        Ok(vectors)
    }

    fn row(&self, row: usize) -> Result<&[f32]> {
        self.values.chunks_exact(self.dim).nth(row).ok_or_else(|| format!("there is no query {row}").into())
    }
}

/// An open database with what a search needs prepared.
struct Bench {
    engine: Arc<Engine>,
    session: Session,
    queries: Vectors,
    /// Whether `vector_search` takes a vector as a parameter; else it gets text.
    call_takes_vectors: bool,
    /// `id` of each row id.
    ids: HashMap<u64, i64>,
    base: PathBuf,
    rows: usize,
}

/// Answers the script until it stops asking.
pub(crate) fn run(home: &Path, options: &Options) -> Result<()> {
    let root = database(home, options)?;
    if options.build_only {
        return Ok(());
    }
    let queries = Vectors::read(&options.queries, usize::MAX)?;
    let runtime = runtime(options.threads)?;
    let started = Instant::now();
    let engine = runtime.block_on(open(&root, options.threads))?;
    let open_ms = millis(started);
    let session = engine.session();
    let unit_ms = unit_open_ms(&engine, &root)?;
    let mut bench = Bench {
        engine,
        session,
        queries,
        call_takes_vectors: true,
        ids: HashMap::new(),
        base: options.base.clone(),
        rows: usize::try_from(options.rows)?,
    };
    let mut first_ms = Vec::new();
    for _ in 0..2 {
        let search = bench.statement(&json!({ "how": "prepared" }), &Value::Null, 10, 0)?;
        let started = Instant::now();
        runtime.block_on(bench.ids_of(search))?;
        first_ms.push(millis(started));
    }
    let call = bench.statement(&json!({ "how": "auto" }), &Value::Null, 10, 0)?;
    bench.call_takes_vectors = runtime.block_on(bench.ids_of(call)).is_ok();
    let settings: Vec<Value> = WIDTHS.iter().map(|ef| json!({ "how": "ef", "ef": ef })).collect();
    println!(
        "{}",
        json!({
            "named": format!("cairn {}", env!("CARGO_PKG_VERSION")),
            "build_s": std::fs::read_to_string(root.join("bench_seconds"))?.trim().parse::<f64>()?,
            "open_ms": open_ms, "unit_open_ms": unit_ms,
            "first_ms": open_ms + first_ms[0], "searches_ms": first_ms,
            "call_takes_vectors": bench.call_takes_vectors,
            "settings": { "plain": settings, "filtered": [] },
        })
    );
    if options.open_only {
        return Ok(());
    }
    runtime.block_on(bench.learn_ids())?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let answer = match asked["cmd"].as_str() {
            Some("sum") => bench.sum(),
            Some("batch") => runtime.block_on(bench.batch(&asked)),
            Some("explain") => runtime.block_on(bench.explain(&asked)),
            _ => runtime.block_on(bench.search(&asked)),
        };
        let answer = answer.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        println!("{answer}");
    }
    Ok(runtime.block_on(bench.engine.close())?)
}

/// The database of these rows, built by all cores when it is not there.
fn database(home: &Path, options: &Options) -> Result<PathBuf> {
    let name = format!("cairn-{}-{}", options.rows, (options.target * 1000.0).round());
    let root = std::path::absolute(home)?.join(&name);
    if root.exists() {
        return Ok(root);
    }
    let part = root.with_file_name(format!("{name}.part"));
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    std::fs::create_dir_all(&part)?;
    let runtime = runtime(0)?;
    let base = &options.base;
    let dim = Vectors::read(base, 1)?.dim;
    let statements = [
        format!(
            "CREATE TABLE items (id BIGINT PRIMARY KEY, label TINYINT, pick INTEGER, embedding VECTOR({dim}))"
        ),
        format!(
            "INSERT INTO items SELECT id, label, pick, vector FROM '{}' WHERE id < {}",
            base.display(),
            options.rows
        ),
        "CHECKPOINT".to_owned(),
        format!(
            "CREATE INDEX items_embedding ON items USING hnsw (embedding) \
             WITH (metric = 'l2', target_recall = {})",
            options.target
        ),
    ];
    let started = Instant::now();
    runtime.block_on(async {
        let engine = open(&part, 0).await?;
        let session = engine.session();
        for sql in &statements {
            drain(session.execute(sql, None).await?).await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(engine.close().await?)
    })?;
    std::fs::write(part.join("bench_seconds"), format!("{:.1}", started.elapsed().as_secs_f64()))?;
    std::fs::rename(&part, &root)?;
    Ok(root)
}

/// Of one thread: the one that asks; 0: one a core.
fn runtime(threads: usize) -> Result<Runtime> {
    Ok(match threads {
        1 => Builder::new_current_thread().enable_all().build()?,
        0 => Builder::new_multi_thread().enable_all().build()?,
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    })
}

async fn open(root: &Path, threads: usize) -> Result<Arc<Engine>> {
    let partitions = (threads > 0).then_some(threads);
    let options = EngineOptions { partitions, ..EngineOptions::default() };
    Ok(Engine::open(Root::Path(root.to_path_buf()), options).await?)
}

/// Maps and opens the index's units as storage does, once.
fn unit_open_ms(engine: &Engine, root: &Path) -> Result<f64> {
    let table = engine.database().snapshot().table_named("public", "items").ok_or("no table items")?;
    let files = OsFileSystem::new(root.to_path_buf());
    let started = Instant::now();
    for unit in table.state().units.iter() {
        black_box(Unit::open(files.map(&unit.path())?)?);
    }
    Ok(millis(started))
}

async fn drain(output: Output) -> Result<()> {
    if let Output::Rows(mut rows) = output {
        while rows.stream.try_next().await?.is_some() {}
    }
    Ok(())
}

/// A search, ready to be asked.
enum Search {
    Sql(String, ParamValues),
    /// Without SQL, by the index's own recall.
    Bare(Vec<f32>, usize),
}

impl Bench {
    fn statement(&self, setting: &Value, condition: &Value, k: usize, query: usize) -> Result<Search> {
        let vector = self.queries.row(query)?;
        let how = setting["how"].as_str().unwrap_or("prepared");
        if how == "bare" {
            return Ok(Search::Bare(vector.to_vec(), k));
        }
        let as_text = how == "text" || how != "prepared" && !self.call_takes_vectors;
        let mut values = vec![if as_text { text(vector) } else { parameter(vector)? }];
        let condition = condition_sql(condition, &mut values)?;
        let call = |more: &str| {
            format!("SELECT id FROM vector_search('items', 'embedding', $1, k => {k}, {more}){condition}")
        };
        let sql = match how {
            "prepared" | "text" => {
                format!("SELECT id FROM items{condition} ORDER BY embedding <-> $1 LIMIT {k}")
            }
            "ef" => call(&format!("ef => {}", setting["ef"])),
            mode @ ("exact" | "ann" | "auto") => call(&format!("mode => '{mode}'")),
            other => return Err(format!("nothing is searched the way '{other}'").into()),
        };
        Ok(Search::Sql(sql, ParamValues::from(values)))
    }

    async fn ids_of(&self, search: Search) -> Result<Vec<i64>> {
        let mut ids = Vec::new();
        match search {
            Search::Sql(sql, values) => {
                let Output::Rows(mut rows) = self.session.execute(&sql, Some(values)).await? else {
                    return Err("a search gave no rows".into());
                };
                while let Some(batch) = rows.stream.try_next().await? {
                    ids.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
                }
            }
            Search::Bare(query, k) => {
                let table = self
                    .engine
                    .database()
                    .snapshot()
                    .table_named("public", "items")
                    .ok_or("no table items")?;
                let column = table.def().columns.iter().position(|c| c.name == "embedding");
                let column = column.ok_or("no column embedding")?;
                let searcher = table.searcher(column, Metric::L2, false).await?;
                let (hits, _) = searcher.nearest(&VectorQuery { query: &query, k, width: None })?;
                ids.extend(hits.iter().filter_map(|hit| self.ids.get(&hit.row.0).copied()));
            }
        }
        Ok(ids)
    }

    /// `{"setting": …, "k": 10, "queries": […], "conditions": null | [one a query]}`
    async fn search(&self, asked: &Value) -> Result<Value> {
        let k = asked["k"].as_u64().unwrap_or(10) as usize;
        let (mut micros, mut found) = (Vec::new(), Vec::new());
        for (i, query) in asked["queries"].as_array().ok_or("no queries")?.iter().enumerate() {
            let query = query.as_u64().ok_or("a query is no number")? as usize;
            let search = self.statement(&asked["setting"], &asked["conditions"][i], k, query)?;
            let started = Instant::now();
            let ids = self.ids_of(search).await?;
            micros.push(started.elapsed().as_secs_f64() * 1e6);
            found.push(ids);
        }
        Ok(json!({ "micros": micros, "ids": found }))
    }

    /// How one search is done.
    async fn explain(&self, asked: &Value) -> Result<Value> {
        let query = asked["query"].as_u64().unwrap_or(0) as usize;
        let search = self.statement(&asked["setting"], &asked["condition"], 10, query)?;
        let Search::Sql(sql, values) = search else { return Ok(json!({ "plan": "" })) };
        let mut plan = String::new();
        if let Output::Rows(mut rows) = self.session.execute(&format!("EXPLAIN {sql}"), Some(values)).await? {
            while let Some(batch) = rows.stream.try_next().await? {
                let texts = batch.columns().last().ok_or("EXPLAIN gave no column")?;
                let texts = datafusion::arrow::compute::cast(texts, &DataType::Utf8)?;
                texts.as_string::<i32>().iter().flatten().for_each(|line| plan.push_str(line));
            }
        }
        Ok(json!({ "plan": plan }))
    }

    /// Many query vectors in one statement: `{"cmd": "batch", "count": 1000, "rounds": 3}`.
    async fn batch(&self, asked: &Value) -> Result<Value> {
        let count = asked["count"].as_u64().unwrap_or(1000);
        let dim = self.queries.dim;
        let make = [
            "DROP TABLE IF EXISTS queries".to_owned(),
            format!("CREATE TABLE queries (id BIGINT PRIMARY KEY, vector VECTOR({dim}))"),
        ];
        for sql in &make {
            drain(self.session.execute(sql, None).await?).await?;
        }
        for id in 0..count {
            let values =
                vec![ScalarValue::Int64(Some(id as i64)), parameter(self.queries.row(id as usize)?)?];
            let insert = "INSERT INTO queries VALUES ($1, $2)";
            drain(self.session.execute(insert, Some(ParamValues::from(values))).await?).await?;
        }
        drain(self.session.execute("CHECKPOINT", None).await?).await?;
        let sql = "SELECT q.id, n.id, n._distance \
                   FROM queries q, LATERAL vector_search('items', 'embedding', q.vector, k => 10) n";
        let mut found = vec![Vec::new(); count as usize];
        let mut seconds = Vec::new();
        for _ in 0..=asked["rounds"].as_u64().unwrap_or(3) {
            found.iter_mut().for_each(Vec::clear);
            let started = Instant::now();
            let Output::Rows(mut rows) = self.session.execute(sql, None).await? else {
                return Err("the batch gave no rows".into());
            };
            while let Some(batch) = rows.stream.try_next().await? {
                let (of, ids) = (batch.column(0), batch.column(1));
                let ids = ids.as_primitive::<Int64Type>().values();
                for (query, id) in of.as_primitive::<Int64Type>().values().iter().zip(ids) {
                    found.get_mut(*query as usize).ok_or("an id that no query has")?.push(*id);
                }
            }
            seconds.push(started.elapsed().as_secs_f64());
        }
        // The first warms up.
        Ok(json!({ "seconds": seconds[1..], "ids": found }))
    }

    /// Seconds of plain sums over the vectors in memory: what reading those bytes costs at least.
    fn sum(&self) -> Result<Value> {
        let base = Vectors::read(&self.base, self.rows)?;
        let words: Vec<u64> = base
            .values
            .chunks_exact(2)
            .map(|pair| u64::from(pair[0].to_bits()) << 32 | u64::from(pair[1].to_bits()))
            .collect();
        let mut seconds = Vec::new();
        for _ in 0..11 {
            let started = Instant::now();
            black_box(float_sum(black_box(&base.values)));
            let floats = started.elapsed().as_secs_f64();
            let started = Instant::now();
            black_box(word_sum(black_box(&words)));
            // The faster of two ways is nearer to what the memory gives.
            seconds.push(floats.min(started.elapsed().as_secs_f64()));
        }
        Ok(json!({ "bytes": base.values.len() * 4, "seconds": seconds[1..] }))
    }

    async fn learn_ids(&mut self) -> Result<()> {
        let Output::Rows(mut rows) = self.session.execute("SELECT _row_id, id FROM items", None).await?
        else {
            return Err("items has no rows".into());
        };
        while let Some(batch) = rows.stream.try_next().await? {
            let row_ids = batch.column(0).as_primitive::<UInt64Type>().values();
            let ids = batch.column(1).as_primitive::<Int64Type>().values();
            self.ids.extend(row_ids.iter().copied().zip(ids.iter().copied()));
        }
        Ok(())
    }
}

/// A query vector as a client of Arrow sends it.
fn parameter(vector: &[f32]) -> Result<ScalarValue> {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values: ArrayRef = Arc::new(Float32Array::from(vector.to_vec()));
    let list = FixedSizeListArray::try_new(item, i32::try_from(vector.len())?, values, None)?;
    Ok(ScalarValue::FixedSizeList(Arc::new(list)))
}

/// A query vector as text.
fn text(vector: &[f32]) -> ScalarValue {
    let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
    ScalarValue::Utf8(Some(format!("[{}]", numbers.join(","))))
}

/// `{"pick": [low, high]}`, `{"label": 3}`, `{"not_label": 3}` or null, its values as parameters.
fn condition_sql(condition: &Value, values: &mut Vec<ScalarValue>) -> Result<String> {
    let number = |value: &Value| value.as_i64().ok_or_else(|| format!("{value} is no number"));
    let mut place = |value: i64| {
        values.push(ScalarValue::Int64(Some(value)));
        values.len()
    };
    if let [low, high] = condition["pick"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let (low, high) = (place(number(low)?), place(number(high)?));
        return Ok(format!(" WHERE pick BETWEEN ${low} AND ${high}"));
    }
    for (name, operator) in [("label", "="), ("not_label", "<>")] {
        if !condition[name].is_null() {
            let value = place(number(&condition[name])?);
            return Ok(format!(" WHERE label {operator} ${value}"));
        }
    }
    Ok(String::new())
}

fn float_sum(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().chain(rest).sum()
}

fn word_sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; LANES / 2];
    let (chunks, rest) = words.as_chunks::<{ LANES / 2 }>();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}
