//! Checks of one segment, and of a table's rows across its segments.
//!
//! All of an object is read past every cache and compared with what was written; then its rows are. DEEP decodes footer and row ids anew too,
//! and compares them with what the meta says.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use xxhash_rust::xxh3::Xxh3;

use super::statistics::SeenColumn;
use super::{Depth, Finding, Findings, absent, counted};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::id::{CommitVersion, RowId};
use crate::object::{CACHE_BLOCK_BYTES, read_object};
use crate::schema::TableDef;
use crate::segment::checksum;
use crate::segment::{
    DeletionVector, KeyEncoder, KeyFilter, RowChoice, SegmentCache, SegmentMeta, SegmentReader,
};
use crate::version::{SegmentState, TableState};

/// Rows read at once.
pub(super) const BATCH_ROWS: usize = 64 * 1024;
/// What a segment's footer and pseudo-columns take in memory while it is read anew, besides 32 bytes a row.
const FOOTER_BYTES: usize = 64 << 20;
/// Bytes behind a segment's footer.
const TRAILER_BYTES: u64 = 8;

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

/// What one segment is looked at with.
pub(super) struct Subject<'a> {
    pub(super) database: &'a Database,
    pub(super) depth: Depth,
    pub(super) table: &'a TableState,
    pub(super) at: CommitVersion,
}

impl Subject<'_> {
    /// The segment, opened past every cache; DEEP takes nothing that was read before.
    pub(super) async fn open(&self, meta: &Arc<SegmentMeta>) -> Result<SegmentReader> {
        let shared = &self.database.shared;
        let cache = match self.depth {
            Depth::Plain => Arc::clone(&shared.cache),
            Depth::Deep => {
                let rows = usize::try_from(meta.rows).unwrap_or(usize::MAX);
                SegmentCache::new(rows.saturating_mul(32).saturating_add(FOOTER_BYTES))
            }
        };
        let def = Arc::clone(&self.table.def);
        SegmentReader::open(shared.past_cache(), Arc::clone(meta), def, cache, None).await
    }
}

/// Checks one segment: the object's hash, every page, its statistics, key filter and deletes.
pub(super) async fn check(
    subject: &Subject<'_>,
    segment: &SegmentState,
    seen: &mut Seen,
    findings: &mut Findings,
) {
    let (database, meta) = (subject.database, &segment.meta);
    let path = meta.path();
    let whole = whole_object(database, meta, &subject.table.def).await;
    let readable = whole.is_ok();
    findings.read(if readable { meta.bytes } else { 0 }, 0);
    findings.push(Finding::new(path.clone(), "object hash", whole));
    let mut filter = key_filter(database, meta).await;
    if readable {
        let rows = rows(subject, segment, seen, &mut filter).await;
        seen.complete &= rows.is_ok();
        findings.read(0, rows.as_ref().map_or(0, |rows| *rows));
        findings.push(Finding::new(path, "rows and statistics", rows.map(|rows| counted(rows, "row"))));
    } else {
        seen.complete = false;
    }
    if let Some(filter) = filter {
        let bytes = meta.key_filter_bytes.unwrap_or(0);
        let found = filter.map(|_| match readable {
            true => format!("every key of its segment, {bytes} bytes"),
            false => format!("{bytes} bytes; its segment's keys cannot be read"),
        });
        findings.read(bytes, 0);
        findings.push(Finding::new(meta.key_filter_path(), "key filter", found));
    }
    for deletes in &segment.delete_objects {
        let loaded = DeletionVector::load(&*database.shared.past_cache(), deletes).await;
        let result = loaded.map_err(|error| absent(error, deletes.bytes)).and_then(|vector| {
            deleted(subject, meta, &vector).map_err(|why| Error::corrupt(deletes.path(), why))?;
            Ok(format!("{}, {} bytes", counted(vector.len(), "row"), deletes.bytes))
        });
        findings.read(deletes.bytes, 0);
        findings.push(Finding::new(deletes.path(), "checksums and positions", result));
    }
}

/// Whether a deletion vector is of rows that its segment has, and of versions that were there.
fn deleted(subject: &Subject<'_>, meta: &SegmentMeta, vector: &DeletionVector) -> Result<(), String> {
    if vector.positions().max().is_some_and(|p| u64::from(p) >= meta.rows) {
        return Err("it deletes rows past the segment's end".to_owned());
    }
    if subject.depth == Depth::Plain {
        return Ok(());
    }
    let possible = meta.min_created..=subject.at;
    match vector.iter().find(|(_, version)| !possible.contains(version)) {
        None => Ok(()),
        Some((position, version)) => Err(format!(
            "it deletes position {position} at version {version}, not within {} to {}",
            possible.start(),
            possible.end()
        )),
    }
}

