//! Checks of one segment, and of a table's rows across its segments.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use xxhash_rust::xxh3::Xxh3;

use super::{Finding, absent, counted};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::id::{CommitVersion, RowId};
use crate::segment::{
    ColumnStats, DeletionVector, KeyEncoder, RowChoice, SegmentMeta, SegmentReader, StatValue,
};
use crate::version::{SegmentState, TableState};

/// Rows read at once.
const BATCH_ROWS: usize = 64 * 1024;

/// What the rows of a table have shown so far.
pub(super) struct Seen {
    encoder: Option<Arc<KeyEncoder>>,
    ids: roaring::RoaringTreemap,
    /// 128-bit hashes of the live keys.
    keys: HashSet<u128>,
    live: u64,
    problems: Vec<String>,
    complete: bool,
}

impl Seen {
    pub(super) fn new(table: &TableState) -> Self {
        Self {
            encoder: table.key_encoder().cloned(),
            ids: roaring::RoaringTreemap::new(),
            keys: HashSet::new(),
            live: 0,
            problems: Vec::new(),
            complete: true,
        }
    }

    /// Whether every segment could be read.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    fn row(&mut self, id: RowId) {
        if !self.ids.insert(id.0) {
            self.problems.push(format!("row id {id} is there twice"));
        }
    }

    fn key(&mut self, key: &[u8]) {
        if !self.keys.insert(xxhash_rust::xxh3::xxh3_128(key)) {
            self.problems.push("a primary key is there twice".to_owned());
        }
    }

    /// Adds the hot rows and sums up.
    pub(super) fn finish(mut self, table: &TableState, at: CommitVersion) -> Result<String> {
        for chunk in table.memtable.chunks() {
            let visible = chunk.visible(at, &table.hot_deletes);
            let keys = match &self.encoder {
                Some(encoder) => Some(encoder.encode_batch(chunk.rows(), &table.def.key_indices())?),
                None => None,
            };
            for row in 0..chunk.rows().num_rows() {
                self.row(RowId(chunk.row_ids().value(row)));
                if visible.as_ref().is_none_or(|v| v.value(row)) {
                    self.live += 1;
                    if let Some(keys) = &keys {
                        self.key(keys.get(row));
                    }
                }
            }
        }
        if let Some(id) = self.ids.max()
            && RowId(id) >= table.next_row_id
        {
            self.problems.push(format!("row id {id} is not below the next one, {}", table.next_row_id));
        }
        if self.complete && self.live != table.live_rows {
            self.problems.push(format!("{} rows are visible, {} are counted", self.live, table.live_rows));
        }
        match self.problems.first() {
            None => Ok(counted(self.live, "row")),
            Some(first) => Err(Error::corrupt(
                format!("table {}", table.def.qualified_name()),
                format!("{first} ({} findings)", self.problems.len()),
            )),
        }
    }
}

/// Checks one segment: the object's hash, every page, its statistics, key filter and deletes.
pub(super) async fn check(
    database: &Database,
    table: &TableState,
    segment: &SegmentState,
    at: CommitVersion,
    seen: &mut Seen,
    findings: &mut Vec<Finding>,
) {
    let path = segment.meta.path();
    let bytes = whole_object(database, &segment.meta).await;
    let readable = bytes.is_ok();
    findings.push(Finding::new(path.clone(), "object hash", bytes));
    if readable {
        let rows = rows(database, table, segment, at, seen, findings).await;
        seen.complete &= rows.is_ok();
        findings.push(Finding::new(path, "rows and statistics", rows));
    } else {
        seen.complete = false;
    }
    for meta in &segment.delete_objects {
        let loaded = DeletionVector::load(&*database.shared.past_cache(), meta).await;
        let result = loaded.map_err(|error| absent(error, meta.bytes)).and_then(|vector| {
            let beyond = vector.positions().max().is_some_and(|p| u64::from(p) >= segment.meta.rows);
            if beyond {
                return Err(Error::corrupt(meta.path(), "it deletes rows past the segment's end"));
            }
            Ok(counted(vector.len(), "row"))
        });
        findings.push(Finding::new(meta.path(), "checksums and positions", result));
    }
}

async fn whole_object(database: &Database, meta: &SegmentMeta) -> Result<String> {
    let object = database.shared.past_cache().get(&Path::from(meta.path())).await;
    let object = object.map_err(|error| absent(error, meta.bytes))?;
    let mut hash = Xxh3::new();
    let mut length = 0;
    let mut stream = object.into_stream();
    while let Some(bytes) = stream.try_next().await? {
        length += bytes.len() as u64;
        hash.update(&bytes);
    }
    if length != meta.bytes {
        return Err(Error::corrupt(meta.path(), format!("it has {length} bytes, not {}", meta.bytes)));
    }
    let found = format!("{:032x}", hash.digest128());
    if found != meta.xxh3 {
        return Err(Error::corrupt(meta.path(), format!("its xxh3 is {found}, not {}", meta.xxh3)));
    }
    Ok(counted(length, "byte"))
}

