//! Rows of WAL entries that are in no segment yet.
//!
//! Owns: chunks of rows with their ids and versions, and their merging by eights, so that a scan after ten thousand one-row commits
//! reads some tens of batches at most, and none of these rows was copied more than five times. Does not own: deletes and keys
//! (`version`), when rows leave (`checkpoint`).
//! A memtable is a value: a commit makes a new one that shares all chunks but the last few.
//!
//! Order: rows stand in commit order; row ids and versions never fall from one row to the next.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter, filter_record_batch};
use arrow::datatypes::SchemaRef;

use crate::alter;
use crate::error::Result;
use crate::held::HeldMemory;
use crate::id::{CommitVersion, RowId};
use crate::schema::TableDef;
use crate::version::HotDeletes;

/// Chunks at or above this many rows are left alone.
const CHUNK_ROWS: usize = 8192;
/// So many chunks of one tier become one of a higher tier.
const MERGED_CHUNKS: usize = 8;
/// So much memory is not looked through for what is in it twice.
const COUNTED_BYTES: usize = 64 << 10;

/// The tier of a chunk: how often eight divides its rows.
fn tier(rows: usize) -> u32 {
    rows.max(1).ilog2() / MERGED_CHUNKS.ilog2()
}

/// Memory of `batches`, together: the columns of a message that was read share its bytes, and batches that were cut from one share its columns.
pub(crate) fn memory(batches: &[RecordBatch]) -> usize {
    let each: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    if each <= COUNTED_BYTES {
        return each;
    }
    let structure =
        |array: &ArrayRef| array.get_array_memory_size().saturating_sub(array.get_buffer_memory_size());
    let mut held = HeldMemory::default();
    let of_batch =
        |batch: &RecordBatch| held.add(batch) + batch.columns().iter().map(structure).sum::<usize>();
    batches.iter().map(of_batch).sum()
}

/// Some consecutive rows of a table.
#[derive(Debug)]
pub struct Chunk {
    rows: RecordBatch,
    row_ids: UInt64Array,
    versions: UInt64Array,
    bytes: u64,
}

impl Chunk {
    /// The rows of one commit, ids counting up from `first`. Of the memory of all each has the part that its rows are of theirs: they may
    /// share it.
    pub fn committed(
        batches: Vec<RecordBatch>,
        first: RowId,
        version: CommitVersion,
    ) -> impl Iterator<Item = Self> {
        let memory = memory(&batches) as u128;
        let all = batches.iter().map(RecordBatch::num_rows).sum::<usize>().max(1) as u128;
        let mut next = first.0;
        batches.into_iter().map(move |rows| {
            let n = rows.num_rows() as u64;
            let row_ids = UInt64Array::from_iter_values(next..next + n);
            next += n;
            let versions = UInt64Array::from_value(version.0, rows.num_rows());
            // No more than all.
            let bytes = (memory * u128::from(n) / all) as u64 + 16 * n;
            Self { rows, row_ids, versions, bytes }
        })
    }

    fn new(rows: RecordBatch, row_ids: UInt64Array, versions: UInt64Array) -> Self {
        let bytes = (memory(std::slice::from_ref(&rows)) + 16 * rows.num_rows()) as u64;
        Self { rows, row_ids, versions, bytes }
    }

    /// User columns.
    #[must_use]
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Row ids, ascending.
    #[must_use]
    pub fn row_ids(&self) -> &UInt64Array {
        &self.row_ids
    }

    /// Created versions, never falling.
    #[must_use]
    pub fn versions(&self) -> &UInt64Array {
        &self.versions
    }

    /// Smallest and largest row id.
    #[must_use]
    pub fn row_id_range(&self) -> (RowId, RowId) {
        let ids = self.row_ids.values();
        (RowId(ids.first().copied().unwrap_or(0)), RowId(ids.last().copied().unwrap_or(0)))
    }

    fn max_version(&self) -> CommitVersion {
        CommitVersion(self.versions.values().last().copied().unwrap_or(0))
    }

    /// Position of a row id.
    #[must_use]
    pub fn position(&self, id: RowId) -> Option<usize> {
        self.row_ids.values().binary_search(&id.0).ok()
    }

