//! Vectors of a segment where they stand: for distances, without decoding.
//!
//! Owns: finding a row's components in the object's bytes, the check of each block before its first use. Does not own:
//! distances (`cairn_vector`), which rows are visible. A VECTOR column is plain and uncompressed, so the last
//! `values * width` bytes of a page are its values (Parquet, "Data Pages": levels come first).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::Array;
use bytes::Bytes;
use parquet::basic::Compression;
use roaring::RoaringBitmap;

use super::super::cache::{CacheKey, CacheValue};
use super::super::sink::BLOCK_BYTES;
use super::blocks::data_end;
use super::rows::root_batches;
use super::{BATCH_ROWS, RowChoice, SegmentReader};
use crate::error::{Error, Result};
use crate::schema::ColumnType;
use crate::version::Shared;

/// One page's rows and where its values begin.
#[derive(Clone, Debug)]
struct Page {
    rows: Range<u32>,
    values_at: usize,
}

/// The vectors of one column of one segment.
#[derive(Debug)]
pub(crate) struct SegmentVectors {
    path: String,
    bytes: Bytes,
    /// Checksums of blocks, and a bit for each block that was found right.
    blocks: Arc<[u32]>,
    right: Box<[AtomicU64]>,
    /// Bytes that blocks cover.
    end: usize,
    pages: Vec<Page>,
    width: usize,
    /// Rows without a vector, which take no place in their page.
    nulls: RoaringBitmap,
}

impl SegmentReader {
    /// The vectors of a column of the definition; None when the segment is older than the column.
    ///
    /// # Errors
    /// `Corrupt` when the pages are not those that were written, the store's.
    pub(crate) async fn vectors(
        &self,
        shared: &Shared,
        column: usize,
    ) -> Result<Option<Arc<SegmentVectors>>> {
        let Some(root) = self.opened.roots.get(column).copied().flatten() else { return Ok(None) };
        let definition = &self.def.columns[column];
        let key = CacheKey::Vectors(self.meta.id, definition.id);
        if let Some(CacheValue::Vectors(vectors)) = self.cache.get(key) {
            return Ok(Some(vectors));
        }
        let ColumnType::Vector(dim) = definition.column_type else {
            return Err(Error::internal(format!("column {} holds no vectors", definition.name)));
        };
        let nulls = self.null_rows(column, root).await?;
        let bytes = shared.bytes_in_place(&self.meta.path(), self.source.meter()).await?;
        let vectors = Arc::new(self.find_pages(root, 4 * usize::from(dim), nulls, bytes)?);
        let held = vectors.pages.len() * size_of::<Page>() + vectors.right.len() * 8;
        self.cache.put(key, CacheValue::Vectors(Arc::clone(&vectors)), held);
        Ok(Some(vectors))
    }

    /// Rows that take no place in the file. Statistics tell of them while they are those of the file.
    async fn null_rows(&self, column: usize, root: usize) -> Result<RoaringBitmap> {
        let mut nulls = RoaringBitmap::new();
        let known = self.meta.columns.get(column).filter(|_| !self.meta.reshaped);
        if known.is_some_and(|stats| stats.null_count == 0) {
            return Ok(nulls);
        }
        let mut batches = root_batches(self, &[root], RowChoice::All, BATCH_ROWS)?;
        let mut first = 0;
        while let Some(batch) = batches.next().await? {
            let array = batch.column(0);
            nulls.extend((0..array.len() as u32).filter(|&i| array.is_null(i as usize)).map(|i| first + i));
            first += array.len() as u32;
        }
        Ok(nulls)
    }

