//! Opening a database of lineitem's rows from nothing and reading one of them by its key, then another: of a table that is laid out for that,
//! which is what the bars are for, and of one that is laid out for scans. And what a scan of each takes.

use std::sync::Arc;
use std::time::Instant;

use cairn_engine::OpenOptions;
use cairn_tests::tpch::TABLES;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::memory::InMemory;

use super::traffic::Counts;
use super::{Bar, Distant, kept, megabytes, open};
use crate::database::Bench;
use crate::{Result, millis};

const FIGURE: &str = "lookup";
/// Objects of the log in the second half.
const TAIL: usize = 256;
/// A scan of one column of 16.
const SCAN: &str = "SELECT sum(l_quantity) FROM lineitem";
/// Above every order of the generator.
const ORDER: i64 = 1_000_000_000_000;

/// What one opening cost.
struct Round {
    opened: Counts,
    first: Counts,
    second: Counts,
    open_ms: f64,
    first_ms: f64,
    second_ms: f64,
}

impl Round {
    fn requests(&self) -> f64 {
        (self.opened.requests() + self.first.requests()) as f64
    }

    fn megabytes(&self) -> f64 {
        megabytes(self.opened.read + self.first.read + self.opened.written + self.first.written)
    }

    /// Looking up begins when opening has ended.
    fn round_trips(&self) -> f64 {
        (self.opened.round_trips + self.first.round_trips) as f64
    }
}

/// Each layout once after a checkpoint, that of rows also with a log.
pub(super) async fn run(bench: &Distant<'_>) -> Result<()> {
    let keys = crate::lookup::random_keys(bench.home, 2 * bench.options.rounds)?;
    let store = lineitem(bench, "objects-lineitem", "columns").await?;
    measure(bench, &store, &keys, "layout 'columns', empty log", [Bar::None; 4]).await?;
    scan(bench, &store, "columns").await?;
    let store = lineitem(bench, "objects-lineitem-rows", "rows").await?;
    measure(bench, &store, &keys, "layout 'rows', empty log", [5.0, 10.0, 1.0, 2.0].map(Bar::AtMost)).await?;
    scan(bench, &store, "rows").await?;
    let (store, objects) = with_tail(&store).await?;
    let state = format!("layout 'rows', log of {objects} objects");
    measure(bench, &store, &keys, &state, [Bar::None, Bar::None, Bar::None, Bar::AtMost(2.0)]).await
}

/// A database `name` with nothing but that table.
async fn lineitem(bench: &Distant<'_>, name: &str, layout: &str) -> Result<Arc<InMemory>> {
    let lineitem = TABLES.iter().find(|table| table.name == "lineitem").ok_or("no lineitem")?;
    let files = bench.home.parquet()?;
    kept::database(bench.home, name, async |db: &Bench| {
        db.run(&format!("{} WITH (layout = '{layout}')", lineitem.create(true))).await?;
        db.run(&lineitem.copy_from(&files)).await?;
        Ok(())
    })
    .await
}

/// One column of all rows, from nothing.
async fn scan(bench: &Distant<'_>, store: &Arc<InMemory>, layout: &str) -> Result<()> {
    let (mut requests, mut read, mut ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        let slow = bench.slow(Arc::clone(store) as Arc<dyn ObjectStore>);
        let db = open(Arc::clone(&slow) as Arc<dyn ObjectStore>, OpenOptions::default()).await?;
        slow.take();
        let started = Instant::now();
        db.run(SCAN).await?;
        ms.push(millis(started));
        let counts = slow.take();
        requests.push(counts.requests() as f64);
        read.push(megabytes(counts.read));
        db.close().await?;
    }
    let with = format!("{SCAN}; layout '{layout}', no cache; each round a new engine");
    let print = |what: &str, values: &[f64]| bench.print(FIGURE, what, values, Bar::None, &with);
    print("requests of a scan of one column", &requests);
    print("MB of a scan of one column", &read);
    print("ms of a scan of one column", &ms);
    Ok(())
}

