//! A few rows by position and whole columns, through pages and columns that are kept decoded.
//!
//! Owns: which columns are read that way. A page that is read for one row is soon read for another; decoded it answers in a
//! copy. Columns of vectors and nested ones, and whatever the cache has no room for, are decoded for each read instead.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};

use super::super::cache::{CacheKey, CacheValue};
use super::super::kept::KeptColumn;
use super::{RowChoice, SegmentReader};
use crate::alter::filled;
use crate::error::{Error, Result};

/// More rows than this are a scan.
pub(super) const ROWS_MAX: usize = 4096;
/// Pages of text longer than this are not decoded for the sake of one row.
const PAGE_BYTES_MAX: u64 = 256 * 1024;

/// One page of a column.
pub(super) struct Page {
    pub(super) rows: Range<u32>,
    /// Where it is stored …
    pub(super) stored: Range<u64>,
    /// … and the dictionary its values may be in; empty without one.
    pub(super) dictionary: Range<u64>,
}

/// A column's pages that hold some rows.
struct Paged {
    /// Position in the definition.
    column: usize,
    pages: Vec<Page>,
    /// For each row its page and its place in it.
    places: Vec<(usize, usize)>,
}

/// How a column is read at some rows.
enum Way {
    /// It is older than the column: every value is the same.
    Absent,
    Paged(Paged),
    /// Decoded for this read only.
    Decoded,
}

