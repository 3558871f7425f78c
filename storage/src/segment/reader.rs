//! Reads one segment: whole columns, chosen positions, by row id, by key.
//!
//! Owns: the footer's check, the match of the table's columns to the file's by field id, decoding. Does not own: which
//! rows are visible (`version`); bytes come verified from `blocks`. Everything below trusts a byte only after its
//! checksum: damage is an error that names the object and offset, never a wrong row.

mod addressed;
mod addresses;
mod blocks;
mod file;
mod groups;
mod lookup;
mod mend;
mod names;
mod open;
mod points;
mod rows;
mod salvage;
mod vectors;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;
use object_store::ObjectStore;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use xxhash_rust::xxh3::Xxh3;

use super::cache::{Form, SegmentCache};
use super::{SegmentMeta, SegmentRef};
use crate::error::{Error, Result};
use crate::object::{CachedStore, ReadMeter};
use crate::schema::TableDef;
use crate::version::Expiry;

pub use file::SegmentFile;
pub use rows::{RowChoice, SegmentBatches};

pub(crate) use addressed::{AddressedBatches, STRETCH_BYTES};
pub(crate) use addresses::NumberColumn;
pub(crate) use mend::mended;
pub(super) use open::Opened;
pub(crate) use salvage::{Readable, is_damage};
pub(crate) use vectors::SegmentVectors;

use blocks::BlockSource;

/// Rows per batch of [`SegmentReader::read`].
const BATCH_ROWS: usize = 8 * 1024;

/// One segment, opened. Cheap to clone and, with a warm cache, cheap to open.
#[derive(Clone, Debug)]
pub struct SegmentReader {
    meta: SegmentRef,
    def: Arc<TableDef>,
    cache: Arc<SegmentCache>,
    source: BlockSource,
    opened: Arc<Opened>,
    form: Form,
    /// Columns of the rows that a lookup is for.
    read_next: Arc<[usize]>,
}

impl SegmentReader {
    /// Opens the segment for reading as rows of `def`; the footer is read and checked once and then cached. Everything that this
    /// reader asks the store for is counted in `meter`.
    ///
    /// # Errors
    /// `Corrupt` when footer or page index are damaged or not this segment's, the store's.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        meta: SegmentRef,
        def: Arc<TableDef>,
        cache: Arc<SegmentCache>,
        meter: Option<ReadMeter>,
    ) -> Result<Self> {
        let form = Form::of(&def);
        let opened = open::open(&store, &meta, (&*def, form), &cache, meter.as_ref()).await?;
        let source = BlockSource::new(store, &meta, opened.blocks.clone(), meter);
        Ok(Self { meta, def, cache, source, opened, form, read_next: Arc::default() })
    }

    /// The same; `expiry` says whether an object that is gone has been collected or is damage.
    pub(crate) fn expiring(self, expiry: Expiry) -> Self {
        Self { source: self.source.expiring(expiry), ..self }
    }

    /// The same, of a store where each request takes long, with a cache on disk before it or without: scans make few of them, and
    /// lookups don't wait for one after the other.
    pub(crate) fn distant(self, disk_cache: Option<Arc<CachedStore>>) -> Self {
        Self { source: self.source.distant(disk_cache), ..self }
    }

    /// The same; `columns` of the rows that lookups find are read next.
    pub(crate) fn then_reading(self, columns: &[usize]) -> Self {
        Self { read_next: columns.into(), ..self }
    }

    /// The segment's meta.
    #[must_use]
    pub fn meta(&self) -> &SegmentRef {
        &self.meta
    }

    /// Parquet's metadata, page index included.
    #[must_use]
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.opened.arrow.metadata()
    }

    /// Arrow schema of the whole file in surface types (pseudo-columns last), named as in the file.
    #[must_use]
    pub fn file_schema(&self) -> &SchemaRef {
        self.opened.arrow.schema()
    }

    /// For each column of the definition its column in the file; None: added later, the same value in every row.
    #[must_use]
    pub fn file_columns(&self) -> &[Option<usize>] {
        &self.opened.roots
    }

    /// The object as Parquet readers want it: verified bytes, cached metadata.
    #[must_use]
    pub fn file(&self) -> SegmentFile {
        SegmentFile::new(self.source.clone(), Arc::clone(self.opened.arrow.metadata()))
    }

    /// Whether bytes `ranges` of the object are read without a request to a store where each takes long, as far as a look tells:
    /// nothing is asked or read for that.
    #[must_use]
    pub fn is_near(&self, ranges: impl IntoIterator<Item = Range<u64>>) -> bool {
        self.source.is_near(ranges)
    }

    /// Bytes `range` of the object, verified. The footer is not among them.
    ///
    /// # Errors
    /// `Corrupt` for a checksum mismatch or a range past the data, the store's.
    pub async fn verified_range(&self, range: Range<u64>) -> Result<bytes::Bytes> {
        self.source.read(range).await
    }

    /// Checksum of each block before the footer, as the footer has them.
    pub(crate) fn block_checksums(&self) -> &[u32] {
        &self.opened.blocks
    }

    /// Reads the whole object past every cache and compares length and xxh3-128 with the meta (VERIFY).
    ///
    /// # Errors
    /// `Corrupt` when they differ, the store's.
    pub async fn check_object(&self) -> Result<()> {
        let path = path_of(&self.meta);
        let mut stream = self.source.stored().await?.into_stream();
        let (mut hash, mut length) = (Xxh3::new(), 0);
        while let Some(bytes) = stream.try_next().await? {
            hash.update(&bytes);
            length += bytes.len() as u64;
        }
        if length != self.meta.bytes {
            return Err(Error::corrupt(&path, format!("{length} bytes instead of {}", self.meta.bytes)));
        }
        if format!("{:032x}", hash.digest128()) != self.meta.xxh3 {
            return Err(Error::corrupt(&path, "its xxh3-128 is not that of the bytes written"));
        }
        Ok(())
    }

    /// Reads `columns` (positions in the definition) of the chosen rows, in row order.
    ///
    /// # Errors
    /// `Corrupt` for damage, `Internal` for positions that are not ascending or past the end, the store's.
    pub async fn read(&self, columns: &[usize], rows: RowChoice<'_>) -> Result<Vec<RecordBatch>> {
        let mut batches = self.batches(columns, rows, BATCH_ROWS)?;
        let mut all = Vec::new();
        while let Some(batch) = batches.next().await? {
            all.push(batch);
        }
        Ok(all)
    }

    /// As [`read`](Self::read), batch by batch, of at most `batch_rows` rows.
    ///
    /// # Errors
    /// `Internal` for positions that are not ascending or past the end.
    pub fn batches(
        &self,
        columns: &[usize],
        rows: RowChoice<'_>,
        batch_rows: usize,
    ) -> Result<SegmentBatches> {
        rows::batches(self, columns, rows, batch_rows)
    }

    fn surface_schema(&self, columns: &[usize]) -> SchemaRef {
        Arc::new(Schema::new(columns.iter().map(|&i| self.def.columns[i].field()).collect::<Vec<_>>()))
    }
}

/// An error of the Parquet decoder; one of ours that passed through it comes back whole.
fn decode_error(path: &str, error: ParquetError) -> Error {
    if let ParquetError::External(source) = &error
        && let Some(ours) = source.downcast_ref::<Error>()
    {
        return ours.clone();
    }
    Error::corrupt(path, &error).with_source(error)
}

fn path_of(meta: &SegmentMeta) -> object_store::path::Path {
    object_store::path::Path::from(meta.path())
}

#[cfg(test)]
mod tests;
