//! Reading what can still be read of a damaged segment.
//!
//! Owns: which stretches of rows are whole. A stretch ends where a page of any column ends: what cannot be read as a whole is halved until a
//! stretch lies within one page of each column. Every byte is checked as in any other read, so a row that is handed out is the row that
//! was written. Does not own: which rows are visible, and what becomes of the others (`repair`).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};

use super::super::RowIds;
use super::{SegmentReader, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::ROW_ID_COLUMN;

/// Rows per batch.
const BATCH_ROWS: usize = 8 * 1024;
/// Most rows of a stretch that is tried first: they are in memory together.
const STRETCH_ROWS: u32 = 16 * 1024;

/// A stretch of rows.
#[derive(Debug)]
pub(crate) enum Readable {
    /// Whole: the columns of the definition, then `_row_id`; the first row stands at that position.
    Rows(u32, Vec<RecordBatch>),
    /// Some column of these positions can't be read.
    Lost(Range<u32>, Error),
}

/// All rows of a segment in order, stretch by stretch.
#[derive(Debug)]
pub(crate) struct Salvage {
    reader: SegmentReader,
    /// Where stretches may begin and end, ascending; the last is the count of rows.
    cuts: Vec<u32>,
    /// Pairs of indices of `cuts`, those of the next rows last.
    todo: Vec<(usize, usize)>,
}

impl SegmentReader {
    /// Reads whatever can be read.
    #[must_use]
    pub(crate) fn salvage(&self) -> Salvage {
        let cuts = self.page_cuts();
        let mut todo = Vec::new();
        let mut from = 0;
        while from + 1 < cuts.len() {
            let end = cuts[from].saturating_add(STRETCH_ROWS);
            let to = cuts.partition_point(|cut| *cut <= end).saturating_sub(1).max(from + 1);
            todo.push((from, to));
            from = to;
        }
        todo.reverse();
        Salvage { reader: self.clone(), cuts, todo }
    }

    /// Positions where a page of some column begins, and the end.
    fn page_cuts(&self) -> Vec<u32> {
        // A segment has fewer than 2^32 rows.
        let end = self.meta.rows as u32;
        let mut cuts = vec![0, end];
        let groups = &self.opened.group_starts;
        cuts.extend(groups.iter().map(|start| *start as u32));
        let pages = self.metadata().offset_index().map_or(&[][..], Vec::as_slice);
        for (start, columns) in groups.iter().zip(pages) {
            let firsts = columns.iter().flat_map(|column| column.page_locations());
            cuts.extend(
                firsts
                    .filter_map(|page| u64::try_from(page.first_row_index).ok())
                    .map(|row| (start + row) as u32),
            );
        }
        cuts.retain(|cut| *cut <= end);
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}

impl Salvage {
    /// The next stretch; None: no more.
    ///
    /// # Errors
    /// The store's, when they say nothing of the bytes.
    pub(crate) async fn next(&mut self) -> Result<Option<Readable>> {
        while let Some((from, to)) = self.todo.pop() {
            // Local reads never wait; whoever asked may have gone.
            tokio::task::yield_now().await;
            let range = self.cuts[from]..self.cuts[to];
            match self.read(range.clone()).await {
                Ok(batches) => return Ok(Some(Readable::Rows(range.start, batches))),
                Err(error) if !is_damage(&error) => return Err(error),
                Err(error) if to - from <= 1 => return Ok(Some(Readable::Lost(range, error))),
                Err(_) => {
                    let middle = from + (to - from) / 2;
                    self.todo.extend([(middle, to), (from, middle)]);
                }
            }
        }
        Ok(None)
    }

    async fn read(&self, range: Range<u32>) -> Result<Vec<RecordBatch>> {
        let reader = &self.reader;
        let mut stored = rows::addressed_batches(reader, range.clone(), BATCH_ROWS)?;
        let width = reader.def.columns.len();
        let columns: Vec<usize> = (0..width).collect();
        let mut fields: Vec<_> = reader.surface_schema(&columns).fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(ROW_ID_COLUMN, DataType::UInt64, false)));
        let schema = Arc::new(Schema::new(fields));
        let (mut batches, mut position) = (Vec::new(), u64::from(range.start));
        while let Some(batch) = stored.next().await? {
            let count = batch.num_rows() as u64;
            let ids: ArrayRef = match reader.meta.row_ids {
                RowIds::Base(base) => {
                    let first = base.0 + position;
                    Arc::new(UInt64Array::from_iter_values(first..first + count))
                }
                RowIds::Column => {
                    let ids = batch.columns().get(width).cloned();
                    ids.ok_or_else(|| Error::corrupt(reader.meta.path(), "it lacks its row ids"))?
                }
            };
            let mut arrays = batch.columns()[..width].to_vec();
            arrays.push(ids);
            batches.push(RecordBatch::try_new(Arc::clone(&schema), arrays)?);
            position += count;
        }
        if position != u64::from(range.end) {
            return Err(Error::corrupt(
                reader.meta.path(),
                format!("rows {position} to {} are not there", range.end),
            ));
        }
        Ok(batches)
    }
}

/// Whether the error tells of bytes that are gone or wrong, not of a store that does not answer, nor of what a newer Cairn has written. A
/// follower calls what is gone expired.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::SnapshotExpired)
}