    /// Which rows are visible at `at`; None when all are.
    #[must_use]
    pub fn visible(&self, at: CommitVersion, deletes: &HotDeletes) -> Option<BooleanArray> {
        let (first, last) = self.row_id_range();
        let mut deleted = deletes.range(first..=last).filter(|(_, v)| *v <= at).peekable();
        if deleted.peek().is_none() && self.max_version() <= at {
            return None;
        }
        let mut visible: Vec<bool> = self.versions.values().iter().map(|v| *v <= at.0).collect();
        for (id, _) in deleted {
            if let Some(position) = self.position(id) {
                visible[position] = false;
            }
        }
        Some(BooleanArray::from(visible))
    }

    fn altered(&self, old: &TableDef, new: &TableDef) -> Result<Self> {
        let rows = alter::rows(&self.rows, old, new)?;
        Ok(Self::new(rows, self.row_ids.clone(), self.versions.clone()))
    }

    fn merged(schema: &SchemaRef, chunks: &[&Self]) -> Result<Self> {
        let rows = concat_batches(schema, chunks.iter().map(|chunk| &chunk.rows))?;
        let column = |of: fn(&Self) -> &UInt64Array| {
            let mut values: Vec<u64> = Vec::with_capacity(rows.num_rows());
            for chunk in chunks {
                values.extend_from_slice(of(chunk).values());
            }
            UInt64Array::from(values)
        };
        let (row_ids, versions) = (column(Self::row_ids), column(Self::versions));
        Ok(Self::new(rows, row_ids, versions))
    }
}

/// Where the chunks at the end of `recent` begin that become one with `rows` rows behind them, and how many rows that one has. Those
/// of a lower tier do, so that tiers never rise from one chunk to the next; those of the same tier when they are eight, or enough for
/// a chunk that is left alone. That may be of a higher tier than the rows: then it is asked again. Rows that are enough by themselves are
/// not copied for chunks that are half of that, of which one at most is recent.
fn run(recent: &[Arc<Chunk>], rows: usize) -> (usize, usize) {
    let (mut start, mut merged) = (recent.len(), rows);
    let is_enough = rows >= CHUNK_ROWS;
    loop {
        let left = &recent[..start];
        let rows_of = |chunk: &Arc<Chunk>| chunk.rows.num_rows();
        let below = if is_enough { tier(CHUNK_ROWS) } else { tier(merged) };
        let lower = left.iter().rev().take_while(|chunk| tier(rows_of(chunk)) < below).count();
        let upper = left[..start - lower].iter().rev();
        let same = upper.take_while(|chunk| tier(rows_of(chunk)) == tier(merged)).count();
        let rows_in = |count: usize| left[start - count..].iter().map(rows_of).sum::<usize>();
        let is_whole = same + 1 >= MERGED_CHUNKS || merged + rows_in(lower + same) >= CHUNK_ROWS;
        let taken = if is_whole && !is_enough { lower + same } else { lower };
        if taken == 0 {
            return (start, merged);
        }
        merged += rows_in(taken);
        start -= taken;
    }
}

/// All hot rows of a table at one version.
#[derive(Clone, Debug, Default)]
pub struct Memtable {
    /// Large or sealed chunks.
    settled: Arc<Vec<Arc<Chunk>>>,
    /// Smaller chunks after them, of tiers that never rise, less than eight of each.
    recent: Vec<Arc<Chunk>>,
    rows: u64,
    bytes: u64,
}