async fn rows(
    database: &Database,
    table: &TableState,
    segment: &SegmentState,
    at: CommitVersion,
    seen: &mut Seen,
    findings: &mut Vec<Finding>,
) -> Result<String> {
    let meta = &segment.meta;
    let shared = &database.shared;
    let def = Arc::clone(&table.def);
    let cache = Arc::clone(&shared.cache);
    let reader = SegmentReader::open(shared.past_cache(), Arc::clone(meta), def, cache, None).await?;
    let mut filter = reader.read_key_filter().await;
    let columns: Vec<usize> = (0..table.def.columns.len()).collect();
    let mut batches = reader.batches(&columns, RowChoice::All, BATCH_ROWS)?;
    let mut nulls: HashMap<usize, u64> = HashMap::new();
    let mut position = 0_u32;
    let cold = segment.deletes.as_ref().map(|d| d.deleted_at(at));
    let dropped = segment.dropped_at.is_some_and(|d| d <= at);
    while let Some(batch) = batches.next().await? {
        for (column, array) in batch.columns().iter().enumerate() {
            *nulls.entry(column).or_default() += array.null_count() as u64;
            if let Some(stats) = meta.columns.get(column) {
                within(stats, array).map_err(|why| {
                    Error::corrupt(meta.path(), format!("column {}: {why}", table.def.columns[column].name))
                })?;
            }
        }
        let positions: Vec<u32> = (position..position + batch.num_rows() as u32).collect();
        let ids = reader.row_ids_at(&positions).await?;
        let keys = match &seen.encoder {
            Some(encoder) => Some(encoder.encode_batch(&batch, &table.def.key_indices())?),
            None => None,
        };
        for (row, id) in ids.iter().enumerate() {
            seen.row(*id);
            if let (Some(keys), Ok(Some(known))) = (&keys, &filter)
                && !known.contains(crate::segment::key::filter_hash(keys.get(row)))
            {
                filter = Err(Error::corrupt(meta.key_filter_path(), "it lacks a key of its segment"));
            }
            let deleted = cold.as_ref().is_some_and(|d| d.contains(positions[row]))
                || table.hot_deletes.get(id).is_some_and(|v| *v <= at);
            if !deleted && !dropped {
                seen.live += 1;
                if let Some(keys) = &keys {
                    seen.key(keys.get(row));
                }
            }
        }
        position += batch.num_rows() as u32;
        // Local reads never wait; a cancelled VERIFY ends here.
        tokio::task::yield_now().await;
    }
    if let Some(filter) = filter.transpose() {
        let found = filter.map(|_| "every key of its segment".to_owned());
        let found = found.map_err(|error| absent(error, meta.key_filter_bytes.unwrap_or(0)));
        findings.push(Finding::new(meta.key_filter_path(), "key filter", found));
    }
    if u64::from(position) != meta.rows {
        return Err(Error::corrupt(meta.path(), format!("it has {position} rows, not {}", meta.rows)));
    }
    // A column that was NOT NULL for a while has NULLs only in deleted rows, which nobody counted.
    for (column, stats) in meta.columns.iter().enumerate().filter(|_| !meta.reshaped) {
        let found = nulls.get(&column).copied().unwrap_or(0);
        if position > 0 && found != stats.null_count {
            return Err(Error::corrupt(
                meta.path(),
                format!("column {column} has {found} NULLs, not {}", stats.null_count),
            ));
        }
    }
    Ok(counted(position.into(), "row"))
}

/// Whether the values of `array` lie within the statistics; types compared in their widest form.
fn within(stats: &ColumnStats, array: &dyn Array) -> Result<(), String> {
    use arrow::datatypes::DataType as T;
    let outside = |what: &str| Err(format!("a value is {what} the statistics"));
    match (&stats.min, &stats.max) {
        (Some(StatValue::Int(low)), Some(StatValue::Int(high))) => {
            let wide = match array.data_type() {
                T::Boolean => return Ok(()),
                T::Timestamp(..) | T::Time64(_) | T::Date32 => {
                    let plain = if *array.data_type() == T::Date32 { T::Int32 } else { T::Int64 };
                    let plain = arrow::compute::cast(array, &plain).map_err(|e| e.to_string())?;
                    arrow::compute::cast(&plain, &T::Int64).map_err(|e| e.to_string())?
                }
                _ => arrow::compute::cast(array, &T::Int64).map_err(|e| e.to_string())?,
            };
            let wide = wide.as_primitive::<Int64Type>();
            match (min(wide), max(wide)) {
                (Some(found), _) if found < *low => outside("below"),
                (_, Some(found)) if found > *high => outside("above"),
                _ => Ok(()),
            }
        }
        (Some(StatValue::Float(low)), Some(StatValue::Float(high))) => {
            let wide = arrow::compute::cast(array, &T::Float64).map_err(|e| e.to_string())?;
            let wide = wide.as_primitive::<Float64Type>();
            match (min(wide), max(wide)) {
                (Some(found), _) if found < *low => outside("below"),
                (_, Some(found)) if found > *high => outside("above"),
                _ => Ok(()),
            }
        }
        (Some(StatValue::Text(low)), Some(StatValue::Text(high))) => {
            for text in array.as_string_view().iter().flatten() {
                if text < low.as_str() {
                    return outside("below");
                }
                if text > high.as_str() && !text.starts_with(high.as_str()) {
                    return outside("above");
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
