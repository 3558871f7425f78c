//! Writes one segment: rows in, a Parquet object, its key filter and its meta out.
//!
//! Owns: the order of writing (rows, page index, footer, then the key filter object), checks on the rows. Does not own:
//! the order of rows (`sort`), the encodings' choice (`encoding`), when the segment becomes part of a table.
//! Durability: both objects are durable when [`SegmentWriter::finish`] returns; nothing names them before. Nothing is
//! visible under the object's name until then.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::encode::{Encoded, Encoder};
use super::{Created, RowIds, SegmentMeta};
use crate::error::{Error, Result};
use crate::id::{CommitVersion, ObjectId, RowId};
use crate::object::put_own;
use crate::schema::{TableDef, TableLayout};

/// How a segment's rows get their ids and versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// A load's segment: one commit, consecutive ids, both given at commit ([`SegmentMeta::committed`]). Batches hold
    /// the table's columns.
    Load,
    /// Batches end with the UInt64 columns `_row_id` and `_version`, which are written.
    Columns,
}

/// Compression of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentCompression {
    /// ZSTD level 1: smallest (default).
    Zstd,
    /// LZ4_RAW: a little faster, a quarter larger.
    Lz4,
}

/// Rows of a row group in a distant store: half as many requests as with those of files, still several to share among cores …
const REMOTE_ROW_GROUP_ROWS: usize = 512 * 1024;
/// … and its bytes, where rows are wide.
const REMOTE_ROW_GROUP_BYTES: usize = 128 << 20;

/// Rows of a row group in a distant store where the columns of a row are to lie near each other: lineitem's take 450 KB, which one request
/// brings in hardly more time than it takes to its first byte …
const NEAR_ROW_GROUP_ROWS: usize = 16 * 1024;
/// … and its bytes, where rows are wide.
const NEAR_ROW_GROUP_BYTES: usize = 1 << 20;
/// A lookup there reads all pages of text in the rows of the key's page: few large ones make the page index smaller.
const NEAR_TEXT_PAGE_BYTES: usize = 128 * 1024;
/// Bytes of a segment of such row groups: its footer, which the first lookup reads, has each chunk of each in it.
const NEAR_SEGMENT_BYTES: u64 = 32 << 20;

/// Settings of a [`SegmentWriter`].
#[derive(Clone, Debug)]
pub struct SegmentWriterOptions {
    /// Compression of pages.
    pub compression: SegmentCompression,
    /// Rows per row group …
    pub row_group_rows: usize,
    /// … which ends sooner when it takes so many bytes encoded, and is held in memory while it is written.
    pub row_group_bytes: Option<usize>,
    /// Most rows per page.
    pub page_rows: usize,
    /// Most bytes per page of plain TEXT and BYTEA.
    pub text_page_bytes: usize,
    /// Rows looked at before encodings are chosen.
    pub sample_rows: usize,
    /// Bytes per part of a multipart upload (object stores want 5 MiB at least); smaller objects are put whole.
    pub part_bytes: usize,
}

impl Default for SegmentWriterOptions {
    fn default() -> Self {
        Self {
            compression: SegmentCompression::Zstd,
            row_group_rows: 256 * 1024,
            row_group_bytes: None,
            page_rows: 8 * 1024,
            text_page_bytes: 64 * 1024,
            sample_rows: 64 * 1024,
            part_bytes: 8 * 1024 * 1024,
        }
    }
}

impl SegmentWriterOptions {
    /// Settings for a table in a store where each request takes long, or in files: a scan makes at least one request for each row group.
    pub(crate) fn of_table(layout: TableLayout, remote: bool) -> Self {
        match (remote, layout) {
            (true, TableLayout::Columns) => Self {
                row_group_rows: REMOTE_ROW_GROUP_ROWS,
                row_group_bytes: Some(REMOTE_ROW_GROUP_BYTES),
                ..Self::default()
            },
            (true, TableLayout::Rows) => Self {
                row_group_rows: NEAR_ROW_GROUP_ROWS,
                row_group_bytes: Some(NEAR_ROW_GROUP_BYTES),
                text_page_bytes: NEAR_TEXT_PAGE_BYTES,
                ..Self::default()
            },
            (false, _) => Self::default(),
        }
    }
}

/// Size at which a segment of a table ends, where nothing else is against `wanted`.
pub(crate) fn segment_bytes(layout: TableLayout, remote: bool, wanted: u64) -> u64 {
    match (remote, layout) {
        (true, TableLayout::Rows) => wanted.min(NEAR_SEGMENT_BYTES),
        (true, TableLayout::Columns) | (false, _) => wanted,
    }
}

