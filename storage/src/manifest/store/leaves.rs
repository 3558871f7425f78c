//! Segment lists: inline while small, else in leaves that are written once and kept while their segments stay the same.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use xxhash_rust::xxh3::xxh3_128;

use super::ManifestStore;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, ObjectIds};
use crate::manifest::codec::{decode_leaf, encode_leaf};
use crate::manifest::invariants;
use crate::manifest::model::{LeafRef, SegmentEntry, SegmentList, TableRecord};

/// A list of less JSON than this stands in the root.
pub(crate) const INLINE_BYTES: usize = 256 << 10;
/// Segments of a new leaf; one that grew to more than twice as many is cut.
const LEAF_SEGMENTS: usize = 4096;
/// Leaves read at the same time.
const PARALLEL_READS: usize = 8;

/// Path of a leaf below the root.
#[must_use]
pub(crate) fn leaf_path(id: ObjectId) -> String {
    format!("manifest/leaf/{id}")
}

impl ManifestStore {
    /// The list of `segments` for a manifest, in order of segment ids. New leaves are durable at return; those of
    /// `previous` (the table's list in the manifest before) whose content stays are named again. `ids` are this writer's.
    ///
    /// # Errors
    /// `Internal` when the segments break an invariant; else what the store answers.
    pub async fn store_segments(
        &self,
        mut segments: Vec<SegmentEntry>,
        previous: Option<&SegmentList>,
        ids: &ObjectIds,
    ) -> Result<SegmentList> {
        segments.sort_by_key(|entry| entry.segment.id);
        invariants::check_segments(&segments).map_err(|broken| broken.before_write())?;
        if json_bytes(&segments)? < self.inline_bytes {
            return Ok(SegmentList::Inline(segments));
        }
        let known: &[LeafRef] = match previous {
            Some(SegmentList::Leaves(leaves)) => leaves,
            Some(SegmentList::Inline(_)) | None => &[],
        };
        let mut leaves = Vec::new();
        for part in cut(&segments, known) {
            leaves.push(self.store_leaf(part, known, ids).await?);
        }
        Ok(SegmentList::Leaves(leaves))
    }

    async fn store_leaf(&self, part: &[SegmentEntry], known: &[LeafRef], ids: &ObjectIds) -> Result<LeafRef> {
        let bytes = encode_leaf(part)?;
        let xxh3 = format!("{:032x}", xxh3_128(&bytes));
        let length = bytes.len() as u64;
        if let Some(same) = known.iter().find(|leaf| leaf.xxh3 == xxh3 && leaf.bytes == length) {
            return Ok(same.clone());
        }
        let Some(first) = part.first() else {
            return Err(Error::internal("an empty manifest leaf"));
        };
        let leaf = LeafRef {
            id: ids.next(),
            first: first.segment.id,
            segments: part.len() as u64,
            rows: part.iter().map(|entry| entry.segment.rows).sum(),
            bytes: length,
            crc32c: crc32c::crc32c(&bytes),
            xxh3,
        };
        self.create_leaf(&leaf_path(leaf.id), bytes).await?;
        Ok(leaf)
    }

    /// Its id is this writer's alone, so bytes that stand there already are a lost reply, or another writer's of our epoch.
    async fn create_leaf(&self, path: &str, bytes: Bytes) -> Result<()> {
        match self.create_or_find(path, bytes.clone()).await.map_err(|(error, _)| error)? {
            Some(found) if found != bytes => {
                Err(Error::new(ErrorKind::Fenced, format!("{path} was written by another writer"))
                    .with_hint("reopen the database; this handle only reads from now on"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The segments of a list, checked among themselves.
    ///
    /// # Errors
    /// `Corrupt` naming the leaf that is missing or damaged.
    pub async fn load_segments(&self, list: &SegmentList) -> Result<Vec<SegmentEntry>> {
        let (segments, what) = match list {
            SegmentList::Inline(segments) => (segments.clone(), "an inline segment list".to_owned()),
            SegmentList::Leaves(leaves) => {
                // Boxed: a borrowing closure here would keep the callers' futures from being Send.
                let mut loads: Vec<BoxFuture<'_, Result<Vec<SegmentEntry>>>> = Vec::new();
                for leaf in leaves {
                    loads.push(self.load_leaf(leaf).boxed());
                }
                let parts: Vec<Vec<SegmentEntry>> =
                    futures::stream::iter(loads).buffered(PARALLEL_READS).try_collect().await?;
                (parts.into_iter().flatten().collect(), "a segment list in leaves".to_owned())
            }
        };
        invariants::check_segments(&segments).map_err(|broken| broken.after_read(&what))?;
        Ok(segments)
    }

    /// The segments of a table, checked against its record as well.
    ///
    /// # Errors
    /// As [`ManifestStore::load_segments`].
    pub async fn load_table(&self, table: &TableRecord) -> Result<Vec<SegmentEntry>> {
        let segments = self.load_segments(&table.segments).await?;
        invariants::check_table_segments(table, &segments).map_err(|broken| {
            broken.after_read(&format!("the segment list of table {}", table.def.qualified_name()))
        })?;
        Ok(segments)
    }

    async fn load_leaf(&self, leaf: &LeafRef) -> Result<Vec<SegmentEntry>> {
        let path = leaf_path(leaf.id);
        let Some(bytes) = self.fetch(&path).await? else {
            return Err(Error::corrupt(&path, "a manifest names it, but it is missing")
                .with_hint("restore it from a backup; the manifest before may still be whole"));
        };
        if bytes.len() as u64 != leaf.bytes || crc32c::crc32c(&bytes) != leaf.crc32c {
            return Err(Error::corrupt(&path, "it is not the leaf that the manifest names"));
        }
        let segments = decode_leaf(&path, &bytes)?;
        let rows = segments.iter().try_fold(0_u64, |rows, entry| rows.checked_add(entry.segment.rows));
        if segments.len() as u64 != leaf.segments || rows != Some(leaf.rows) {
            return Err(Error::corrupt(&path, "its totals are not those in the manifest"));
        }
        Ok(segments)
    }
}

fn json_bytes(segments: &[SegmentEntry]) -> Result<usize> {
    /// Counts instead of keeping.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, segments)
        .map_err(|e| Error::internal(format!("a segment list can't be written: {e}")))?;
    Ok(count.0)
}

/// Cuts segments (sorted by id) at the first ids of the leaves before, so that a leaf whose segments stay the same keeps
/// its bytes; a part that grew too long is cut again, one that shrank to little joins the next.
fn cut<'a>(segments: &'a [SegmentEntry], known: &[LeafRef]) -> Vec<&'a [SegmentEntry]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let ends = known.iter().skip(1).map(|leaf| segments.partition_point(|e| e.segment.id < leaf.first));
    for end in ends.chain([segments.len()]) {
        let end = end.max(start);
        let length = end - start;
        if length < LEAF_SEGMENTS / 8 && end < segments.len() {
            continue;
        }
        let size = if length > 2 * LEAF_SEGMENTS { LEAF_SEGMENTS } else { length.max(1) };
        parts.extend(segments[start..end].chunks(size));
        start = end;
    }
    parts
}