/// Checksums of blocks, while an object passes.
struct BlockSums {
    end: u64,
    at: u64,
    open: u32,
    sums: Vec<u32>,
}

impl BlockSums {
    /// Of the bytes before `end`.
    fn new(end: u64) -> Self {
        Self { end, at: 0, open: 0, sums: Vec::new() }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        let block = CACHE_BLOCK_BYTES as u64;
        while !bytes.is_empty() && self.at < self.end {
            let block_end = ((self.at / block + 1) * block).min(self.end);
            let (now, later) = bytes.split_at(bytes.len().min((block_end - self.at) as usize));
            self.open = crc32c::crc32c_append(self.open, now);
            self.at += now.len() as u64;
            if self.at == block_end {
                self.sums.push(std::mem::take(&mut self.open));
            }
            bytes = later;
        }
    }
}

async fn whole_object(database: &Database, meta: &Arc<SegmentMeta>, def: &Arc<TableDef>) -> Result<String> {
    let object = database.shared.past_cache().get(&Path::from(meta.path())).await;
    let object = object.map_err(|error| absent(error, meta.bytes))?;
    let mut hash = Xxh3::new();
    let mut sums = BlockSums::new(meta.bytes.saturating_sub(u64::from(meta.footer_bytes) + TRAILER_BYTES));
    let mut length = 0;
    let mut stream = object.into_stream();
    while let Some(bytes) = stream.try_next().await? {
        length += bytes.len() as u64;
        hash.update(&bytes);
        sums.add(&bytes);
    }
    if length == meta.bytes && format!("{:032x}", hash.digest128()) == meta.xxh3 {
        return Ok(counted(length, "byte"));
    }
    Err(located(database, meta, def, length, &sums.sums).await)
}

/// Where an object is not what was written, as its length and the checksums in its footer tell.
async fn located(
    database: &Database,
    meta: &Arc<SegmentMeta>,
    def: &Arc<TableDef>,
    length: u64,
    sums: &[u32],
) -> Error {
    let path = meta.path();
    if length < meta.bytes {
        let why = format!("it ends at offset {length}, {} bytes are missing", meta.bytes - length);
        return Error::corrupt(path, why);
    }
    if length > meta.bytes {
        let why = format!("{} bytes at offset {} were not written", length - meta.bytes, meta.bytes);
        return Error::corrupt(path, why);
    }
    let (store, cache) = (database.shared.past_cache(), SegmentCache::new(0));
    let reader = match SegmentReader::open(store, Arc::clone(meta), Arc::clone(def), cache, None).await {
        Ok(reader) => reader,
        // The footer, or the page index before it.
        Err(error) => return error,
    };
    let pairs = reader.block_checksums().iter().zip(sums).enumerate();
    let wrong: Vec<usize> =
        pairs.filter(|(_, (written, found))| written != found).map(|(n, _)| n * CACHE_BLOCK_BYTES).collect();
    let why = match wrong.as_slice() {
        [] => "its xxh3 is not that of the bytes written, although its checksums are right".to_owned(),
        [at] => format!("checksum mismatch in the block at offset {at}"),
        [at, ..] => format!("checksum mismatch in {} blocks, the first at offset {at}", wrong.len()),
    };
    let blocks = reader.block_checksums().len();
    Error::corrupt(path, why).with_detail(format!("{} of {blocks} blocks are right", blocks - wrong.len()))
}

/// The key filter as it is stored, every byte of it checked; None: its table has no key.
async fn key_filter(database: &Database, meta: &SegmentMeta) -> Option<Result<KeyFilter>> {
    let length = meta.key_filter_bytes?;
    let path = meta.key_filter_path();
    let read = read_object(&*database.shared.past_cache(), &Path::from(path.as_str()), None).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => return Some(Err(absent(error, length))),
    };
    let found = bytes.len() as u64;
    if found != length {
        let why = format!("it has {found} bytes, not {length}: they differ at offset {}", found.min(length));
        return Some(Err(Error::corrupt(path, why)));
    }
    if !checksum::holds(&bytes, KeyFilter::OWN_CHECKSUM_BYTES, meta.key_filter_crc32c) {
        let crc32c = checksum::of(&bytes, KeyFilter::OWN_CHECKSUM_BYTES);
        let end = length.saturating_sub(KeyFilter::OWN_CHECKSUM_BYTES as u64);
        let why =
            format!("the crc32c of bytes 0 to {end} is {crc32c:08x}, not {:08x}", meta.key_filter_crc32c);
        return Some(Err(Error::corrupt(path, why)));
    }
    Some(KeyFilter::decode(&path, &bytes))
}

