//! Finding rows by primary key: page bounds, then the key filter, then only the pages that may hold a key.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use object_store::path::Path;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::RowGroupMetaData;
use roaring::RoaringBitmap;

use super::super::cache::{CacheKey, CacheValue};
use super::super::checksum;
use super::super::filter::KeyFilter;
use super::super::key::{EncodedKey, EncodedKeys, KeyEncoder};
use super::{BATCH_ROWS, RowChoice, SegmentReader, decode_error};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::ColumnType;

/// Keys per batch of a sorted segment up to which single rows are probed instead of encoding the whole batch.
const PROBED_KEYS_MAX: usize = 32;
/// Keys up to which the pages they may be in are kept decoded: those are soon asked for again, those of a bulk write are not.
const KEPT_KEYS_MAX: usize = 8;

/// Rows in the pages that may hold the keys up to which those of other columns are read at once, from a distant store.
const ROWS_AHEAD_MAX: usize = 16 * 1024;
/// Bytes of a key filter that a distant store sends in hardly more time than a page.
const SMALL_FILTER_BYTES: u64 = 256 * 1024;

/// The `n`-th of the positions in `ranges`.
fn nth(ranges: &[Range<u32>], mut n: usize) -> Option<u32> {
    for range in ranges {
        match range.clone().nth(n) {
            Some(position) => return Some(position),
            None => n -= range.len(),
        }
    }
    None
}

/// Rows of one page of the first key column, with its bounds as encoded bytes of that column.
#[derive(Debug)]
pub(crate) struct KeyPage {
    rows: Range<u32>,
    min: Option<EncodedKey>,
    max: Option<EncodedKey>,
}

impl KeyPage {
    /// Which of the ascending `keys` it may hold. The first column's bytes are a prefix of a key and prefix-free, so
    /// comparing whole keys with them is exact.
    fn candidates(&self, keys: &[Wanted<'_>]) -> Range<usize> {
        let from = self.min.as_ref().map_or(0, |min| keys.partition_point(|k| k.key < min.as_bytes()));
        let to = self.max.as_ref().map_or(keys.len(), |max| {
            let max = max.as_bytes();
            keys.partition_point(|k| k.key <= max || k.key.starts_with(max))
        });
        from..to.max(from)
    }
}

struct Wanted<'a> {
    key: &'a [u8],
    /// Its place in the caller's slice.
    place: usize,
}

