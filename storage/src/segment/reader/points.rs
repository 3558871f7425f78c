//! A few rows by position and whole columns, through pages and columns that are kept decoded.
//!
//! Owns: which columns are read that way. A page that is read for one row is soon read for another; decoded it answers in a
//! copy. Columns of vectors and nested ones, and whatever the cache has no room for, are decoded for each read instead.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};

use super::super::cache::{CacheKey, CacheValue};
use super::super::kept::KeptColumn;
use super::{RowChoice, SegmentReader};
use crate::error::{Error, Result};

/// More rows than this are a scan.
const ROWS_MAX: usize = 4096;
/// Pages of text longer than this are not decoded for the sake of one row.
const PAGE_BYTES_MAX: i64 = 256 * 1024;

/// One page of a column.
struct Page {
    rows: Range<u32>,
    /// As stored.
    bytes: i64,
}

impl SegmentReader {
    /// `columns` (positions in the definition) of the rows at `positions`, which ascend without repeats, as one batch.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Internal` for positions that are not ascending or past the end, the store's.
    pub(crate) async fn rows_at(&self, columns: &[usize], positions: &[u32]) -> Result<RecordBatch> {
        let schema = self.surface_schema(columns);
        let mut arrays: Vec<Option<ArrayRef>> = vec![None; columns.len()];
        if positions.len() <= ROWS_MAX {
            for (array, &column) in arrays.iter_mut().zip(columns) {
                *array = self.paged(column, positions).await?;
            }
        }
        let rest: Vec<usize> =
            arrays.iter().zip(columns).filter(|(array, _)| array.is_none()).map(|(_, c)| *c).collect();
        if !rest.is_empty() {
            let read = self.decoded_at(&rest, positions).await?;
            let mut columns = read.columns().iter();
            for array in arrays.iter_mut().filter(|array| array.is_none()) {
                *array = columns.next().cloned();
            }
        }
        let arrays: Vec<ArrayRef> = arrays.into_iter().flatten().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(positions.len()));
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }

    async fn decoded_at(&self, columns: &[usize], positions: &[u32]) -> Result<RecordBatch> {
        let mut batches = self.read(columns, RowChoice::Positions(positions)).await?;
        if batches.len() == 1 {
            return Ok(batches.swap_remove(0));
        }
        let schema: SchemaRef = self.surface_schema(columns);
        Ok(concat_batches(&schema, &batches)?)
    }

    /// One column at `positions`; None: not to be read this way.
    async fn paged(&self, column: usize, positions: &[u32]) -> Result<Option<ArrayRef>> {
        let Some(field) = self.def.columns.get(column) else { return Ok(None) };
        let Some(root) = self.opened.roots.get(column).copied().flatten() else {
            return Ok(Some(new_null_array(&field.column_type.arrow(), positions.len())));
        };
        let Some(leaf) = self.flat_leaf(root, &field.column_type.arrow()) else { return Ok(None) };
        let mut pages: Vec<ArrayRef> = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(positions.len());
        let mut current: Option<Range<u32>> = None;
        for &position in positions {
            let rows = match &current {
                Some(rows) if rows.contains(&position) => rows.clone(),
                _ => {
                    let Some(page) = self.page_of(leaf, position) else { return Ok(None) };
                    let Some(array) = self.page(column, &page).await? else { return Ok(None) };
                    pages.push(array);
                    current = Some(page.rows.clone());
                    page.rows
                }
            };
            places.push((pages.len() - 1, (position - rows.start) as usize));
        }
        if let [page] = pages.as_slice() {
            let at = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row as u32));
            return Ok(Some(take(page, &at, None)?));
        }
        let pages: Vec<&dyn Array> = pages.iter().map(AsRef::as_ref).collect();
        Ok(Some(if pages.is_empty() {
            arrow::array::new_empty_array(&field.column_type.arrow())
        } else {
            interleave(&pages, &places)?
        }))
    }

    /// The rows `rows` of a column when they are one page of it, kept decoded; None: they are not, or are not to be kept.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub(super) async fn kept_page(&self, column: usize, rows: &Range<u32>) -> Result<Option<ArrayRef>> {
        let Some(field) = self.def.columns.get(column) else { return Ok(None) };
        let root = self.opened.roots.get(column).copied().flatten();
        let leaf = root.and_then(|root| self.flat_leaf(root, &field.column_type.arrow()));
        let page = leaf.and_then(|leaf| self.page_of(leaf, rows.start)).filter(|page| page.rows == *rows);
        match page {
            Some(page) => self.page(column, &page).await,
            None => Ok(None),
        }
    }

    /// The leaf of a root column that is one column of scalars.
    fn flat_leaf(&self, root: usize, surface: &DataType) -> Option<usize> {
        if surface.is_nested() {
            return None;
        }
        *self.opened.leaves.get(root)?
    }

    fn page_of(&self, leaf: usize, position: u32) -> Option<Page> {
        let starts = &self.opened.group_starts;
        let group = starts.partition_point(|start| *start <= u64::from(position)).checked_sub(1)?;
        let (from, to) = (*starts.get(group)?, *starts.get(group + 1)?);
        let pages = self.metadata().offset_index()?.get(group)?.get(leaf)?.page_locations();
        let within = i64::from(position) - i64::try_from(from).ok()?;
        let at = pages.partition_point(|page| page.first_row_index <= within).checked_sub(1)?;
        let start = from + pages.get(at)?.first_row_index.unsigned_abs();
        let end = pages.get(at + 1).map_or(to, |next| from + next.first_row_index.unsigned_abs());
        let rows = u32::try_from(start).ok()?..u32::try_from(end).ok()?;
        Some(Page { rows, bytes: pages.get(at)?.compressed_page_size.into() })
    }

    /// A page decoded, from the cache or into it; None when there is no room.
    async fn page(&self, column: usize, page: &Page) -> Result<Option<ArrayRef>> {
        let definition = &self.def.columns[column];
        if definition.column_type.arrow().primitive_width().is_none() && page.bytes > PAGE_BYTES_MAX {
            return Ok(None);
        }
        let key = CacheKey::Page(self.meta.id, definition.id, self.def.schema_version, page.rows.start);
        if let Some(CacheValue::Decoded(array)) = self.cache.get(key) {
            return Ok(Some(array));
        }
        let Some(array) = self.decoded(column, page).await? else { return Ok(None) };
        let held = array.get_array_memory_size();
        self.cache.put(key, CacheValue::Decoded(Arc::clone(&array)), held);
        Ok(Some(array))
    }

    /// All of a column (a position in the definition), decoded, from the cache or into it. None: it is nested, or there is no
    /// room to keep it.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub async fn kept_column(&self, column: usize) -> Result<Option<Arc<KeptColumn>>> {
        let Some(definition) = self.def.columns.get(column) else { return Ok(None) };
        let surface = definition.column_type.arrow();
        let rows =
            0..u32::try_from(self.meta.rows).map_err(|_| Error::internal("a segment of too many rows"))?;
        let Some(root) = self.opened.roots.get(column).copied().flatten() else {
            return Ok(Some(Arc::new(KeptColumn::new(new_null_array(&surface, rows.len())))));
        };
        let Some(leaf) = self.flat_leaf(root, &surface) else { return Ok(None) };
        let key = CacheKey::Column(self.meta.id, definition.id, self.def.schema_version);
        if let Some(CacheValue::Column(kept)) = self.cache.get(key) {
            return Ok(Some(kept));
        }
        let chunks = self.metadata().row_groups().iter().map(|group| group.column(leaf).uncompressed_size());
        let page = Page { rows, bytes: chunks.sum() };
        let Some(array) = self.decoded(column, &page).await? else { return Ok(None) };
        let kept = Arc::new(KeptColumn::new(array));
        self.cache.put(key, CacheValue::Column(Arc::clone(&kept)), kept.bytes());
        Ok(Some(kept))
    }

    /// Rows of a flat column, to be kept; None when the cache has no room.
    async fn decoded(&self, column: usize, page: &Page) -> Result<Option<ArrayRef>> {
        let surface = self.def.columns[column].column_type.arrow();
        let rows = page.rows.len();
        let bytes = match surface.primitive_width() {
            Some(width) => rows * width,
            None => 2 * usize::try_from(page.bytes).unwrap_or(usize::MAX / 4) + 16 * rows,
        };
        if !self.cache.admits_decoded(bytes) {
            return Ok(None);
        }
        let mut batches =
            self.batches(&[column], RowChoice::Ranges(std::slice::from_ref(&page.rows)), rows)?;
        let mut parts = Vec::new();
        while let Some(batch) = batches.next().await? {
            parts.push(Arc::clone(batch.column(0)));
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(Some(match parts.as_slice() {
            [] if rows > 0 => return Err(Error::internal("a page without rows")),
            [] => arrow::array::new_empty_array(&surface),
            parts => arrow::compute::concat(parts)?,
        }))
    }
}

/// For each root column of a file its leaf, where it has only one.
pub(super) fn leaves(schema: &parquet::schema::types::SchemaDescriptor) -> Vec<Option<usize>> {
    let mut found: HashMap<usize, Vec<usize>> = HashMap::new();
    for leaf in 0..schema.num_columns() {
        found.entry(schema.get_column_root_idx(leaf)).or_default().push(leaf);
    }
    (0..schema.root_schema().get_fields().len())
        .map(|root| match found.get(&root).map(Vec::as_slice) {
            Some([leaf]) => Some(*leaf),
            _ => None,
        })
        .collect()
}