async fn measure(
    bench: &Distant<'_>,
    store: &Arc<InMemory>,
    keys: &[(i64, i32)],
    state: &str,
    bars: [Bar; 4],
) -> Result<()> {
    let mut rounds = Vec::with_capacity(bench.options.rounds);
    for pair in keys.chunks_exact(2) {
        rounds.push(cold(bench, store, pair[0], pair[1]).await?);
    }
    let last = rounds.last().ok_or("no round")?;
    let with = format!("lineitem with its key, {state}, no cache; each round a new engine and other keys");
    let cold = format!(
        "{with}; the last opened with {} and looked up with {}",
        last.opened.text(),
        last.first.text()
    );
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let print = |what: &str, values: &[f64], bar: Bar| bench.print(FIGURE, what, values, bar, &cold);
    let waits: Vec<_> = rounds.iter().map(|round| bench.waits_in(round.open_ms + round.first_ms)).collect();
    print("round trips of opening and the first lookup", &of(Round::round_trips), bars[0]);
    print("waits for a first byte that its time has room for", &waits, Bar::None);
    print("requests of opening and the first lookup", &of(Round::requests), bars[1]);
    print("MB of opening and the first lookup", &of(Round::megabytes), bars[2]);
    print("ms of opening", &of(|round| round.open_ms), Bar::None);
    print("ms of the first lookup", &of(|round| round.first_ms), Bar::None);
    let second = format!("{with}; the last with {}", last.second.text());
    let requests = of(|round| round.second.requests() as f64);
    bench.print(FIGURE, "requests of the second lookup", &requests, bars[3], &second);
    bench.print(FIGURE, "ms of the second lookup", &of(|round| round.second_ms), Bar::None, &second);
    Ok(())
}

async fn cold(
    bench: &Distant<'_>,
    store: &Arc<InMemory>,
    first: (i64, i32),
    second: (i64, i32),
) -> Result<Round> {
    let slow = bench.slow(Arc::clone(store) as Arc<dyn ObjectStore>);
    let started = Instant::now();
    let db = open(Arc::clone(&slow) as Arc<dyn ObjectStore>, OpenOptions::default()).await?;
    let (open_ms, opened) = (millis(started), slow.take());
    let started = Instant::now();
    look_up(&db, first).await?;
    let (first_ms, first) = (millis(started), slow.take());
    let started = Instant::now();
    look_up(&db, second).await?;
    let (second_ms, second) = (millis(started), slow.take());
    db.close().await?;
    Ok(Round { opened, first, second, open_ms, first_ms, second_ms })
}

async fn look_up(db: &Bench, (order, line): (i64, i32)) -> Result<()> {
    let sql = format!("SELECT * FROM lineitem WHERE l_orderkey = {order} AND l_linenumber = {line}");
    match db.run(&sql).await? {
        1 => Ok(()),
        rows => Err(format!("{rows} rows for key ({order}, {line})").into()),
    }
}

/// A copy of the database with that many objects in its log and no checkpoint since, one row each but for those of the opening;
/// and how many there are.
async fn with_tail(store: &InMemory) -> Result<(Arc<InMemory>, usize)> {
    let store = Arc::new(store.fork());
    let storage = OpenOptions {
        take_over: true,
        checkpoint_wal_bytes: u64::MAX,
        checkpoint_interval: None,
        checkpoint_wal_objects: u64::MAX,
        close_wal_bytes: u64::MAX,
        close_wal_objects: u64::MAX,
        ..OpenOptions::default()
    };
    let before = kept::count(&store, "wal").await?;
    let db = open(Arc::clone(&store) as Arc<dyn ObjectStore>, storage).await?;
    for order in ORDER.. {
        if kept::count(&store, "wal").await? >= before + TAIL {
            break;
        }
        db.run(&format!(
            "INSERT INTO lineitem VALUES ({order}, 1, 1, 1, 1, 1, 0, 0, 'N', 'O', DATE '1998-01-01', DATE '1998-01-01', \
             DATE '1998-01-01', 'NONE', 'MAIL', 'a row of the log')"
        ))
        .await?;
    }
    db.close().await?;
    let objects = kept::count(&store, "wal").await? - before;
    Ok((store, objects))
}
