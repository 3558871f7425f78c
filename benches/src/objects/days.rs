//! The sum of one day of a table of 100 segments, one for each day, from nothing.
//!
//! The ranges that were asked for are compared with the column chunks of the segments' own Parquet footers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use cairn_engine::OpenOptions;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use datafusion::parquet::file::metadata::ParquetMetaDataReader;
use datafusion::parquet::file::statistics::Statistics;
use futures::TryStreamExt;

use super::traffic::Counts;
use super::{Bar, Distant, kept, megabytes, open};
use crate::database::Bench;
use crate::{Result, millis};

const FIGURE: &str = "day";
const DAYS: usize = 100;
/// Rows of a day at scale 1.
const ROWS: f64 = 60_000.0;
/// Columns that the query needs.
const NEEDED: [&str; 2] = ["day", "x"];
/// Ranges are rounded to the blocks that have checksums, at both ends of each needed chunk.
const ROUNDED_BYTES: u64 = (2 * NEEDED.len() as u64) * (64 << 10);

/// A segment's column chunks.
struct Segment {
    path: Path,
    first_day: i32,
    chunks: Vec<(String, Range<u64>)>,
}

/// What one opening and one query cost.
struct Round {
    opening: Counts,
    query: Counts,
    ms: f64,
}

impl Round {
    fn requests(&self) -> f64 {
        (self.opening.requests() + self.query.requests()) as f64
    }

    fn round_trips(&self) -> f64 {
        (self.opening.round_trips + self.query.round_trips) as f64
    }

    fn megabytes(&self) -> f64 {
        megabytes(self.opening.read + self.query.read)
    }
}

/// Bytes of column chunks that one query asked for and did not need.
#[derive(Default)]
struct Unneeded {
    /// Of other columns of the day's segment.
    columns: u64,
    /// Of other segments.
    segments: u64,
}

/// Measures one day in each round.
pub(super) async fn run(bench: &Distant<'_>) -> Result<()> {
    let rows = ((ROWS * bench.home.scale()) as usize).max(100);
    let store = kept::database(bench.home, "objects-days", async |db: &Bench| fill(db, rows).await).await?;
    let segments = segments(&store).await?;
    if segments.len() != DAYS {
        return Err(format!("{} segments, not {DAYS}", segments.len()).into());
    }
    let (mut rounds, mut chunks, mut unneeded) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..bench.options.rounds {
        let day = (37 + 31 * number) % DAYS;
        let round = cold(bench, &store, day, rows).await?;
        chunks.push(megabytes(needed(&segments[day])));
        unneeded.push(compare(&segments, &segments[day], &round.query));
        rounds.push(round);
    }
    let last = rounds.last().ok_or("no round")?;
    let with = format!(
        "{DAYS} segments of {rows} rows, no cache; each round a new engine and another day; the last opened with {} and \
         queried with {}",
        last.opening.text(),
        last.query.text()
    );
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let print = |what: &str, values: &[f64], bar: Bar| bench.print(FIGURE, what, values, bar, &with);
    print("requests of opening and the query", &of(Round::requests), Bar::AtMost(8.0));
    print("requests of the query", &of(|round| round.query.requests() as f64), Bar::None);
    print("round trips of opening and the query", &of(Round::round_trips), Bar::None);
    print("MB received in all", &of(Round::megabytes), Bar::None);
    print("MB of the needed column chunks", &chunks, Bar::None);
    let columns: Vec<_> = unneeded.iter().map(|bytes| bytes.columns as f64).collect();
    let in_blocks = Bar::AtMost(ROUNDED_BYTES as f64);
    print("bytes of other columns, which share blocks with needed ones", &columns, in_blocks);
    let others: Vec<_> = unneeded.iter().map(|bytes| bytes.segments as f64).collect();
    print("bytes of columns of other segments", &others, Bar::AtMost(0.0));
    print("ms of opening and the query", &of(|round| round.ms), Bar::None);
    Ok(())
}

