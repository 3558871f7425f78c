//! Rows of WAL entries that are in no segment yet.
//!
//! Owns: chunks of rows with their ids and versions, and their geometric merging, so that a scan after ten thousand
//! one-row commits reads a handful of batches. Does not own: deletes and keys (`version`), when rows leave (`checkpoint`).
//! A memtable is a value: a commit makes a new one that shares all chunks but the last few.
//!
//! Order: rows stand in commit order; row ids and versions never fall from one row to the next.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat, concat_batches, filter, filter_record_batch};
use arrow::datatypes::SchemaRef;

use crate::alter;
use crate::error::Result;
use crate::id::{CommitVersion, RowId};
use crate::schema::TableDef;
use crate::version::HotDeletes;

/// Chunks at or above this many rows are left alone.
const CHUNK_ROWS: usize = 8192;

/// Some consecutive rows of a table.
#[derive(Debug)]
pub struct Chunk {
    rows: RecordBatch,
    row_ids: UInt64Array,
    versions: UInt64Array,
    bytes: u64,
}

impl Chunk {
    /// Rows of one commit, ids counting up from `first`.
    #[must_use]
    pub fn committed(rows: RecordBatch, first: RowId, version: CommitVersion) -> Self {
        let n = rows.num_rows() as u64;
        let row_ids = UInt64Array::from_iter_values(first.0..first.0 + n);
        let versions = UInt64Array::from_value(version.0, rows.num_rows());
        Self::new(rows, row_ids, versions)
    }

    fn new(rows: RecordBatch, row_ids: UInt64Array, versions: UInt64Array) -> Self {
        let bytes = (rows.get_array_memory_size() + 16 * rows.num_rows()) as u64;
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
        let mut deleted = deletes.range(first..=last).filter(|(_, v)| **v <= at).peekable();
        if deleted.peek().is_none() && self.max_version() <= at {
            return None;
        }
        let mut visible: Vec<bool> = self.versions.values().iter().map(|v| *v <= at.0).collect();
        for (id, _) in deleted {
            if let Some(position) = self.position(*id) {
                visible[position] = false;
            }
        }
        Some(BooleanArray::from(visible))
    }

    fn altered(&self, old: &TableDef, new: &TableDef) -> Result<Self> {
        let rows = alter::rows(&self.rows, old, new)?;
        Ok(Self::new(rows, self.row_ids.clone(), self.versions.clone()))
    }

    fn merged(schema: &SchemaRef, chunks: &[Arc<Self>]) -> Result<Self> {
        let rows = concat_batches(schema, chunks.iter().map(|c| &c.rows))?;
        let column = |of: fn(&Self) -> &UInt64Array| -> Result<UInt64Array> {
            let parts: Vec<&dyn Array> = chunks.iter().map(|c| of(c) as &dyn Array).collect();
            Ok(UInt64Array::from(concat(&parts)?.to_data()))
        };
        Ok(Self::new(rows, column(Self::row_ids)?, column(Self::versions)?))
    }
}

/// All hot rows of a table at one version.
#[derive(Clone, Debug, Default)]
pub struct Memtable {
    /// Large or sealed chunks.
    settled: Arc<Vec<Arc<Chunk>>>,
    /// Smaller chunks after them, each smaller than the one before.
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

    /// This memtable with `chunk` at its end.
    ///
    /// # Errors
    /// `Internal` when the chunk's columns are not the table's.
    pub fn append(&self, chunk: Chunk) -> Result<Self> {
        let mut next = self.clone();
        if chunk.rows.num_rows() == 0 {
            return Ok(next);
        }
        next.rows += chunk.rows.num_rows() as u64;
        let schema = chunk.rows.schema();
        // The run of chunks at the end that the new one is at least half as long as, merged in one copy.
        let mut merged_rows = chunk.rows.num_rows();
        let mut start = next.recent.len();
        while start > 0 && next.recent[start - 1].rows.num_rows() <= 2 * merged_rows {
            start -= 1;
            merged_rows += next.recent[start].rows.num_rows();
        }
        let mut run = next.recent.split_off(start);
        let chunk = if run.is_empty() {
            Arc::new(chunk)
        } else {
            for old in &run {
                next.bytes -= old.bytes;
            }
            run.push(Arc::new(chunk));
            Arc::new(Chunk::merged(&schema, &run)?)
        };
        next.bytes += chunk.bytes;
        next.recent.push(chunk);
        if merged_rows >= CHUNK_ROWS {
            next = next.sealed();
        }
        Ok(next)
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