impl SegmentReader {
    /// For each of the ascending `keys` the position of its row, None where it is not there. Positions in `hidden`
    /// (deleted, or not yet visible) do not count: a checkpoint's segment may hold several versions of a key, of which
    /// at most one is visible. `encoder` is the table's ([`KeyEncoder::for_key`]).
    ///
    /// # Errors
    /// `Corrupt` for damage, `Internal` when the keys are not ascending, the store's.
    pub async fn lookup_keys(
        &self,
        encoder: &KeyEncoder,
        keys: &[EncodedKey],
        hidden: Option<&RoaringBitmap>,
    ) -> Result<Vec<Option<u32>>> {
        let mut found = vec![None; keys.len()];
        if !keys.is_sorted() {
            return Err(Error::internal("keys to look up are not ascending"));
        }
        let mut wanted: Vec<Wanted<'_>> =
            keys.iter().enumerate().map(|(place, key)| Wanted { key: key.as_bytes(), place }).collect();
        let indices = self.def.key_indices();
        let in_key_order = self.meta.sorted && self.def.sort_indices() == indices;
        let mut pages = self.key_pages()?;
        if in_key_order {
            pages = between(pages, &wanted);
        }
        if !pages.iter().any(|page| !page.candidates(&wanted).is_empty()) {
            return Ok(found);
        }
        // Derived from the segment: without it, as when there never was one, the pages tell. VERIFY names the loss.
        let mut is_ahead = false;
        let filter = match self.key_filter_pays(pages, &wanted) {
            true => match self.key_filter_and_pages(pages, &wanted, &mut is_ahead).await {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => None,
                other => other?,
            },
            false => None,
        };
        if let Some(filter) = filter {
            wanted.retain(|w| filter.contains(keys[w.place].filter_hash()));
        }
        let ranges = candidate_ranges(pages, &wanted);
        if ranges.is_empty() {
            return Ok(found);
        }
        if !is_ahead && self.reads_ahead(&ranges) {
            self.fetch_rows_ahead(&ranges).await?;
        }
        let visible = |position: &u32| hidden.is_none_or(|hidden| !hidden.contains(*position));
        let kept = match indices.as_slice() {
            [key] if in_key_order && wanted.len() <= KEPT_KEYS_MAX => self.kept_pages(*key, &ranges).await?,
            _ => vec![None; ranges.len()],
        };
        let mut decoded = Vec::new();
        for (range, kept) in ranges.into_iter().zip(kept) {
            let Some(page) = kept else {
                decoded.push(range);
                continue;
            };
            let page = RecordBatch::try_new(self.surface_schema(&indices), vec![page])?;
            search_sorted(encoder, &page, &wanted, &mut |place, row| {
                if let Some(position) = range.clone().nth(row).filter(visible) {
                    found[place] = Some(position);
                }
            })?;
        }
        if decoded.is_empty() {
            return Ok(found);
        }
        let probes = if in_key_order { HashMap::new() } else { by_key(&wanted) };
        let mut before = 0;
        let mut batches = self.batches(&indices, RowChoice::Ranges(&decoded), BATCH_ROWS)?;
        while let Some(batch) = batches.next().await? {
            let mut see = |place: usize, row: usize| {
                if let Some(position) = nth(&decoded, before + row).filter(visible) {
                    found[place] = Some(position);
                }
            };
            if in_key_order {
                search_sorted(encoder, &batch, &wanted, &mut see)?;
            } else {
                let encoded = encoder.encode(batch.columns())?;
                for (row, key) in encoded.iter().enumerate() {
                    for &place in probes.get(key).map_or(&[][..], Vec::as_slice) {
                        see(place, row);
                    }
                }
            }
            before += batch.num_rows();
        }
        Ok(found)
    }

    /// Whether the columns that are read next are worth being fetched with the pages that may hold a key.
    fn reads_ahead(&self, ranges: &[Range<u32>]) -> bool {
        let rows: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        self.source.is_distant() && !self.read_next.is_empty() && rows <= ROWS_AHEAD_MAX
    }

    async fn fetch_rows_ahead(&self, ranges: &[Range<u32>]) -> Result<()> {
        let columns = [self.def.key_indices().as_slice(), &*self.read_next].concat();
        self.fetch_pages_ahead(&columns, ranges).await
    }

