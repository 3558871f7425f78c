//! Verified bytes of a segment: whole 64 KiB blocks, each checked against the footer's checksums.
//!
//! Two ways in: [`BlockSource::read_ranges`] reads and verifies without keeping (scans: the operating system caches),
//! [`BlockSource::read_cached`] goes through the [`SegmentCache`] (point reads: verified once per cache fill). What lies between the
//! ranges of a scan that were fetched together ([`read_apart`]) is neither verified nor used.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectStore, ObjectStoreExt};

use super::super::SegmentMeta;
use super::super::cache::{CacheKey, CacheValue, SegmentCache};
use super::super::encode::TRAILER_BYTES;
use super::super::sink::BLOCK_BYTES;
use crate::error::{Error, Result, missing};
use crate::id::ObjectId;
use crate::object::{
    CACHE_BLOCK_BYTES, CachedStore, PastCache, ReadMeter, read_apart, read_object, read_ranges, requests,
};
use crate::version::Expiry;

const BLOCK: u64 = BLOCK_BYTES as u64;

const _: () =
    assert!(BLOCK_BYTES == CACHE_BLOCK_BYTES, "whole blocks read are whole blocks of the cache on disk");

/// Where a segment's data bytes come from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BlockSource {
    store: Arc<dyn ObjectStore>,
    /// Counts what is read for one query.
    meter: Option<ReadMeter>,
    id: ObjectId,
    path: Path,
    /// Length of the object, footer included.
    length: u64,
    /// End of the blocks: where the footer begins.
    end: u64,
    blocks: Arc<[u32]>,
    /// None: what is gone is damage.
    expiry: Option<Expiry>,
    /// Whether each request takes long …
    distant: bool,
    /// … and what of `store` has some of the blocks on this machine's disk, so that only it knows which are worth fetching together.
    disk_cache: Option<Arc<CachedStore>>,
}

/// Offset of the footer: the length of what blocks cover.
pub(super) fn data_end(meta: &SegmentMeta) -> Option<u64> {
    meta.bytes.checked_sub(u64::from(meta.footer_bytes) + TRAILER_BYTES as u64)
}

/// Why a read failed: an object that is not as long as it was written is damaged, whatever the store calls it.
pub(super) async fn read_error(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    length: u64,
    error: object_store::Error,
) -> Error {
    match store.head(path).await {
        Ok(found) if found.size != length => {
            Error::corrupt(path, format!("{} bytes instead of {length}", found.size)).with_source(error)
        }
        _ => error.into(),
    }
}

