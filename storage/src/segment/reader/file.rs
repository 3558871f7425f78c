//! A segment as DataFusion's Parquet source reads it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::blocks::BlockSource;
use crate::error::Error;

/// A reader of verified byte ranges with the metadata at hand. Errors are [`Error`] inside `ParquetError::External`.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    source: BlockSource,
    metadata: Arc<ParquetMetaData>,
}

impl SegmentFile {
    pub(super) fn new(source: BlockSource, metadata: Arc<ParquetMetaData>) -> Self {
        Self { source, metadata }
    }

    /// Parquet's metadata, page index included.
    #[must_use]
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.metadata
    }

    /// Bytes that a read of `ranges` holds in memory until its last answer is dropped; what is fetched between them counts.
    ///
    /// # Errors
    /// `Corrupt` for a range past the data.
    pub fn held_bytes(&self, ranges: &[Range<u64>]) -> Result<u64, Error> {
        self.source.held_bytes(ranges)
    }
}

impl AsyncFileReader for SegmentFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.source.read(range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.source.read_ranges(&ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        futures::future::ready(Ok(Arc::clone(&self.metadata))).boxed()
    }
}

fn external(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