impl Memtable {
    /// Rows in it, deleted ones included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Memory the rows take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Chunks in row order.
    pub fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.settled.iter().chain(&self.recent)
    }

    /// Puts `chunk` at its end.
    ///
    /// # Errors
    /// `Internal` when the chunk's columns are not the table's; nothing has changed then.
    pub fn append(&mut self, chunk: Chunk) -> Result<()> {
        let rows = chunk.rows.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let (start, merged_rows) = run(&self.recent, rows);
        let replaced = &self.recent[start..];
        let replaced_bytes: u64 = replaced.iter().map(|old| old.bytes).sum();
        let chunk = if replaced.is_empty() {
            chunk
        } else {
            // In one copy, however many tiers it rises.
            let chunks: Vec<&Chunk> = replaced.iter().map(|old| &**old).chain([&chunk]).collect();
            Chunk::merged(&chunk.rows.schema(), &chunks)?
        };
        self.rows += rows as u64;
        self.bytes = self.bytes - replaced_bytes + chunk.bytes;
        self.recent.truncate(start);
        self.recent.push(Arc::new(chunk));
        if merged_rows >= CHUNK_ROWS {
            *self = self.sealed();
        }
        Ok(())
    }

    /// This memtable with a border at its end: later rows are never merged with those before it.
    #[must_use]
    pub fn sealed(&self) -> Self {
        if self.recent.is_empty() {
            return self.clone();
        }
        let mut settled = Vec::with_capacity(self.settled.len() + self.recent.len());
        settled.extend(self.chunks().cloned());
        Self { settled: Arc::new(settled), recent: Vec::new(), ..*self }
    }

    /// What is left once every row created at or before `flushed` is in a segment. `flushed` was a
    /// border ([`sealed`](Self::sealed)), so whole chunks leave.
    #[must_use]
    pub fn after(&self, flushed: CommitVersion) -> Self {
        let left = |chunks: &[Arc<Chunk>]| -> Vec<Arc<Chunk>> {
            chunks.iter().filter(|c| c.max_version() > flushed).cloned().collect()
        };
        let (settled, recent) = (left(&self.settled), left(&self.recent));
        let sum = |of: fn(&Chunk) -> u64| settled.iter().chain(&recent).map(|c| of(c)).sum();
        Self {
            rows: sum(|c| c.rows.num_rows() as u64),
            bytes: sum(|c| c.bytes),
            settled: Arc::new(settled),
            recent,
        }
    }

    /// The same rows in the columns of a newer definition, with the same borders.
    ///
    /// # Errors
    /// `Internal` when `new` does not come of `old`.
    pub(crate) fn altered(&self, old: &TableDef, new: &TableDef) -> Result<Self> {
        let altered = |chunks: &[Arc<Chunk>]| {
            chunks.iter().map(|chunk| chunk.altered(old, new).map(Arc::new)).collect::<Result<Vec<_>>>()
        };
        let (settled, recent) = (altered(&self.settled)?, altered(&self.recent)?);
        let bytes = settled.iter().chain(&recent).map(|chunk| chunk.bytes).sum();
        Ok(Self { settled: Arc::new(settled), recent, rows: self.rows, bytes })
    }

    /// Chunk and position of a row.
    #[must_use]
    pub fn find(&self, id: RowId) -> Option<(&Arc<Chunk>, usize)> {
        let within = |c: &&Arc<Chunk>| {
            let (first, last) = c.row_id_range();
            first <= id && id <= last
        };
        let chunk = match self.settled.partition_point(|c| c.row_id_range().1 < id) {
            i if i < self.settled.len() => Some(&self.settled[i]).filter(within),
            _ => None,
        };
        let chunk = chunk.or_else(|| self.recent.iter().find(within))?;
        chunk.position(id).map(|p| (chunk, p))
    }

    /// Rows visible at `at`: the columns asked for, then `_row_id` and `_version` when `pseudo`.
    ///
    /// # Errors
    /// `Internal` when a column index is out of range.
    pub fn visible_batches(
        &self,
        at: CommitVersion,
        deletes: &HotDeletes,
        columns: &[usize],
        pseudo: Option<&SchemaRef>,
    ) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for chunk in self.chunks() {
            let visible = chunk.visible(at, deletes);
            let rows = chunk.rows.project(columns)?;
            let kept = match &visible {
                None => rows,
                Some(mask) => filter_record_batch(&rows, mask)?,
            };
            if kept.num_rows() == 0 {
                continue;
            }
            let Some(schema) = pseudo else {
                batches.push(kept);
                continue;
            };
            let side = |array: &UInt64Array| -> Result<ArrayRef> {
                Ok(match &visible {
                    None => Arc::new(array.clone()),
                    Some(mask) => filter(array, mask)?,
                })
            };
            let mut arrays = kept.columns().to_vec();
            arrays.push(side(&chunk.row_ids)?);
            arrays.push(side(&chunk.versions)?);
            batches.push(RecordBatch::try_new(Arc::clone(schema), arrays)?);
        }
        Ok(batches)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;
    use crate::wal::codec::{decode_rows, encode_rows};

    /// Most chunks that are not large: seven of each tier below the one of which two make a large one.
    const RECENT_MAX: usize = 4 * (MERGED_CHUNKS - 1) + 1;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
    }

    /// A commit of `count` rows after those of `memtable`, whose values are their ids.
    fn commit(memtable: &mut Memtable, count: u64, version: u64) {
        let first = memtable.rows() + 1;
        let values = Int64Array::from_iter_values(first as i64..(first + count) as i64);
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap();
        append(memtable, vec![rows], version);
    }

    fn append(memtable: &mut Memtable, batches: Vec<RecordBatch>, version: u64) {
        let first = RowId(memtable.rows() + 1);
        for chunk in Chunk::committed(batches, first, CommitVersion(version)) {
            memtable.append(chunk).unwrap();
        }
    }

    /// Every row is there once, in order, where its id says.
    fn check(memtable: &Memtable, versions: &[u64]) {
        let mut next: u64 = 1;
        for chunk in memtable.chunks() {
            let values = chunk.rows().column(0).as_primitive::<Int64Type>();
            assert!(chunk.rows().num_rows() > 0);
            for row in 0..chunk.rows().num_rows() {
                assert_eq!((chunk.row_ids().value(row), values.value(row)), (next, next as i64));
                assert_eq!(chunk.versions().value(row), versions[next as usize - 1]);
                next += 1;
            }
        }
        assert_eq!((next - 1, memtable.rows()), (versions.len() as u64, versions.len() as u64));
        assert_eq!(memtable.bytes(), memtable.chunks().map(|chunk| chunk.bytes).sum::<u64>());
        let tiers: Vec<u32> = memtable.recent.iter().map(|c| tier(c.rows.num_rows())).collect();
        assert!(tiers.is_sorted_by(|a, b| a >= b), "{tiers:?}");
        assert!(tiers.chunk_by(|a, b| a == b).all(|same| same.len() < MERGED_CHUNKS), "{tiers:?}");
        assert!(memtable.recent.len() <= RECENT_MAX, "{tiers:?}");
        for id in (1..next).step_by(97) {
            let (chunk, row) = memtable.find(RowId(id)).unwrap();
            assert_eq!(chunk.row_ids().value(row), id);
        }
        assert!(memtable.find(RowId(next)).is_none());
    }

    #[test]
    fn rows_of_many_small_commits_are_few_chunks() {
        let mut memtable = Memtable::default();
        let (mut most, mut copied) = (0, 0);
        let mut before: Vec<Arc<Chunk>> = Vec::new();
        for version in 1..=10_000 {
            commit(&mut memtable, 1, version);
            let chunks: Vec<Arc<Chunk>> = memtable.chunks().cloned().collect();
            let is_new = |chunk: &&Arc<Chunk>| !before.iter().any(|known| Arc::ptr_eq(known, chunk));
            copied +=
                chunks.iter().filter(is_new).map(|c| c.rows.num_rows()).filter(|n| *n > 1).sum::<usize>();
            most = most.max(chunks.len());
            before = chunks;
        }
        check(&memtable, &(1..=10_000).collect::<Vec<u64>>());
        assert!(most <= RECENT_MAX + 1, "{most} chunks");
        assert!(copied <= 5 * 10_000, "{copied} rows were copied");
        assert_eq!(memtable.settled.iter().map(|c| c.rows.num_rows()).collect::<Vec<_>>(), [CHUNK_ROWS]);
    }

    #[test]
    fn commits_of_any_sizes_are_few_chunks() {
        let sizes = [1, 1000, 1, 7, 64, 3, 500, 1, 4000, 8, 2, 9000, 1, 63, 5, 20_000, 1, 1];
        let (mut memtable, mut versions) = (Memtable::default(), Vec::new());
        for version in 1..=54 {
            let count = sizes[version as usize % sizes.len()];
            commit(&mut memtable, count, version);
            versions.extend((0..count).map(|_| version));
            check(&memtable, &versions);
        }
        let large = versions.len() / CHUNK_ROWS;
        assert!(memtable.chunks().count() <= large + RECENT_MAX);
        // One row and many in turn.
        let mut memtable = Memtable::default();
        for version in 1..=200 {
            commit(&mut memtable, if version % 2 == 0 { 600 } else { 1 }, version);
            assert!(memtable.recent.len() <= RECENT_MAX);
        }
    }

    #[test]
    fn rows_that_are_many_by_themselves_are_not_copied() {
        let mut memtable = Memtable::default();
        let sizes = [8192, 6808, 8192, 6808, 40_000, 5000, 33_000, 100, 9000];
        for (version, count) in (1..).zip(sizes) {
            commit(&mut memtable, count, version);
        }
        let versions: Vec<u64> =
            (1..).zip(sizes).flat_map(|(version, count)| (0..count).map(move |_| version)).collect();
        check(&memtable, &versions);
        let rows: Vec<usize> = memtable.chunks().map(|chunk| chunk.rows.num_rows()).collect();
        assert_eq!(rows, [8192, 6808, 8192, 6808, 40_000, 5000, 33_000, 9100]);
    }

    #[test]
    fn memory_that_columns_and_batches_share_counts_once() {
        let count = 5 * CHUNK_ROWS;
        let values = Int64Array::from_iter_values(1..=count as i64);
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(values)]).unwrap();
        let bytes = (24 * count) as u64;
        let about = |memtable: &Memtable| (bytes..bytes + bytes / 50).contains(&memtable.bytes());
        let mut memtable = Memtable::default();
        let cut = (0..count).step_by(CHUNK_ROWS).map(|at| rows.slice(at, CHUNK_ROWS));
        append(&mut memtable, cut.collect(), 1);
        check(&memtable, &vec![1; count]);
        assert!(memtable.chunks().count() == 5 && about(&memtable), "{}", memtable.bytes());
        // As a log that is read again has them.
        let field = |name: &str| Field::new(name, DataType::Utf8View, false);
        let schema = Arc::new(Schema::new((0..9).map(|i| field(&format!("t{i}"))).collect::<Vec<_>>()));
        let text = |i: usize| format!("text of some length, {i:09}");
        let column: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..3000).map(text)));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![column; 9]).unwrap();
        let mut body = Vec::new();
        encode_rows(&mut body, &[rows]).unwrap();
        let length = body.len() as u64;
        let read = decode_rows(&schema, 3000, &bytes::Bytes::from(body)).unwrap();
        let mut memtable = Memtable::default();
        append(&mut memtable, read, 1);
        // Texts stand in the message; what says where may have been copied to where it is aligned.
        assert!((length..2 * length).contains(&memtable.bytes()), "{} of {length}", memtable.bytes());
    }

    #[test]
    fn nothing_is_merged_over_a_border() {
        let (mut memtable, mut versions) = (Memtable::default(), Vec::new());
        for version in 1..=100 {
            commit(&mut memtable, 1, version);
            versions.push(version);
            if version % 30 == 0 {
                memtable = memtable.sealed();
                assert!(memtable.recent.is_empty());
            }
        }
        check(&memtable, &versions);
        let left = memtable.after(CommitVersion(60));
        assert_eq!((left.rows(), memtable.rows()), (40, 100));
        assert_eq!(left.chunks().next().unwrap().row_id_range().0, RowId(61));
        assert_eq!(left.bytes(), left.chunks().map(|chunk| chunk.bytes).sum::<u64>());
    }

    #[test]
    fn a_memtable_does_not_see_later_rows() {
        let mut memtable = Memtable::default();
        let mut seen = Vec::new();
        for version in 1..=70 {
            commit(&mut memtable, 1, version);
            seen.push(memtable.clone());
        }
        for (count, memtable) in (1..).zip(&seen) {
            check(memtable, &(1..=count).collect::<Vec<u64>>());
        }
    }
}