/// A commit and a checkpoint for each day.
async fn fill(db: &Bench, rows: usize) -> Result<()> {
    db.run("CREATE TABLE t (day DATE NOT NULL, id BIGINT NOT NULL, x DOUBLE NOT NULL, note TEXT NOT NULL)")
        .await?;
    for day in 0..DAYS {
        let first = day * rows;
        db.run(&format!(
            "INSERT INTO t SELECT {}, value, sin(CAST(value AS DOUBLE)), md5(CAST(value AS TEXT)) \
             FROM generate_series({first}, {}) AS g(value)",
            date(day),
            first + rows - 1
        ))
        .await?;
        db.run("CHECKPOINT").await?;
    }
    Ok(())
}

/// Months of 25 days are as good as any.
fn date(day: usize) -> String {
    format!("DATE '2024-{:02}-{:02}'", day / 25 + 1, day % 25 + 1)
}

async fn cold(bench: &Distant<'_>, store: &Arc<InMemory>, day: usize, rows: usize) -> Result<Round> {
    let slow = bench.slow(Arc::clone(store) as Arc<dyn ObjectStore>);
    let started = Instant::now();
    let db = open(Arc::clone(&slow) as Arc<dyn ObjectStore>, OpenOptions::default()).await?;
    let opening = slow.take();
    let sql = format!("SELECT count(*) AS n, sum(x) AS total FROM t WHERE day = {}", date(day));
    db.run(&sql).await?;
    let ms = millis(started);
    let query = slow.take();
    let right = db.run(&format!("SELECT n FROM ({sql}) AS q WHERE n = {rows}")).await?;
    if right != 1 {
        return Err(format!("{} has not {rows} rows", date(day)).into());
    }
    db.close().await?;
    Ok(Round { opening, query, ms })
}

/// All segments, by day.
async fn segments(store: &InMemory) -> Result<Vec<Segment>> {
    let objects: Vec<_> = store.list(Some(&Path::from("table"))).try_collect().await?;
    let mut segments = Vec::new();
    for object in objects.into_iter().filter(|object| object.location.as_ref().ends_with(".parquet")) {
        let bytes = store.get(&object.location).await?.bytes().await?;
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
        let (mut chunks, mut first_day) = (Vec::new(), i32::MAX);
        for column in footer.row_groups().iter().flat_map(|group| group.columns()) {
            let name = column.column_path().string();
            if name == NEEDED[0]
                && let Some(Statistics::Int32(values)) = column.statistics()
            {
                first_day = first_day.min(values.min_opt().copied().unwrap_or(i32::MAX));
            }
            let (start, length) = column.byte_range();
            chunks.push((name, start..start + length));
        }
        segments.push(Segment { path: object.location, first_day, chunks });
    }
    segments.sort_by_key(|segment| segment.first_day);
    if segments.windows(2).any(|pair| pair[0].first_day == pair[1].first_day) {
        return Err("two segments begin with the same day, or have no statistics of it".into());
    }
    Ok(segments)
}

fn needed(segment: &Segment) -> u64 {
    let chunks = segment.chunks.iter().filter(|(name, _)| NEEDED.contains(&name.as_str()));
    chunks.map(|(_, bytes)| bytes.end - bytes.start).sum()
}

fn compare(segments: &[Segment], wanted: &Segment, asked: &Counts) -> Unneeded {
    let mut unneeded = Unneeded::default();
    for (path, range) in &asked.ranges {
        let Some(segment) = segments.iter().find(|segment| segment.path == *path) else { continue };
        for (name, chunk) in &segment.chunks {
            let bytes = chunk.end.min(range.end).saturating_sub(chunk.start.max(range.start));
            if segment.path != wanted.path {
                unneeded.segments += bytes;
            } else if !NEEDED.contains(&name.as_str()) {
                unneeded.columns += bytes;
            }
        }
    }
    unneeded
}
