//! Row ids and created versions: from the meta where they are arithmetic, else from the pseudo-columns.
//!
//! Owns: which way they are read. A few rows cost the pages that hold them (8,192 rows, 64 KiB decoded, kept while there is room); by id only those pages
//! whose bounds the id is within, by which a segment whose ids ascend costs one page, and one that was merged by key all of them. Many rows, many
//! pages, or a small column, cost the whole column, which is kept too: 8 bytes a row, 12 where ids don't ascend. In a distant store the column is a request for
//! each row group, one after the other: a small one is read whole there only where it is one request. What was found by either way is noted in
//! [`Places`](super::super::places::Places), which answer first (`version`).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::UInt64Type;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use roaring::RoaringBitmap;

use super::super::cache::{CacheKey, CacheValue};
use super::super::{Created, RowIds};
use super::points::{Page, ROWS_MAX};
use super::rows::{kept_batches, root_batches};
use super::{BATCH_ROWS, RowChoice, SegmentReader, decode_error};
use crate::error::{Error, Result};
use crate::id::{CommitVersion, RowId};

/// A column is read whole for more than one in so many of its pages.
const PAGES_SHARE: usize = 4;

/// A column of so many bytes as stored is read whole, and kept: it takes hardly longer than a page of it.
const SMALL_COLUMN_BYTES: u64 = 256 * 1024;

/// One page of row ids.
#[derive(Debug)]
pub(crate) struct IdPage {
    rows: Range<u32>,
    min: u64,
    max: u64,
}

/// A pseudo-column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    RowIds,
    Versions,
}

/// A pseudo-column in memory.
#[derive(Debug)]
pub(crate) struct NumberColumn {
    values: Vec<u64>,
    /// Positions in order of their value; None: the values ascend already.
    order: Option<Vec<u32>>,
}

impl NumberColumn {
    fn new(values: Vec<u64>) -> Self {
        let order = (!values.is_sorted()).then(|| {
            let mut order: Vec<u32> = (0..values.len() as u32).collect();
            order.sort_unstable_by_key(|&position| values[position as usize]);
            order
        });
        Self { values, order }
    }

    fn memory_bytes(&self) -> usize {
        self.values.len() * 8 + self.order.as_ref().map_or(0, |o| o.len() * 4)
    }

    /// The value at a position.
    pub(crate) fn value(&self, position: u32) -> Option<u64> {
        self.values.get(position as usize).copied()
    }

    /// The values with their positions, in order of the values.
    pub(crate) fn ascending(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        (0..self.values.len()).filter_map(move |place| {
            let position = match &self.order {
                None => place as u32,
                Some(order) => *order.get(place)?,
            };
            self.value(position).map(|value| (value, position))
        })
    }

    /// Position of `value`, if there.
    pub(crate) fn find(&self, value: u64) -> Option<u32> {
        match &self.order {
            None => self.values.binary_search(&value).ok().map(|position| position as u32),
            Some(order) => {
                let found =
                    order.binary_search_by_key(&value, |&position| self.values[position as usize]).ok()?;
                order.get(found).copied()
            }
        }
    }
}