impl SegmentReader {
    /// `columns` (positions in the definition) of the rows at `positions`, which ascend without repeats, as one batch.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Internal` for positions that are not ascending or past the end, the store's.
    pub(crate) async fn rows_at(&self, columns: &[usize], positions: &[u32]) -> Result<RecordBatch> {
        let schema = self.surface_schema(columns);
        let ways: Vec<Way> = columns.iter().map(|column| self.way(*column, positions)).collect();
        let wanted = ways.iter().filter_map(|way| match way {
            Way::Paged(paged) => Some(paged),
            Way::Absent | Way::Decoded => None,
        });
        let wanted: Vec<(usize, &Page)> =
            wanted.flat_map(|paged| paged.pages.iter().map(move |page| (paged.column, page))).collect();
        let read = self.pages(&wanted, || self.stored_at(columns, &ways, positions)).await?;
        let mut read = read.as_slice();
        let mut arrays: Vec<Option<ArrayRef>> = Vec::with_capacity(columns.len());
        for ((way, column), field) in ways.iter().zip(columns).zip(schema.fields()) {
            arrays.push(match way {
                Way::Absent => Some(filled(&self.def.columns[*column], positions.len())?),
                Way::Paged(paged) => {
                    let (pages, others) = read.split_at(paged.pages.len());
                    read = others;
                    paged.gathered(pages, field.data_type())?
                }
                Way::Decoded => None,
            });
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

    /// How a column is to be read at `positions`.
    fn way(&self, column: usize, positions: &[u32]) -> Way {
        let Some(field) = self.def.columns.get(column).filter(|_| positions.len() <= ROWS_MAX) else {
            return Way::Decoded;
        };
        let Some(root) = self.opened.roots.get(column).copied().flatten() else { return Way::Absent };
        let surface = field.column_type.arrow();
        let Some(leaf) = self.flat_leaf(root, &surface) else { return Way::Decoded };
        let mut paged = Paged { column, pages: Vec::new(), places: Vec::with_capacity(positions.len()) };
        for &position in positions {
            if paged.pages.last().is_none_or(|page| !page.rows.contains(&position)) {
                match self.page_of(leaf, position).filter(|page| page.is_kept(&surface)) {
                    Some(page) => paged.pages.push(page),
                    None => return Way::Decoded,
                }
            }
            let first = paged.pages.last().map_or(0, |page| page.rows.start);
            paged.places.push((paged.pages.len() - 1, (position - first) as usize));
        }
        Way::Paged(paged)
    }

    /// For each of the ranges of rows that is one page of a column, kept decoded, that page; None: it is not, or is not to be kept.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub(super) async fn kept_pages(
        &self,
        column: usize,
        ranges: &[Range<u32>],
    ) -> Result<Vec<Option<ArrayRef>>> {
        let root = self.opened.roots.get(column).copied().flatten();
        let (Some(field), Some(root)) = (self.def.columns.get(column), root) else {
            return Ok(vec![None; ranges.len()]);
        };
        let surface = field.column_type.arrow();
        let leaf = self.flat_leaf(root, &surface);
        let page = |rows: &Range<u32>| {
            let page = leaf.and_then(|leaf| self.page_of(leaf, rows.start));
            page.filter(|page| page.rows == *rows && page.is_kept(&surface))
        };
        let pages: Vec<Option<Page>> = ranges.iter().map(page).collect();
        let wanted: Vec<(usize, &Page)> = pages.iter().flatten().map(|page| (column, page)).collect();
        let mut read = self.pages(&wanted, Vec::new).await?.into_iter();
        Ok(pages.iter().map(|page| page.as_ref().and_then(|_| read.next().flatten())).collect())
    }

    /// The leaf of a root column that is one column of scalars.
    fn flat_leaf(&self, root: usize, surface: &DataType) -> Option<usize> {
        if surface.is_nested() {
            return None;
        }
        *self.opened.leaves.get(root)?
    }

    pub(super) fn page_of(&self, leaf: usize, position: u32) -> Option<Page> {
        let starts = &self.opened.group_starts;
        let group = starts.partition_point(|start| *start <= u64::from(position)).checked_sub(1)?;
        let (from, to) = (*starts.get(group)?, *starts.get(group + 1)?);
        let pages = self.metadata().offset_index()?.get(group)?.get(leaf)?.page_locations();
        let within = i64::from(position) - i64::try_from(from).ok()?;
        let at = pages.partition_point(|page| page.first_row_index <= within).checked_sub(1)?;
        let page = pages.get(at)?;
        let start = from + page.first_row_index.unsigned_abs();
        let end = pages.get(at + 1).map_or(to, |next| from + next.first_row_index.unsigned_abs());
        let rows = u32::try_from(start).ok()?..u32::try_from(end).ok()?;
        let stored = page.offset.unsigned_abs();
        let stored = stored..stored + u64::from(page.compressed_page_size.unsigned_abs());
        let first = pages.first()?.offset.unsigned_abs();
        let chunk = self.metadata().row_groups().get(group)?.columns().get(leaf)?;
        let dictionary = chunk.dictionary_page_offset().map_or(first, i64::unsigned_abs);
        Some(Page { rows, stored, dictionary: dictionary..first.max(dictionary) })
    }

    /// Where the rows at `positions` are stored of those columns that are decoded for this read only.
    fn stored_at(&self, columns: &[usize], ways: &[Way], positions: &[u32]) -> Vec<Range<u64>> {
        let schema = self.metadata().file_metadata().schema_descr();
        let decoded = columns.iter().zip(ways).filter(|(_, way)| matches!(way, Way::Decoded));
        let roots: Vec<usize> =
            decoded.filter_map(|(column, _)| self.opened.roots.get(*column).copied().flatten()).collect();
        let leaves =
            (0..schema.num_columns()).filter(|leaf| roots.contains(&schema.get_column_root_idx(*leaf)));
        let mut stored = Vec::new();
        for leaf in leaves {
            let mut last = 0_u32..0;
            for &position in positions.iter().take(ROWS_MAX) {
                if !last.contains(&position)
                    && let Some(page) = self.page_of(leaf, position)
                {
                    last = page.rows;
                    stored.extend([page.stored, page.dictionary]);
                }
            }
        }
        stored
    }

    /// Brings the pages that hold `ranges` of rows of some columns into the cache, together, and what tells the ids of those rows: whoever
    /// reads rows there finds them. Columns whose pages are many bytes there are left out.
    pub(super) async fn fetch_pages_ahead(&self, columns: &[usize], ranges: &[Range<u32>]) -> Result<()> {
        let schema = self.metadata().file_metadata().schema_descr();
        let roots: Vec<usize> =
            columns.iter().filter_map(|column| self.opened.roots.get(*column).copied().flatten()).collect();
        let leaves =
            (0..schema.num_columns()).filter(|leaf| roots.contains(&schema.get_column_root_idx(*leaf)));
        let mut stored = Vec::new();
        for leaf in leaves {
            let pages = self.stored_pages(leaf, ranges);
            if pages.iter().map(|page| page.end - page.start).sum::<u64>() <= PAGE_BYTES_MAX {
                stored.extend(pages);
            }
        }
        // Rows are named by their ids: those are asked for next.
        stored.extend(self.row_ids_ahead(ranges));
        self.source.fetch_ahead(&self.cache, &stored).await
    }

    /// Where the pages of a leaf that hold `ranges` of rows are stored, each with its dictionary.
    pub(super) fn stored_pages(&self, leaf: usize, ranges: &[Range<u32>]) -> Vec<Range<u64>> {
        let mut pages = Vec::new();
        for range in ranges {
            let mut next = range.start;
            while next < range.end {
                let Some(page) = self.page_of(leaf, next) else { break };
                next = page.rows.end.max(next + 1);
                pages.extend([page.stored, page.dictionary]);
            }
        }
        pages
    }

    /// Pages of columns decoded, from the cache or into it; None where there is no room. The bytes of several that are missing, and of
    /// `others`, which are read next, are fetched together: from an object store each fetch takes long.
    async fn pages(
        &self,
        wanted: &[(usize, &Page)],
        others: impl FnOnce() -> Vec<Range<u64>>,
    ) -> Result<Vec<Option<ArrayRef>>> {
        let mut arrays: Vec<Option<ArrayRef>> = Vec::with_capacity(wanted.len());
        for (column, page) in wanted {
            arrays.push(match self.cache.get(self.page_key(*column, page)) {
                Some(CacheValue::Decoded(array)) => Some(array),
                _ => None,
            });
        }
        let missing = || arrays.iter().zip(wanted).filter(|(array, _)| array.is_none()).map(|(_, w)| w.1);
        if missing().next().is_none() {
            return Ok(arrays);
        }
        let mut stored = others();
        if !stored.is_empty() || missing().nth(1).is_some() {
            stored.extend(missing().flat_map(|page| [page.stored.clone(), page.dictionary.clone()]));
            self.source.fetch_ahead(&self.cache, &stored).await?;
        }
        for (array, (column, page)) in arrays.iter_mut().zip(wanted).filter(|(array, _)| array.is_none()) {
            *array = self.page(*column, page).await?;
        }
        Ok(arrays)
    }

    fn page_key(&self, column: usize, page: &Page) -> CacheKey {
        CacheKey::Page(self.meta.id, self.def.columns[column].id, self.form, page.rows.start)
    }

    /// A page decoded, into the cache; None when there is no room.
    async fn page(&self, column: usize, page: &Page) -> Result<Option<ArrayRef>> {
        let Some(array) = self.decoded(column, &page.rows, page.bytes()).await? else { return Ok(None) };
        let held = array.get_array_memory_size();
        self.cache.put(self.page_key(column, page), CacheValue::Decoded(Arc::clone(&array)), held);
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
            return Ok(Some(Arc::new(KeptColumn::new(filled(definition, rows.len())?))));
        };
        let Some(leaf) = self.flat_leaf(root, &surface) else { return Ok(None) };
        let key = CacheKey::Column(self.meta.id, definition.id, self.form);
        if let Some(CacheValue::Column(kept)) = self.cache.get(key) {
            return Ok(Some(kept));
        }
        let chunks = self.metadata().row_groups().iter().map(|group| group.column(leaf).uncompressed_size());
        let bytes: u64 = chunks.map(i64::unsigned_abs).sum();
        let Some(array) = self.decoded(column, &rows, bytes).await? else { return Ok(None) };
        let kept = Arc::new(KeptColumn::new(array));
        self.cache.put(key, CacheValue::Column(Arc::clone(&kept)), kept.bytes());
        Ok(Some(kept))
    }