    fn find_pages(
        &self,
        root: usize,
        width: usize,
        nulls: RoaringBitmap,
        bytes: Bytes,
    ) -> Result<SegmentVectors> {
        let path = self.meta.path();
        let wrong = |what: &str| Error::corrupt(&path, format!("its vectors can't be read in place: {what}"));
        let end = usize::try_from(data_end(&self.meta).unwrap_or(0)).unwrap_or(0);
        if bytes.len() as u64 != self.meta.bytes {
            return Err(wrong(&format!("{} bytes instead of {}", bytes.len(), self.meta.bytes)));
        }
        let metadata = self.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let leaf = (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == root);
        let (Some(leaf), Some(offsets)) = (leaf, metadata.offset_index()) else {
            return Err(wrong("no page index"));
        };
        let mut pages = Vec::new();
        for (group, columns) in offsets.iter().enumerate() {
            let chunk = metadata.row_group(group).column(leaf);
            if chunk.compression() != Compression::UNCOMPRESSED || chunk.dictionary_page_offset().is_some() {
                return Err(wrong("compressed pages or a dictionary"));
            }
            let (from, to) = (self.opened.group_starts[group], self.opened.group_starts[group + 1]);
            let locations = columns.get(leaf).map_or(&[][..], |c| c.page_locations().as_slice());
            let firsts = locations.iter().map(|page| from + page.first_row_index.unsigned_abs());
            let ends = firsts.clone().skip(1).chain([to]);
            for (location, (first, last)) in locations.iter().zip(firsts.zip(ends)) {
                let rows = first as u32..last as u32;
                let values = u64::from(rows.end - rows.start) - nulls.range_cardinality(rows.clone());
                let page_end =
                    location.offset.unsigned_abs() + u64::from(location.compressed_page_size.unsigned_abs());
                let values_at = page_end.checked_sub(values * width as u64);
                match values_at.filter(|at| *at >= location.offset.unsigned_abs() && page_end <= end as u64) {
                    Some(at) => pages.push(Page { rows, values_at: at as usize }),
                    None => return Err(wrong("a page of another length")),
                }
            }
        }
        let blocks = Arc::clone(&self.opened.blocks);
        let right = (0..blocks.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(SegmentVectors { path, bytes, blocks, right, end, pages, width, nulls })
    }
}

impl SegmentVectors {
    /// The vector at a position as little-endian f32 at any alignment; None: NULL.
    ///
    /// # Errors
    /// `Corrupt` for a checksum mismatch, `Internal` for a position past the end.
    pub(crate) fn row(&self, position: u32) -> Result<Option<&[u8]>> {
        let page = self.pages.partition_point(|page| page.rows.end <= position);
        let Some(page) = self.pages.get(page).filter(|_| !self.nulls.contains(position)) else {
            if self.nulls.contains(position) {
                return Ok(None);
            }
            return Err(Error::internal("a position past the end of its segment"));
        };
        let before = position - page.rows.start - self.nulls_within(page.rows.start..position);
        let at = page.values_at + before as usize * self.width;
        self.checked(at..at + self.width).map(Some)
    }

    /// The rows `among`, page by page: (rows, the vectors of those that have one, one after the other).
    ///
    /// # Errors
    /// Each page's: `Corrupt` for a checksum mismatch.
    pub(crate) fn pages(&self, among: Range<u32>) -> impl Iterator<Item = Result<(Range<u32>, &[u8])>> {
        let first = self.pages.partition_point(|page| page.rows.end <= among.start);
        let end = among.end;
        self.pages[first..].iter().take_while(move |page| page.rows.start < end).map(move |page| {
            let rows = page.rows.start.max(among.start)..page.rows.end.min(among.end);
            let values = |rows: Range<u32>| ((rows.end - rows.start) - self.nulls_within(rows)) as usize;
            let at = page.values_at + values(page.rows.start..rows.start) * self.width;
            let bytes = self.checked(at..at + values(rows.clone()) * self.width)?;
            Ok((rows, bytes))
        })
    }

    /// Bytes of one vector.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Rows without a vector.
    pub(crate) fn nulls(&self) -> &RoaringBitmap {
        &self.nulls
    }

    fn nulls_within(&self, rows: Range<u32>) -> u32 {
        if self.nulls.is_empty() { 0 } else { self.nulls.range_cardinality(rows) as u32 }
    }

    /// Bytes whose blocks are right; a block is looked at once.
    fn checked(&self, range: Range<usize>) -> Result<&[u8]> {
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            let (word, bit) = (&self.right[block / 64], 1 << (block % 64));
            if word.load(Ordering::Relaxed) & bit == 0 {
                let start = block * BLOCK_BYTES;
                let bytes = &self.bytes[start..(start + BLOCK_BYTES).min(self.end)];
                if crc32c::crc32c(bytes) != self.blocks[block] {
                    return Err(Error::corrupt(
                        &self.path,
                        format!("checksum mismatch in the block at offset {start}"),
                    ));
                }
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(&self.bytes[range])
    }
}