impl SegmentReader {
    /// For each row id its position, None where this segment does not hold it.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub async fn positions_of_row_ids(&self, ids: &[RowId]) -> Result<Vec<Option<u32>>> {
        if let RowIds::Base(base) = self.meta.row_ids {
            let position =
                |id: &RowId| id.0.checked_sub(base.0).filter(|&p| p < self.meta.rows).map(|p| p as u32);
            return Ok(ids.iter().map(position).collect());
        }
        let (min, max) = (self.meta.min_row_id, self.meta.max_row_id);
        if self.meta.rows == 0 || ids.iter().all(|id| *id < min || *id > max) {
            return Ok(vec![None; ids.len()]);
        }
        let found = match self.find_in_pages(ids).await? {
            Some(found) => found,
            None => {
                let column = self.row_id_column().await?;
                ids.iter().map(|id| column.find(id.0)).collect()
            }
        };
        if ids.len() <= ROWS_MAX {
            self.note_places(ids.iter().zip(&found).filter_map(|(id, p)| p.map(|p| (*id, p))));
        }
        Ok(found)
    }

    fn note_places(&self, rows: impl IntoIterator<Item = (RowId, u32)>) {
        self.cache.places().note(self.meta.table, self.meta.id, rows);
    }

    /// The row ids at these positions (in any order).
    ///
    /// # Errors
    /// `Internal` for a position past the end, `Corrupt` for damage, the store's.
    pub async fn row_ids_at(&self, positions: &[u32]) -> Result<Vec<RowId>> {
        if positions.iter().any(|&p| u64::from(p) >= self.meta.rows) {
            return Err(Error::internal("a position past the end of its segment"));
        }
        if let RowIds::Base(base) = self.meta.row_ids {
            return Ok(positions.iter().map(|&p| RowId(base.0 + u64::from(p))).collect());
        }
        let ids = self.numbers_at(Numbers::RowIds, positions).await?;
        let ids: Vec<RowId> = ids.into_iter().map(RowId).collect();
        if positions.len() <= ROWS_MAX {
            self.note_places(ids.iter().copied().zip(positions.iter().copied()));
        }
        Ok(ids)
    }

    /// Where that stands which [`row_ids_at`](Self::row_ids_at) reads for rows in `ranges`; nothing where it is known already.
    pub(super) fn row_ids_ahead(&self, ranges: &[Range<u32>]) -> Vec<Range<u64>> {
        let is_known = self.meta.row_ids != RowIds::Column
            || self.cache.peek(self.number_key(Numbers::RowIds)).is_some();
        let leaf = self.opened.row_id_root.and_then(|root| self.leaf_of(root));
        match leaf.filter(|_| !is_known) {
            None => Vec::new(),
            Some(leaf) if self.pages_max(leaf) > 0 => self.stored_pages(leaf, ranges),
            Some(leaf) => {
                let all = 0..u32::try_from(self.meta.rows).unwrap_or(u32::MAX);
                self.stored_pages(leaf, std::slice::from_ref(&all))
            }
        }
    }

    /// The created versions at these positions (in any order).
    ///
    /// # Errors
    /// As [`row_ids_at`](Self::row_ids_at).
    pub async fn versions_at(&self, positions: &[u32]) -> Result<Vec<CommitVersion>> {
        if positions.iter().any(|&p| u64::from(p) >= self.meta.rows) {
            return Err(Error::internal("a position past the end of its segment"));
        }
        if let Created::Constant(version) = self.meta.created {
            return Ok(vec![version; positions.len()]);
        }
        let versions = self.numbers_at(Numbers::Versions, positions).await?;
        Ok(versions.into_iter().map(CommitVersion).collect())
    }

    /// Positions created after `version`, not visible there yet; None: there are none.
    ///
    /// # Errors
    /// `Corrupt` for damage, the store's.
    pub async fn created_after(&self, version: CommitVersion) -> Result<Option<RoaringBitmap>> {
        if self.meta.max_created <= version || self.meta.rows == 0 {
            return Ok(None);
        }
        if self.meta.min_created > version {
            let mut all = RoaringBitmap::new();
            all.insert_range(0..=(self.meta.rows - 1) as u32);
            return Ok(Some(all));
        }
        let column = self.version_column().await?;
        let later = (0..).zip(&column.values).filter(|(_, v)| **v > version.0).map(|(position, _)| position);
        Ok(Some(later.collect()))
    }

    pub(crate) async fn row_id_column(&self) -> Result<Arc<NumberColumn>> {
        self.number_column(Numbers::RowIds).await
    }

    async fn version_column(&self) -> Result<Arc<NumberColumn>> {
        self.number_column(Numbers::Versions).await
    }

    fn number_key(&self, numbers: Numbers) -> CacheKey {
        match numbers {
            Numbers::RowIds => CacheKey::RowIds(self.meta.id),
            Numbers::Versions => CacheKey::Versions(self.meta.id),
        }
    }

    fn number_root(&self, numbers: Numbers) -> Result<usize> {
        let root = match numbers {
            Numbers::RowIds => self.opened.row_id_root,
            Numbers::Versions => self.opened.version_root,
        };
        root.ok_or_else(|| Error::corrupt(self.source.path(), "it lacks a column its meta names"))
    }

    /// The numbers at positions that are there, in the order of those.
    async fn numbers_at(&self, numbers: Numbers, positions: &[u32]) -> Result<Vec<u64>> {
        let pages = match self.cache.peek(self.number_key(numbers)) {
            Some(_) => None,
            None => self.pages_with(numbers, positions)?,
        };
        let Some(pages) = pages else {
            let column = self.number_column(numbers).await?;
            return Ok(positions.iter().map(|&p| column.values[p as usize]).collect());
        };
        let arrays = self.number_pages(numbers, &pages).await?;
        let value = |&position: &u32| {
            let at = pages.partition_point(|page| page.rows.end <= position);
            let page = pages.get(at).zip(arrays.get(at)).filter(|(page, _)| page.rows.contains(&position));
            let place = page.map(|(page, array)| (array, (position - page.rows.start) as usize));
            let values = place.and_then(|(array, row)| Some((array.as_primitive_opt::<UInt64Type>()?, row)));
            values.filter(|(values, row)| *row < values.len()).map(|(values, row)| values.value(row))
        };
        let found: Option<Vec<u64>> = positions.iter().map(value).collect();
        found.ok_or_else(|| Error::corrupt(self.source.path(), "a page of a pseudo-column lacks rows"))
    }

    /// The pages that hold `positions`, ascending; None: all of the column is to be read.
    fn pages_with(&self, numbers: Numbers, positions: &[u32]) -> Result<Option<Vec<Page>>> {
        let root = self.number_root(numbers)?;
        let (Some(leaf), true) = (self.leaf_of(root), positions.len() <= ROWS_MAX) else { return Ok(None) };
        let most = self.pages_max(leaf);
        let mut sorted = positions.to_vec();
        sorted.sort_unstable();
        let mut pages: Vec<Page> = Vec::new();
        for position in sorted {
            if pages.last().is_some_and(|page| page.rows.contains(&position)) {
                continue;
            }
            match self.page_of(leaf, position).filter(|page| page.rows.contains(&position)) {
                Some(page) if pages.len() < most => pages.push(page),
                _ => return Ok(None),
            }
        }
        Ok(Some(pages))
    }

    fn leaf_of(&self, root: usize) -> Option<usize> {
        self.opened.leaves.get(root).copied().flatten()
    }

    /// Up to how many pages of a pseudo-column are read one by one.
    fn pages_max(&self, leaf: usize) -> usize {
        let groups = self.metadata().row_groups();
        let stored: u64 =
            groups.iter().map(|group| group.column(leaf).compressed_size().unsigned_abs()).sum();
        let is_scattered = self.source.is_distant() && groups.len() > 1;
        if stored <= SMALL_COLUMN_BYTES && !is_scattered {
            return 0;
        }
        let groups = self.metadata().offset_index().map_or(&[][..], |groups| groups.as_slice());
        let columns = groups.iter().filter_map(|columns| columns.get(leaf));
        let pages: usize = columns.map(|column| column.page_locations().len()).sum();
        (pages / PAGES_SHARE).max(usize::from(is_scattered && pages > 0))
    }

    /// Pages of a pseudo-column, decoded, from the cache or into it while it has room. Those that are missing are fetched together.
    async fn number_pages(&self, numbers: Numbers, pages: &[Page]) -> Result<Vec<ArrayRef>> {
        let root = self.number_root(numbers)?;
        let key = |page: &Page| CacheKey::NumberPage(self.meta.id, root, page.rows.start);
        let kept = |page: &Page| match self.cache.get(key(page)) {
            Some(CacheValue::Decoded(array)) => Some(array),
            _ => None,
        };
        let mut arrays: Vec<Option<ArrayRef>> = pages.iter().map(kept).collect();
        let missing: Vec<&Page> =
            arrays.iter().zip(pages).filter(|(array, _)| array.is_none()).map(|(_, page)| page).collect();
        if missing.len() > 1 {
            let stored = missing.iter().flat_map(|page| [page.stored.clone(), page.dictionary.clone()]);
            self.source.fetch_ahead(&self.cache, &stored.collect::<Vec<_>>()).await?;
        }
        for (array, page) in arrays.iter_mut().zip(pages).filter(|(array, _)| array.is_none()) {
            let range = std::slice::from_ref(&page.rows);
            let mut batches = root_batches(self, &[root], RowChoice::Ranges(range), page.rows.len())?;
            let mut parts: Vec<ArrayRef> = Vec::new();
            while let Some(batch) = batches.next().await? {
                parts.push(Arc::clone(batch.column(0)));
            }
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            if parts.is_empty() {
                return Err(Error::corrupt(self.source.path(), "a page of a pseudo-column lacks rows"));
            }
            let read = arrow::compute::concat(&parts)?;
            let held = read.get_array_memory_size();
            if self.cache.admits_decoded(held) {
                self.cache.put(key(page), CacheValue::Decoded(Arc::clone(&read)), held);
            }
            *array = Some(read);
        }
        Ok(arrays.into_iter().flatten().collect())
    }

    /// For each row id its position, by the pages it may be in; None: those are too many, or all of the column is in memory.
    async fn find_in_pages(&self, ids: &[RowId]) -> Result<Option<Vec<Option<u32>>>> {
        if ids.len() > ROWS_MAX || self.cache.peek(self.number_key(Numbers::RowIds)).is_some() {
            return Ok(None);
        }
        let bounds = self.id_pages()?;
        if bounds.is_empty() {
            return Ok(None);
        }
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|&at| ids[at]);
        let root = self.number_root(Numbers::RowIds)?;
        let leaf = self.leaf_of(root);
        let most = leaf.map_or(0, |leaf| self.pages_max(leaf));
        let mut pages = Vec::new();
        for page in bounds {
            let first = order.partition_point(|&at| ids[at].0 < page.min);
            if order.get(first).is_none_or(|&at| ids[at].0 > page.max) {
                continue;
            }
            let stored = leaf.and_then(|leaf| self.page_of(leaf, page.rows.start));
            match stored.filter(|stored| stored.rows == page.rows) {
                Some(stored) if pages.len() < most => pages.push(stored),
                _ => return Ok(None),
            }
        }
        let mut found = vec![None; ids.len()];
        for (page, array) in pages.iter().zip(self.number_pages(Numbers::RowIds, &pages).await?) {
            let values = array.as_primitive_opt::<UInt64Type>();
            let values = values
                .ok_or_else(|| Error::corrupt(self.source.path(), "a pseudo-column has a wrong type"))?;
            for (position, value) in page.rows.clone().zip(values.values().iter()) {
                let first = order.partition_point(|&at| ids[at].0 < *value);
                for &at in order[first..].iter().take_while(|&&at| ids[at].0 == *value) {
                    found[at] = Some(position);
                }
            }
        }
        Ok(Some(found))
    }

    /// Bounds of the pages of row ids; none where the file does not tell.
    fn id_pages(&self) -> Result<&[IdPage]> {
        if let Some(pages) = self.opened.row_id_pages.get() {
            return Ok(pages);
        }
        let pages = self.make_id_pages()?.unwrap_or_default();
        Ok(self.opened.row_id_pages.get_or_init(|| pages))
    }

    fn make_id_pages(&self) -> Result<Option<Vec<IdPage>>> {
        let root = self.number_root(Numbers::RowIds)?;
        let metadata = self.metadata();
        let (Some(leaf), Some(indexes), Some(offsets)) =
            (self.leaf_of(root), metadata.column_index(), metadata.offset_index())
        else {
            return Ok(None);
        };
        let path = self.source.path().as_ref();
        let schema = self.file_schema();
        let converter = StatisticsConverter::from_column_index(
            leaf,
            schema.field(root),
            self.opened.arrow.parquet_schema(),
        )
        .map_err(|e| decode_error(path, e))?;
        let groups: Vec<usize> = (0..metadata.num_row_groups()).collect();
        let mins = converter.data_page_mins(indexes, offsets, &groups).map_err(|e| decode_error(path, e))?;
        let maxes =
            converter.data_page_maxes(indexes, offsets, &groups).map_err(|e| decode_error(path, e))?;
        let numbers = (mins.as_primitive_opt::<UInt64Type>(), maxes.as_primitive_opt::<UInt64Type>());
        let (Some(mins), Some(maxes)) = numbers else { return Ok(None) };
        if mins.null_count() > 0 || maxes.null_count() > 0 || mins.len() != maxes.len() {
            return Ok(None);
        }
        let mut pages = Vec::with_capacity(mins.len());
        let mut next = 0;
        for (min, max) in mins.values().iter().zip(maxes.values()) {
            let Some(page) = self.page_of(leaf, next) else { return Ok(None) };
            next = page.rows.end;
            pages.push(IdPage { rows: page.rows, min: *min, max: *max });
        }
        Ok((u64::from(next) == self.meta.rows).then_some(pages))
    }

    async fn number_column(&self, numbers: Numbers) -> Result<Arc<NumberColumn>> {
        let key = self.number_key(numbers);
        if let Some(CacheValue::Numbers(column)) = self.cache.get(key) {
            return Ok(column);
        }
        let root = self.number_root(numbers)?;
        let mut values = Vec::with_capacity(self.meta.rows as usize);
        let is_ahead =
            self.source.is_distant() && self.leaf_of(root).is_some_and(|leaf| self.pages_max(leaf) == 0);
        let mut batches = match is_ahead {
            true => kept_batches(self, &[root], BATCH_ROWS)?,
            false => root_batches(self, &[root], RowChoice::All, BATCH_ROWS)?,
        };
        while let Some(batch) = batches.next().await? {
            let array = batch.column(0).as_primitive_opt::<UInt64Type>();
            let array = array
                .ok_or_else(|| Error::corrupt(self.source.path(), "a pseudo-column has a wrong type"))?;
            values.extend_from_slice(array.values());
        }
        let column = Arc::new(match numbers {
            Numbers::RowIds => NumberColumn::new(values),
            Numbers::Versions => NumberColumn { values, order: None },
        });
        self.cache.put(key, CacheValue::Numbers(Arc::clone(&column)), column.memory_bytes());
        Ok(column)
    }
}