    /// Rows of a flat column, stored in `bytes`, to be kept; None when the cache has no room.
    async fn decoded(&self, column: usize, range: &Range<u32>, bytes: u64) -> Result<Option<ArrayRef>> {
        let surface = self.def.columns[column].column_type.arrow();
        let rows = range.len();
        let bytes = match surface.primitive_width() {
            Some(width) => rows * width,
            None => usize::try_from(bytes).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(16 * rows),
        };
        if !self.cache.admits_decoded(bytes) {
            return Ok(None);
        }
        let mut batches = self.batches(&[column], RowChoice::Ranges(std::slice::from_ref(range)), rows)?;
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

impl Page {
    /// Bytes it takes, as stored.
    fn bytes(&self) -> u64 {
        self.stored.end - self.stored.start
    }

    /// Whether it may be decoded for the sake of one row, and kept.
    fn is_kept(&self, surface: &DataType) -> bool {
        surface.primitive_width().is_some() || self.bytes() <= PAGE_BYTES_MAX
    }
}

impl Paged {
    /// The rows out of their pages; None: one of those could not be kept.
    fn gathered(&self, pages: &[Option<ArrayRef>], surface: &DataType) -> Result<Option<ArrayRef>> {
        if let [Some(page)] = pages {
            let at = UInt32Array::from_iter_values(self.places.iter().map(|(_, row)| *row as u32));
            return Ok(Some(take(page, &at, None)?));
        }
        let pages: Option<Vec<&dyn Array>> = pages.iter().map(Option::as_deref).collect();
        Ok(match pages {
            None => None,
            Some(pages) if pages.is_empty() => Some(arrow::array::new_empty_array(surface)),
            Some(pages) => Some(interleave(&pages, &self.places)?),
        })
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
