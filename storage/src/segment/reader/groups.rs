//! Columns of one row group, all their rows, to be kept.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::super::columns::{CHUNK_ROWS, DecodedColumn};
use super::{SegmentReader, rows};
use crate::error::{Error, Result};
use crate::id::ColumnId;

impl SegmentReader {
    /// The column of the definition that a column of the file is, by its place in [`file_schema`](Self::file_schema); None: a
    /// pseudo-column, or one that the table has not any more.
    #[must_use]
    pub fn column_id(&self, root: usize) -> Option<ColumnId> {
        let column = self.opened.roots.iter().position(|known| *known == Some(root))?;
        self.def.columns.get(column).map(|column| column.id)
    }

    /// Every row of columns of the file, by their ascending places in [`file_schema`](Self::file_schema), of a row group. Gives way to
    /// others between batches.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Internal` for a row group or column that is not there, the store's.
    pub async fn decode_group(&self, group: usize, roots: &[usize]) -> Result<Vec<Arc<DecodedColumn>>> {
        let starts = &self.opened.group_starts;
        let (Some(first), Some(end)) = (starts.get(group), starts.get(group + 1)) else {
            return Err(Error::internal(format!("{} has no row group {group}", self.meta.path())));
        };
        let known = self.file_schema().fields().len();
        let ascend = roots.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascend || roots.last().is_some_and(|last| *last >= known) {
            return Err(Error::internal("a read names columns that its file does not have, or not in order"));
        }
        let too_many = |_| Error::internal("a segment of too many rows");
        let range = u32::try_from(*first).map_err(too_many)?..u32::try_from(*end).map_err(too_many)?;
        let mut decoded: Vec<Vec<ArrayRef>> = roots.iter().map(|_| Vec::new()).collect();
        let mut batches = rows::scanned_batches(self, roots, range, CHUNK_ROWS)?;
        while let Some(batch) = batches.next().await? {
            for (chunks, column) in decoded.iter_mut().zip(batch.columns()) {
                chunks.push(Arc::clone(column));
            }
            tokio::task::yield_now().await;
        }
        decoded.iter().map(|chunks| DecodedColumn::new(chunks).map(Arc::new)).collect()
    }
}
