//! Reading all of a segment with the ids and versions of its rows, as a merge does: batch by batch, past the caches.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::super::{Created, RowIds};
use super::SegmentReader;
use super::rows::{self, SegmentBatches};
use crate::error::{Error, Result};
use crate::schema::{ROW_ID_COLUMN, VERSION_COLUMN};

/// Batches with the columns of the definition, then `_row_id` and `_version`.
#[derive(Debug)]
pub(crate) struct AddressedBatches {
    batches: SegmentBatches,
    row_ids: RowIds,
    created: Created,
    schema: SchemaRef,
    /// User columns.
    width: usize,
    /// Rows handed out.
    position: u64,
}

impl SegmentReader {
    /// Reads all rows in order, at most `batch_rows` at once.
    ///
    /// # Errors
    /// `Internal` when the Parquet reader cannot be made.
    pub(crate) fn addressed(&self, batch_rows: usize) -> Result<AddressedBatches> {
        let columns: Vec<usize> = (0..self.def.columns.len()).collect();
        let mut fields: Vec<_> = self.surface_schema(&columns).fields().iter().cloned().collect();
        for name in [ROW_ID_COLUMN, VERSION_COLUMN] {
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
        }
        Ok(AddressedBatches {
            batches: rows::addressed_batches(self, batch_rows)?,
            row_ids: self.meta.row_ids,
            created: self.meta.created,
            schema: Arc::new(Schema::new(fields)),
            width: columns.len(),
            position: 0,
        })
    }
}

impl AddressedBatches {
    /// The next batch; None: no more.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batches.next().await? else { return Ok(None) };
        let rows = batch.num_rows() as u64;
        // The pseudo-columns that are in the file, in order.
        let mut stored = batch.columns()[self.width..].iter().cloned();
        let missing = || Error::internal("a segment lacks a column its meta names");
        let row_ids: ArrayRef = match self.row_ids {
            RowIds::Base(base) => {
                let first = base.0 + self.position;
                Arc::new(UInt64Array::from_iter_values(first..first + rows))
            }
            RowIds::Column => stored.next().ok_or_else(missing)?,
        };
        let versions: ArrayRef = match self.created {
            Created::Constant(version) => Arc::new(UInt64Array::from_value(version.0, batch.num_rows())),
            Created::Column => stored.next().ok_or_else(missing)?,
        };
        self.position += rows;
        let mut columns = batch.columns()[..self.width].to_vec();
        columns.extend([row_ids, versions]);
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}