/// Writes one segment. [`write`](Self::write) and [`close`](Self::close) only compute (call them where CPU time
/// may be spent) and gather bytes; [`flush`](Self::flush) and [`finish`](Self::finish) send them. Dropped before
/// `finish`, it leaves at most an upload that was never completed; [`abort`](Self::abort) cleans that up too.
pub struct SegmentWriter {
    store: Arc<dyn ObjectStore>,
    meta: SegmentMeta,
    addressing: Addressing,
    part_bytes: usize,
    encoder: Option<Encoder>,
    encoded: Option<Encoded>,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl SegmentWriter {
    /// A writer of segment `id` of `def`. Nothing is written yet.
    ///
    /// # Errors
    /// `InvalidInput` when a key or sort column has a type without order.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        def: Arc<TableDef>,
        id: ObjectId,
        addressing: Addressing,
        options: SegmentWriterOptions,
    ) -> Result<Self> {
        let meta = SegmentMeta {
            id,
            table: def.id,
            schema_version: def.schema_version,
            reshaped: false,
            rows: 0,
            bytes: 0,
            xxh3: String::new(),
            footer_bytes: 0,
            footer_crc32c: 0,
            page_index_bytes: None,
            key_filter_bytes: None,
            key_filter_crc32c: 0,
            created: Created::Constant(CommitVersion::default()),
            min_created: CommitVersion::default(),
            max_created: CommitVersion::default(),
            row_ids: RowIds::Base(RowId::default()),
            min_row_id: RowId::default(),
            max_row_id: RowId::default(),
            sorted: false,
            run: None,
            columns: Vec::new(),
        };
        let part_bytes = options.part_bytes.max(1);
        let encoder = Encoder::new(def, id, addressing, options)?;
        Ok(Self { store, meta, addressing, part_bytes, encoder: Some(encoder), encoded: None, upload: None })
    }

    /// Takes the next rows, in the segment's final order. Synchronous: encodes and compresses.
    ///
    /// # Errors
    /// `ConstraintViolation` for NULL in a NOT NULL column (23502) and, in a load sorted by its key, for a key that
    /// repeats (23505); the writer is of no more use then.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.as_mut().ok_or_else(closed)?.write(batch)
    }

    /// Rows taken so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.encoder.as_ref().map_or(self.meta.rows, Encoder::rows)
    }

    /// Bytes of the object so far, the row group being filled included by estimate.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.encoder.as_ref().map_or(self.meta.bytes, Encoder::bytes)
    }

    /// Ends the rows: encodes what remains and makes footer, key filter and meta. Synchronous; `finish` does it
    /// where it was not called.
    ///
    /// # Errors
    /// `Internal` when the Parquet writer fails.
    pub fn close(&mut self) -> Result<()> {
        if let Some(encoder) = self.encoder.take() {
            let encoded = encoder.close(&mut self.meta)?;
            self.encoded = Some(encoded);
        }
        Ok(())
    }

    /// Sends bytes while more than a part of them waits. Call it after every few `write`s to bound memory.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&mut self) -> Result<()> {
        let waiting = self.encoder.as_ref().map_or(0, Encoder::pending_bytes);
        if waiting < 2 * self.part_bytes {
            return Ok(());
        }
        let bytes = self.encoder.as_mut().map(Encoder::take_pending).unwrap_or_default();
        self.send(bytes.into()).await
    }

    /// Sends the rest, completes the object and writes the key filter; returns the meta, of which a load's
    /// version and row ids are still to be filled in by [`SegmentMeta::committed`].
    ///
    /// # Errors
    /// The store's; what was written is removed as far as that works.
    pub async fn finish(mut self) -> Result<SegmentMeta> {
        let written = self.finish_objects().await;
        match written {
            Ok(()) => Ok(self.meta),
            Err(error) => {
                self.remove().await;
                Err(error)
            }
        }
    }

    async fn finish_objects(&mut self) -> Result<()> {
        self.close()?;
        let Encoded { bytes, key_filter } = self.encoded.take().ok_or_else(closed)?;
        if self.upload.is_some() {
            self.send(bytes.into()).await?;
            if let Some(mut upload) = self.upload.take() {
                upload.complete().await?;
            }
        } else {
            put_own(&*self.store, self.meta.path(), bytes.into()).await?;
        }
        if let Some(filter) = key_filter {
            put_own(&*self.store, self.meta.key_filter_path(), filter.into()).await?;
        }
        Ok(())
    }

    /// Gives the segment up and removes what was written.
    pub async fn abort(mut self) {
        self.remove().await;
    }

    /// Best effort: an object that stays has an id nothing names, and is collected as an orphan.
    async fn remove(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            let _ = upload.abort().await;
        }
        for path in [self.meta.path(), self.meta.key_filter_path()] {
            let _ = self.store.delete(&Path::from(path)).await;
        }
    }

    /// Object stores want parts of one size, all but the last; the encoder keeps what is left over.
    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        let last = self.encoder.is_none();
        if self.upload.is_none() {
            self.upload = Some(self.store.put_multipart(&Path::from(self.meta.path())).await?);
        }
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        let mut rest = bytes;
        let mut parts = Vec::new();
        while rest.len() >= self.part_bytes || (last && !rest.is_empty()) {
            let part = rest.split_to(rest.len().min(self.part_bytes));
            parts.push(upload.put_part(PutPayload::from_bytes(part)));
        }
        futures::future::try_join_all(parts).await?;
        if let Some(encoder) = &mut self.encoder {
            encoder.give_back(&rest);
        }
        Ok(())
    }

    /// How the rows are addressed.
    #[must_use]
    pub fn addressing(&self) -> Addressing {
        self.addressing
    }
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter").field("path", &self.meta.path()).field("rows", &self.rows()).finish()
    }
}

fn closed() -> Error {
    Error::internal("a segment writer was used after its end")
}

/// The columns of `batch` at `indices`.
pub(super) fn columns_at(batch: &RecordBatch, indices: &[usize]) -> Vec<ArrayRef> {
    indices.iter().filter_map(|&i| batch.columns().get(i).cloned()).collect()
}

#[cfg(test)]
mod tests;
