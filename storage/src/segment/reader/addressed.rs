//! Reading all of a segment with the ids and versions of its rows, as a merge does: batch by batch, past the caches.
//!
//! The decoder fetches all that it is asked for of a row group before it decodes the first row, which is a whole segment where rows
//! are wide. So it is asked for a stretch of rows at a time; pages at its ends are read twice.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::super::{Created, RowIds, SegmentMeta};
use super::SegmentReader;
use super::rows::{self, SegmentBatches};
use crate::error::{Error, Result};
use crate::schema::{ROW_ID_COLUMN, VERSION_COLUMN};

/// Memory of the rows of one stretch, about.
pub(crate) const STRETCH_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 16 << 20 };
/// Least rows of a stretch: a page or two.
const STRETCH_ROWS_MIN: u64 = if cfg!(test) { 70 } else { 4 * 1024 };

/// Batches with the columns of the definition, then `_row_id` and `_version`.
#[derive(Debug)]
pub(crate) struct AddressedBatches {
    reader: SegmentReader,
    /// Of the stretch that is read; None: the next one is to begin.
    batches: Option<SegmentBatches>,
    batch_rows: usize,
    /// Rows of a stretch.
    stretch: u64,
    /// Where the next stretch begins.
    next: u64,
    schema: SchemaRef,
    /// User columns.
    width: usize,
    /// Rows handed out.
    position: u64,
}

impl SegmentReader {
    /// Reads all rows in order, at most `batch_rows` at once.
    #[must_use]
    pub(crate) fn addressed(&self, batch_rows: usize) -> AddressedBatches {
        let columns: Vec<usize> = (0..self.def.columns.len()).collect();
        let mut fields: Vec<_> = self.surface_schema(&columns).fields().iter().cloned().collect();
        for name in [ROW_ID_COLUMN, VERSION_COLUMN] {
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
        }
        AddressedBatches {
            reader: self.clone(),
            batches: None,
            batch_rows,
            stretch: stretch(&self.meta),
            next: 0,
            schema: Arc::new(Schema::new(fields)),
            width: columns.len(),
            position: 0,
        }
    }
}

impl AddressedBatches {
    /// The next batch as it stands in the file.
    async fn stored(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batches) = &mut self.batches
                && let Some(batch) = batches.next().await?
            {
                return Ok(Some(batch));
            }
            let (from, all) = (self.next, self.reader.meta.rows);
            if from >= all {
                self.batches = None;
                return Ok(None);
            }
            self.next = all.min(from + self.stretch);
            // A segment has fewer than 2^32 rows.
            let rows = from as u32..self.next as u32;
            self.batches = Some(rows::addressed_batches(&self.reader, rows, self.batch_rows)?);
        }
    }

    /// The next batch; None: no more.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.stored().await? else {
            // Who merges goes by what was read: a row that is missing here would be missing for good.
            if self.position != self.reader.meta.rows {
                let path = self.reader.meta.path();
                let rows = format!("{} rows instead of {}", self.position, self.reader.meta.rows);
                return Err(Error::corrupt(path, rows));
            }
            return Ok(None);
        };
        let (row_ids, created) = (self.reader.meta.row_ids, self.reader.meta.created);
        let rows = batch.num_rows() as u64;
        // The pseudo-columns that are in the file, in order.
        let mut stored = batch.columns()[self.width..].iter().cloned();
        let missing = || Error::internal("a segment lacks a column its meta names");
        let row_ids: ArrayRef = match row_ids {
            RowIds::Base(base) => {
                let first = base.0 + self.position;
                Arc::new(UInt64Array::from_iter_values(first..first + rows))
            }
            RowIds::Column => stored.next().ok_or_else(missing)?,
        };
        let versions: ArrayRef = match created {
            Created::Constant(version) => Arc::new(UInt64Array::from_value(version.0, batch.num_rows())),
            Created::Column => stored.next().ok_or_else(missing)?,
        };
        self.position += rows;
        let mut columns = batch.columns()[..self.width].to_vec();
        columns.extend([row_ids, versions]);
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

fn stretch(meta: &SegmentMeta) -> u64 {
    let decoded: u64 = meta.columns.iter().map(|column| column.memory_bytes).sum();
    // Not every segment says what its columns take.
    let row = (decoded.max(meta.bytes) / meta.rows.max(1)).max(1);
    (STRETCH_BYTES / row).max(STRETCH_ROWS_MIN)
}