/// Reads all rows; how many there are. A filter that lacks a key becomes an error.
async fn rows(
    subject: &Subject<'_>,
    segment: &SegmentState,
    seen: &mut Seen,
    filter: &mut Option<Result<KeyFilter>>,
) -> Result<u64> {
    let Subject { depth, table, at, .. } = *subject;
    let meta = &segment.meta;
    let reader = subject.open(meta).await?;
    let columns: Vec<usize> = (0..table.def.columns.len()).collect();
    let mut batches = reader.batches(&columns, RowChoice::All, BATCH_ROWS)?;
    let mut values: Vec<SeenColumn> = columns.iter().map(|_| SeenColumn::default()).collect();
    let mut position = 0_u32;
    let cold = segment.deletes.as_ref().map(|d| d.deleted_at(at));
    let dropped = segment.dropped_at.is_some_and(|d| d <= at);
    let of_column = |column: usize, why: String| {
        let name = table.def.columns.get(column).map_or("", |column| column.name.as_str());
        Error::corrupt(meta.path(), format!("column {name}: {why}"))
    };
    while let Some(batch) = batches.next().await? {
        for (column, array) in batch.columns().iter().enumerate() {
            values[column].add(&**array).map_err(|why| of_column(column, why))?;
        }
        let positions: Vec<u32> = (position..position + batch.num_rows() as u32).collect();
        let ids = reader.row_ids_at(&positions).await?;
        if depth == Depth::Deep {
            numbers(&reader, &positions, &ids).await?;
        }
        let keys = match &seen.encoder {
            Some(encoder) => Some(encoder.encode_batch(&batch, &table.def.key_indices())?),
            None => None,
        };
        for (row, id) in ids.iter().enumerate() {
            seen.row(*id);
            if let (Some(keys), Some(Ok(known))) = (&keys, &*filter)
                && !known.contains(crate::segment::key::filter_hash(keys.get(row)))
            {
                let why = format!("it lacks the key at position {} of its segment", positions[row]);
                *filter = Some(Err(Error::corrupt(meta.key_filter_path(), why)));
            }
            let deleted = cold.as_ref().is_some_and(|d| d.contains(positions[row]))
                || table.hot_deletes.get(*id).is_some_and(|v| v <= at);
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
    if u64::from(position) != meta.rows {
        return Err(Error::corrupt(meta.path(), format!("it has {position} rows, not {}", meta.rows)));
    }
    for (column, (stats, seen)) in meta.columns.iter().zip(&values).enumerate() {
        seen.within(stats).map_err(|why| of_column(column, why))?;
        // A column that was NOT NULL for a while has NULLs only in deleted rows, which nobody counted.
        if meta.reshaped || position == 0 {
            continue;
        }
        if seen.nulls() != stats.null_count {
            let why = format!("{} NULLs, not {}", seen.nulls(), stats.null_count);
            return Err(of_column(column, why));
        }
        if depth == Depth::Deep {
            seen.exact(stats).map_err(|why| of_column(column, why))?;
        }
    }
    Ok(position.into())
}

/// Row ids and versions are within what the meta says.
async fn numbers(reader: &SegmentReader, positions: &[u32], ids: &[RowId]) -> Result<()> {
    let meta = reader.meta();
    let wrong = |at: usize, what: String| {
        let position = positions.get(at).copied().unwrap_or_default();
        Err(Error::corrupt(meta.path(), format!("{what} at position {position} is not within its bounds")))
    };
    if let Some(at) = ids.iter().position(|id| *id < meta.min_row_id || *id > meta.max_row_id) {
        return wrong(at, format!("row id {}", ids[at]));
    }
    let versions = reader.versions_at(positions).await?;
    match versions.iter().position(|v| *v < meta.min_created || *v > meta.max_created) {
        Some(at) => wrong(at, format!("version {}", versions[at])),
        None => Ok(()),
    }
}
