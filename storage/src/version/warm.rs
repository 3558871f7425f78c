//! Reading all of a table ahead, so that what keeps objects near has them before they are asked for.
//!
//! Owns: which objects are read, in which pieces, how many at a time. Does not own: keeping them (a store's cache on disk; footers in
//! `segment::cache`), the `.deletes` objects, which a version holds in memory. Bytes of segments are verified as those of a query are.
//! What a table's rows do not depend on, key filters and index units, is left out where it is lost. Nothing read is held: dropping the
//! future ends it at the next piece.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::time::Instant;

use super::TableSnapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::index::UnitMeta;
use crate::segment::SegmentReader;

/// Pieces read at the same time, and segments opened ahead of them.
const AT_ONCE: usize = 8;
/// Bytes of a piece: whole blocks.
const PIECE_BYTES: u64 = 4 << 20;
/// Behind a Parquet footer: its length and the magic.
const TRAILER_BYTES: u64 = 8;

/// What was read of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmReceipt {
    /// Segments.
    pub segments: u64,
    /// Units of its indexes.
    pub units: u64,
    /// Bytes of their objects, key filters included.
    pub bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// A part of a segment.
enum Piece {
    /// Verified block by block.
    Data(SegmentReader, Range<u64>),
    /// Checked when the segment was opened, but then it may have come from memory.
    Footer(SegmentReader, Range<u64>),
    KeyFilter(SegmentReader),
}

impl TableSnapshot {
    /// Reads every segment of the table at its version, with footers, page indexes and key filters, and every unit of its indexes,
    /// through the store.
    ///
    /// # Errors
    /// `Corrupt` for a damaged segment, `NotFound`/`Unavailable` from the store.
    pub async fn warm(&self) -> Result<WarmReceipt> {
        let begun = Instant::now();
        let segments = self.segments().await?;
        let mut receipt = WarmReceipt { segments: segments.len() as u64, ..WarmReceipt::default() };
        let (table, of) = (self.clone(), self.clone());
        let opened = stream::iter(segments).map(move |view| {
            let table = table.clone();
            async move { table.open_segment(&view.meta).await }
        });
        let pieces =
            opened.buffered(AT_ONCE).map_ok(|reader| stream::iter(pieces(reader).map(Ok::<_, Error>)));
        let read = pieces.try_flatten().map_ok(move |piece| {
            let of = of.clone();
            async move { piece.read(&of).await }
        });
        receipt.bytes = sum(read.try_buffer_unordered(AT_ONCE)).await?;
        for unit in self.state().units.iter() {
            if let Some(bytes) = read_unit(self, unit).await? {
                receipt.units += 1;
                receipt.bytes += bytes;
            }
        }
        receipt.duration = begun.elapsed();
        Ok(receipt)
    }
}

/// The parts of a segment that is open.
fn pieces(reader: SegmentReader) -> impl Iterator<Item = Piece> + Send + 'static {
    let meta = Arc::clone(reader.meta());
    // It was opened: its footer is within it.
    let data_end = meta.bytes.saturating_sub(u64::from(meta.footer_bytes) + TRAILER_BYTES);
    let filter = meta.key_filter_bytes.map(|_| Piece::KeyFilter(reader.clone()));
    let footer = Piece::Footer(reader.clone(), data_end..meta.bytes);
    let data = cut(data_end).map(move |range| Piece::Data(reader.clone(), range));
    filter.into_iter().chain([footer]).chain(data)
}

/// `0..end` in pieces.
fn cut(end: u64) -> impl Iterator<Item = Range<u64>> + Send + 'static {
    (0..end.div_ceil(PIECE_BYTES)).map(move |n| n * PIECE_BYTES..end.min((n + 1) * PIECE_BYTES))
}

impl Piece {
    /// Reads it; returns how many bytes it has.
    async fn read(self, of: &TableSnapshot) -> Result<u64> {
        match self {
            Self::Data(reader, range) => Ok(reader.verified_range(range).await?.len() as u64),
            Self::Footer(reader, range) => read_range(of, &reader.meta().path(), range).await,
            Self::KeyFilter(reader) => match reader.read_key_filter().await {
                Ok(_) => Ok(reader.meta().key_filter_bytes.unwrap_or(0)),
                // Derived from the segment: lookups do without it, and VERIFY names the loss.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(0),
                Err(error) => Err(error),
            },
        }
    }
}

/// Reads a unit; returns how many bytes it has. None: it is gone or not whole, so that searches do without it.
async fn read_unit(of: &TableSnapshot, unit: &UnitMeta) -> Result<Option<u64>> {
    let path = unit.path();
    if of.shared().length(&path).await? != Some(unit.bytes) {
        return Ok(None);
    }
    let reads = cut(unit.bytes).map(|range| {
        let (of, path) = (of.clone(), path.clone());
        async move { read_range(&of, &path, range).await }
    });
    sum(stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE)).await.map(Some)
}

async fn read_range(of: &TableSnapshot, path: &str, range: Range<u64>) -> Result<u64> {
    match of.shared().store.get_range(&Path::from(path), range).await {
        Ok(bytes) => Ok(bytes.len() as u64),
        Err(object_store::Error::NotFound { .. }) => Err(of.expiry().missing(path)),
        Err(error) => Err(error.into()),
    }
}

async fn sum(read: impl stream::Stream<Item = Result<u64>>) -> Result<u64, Error> {
    read.try_fold(0, |sum, bytes| std::future::ready(Ok(sum + bytes))).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::database::tests::table_of;
    use crate::schema::ColumnType;
    use crate::wal::CatalogEdit;
    use crate::{CheckpointReason, CommitOptions, Database, OpenOptions, Root};

    #[test]
    fn pieces_cover_everything_once() {
        for end in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7] {
            let mut next = 0;
            for range in cut(end) {
                assert_eq!((range.start, range.is_empty()), (next, false), "{end}");
                next = range.end;
            }
            assert_eq!(next, end);
        }
    }

    #[tokio::test]
    async fn all_of_a_table_is_read() {
        let db = Database::open(Root::Memory, OpenOptions::default()).await.unwrap();
        let transaction = db.begin(&db.snapshot()).await.unwrap();
        let id = transaction.next_table_id();
        let def = table_of(id, "t", &[("k", ColumnType::Int64)], true);
        let schema = def.arrow_schema();
        transaction.edit(CatalogEdit::PutTable(Arc::new(def))).unwrap();
        let mut writer = transaction.writer(id).unwrap();
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5_000));
        writer.write(RecordBatch::try_new(schema, vec![keys]).unwrap()).await.unwrap();
        writer.finish().await.unwrap();
        transaction.commit(CommitOptions::default()).await.unwrap();
        let warm = || async { db.snapshot().table(id).unwrap().warm().await.unwrap() };
        let hot = warm().await;
        assert_eq!((hot.segments, hot.units, hot.bytes), (0, 0, 0));
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        let table = db.snapshot().table(id).unwrap();
        let segments = table.segments().await.unwrap();
        let bytes: u64 =
            segments.iter().map(|view| view.meta.bytes + view.meta.key_filter_bytes.unwrap_or(0)).sum();
        let cold = warm().await;
        assert_eq!((cold.segments, cold.units, cold.bytes), (1, 0, bytes));
        // Again, from whatever keeps it: the same.
        assert_eq!(warm().await.bytes, bytes);
    }
}
