//! TPC-H on a distant store: cold beside bare DataFusion on the same store, warm beside a database in a directory.
//!
//! Cold: each query with a new engine, or a new context that knows the tables the query reads; opening and registering count.
//! Q15 is the specification's variant without a view, since creating one is a commit.

use std::sync::Arc;
use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch::{self, TABLES};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use serde_json::json;

use super::traffic::Counts;
use super::{Bar, Distant, kept, median, megabytes, number, open};
use crate::database::Bench;
use crate::{Result, millis};

const FIGURE: &str = "tpch";
/// Where the Parquet files are for DataFusion.
const FILES: &str = "s3://files";

/// What one query cost on one side.
struct Cost {
    rows: u64,
    /// Opening the database, or registering the tables.
    opening_ms: f64,
    query_ms: f64,
    opening: Counts,
    query: Counts,
}

impl Cost {
    fn ms(&self) -> f64 {
        self.opening_ms + self.query_ms
    }

    fn requests(&self) -> f64 {
        (self.opening.requests() + self.query.requests()) as f64
    }

    fn megabytes(&self) -> f64 {
        megabytes(self.opening.read + self.query.read)
    }
}

/// Runs the queries cold, then warm.
pub(super) async fn run(bench: &Distant<'_>) -> Result<()> {
    let files = bench.home.parquet()?;
    let store = kept::database(bench.home, "objects-tpch", async |db: &Bench| {
        crate::tpch::load(db, &files, false).await
    })
    .await?;
    let parquet = Arc::new(InMemory::new());
    for table in &TABLES {
        let name = format!("{}.parquet", table.name);
        let bytes = std::fs::read(files.join(&name))?;
        parquet.put(&Path::from(name), bytes.into()).await?;
    }
    let wanted = |number: &usize| bench.options.queries.is_empty() || bench.options.queries.contains(number);
    let queries = (1..=22)
        .filter(wanted)
        .map(|number| statement(number).map(|sql| (number, sql)))
        .collect::<Result<Vec<(usize, String)>>>()?;
    cold(bench, &store, &parquet, &queries).await?;
    warm(bench, &store, &queries).await
}

/// What of a cost is compared, and its name.
type Figure = (&'static str, fn(&Cost) -> f64);

async fn cold(
    bench: &Distant<'_>,
    store: &Arc<InMemory>,
    parquet: &Arc<InMemory>,
    queries: &[(usize, String)],
) -> Result<()> {
    let figures: [Figure; 5] = [
        ("ms", Cost::ms),
        ("requests", Cost::requests),
        ("MB", Cost::megabytes),
        ("ms_without_opening", |cost| cost.query_ms),
        ("requests_without_opening", |cost| cost.query.requests() as f64),
    ];
    let mut sums = [(0.0, 0.0); 5];
    for (query, sql) in queries {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for round in 0..bench.options.rounds {
            // Who begins changes with each round.
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    ours.push(ours_cold(bench, store, sql).await?);
                } else {
                    bare.push(bare_cold(bench, parquet, sql).await?);
                }
            }
        }
        let mut line = json!({ "figure": FIGURE, "what": "cold", "query": query });
        for ((name, value), sum) in figures.iter().zip(&mut sums) {
            let ours = median(&ours.iter().map(value).collect::<Vec<_>>());
            let bare = median(&bare.iter().map(value).collect::<Vec<_>>());
            line[format!("ours_{name}")] = number(ours);
            line[format!("datafusion_{name}")] = number(bare);
            sum.0 += ours;
            sum.1 += bare;
        }
        println!("{line}");
        if let Some((one, other)) = ours.iter().zip(&bare).find(|(one, other)| one.rows != other.rows) {
            let why = format!("q{query}: ours gave {} rows, DataFusion {}", one.rows, other.rows);
            return Err(why.into());
        }
    }
    let bars = [Bar::AtMost(1.0), Bar::AtMost(1.0), Bar::None, Bar::None, Bar::None];
    for (((name, _), (ours, bare)), bar) in figures.iter().zip(sums).zip(bars) {
        let with = format!(
            "{} queries, no cache, sums of the medians of {} rounds: ours {ours:.1}, DataFusion {bare:.1} over one Parquet file \
             for each table ({} MB, ours {} MB)",
            queries.len(),
            bench.options.rounds,
            size(parquet).await?,
            size(store).await?
        );
        bench.print(FIGURE, &format!("cold {name}, ours to DataFusion's"), &[ours / bare], bar, &with);
    }
    Ok(())
}

/// Whole megabytes of all objects.
async fn size(store: &InMemory) -> Result<u64> {
    let objects: Vec<_> = store.list(None).try_collect().await?;
    Ok(objects.iter().map(|object| object.size).sum::<u64>() / 1_000_000)
}

async fn ours_cold(bench: &Distant<'_>, store: &Arc<InMemory>, sql: &str) -> Result<Cost> {
    let slow = bench.slow(Arc::clone(store) as Arc<dyn ObjectStore>);
    let started = Instant::now();
    let db = open(Arc::clone(&slow) as Arc<dyn ObjectStore>, OpenOptions::default()).await?;
    let (opening_ms, opening) = (millis(started), slow.take());
    let started = Instant::now();
    let rows = db.run(sql).await?;
    let (query_ms, query) = (millis(started), slow.take());
    db.close().await?;
    Ok(Cost { rows, opening_ms, query_ms, opening, query })
}