    /// The key filter. Where it has to come from a distant store, and the row is read next, the pages that may hold it come at the same time: one
    /// after the other would be twice the wait, for a row that is mostly there. `is_ahead`: they came.
    async fn key_filter_and_pages(
        &self,
        pages: &[KeyPage],
        wanted: &[Wanted<'_>],
        is_ahead: &mut bool,
    ) -> Result<Option<Arc<KeyFilter>>> {
        let ranges = candidate_ranges(pages, wanted);
        if !self.reads_ahead(&ranges) || self.cache.peek(CacheKey::KeyFilter(self.meta.id)).is_some() {
            return self.key_filter().await;
        }
        let (filter, fetched) = futures::join!(self.key_filter(), self.fetch_rows_ahead(&ranges));
        // What did not come is asked for again by whoever needs it, and then its error is told.
        *is_ahead = fetched.is_ok();
        filter
    }

    /// Whether the key filter is to be asked. From a distant store it is not read for less than the pages it may save: that of a large
    /// segment in key order is thousands of times the page that may hold a key.
    fn key_filter_pays(&self, pages: &[KeyPage], wanted: &[Wanted<'_>]) -> bool {
        let Some(length) = self.meta.key_filter_bytes else { return false };
        if !self.source.is_distant() || length <= SMALL_FILTER_BYTES {
            return true;
        }
        if self.cache.peek(CacheKey::KeyFilter(self.meta.id)).is_some() {
            return true;
        }
        let rows: u64 = candidate_ranges(pages, wanted).iter().map(|range| range.len() as u64).sum();
        u128::from(length) * u128::from(self.meta.rows) <= u128::from(self.key_bytes()) * u128::from(rows)
    }

    /// Bytes of the key columns, as stored.
    fn key_bytes(&self) -> u64 {
        let roots: Vec<usize> =
            self.def.key_indices().iter().filter_map(|&column| self.opened.roots[column]).collect();
        let schema = self.metadata().file_metadata().schema_descr();
        let is_key = |leaf: &usize| roots.contains(&schema.get_column_root_idx(*leaf));
        let leaves: Vec<usize> = (0..schema.num_columns()).filter(is_key).collect();
        let of_group = |group: &RowGroupMetaData| -> u64 {
            leaves.iter().map(|leaf| group.column(*leaf).compressed_size().unsigned_abs()).sum()
        };
        self.metadata().row_groups().iter().map(of_group).sum()
    }

    /// The key filter, cached; None when the segment has none.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt` for damage, the store's.
    pub(crate) async fn key_filter(&self) -> Result<Option<Arc<KeyFilter>>> {
        let key = CacheKey::KeyFilter(self.meta.id);
        if let Some(CacheValue::KeyFilter(filter)) = self.cache.get(key) {
            return Ok(Some(filter));
        }
        let Some(filter) = self.read_key_filter().await? else { return Ok(None) };
        let filter = Arc::new(filter);
        self.cache.put(key, CacheValue::KeyFilter(Arc::clone(&filter)), filter.memory_bytes());
        Ok(Some(filter))
    }

    /// The key filter as it is stored; None when the segment has none.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt` for damage, the store's.
    pub(crate) async fn read_key_filter(&self) -> Result<Option<KeyFilter>> {
        let Some(length) = self.meta.key_filter_bytes else {
            return Ok(None);
        };
        let path = self.meta.key_filter_path();
        let bytes = self.source.read_beside(&Path::from(path.as_str())).await?;
        let ours = checksum::holds(&bytes, KeyFilter::OWN_CHECKSUM_BYTES, self.meta.key_filter_crc32c);
        if bytes.len() as u64 != length || !ours {
            // What a later Cairn says of it here may mean something else.
            KeyFilter::decode(&path, &bytes)?;
            return Err(Error::corrupt(&path, "it is not the key filter the segment's meta describes"));
        }
        Ok(Some(KeyFilter::decode(&path, &bytes)?))
    }

    fn key_pages(&self) -> Result<&[KeyPage]> {
        if let Some(pages) = self.opened.key_pages.get() {
            return Ok(pages);
        }
        let pages = self.make_key_pages()?;
        Ok(self.opened.key_pages.get_or_init(|| pages))
    }

    /// Pages of the first key column; the whole segment as one where the file has no page index.
    fn make_key_pages(&self) -> Result<Vec<KeyPage>> {
        let whole = || vec![KeyPage { rows: 0..self.meta.rows as u32, min: None, max: None }];
        let first = self.def.key_indices().first().copied();
        let Some((column, root)) = first.and_then(|i| Some((&self.def.columns[i], self.opened.roots[i]?)))
        else {
            return Ok(whole());
        };
        let metadata = self.metadata();
        let schema = self.opened.arrow.parquet_schema();
        let leaf = (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == root);
        let (Some(leaf), Some(indexes), Some(offsets)) =
            (leaf, metadata.column_index(), metadata.offset_index())
        else {
            return Ok(whole());
        };
        let mut rows = Vec::new();
        for (group, columns) in offsets.iter().enumerate() {
            let start = self.opened.group_starts[group];
            let locations = columns.get(leaf).map_or(&[][..], |c| c.page_locations().as_slice());
            let firsts = locations.iter().map(|page| start + page.first_row_index as u64);
            let ends = firsts.clone().skip(1).chain([self.opened.group_starts[group + 1]]);
            rows.extend(firsts.zip(ends).map(|(from, to)| from as u32..to as u32));
        }
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
        if mins.len() != rows.len() || maxes.len() != rows.len() {
            return Ok(whole());
        }
        let mins = page_bounds(&column.column_type, &mins)?;
        let mut maxes = page_bounds(&column.column_type, &maxes)?;
        if matches!(column.column_type, ColumnType::Float32 | ColumnType::Float64) {
            // Parquet leaves NaN, our largest value, out of its bounds.
            maxes.iter_mut().for_each(|max| *max = None);
        }
        Ok(rows
            .into_iter()
            .zip(mins)
            .zip(maxes)
            .map(|((rows, min), max)| KeyPage { rows, min, max })
            .collect())
    }
}

/// Each value encoded as the first column of a key; None for an unknown bound.
fn page_bounds(column_type: &ColumnType, values: &ArrayRef) -> Result<Vec<Option<EncodedKey>>> {
    let encoded =
        KeyEncoder::with_nulls(&[(column_type.clone(), true)])?.encode(std::slice::from_ref(values))?;
    // The marker byte says whether there is a value; the rest is the encoding without it.
    Ok(encoded
        .iter()
        .map(|key| key.split_first().filter(|(mark, _)| **mark == 0).map(|(_, k)| EncodedKey::new(k)))
        .collect())
}

/// Those of the `pages`, which ascend as their rows do, that are not before the first of the keys nor behind the last.
fn between<'a>(pages: &'a [KeyPage], wanted: &[Wanted<'_>]) -> &'a [KeyPage] {
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return &[] };
    let from = pages.partition_point(|page| {
        let max = page.max.as_ref().map(EncodedKey::as_bytes);
        max.is_some_and(|max| max < first.key && !first.key.starts_with(max))
    });
    let pages = &pages[from..];
    &pages[..pages.partition_point(|page| page.min.as_ref().is_none_or(|min| min.as_bytes() <= last.key))]
}

/// Rows of the pages that may hold one of the keys, merged where they meet.
fn candidate_ranges(pages: &[KeyPage], wanted: &[Wanted<'_>]) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for page in pages.iter().filter(|page| !page.candidates(wanted).is_empty()) {
        match ranges.last_mut() {
            Some(last) if last.end == page.rows.start => last.end = page.rows.end,
            _ => ranges.push(page.rows.clone()),
        }
    }
    ranges
}

fn by_key<'a>(wanted: &[Wanted<'a>]) -> HashMap<&'a [u8], Vec<usize>> {
    let mut map: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(wanted.len());
    for w in wanted {
        map.entry(w.key).or_default().push(w.place);
    }
    map
}