impl BlockSource {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        meta: &SegmentMeta,
        blocks: Arc<[u32]>,
        meter: Option<ReadMeter>,
    ) -> Self {
        let end = data_end(meta).unwrap_or(0);
        let (path, length) = (super::path_of(meta), meta.bytes);
        Self {
            store,
            meter,
            id: meta.id,
            path,
            length,
            end,
            blocks,
            expiry: None,
            distant: false,
            disk_cache: None,
        }
    }

    /// The same; what it means that the object is gone.
    pub(super) fn expiring(self, expiry: Expiry) -> Self {
        Self { expiry: Some(expiry), ..self }
    }

    /// The same, of a store where each request takes long, but for what `disk_cache`, a part of it, has.
    pub(super) fn distant(self, disk_cache: Option<Arc<CachedStore>>) -> Self {
        Self { distant: true, disk_cache, ..self }
    }

    /// Whether each request takes long.
    pub(super) fn is_distant(&self) -> bool {
        self.distant
    }

    /// Whether a read of `ranges` asks no store where each request takes long, as far as a look tells; nothing is read for that.
    pub(super) fn is_near(&self, ranges: impl IntoIterator<Item = Range<u64>>) -> bool {
        let has = |disk_cache: &Arc<CachedStore>| {
            disk_cache.has(&self.path, &ranges.into_iter().collect::<Vec<_>>())
        };
        !self.distant || self.disk_cache.as_ref().is_some_and(has)
    }

    /// Whether nothing between here and a distant store has an opinion on how ranges become requests.
    fn is_apart(&self) -> bool {
        self.distant && self.disk_cache.is_none()
    }

    /// Bytes that are in memory after a read of `ranges` as long as one of its answers is.
    pub(super) fn held_bytes(&self, ranges: &[Range<u64>]) -> Result<u64> {
        let rounded = self.rounded(ranges)?;
        let fetched = if self.is_apart() { requests(&rounded) } else { rounded };
        Ok(fetched.iter().map(|range| range.end - range.start).sum())
    }

    pub(super) fn meter(&self) -> Option<&ReadMeter> {
        self.meter.as_ref()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let mut read = self.read_ranges(std::slice::from_ref(&range)).await?;
        read.pop().ok_or_else(|| Error::internal("no bytes for a range"))
    }

    /// Bytes of each range; neighbouring ranges are read together.
    pub(super) async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let merged = self.rounded(ranges)?;
        let meter = self.meter.as_ref();
        let read = match self.is_apart() {
            true => self.told(read_apart(&*self.store, &self.path, &merged, meter).await).await?,
            false => self.fetch(&merged).await?,
        };
        for (range, bytes) in merged.iter().zip(&read) {
            self.verify(range, bytes)?;
        }
        ranges
            .iter()
            .map(|range| {
                let found = merged.partition_point(|m| m.start <= range.start).saturating_sub(1);
                match (merged.get(found), read.get(found)) {
                    (Some(whole), Some(bytes)) if range.start < range.end => {
                        Ok(bytes
                            .slice((range.start - whole.start) as usize..(range.end - whole.start) as usize))
                    }
                    _ => Ok(Bytes::new()),
                }
            })
            .collect()
    }

    /// As [`read_ranges`](Self::read_ranges), block by block through the cache.
    pub(super) async fn read_cached(
        &self,
        cache: &SegmentCache,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        let (numbers, found) = self.cached_blocks(cache, ranges).await?;
        ranges.iter().map(|range| assemble(range, &numbers, &found)).collect()
    }

    /// Brings the blocks of `ranges` into the cache, together: whoever reads them next, one after another, finds them there.
    pub(super) async fn fetch_ahead(&self, cache: &SegmentCache, ranges: &[Range<u64>]) -> Result<()> {
        self.cached_blocks(cache, ranges).await.map(|_| ())
    }

    /// The numbers of the blocks of `ranges`, ascending, and the blocks, all found.
    async fn cached_blocks(
        &self,
        cache: &SegmentCache,
        ranges: &[Range<u64>],
    ) -> Result<(Vec<u32>, Vec<Option<Bytes>>)> {
        let mut numbers: Vec<u32> = self.rounded(ranges)?.iter().flat_map(block_numbers).collect();
        numbers.dedup();
        let mut found = cache.blocks(self.id, &numbers);
        let missing: Vec<(usize, Range<u64>)> = numbers
            .iter()
            .zip(&found)
            .enumerate()
            .filter(|(_, (_, block))| block.is_none())
            .map(|(i, (&number, _))| (i, self.block_range(number)))
            .collect();
        if !missing.is_empty() {
            let ranges: Vec<Range<u64>> = missing.iter().map(|(_, range)| range.clone()).collect();
            let read = self.fetch(&ranges).await?;
            for ((i, range), bytes) in missing.iter().zip(read) {
                self.verify(range, &bytes)?;
                // A copy, so that a kept block does not hold on to the larger buffer it was read in.
                let block = Bytes::copy_from_slice(&bytes);
                cache.put(
                    CacheKey::Block(self.id, numbers[*i]),
                    CacheValue::Block(block.clone()),
                    block.len(),
                );
                found[*i] = Some(block);
            }
        }
        Ok((numbers, found))
    }

    /// All of another object, which belongs to the segment.
    pub(super) async fn read_beside(&self, path: &Path) -> Result<Bytes> {
        Ok(read_object(&*self.store, path, self.meter.as_ref()).await?)
    }

    /// The segment's object as the store has it, past every cache.
    pub(super) async fn stored(&self) -> Result<GetResult> {
        Ok(self.store.get_opts(&self.path, PastCache::attach(GetOptions::new())).await?)
    }

    async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.told(read_ranges(&*self.store, &self.path, ranges, self.meter.as_ref()).await).await
    }

    /// What a read gave, with errors that name the object.
    async fn told(&self, read: object_store::Result<Vec<Bytes>>) -> Result<Vec<Bytes>> {
        match read {
            Ok(bytes) => Ok(bytes),
            Err(object_store::Error::NotFound { .. }) => Err(match &self.expiry {
                Some(expiry) => expiry.missing(self.path.as_ref()),
                None => missing(self.path.as_ref()),
            }),
            Err(error) => Err(read_error(&self.store, &self.path, self.length, error).await),
        }
    }

    /// The ranges widened to whole blocks, merged where they meet, ascending.
    fn rounded(&self, ranges: &[Range<u64>]) -> Result<Vec<Range<u64>>> {
        let mut sorted: Vec<&Range<u64>> = ranges.iter().filter(|r| r.start < r.end).collect();
        sorted.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for range in sorted {
            if range.end > self.end {
                return Err(Error::corrupt(
                    &self.path,
                    format!(
                        "bytes {}..{} are asked for, the data ends at {}",
                        range.start, range.end, self.end
                    ),
                ));
            }
            let (start, end) = (range.start / BLOCK * BLOCK, range.end.next_multiple_of(BLOCK).min(self.end));
            match merged.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => merged.push(start..end),
            }
        }
        Ok(merged)
    }

    fn block_range(&self, number: u32) -> Range<u64> {
        let start = u64::from(number) * BLOCK;
        start..(start + BLOCK).min(self.end)
    }

    /// Checks the blocks of `range`, which begins at a block's start and ends at a block's end.
    pub(super) fn verify(&self, range: &Range<u64>, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != range.end - range.start {
            return Err(Error::corrupt(
                &self.path,
                format!(
                    "{} bytes at offset {} instead of {}",
                    bytes.len(),
                    range.start,
                    range.end - range.start
                ),
            ));
        }
        let first = (range.start / BLOCK) as usize;
        for (n, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if self.blocks.get(first + n) != Some(&crc32c::crc32c(block)) {
                let offset = range.start + (n * BLOCK_BYTES) as u64;
                return Err(Error::corrupt(
                    &self.path,
                    format!("checksum mismatch in block {} at offset {offset}", first + n),
                )
                .with_hint("run VERIFY to see what else is damaged; restore the object from a copy"));
            }
        }
        Ok(())
    }
}

fn block_numbers(range: &Range<u64>) -> Range<u32> {
    (range.start / BLOCK) as u32..range.end.div_ceil(BLOCK) as u32
}

/// The bytes of `range` from the blocks `numbers`, all found.
fn assemble(range: &Range<u64>, numbers: &[u32], blocks: &[Option<Bytes>]) -> Result<Bytes> {
    if range.start >= range.end {
        return Ok(Bytes::new());
    }
    let wanted = block_numbers(range);
    let first = numbers.partition_point(|&n| n < wanted.start);
    let skip = (range.start % BLOCK) as usize;
    let length = (range.end - range.start) as usize;
    let blocks: Option<Vec<&Bytes>> =
        blocks.iter().skip(first).take(wanted.len()).map(Option::as_ref).collect();
    let whole = match blocks.as_deref() {
        Some([one]) => (*one).clone(),
        Some(many) => {
            let mut joined = BytesMut::with_capacity(many.iter().map(|b| b.len()).sum());
            many.iter().for_each(|block| joined.extend_from_slice(block));
            joined.freeze()
        }
        None => Bytes::new(),
    };
    if whole.len() < skip + length {
        return Err(Error::internal("blocks do not cover a range"));
    }
    Ok(whole.slice(skip..skip + length))
}