async fn bare_cold(bench: &Distant<'_>, parquet: &Arc<InMemory>, sql: &str) -> Result<Cost> {
    let slow = bench.slow(Arc::clone(parquet) as Arc<dyn ObjectStore>);
    let started = Instant::now();
    // As many as an engine of ours has.
    let partitions = std::thread::available_parallelism().map_or(1, usize::from);
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    let files = ObjectStoreUrl::parse(FILES)?;
    context.register_object_store(files.as_ref(), Arc::clone(&slow) as Arc<dyn ObjectStore>);
    // All at once, and only those it reads: as quickly as it can be done.
    let registered = tables(sql).map(|table| {
        context.register_parquet(table, format!("{FILES}/{table}.parquet"), ParquetReadOptions::default())
    });
    futures::future::try_join_all(registered).await?;
    let (opening_ms, opening) = (millis(started), slow.take());
    let started = Instant::now();
    let mut stream = context.sql(sql).await?.execute_stream().await?;
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await? {
        rows += batch.num_rows() as u64;
    }
    let (query_ms, query) = (millis(started), slow.take());
    Ok(Cost { rows, opening_ms, query_ms, opening, query })
}

/// With a cache on disk that one run of each query has filled, in an engine opened after that.
async fn warm(bench: &Distant<'_>, store: &Arc<InMemory>, queries: &[(usize, String)]) -> Result<()> {
    let directory = bench.home.folder();
    let cache = tempfile::tempdir_in(directory)?;
    let storage =
        || OpenOptions { cache_directory: Some(cache.path().to_path_buf()), ..OpenOptions::default() };
    let slow = bench.slow(Arc::clone(store) as Arc<dyn ObjectStore>);
    let filling = open(Arc::clone(&slow) as Arc<dyn ObjectStore>, storage()).await?;
    for (_, sql) in queries {
        filling.run(sql).await?;
    }
    filling.close().await?;
    let distant = open(Arc::clone(&slow) as Arc<dyn ObjectStore>, storage()).await?;
    let local = Bench::open(&crate::tpch::database(bench.home, false).await?, OpenOptions::default()).await?;
    let (mut distant_sum, mut local_sum, mut requests) = (0.0, 0.0, 0);
    for (query, sql) in queries {
        let (mut distant_ms, mut local_ms) = (Vec::new(), Vec::new());
        slow.take();
        for round in 0..=bench.options.rounds {
            for turn in 0..2 {
                let (db, ms) = match (round + turn) % 2 {
                    0 => (&distant, &mut distant_ms),
                    _ => (&local, &mut local_ms),
                };
                let started = Instant::now();
                db.run(sql).await?;
                ms.push(millis(started));
            }
            if round == 0 {
                // The first of each side is not measured: it brings footers and columns into memory.
                slow.take();
            }
        }
        let counts = slow.take();
        let (distant_ms, local_ms) = (median(&distant_ms[1..]), median(&local_ms[1..]));
        let line = json!({
            "figure": FIGURE, "what": "warm", "query": query, "ours_ms": number(distant_ms), "local_ms": number(local_ms),
            "requests_of_all_rounds": counts.requests(),
        });
        println!("{line}");
        distant_sum += distant_ms;
        local_sum += local_ms;
        requests += counts.requests();
    }
    let with = format!(
        "{} queries, cache on disk filled by an engine before; sums of the medians of {} rounds: {distant_sum:.1} ms, in a \
         directory {local_sum:.1} ms; {requests} requests in all rounds",
        queries.len(),
        bench.options.rounds
    );
    let ratio = distant_sum / local_sum;
    bench.print(FIGURE, "warm ms, to those of a database in a directory", &[ratio], Bar::AtMost(1.05), &with);
    distant.close().await?;
    local.close().await
}

/// The tables whose names are words of `sql` outside its strings.
fn tables(sql: &str) -> impl Iterator<Item = &'static str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let outside = sql.split('\'').step_by(2);
    let words: Vec<String> =
        outside.flat_map(|part| part.split(|c: char| !is_word(c))).map(str::to_ascii_lowercase).collect();
    TABLES.iter().map(|table| table.name).filter(move |name| words.iter().any(|word| word == name))
}

/// The query as one statement.
fn statement(number: usize) -> Result<String> {
    let statements = tpch::query(number);
    match statements.as_slice() {
        [only] => Ok(only.clone()),
        [view, select, _drop] => {
            let view = view.strip_prefix("create view ").and_then(|rest| rest.split_once(" as\n"));
            let (name, rows) = view.ok_or_else(|| format!("q{number} does not begin with a view"))?;
            Ok(format!("with {name} as (\n{rows}\n)\n{select}"))
        }
        _ => Err(format!("q{number} has {} statements", statements.len()).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_query_is_one_statement_that_names_its_tables() {
        for number in 1..=22 {
            let sql = statement(number).unwrap();
            assert!(!sql.contains(';') && !sql.contains("create view"), "{sql}");
            assert!(tables(&sql).next().is_some(), "{sql}");
        }
        assert!(statement(15).unwrap().starts_with("with revenue0 (supplier_no, total_revenue) as ("));
        assert_eq!(tables(&statement(15).unwrap()).collect::<Vec<_>>(), ["supplier", "lineitem"]);
        assert_eq!(tables(&statement(16).unwrap()).collect::<Vec<_>>(), ["supplier", "part", "partsupp"]);
        assert_eq!(tables(&statement(13).unwrap()).collect::<Vec<_>>(), ["customer", "orders"]);
    }
}