/// Calls `see(place, row)` for every wanted key at every row of `batch`, whose rows stand in key order.
fn search_sorted(
    encoder: &KeyEncoder,
    batch: &RecordBatch,
    wanted: &[Wanted<'_>],
    see: &mut impl FnMut(usize, usize),
) -> Result<()> {
    let rows = batch.num_rows();
    if rows == 0 {
        return Ok(());
    }
    let (first, last) = (encode_row(encoder, batch, 0)?, encode_row(encoder, batch, rows - 1)?);
    let from = wanted.partition_point(|w| w.key < first.get(0));
    let to = wanted.partition_point(|w| w.key <= last.get(0));
    let wanted = &wanted[from..to.max(from)];
    if wanted.len() > PROBED_KEYS_MAX {
        let encoded = encoder.encode(batch.columns())?;
        for w in wanted {
            let start = encoded.lower_bound(w.key);
            (start..rows).take_while(|&row| encoded.get(row) == w.key).for_each(|row| see(w.place, row));
        }
        return Ok(());
    }
    for w in wanted {
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = usize::midpoint(low, high);
            if encode_row(encoder, batch, middle)?.get(0) < w.key { low = middle + 1 } else { high = middle }
        }
        while low < rows && encode_row(encoder, batch, low)?.get(0) == w.key {
            see(w.place, low);
            low += 1;
        }
    }
    Ok(())
}

fn encode_row(encoder: &KeyEncoder, batch: &RecordBatch, row: usize) -> Result<EncodedKeys> {
    let columns: Vec<ArrayRef> = batch.columns().iter().map(|c| c.slice(row, 1)).collect();
    encoder.encode(&columns)
}
