//! The synchronous core of writing a segment: rows in, bytes out.
//!
//! Owns: checks on rows (NULLs, order, repeated keys), the sample that encodings are chosen from, the Parquet writer,
//! checksums, statistics and the key filter. Does not own: sending bytes (`writer`). Holds about one row group, encoded,
//! plus eight bytes per key.

mod order;
mod properties;
mod trial;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::{
    FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData,
};

use super::bounds::bounds;
use super::checksum;
use super::encoding::{ColumnEncoding, choose};
use super::filter::KeyFilter;
use super::profile::ColumnProfile;
use super::sink::ChecksumSink;
use super::stats::ColumnStats;
use super::vectors::to_stored;
use super::writer::{Addressing, SegmentWriterOptions};
use super::{Created, RowIds, SegmentMeta};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, ObjectId, RowId};
use crate::schema::{ColumnType, ROW_ID_COLUMN, TableDef, VERSION_COLUMN};

use order::OrderCheck;

/// Version of the segment format, in the footer as [`FORMAT_KEY`].
pub(crate) const FORMAT: &str = "1";
/// Footer key: format version.
pub(crate) const FORMAT_KEY: &str = "cairn.format";
/// Footer key: the segment's id.
pub(crate) const SEGMENT_KEY: &str = "cairn.segment";
/// Footer key: id of the table.
pub(crate) const TABLE_KEY: &str = "cairn.table";
/// Footer key: crc32c of every 64 KiB block before the footer, eight hexadecimal digits each.
pub(crate) const BLOCKS_KEY: &str = "cairn.block_crc32c";

/// Rows are not kept for the choice of encodings beyond this memory.
const SAMPLE_BYTES_MAX: usize = 128 << 20;

/// Bytes of a Parquet file after the footer's Thrift part: its length and the magic.
pub(crate) const TRAILER_BYTES: usize = 8;

/// The end of an encoded segment.
pub(crate) struct Encoded {
    /// Bytes of the Parquet object not taken before.
    pub(crate) bytes: Vec<u8>,
    /// The key filter object.
    pub(crate) key_filter: Option<Bytes>,
}

/// Smallest and largest of a pseudo-column.
#[derive(Clone, Copy)]
struct Span {
    min: u64,
    max: u64,
}

pub(crate) struct Encoder {
    def: Arc<TableDef>,
    id: ObjectId,
    addressing: Addressing,
    options: SegmentWriterOptions,
    schema: SchemaRef,
    /// User columns, then the pseudo-columns.
    profiles: Vec<ColumnProfile>,
    order: OrderCheck,
    spans: [Span; 2],
    rows: u64,
    state: State,
}

enum State {
    /// Rows kept until the encodings can be chosen.
    Sampling {
        batches: Vec<RecordBatch>,
        sink: Box<ChecksumSink>,
    },
    Writing(Box<ArrowWriter<Box<ChecksumSink>>>),
}

impl Encoder {
    pub(crate) fn new(
        def: Arc<TableDef>,
        id: ObjectId,
        addressing: Addressing,
        options: SegmentWriterOptions,
    ) -> Result<Self> {
        let schema = properties::schema(&def, addressing);
        let order = OrderCheck::new(&def, addressing)?;
        Ok(Self {
            profiles: vec![ColumnProfile::new(); schema.fields().len()],
            def,
            id,
            addressing,
            options,
            schema,
            order,
            spans: [Span { min: u64::MAX, max: 0 }; 2],
            rows: 0,
            state: State::Sampling { batches: Vec::new(), sink: Box::new(ChecksumSink::new()) },
        })
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn bytes(&self) -> u64 {
        match &self.state {
            State::Sampling { batches, .. } => {
                batches.iter().map(|b| b.get_array_memory_size() as u64).sum::<u64>() / 4
            }
            State::Writing(writer) => writer.inner().written() + writer.in_progress_size() as u64,
        }
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        match &self.state {
            State::Sampling { sink, .. } => sink.pending_bytes(),
            State::Writing(writer) => writer.inner().pending_bytes(),
        }
    }

    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        self.sink().take_pending()
    }

    /// Puts bytes back in front that could not be sent yet.
    pub(crate) fn give_back(&mut self, bytes: &[u8]) {
        self.sink().put_back(bytes);
    }

    fn sink(&mut self) -> &mut ChecksumSink {
        match &mut self.state {
            State::Sampling { sink, .. } => sink,
            State::Writing(writer) => writer.inner_mut(),
        }
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = &self.stored(batch)?;
        self.check(batch)?;
        if self.rows + batch.num_rows() as u64 > u64::from(u32::MAX) {
            return Err(Error::new(ErrorKind::ResourceExhausted, "more than 2^32 - 1 rows in one segment"));
        }
        self.order.check(batch)?;
        for (profile, column) in self.profiles.iter_mut().zip(batch.columns()) {
            profile.observe(column);
        }
        for (span, column) in self.spans.iter_mut().zip(&batch.columns()[self.def.columns.len()..]) {
            for &value in column.as_primitive::<UInt64Type>().values() {
                span.min = span.min.min(value);
                span.max = span.max.max(value);
            }
        }
        self.rows += batch.num_rows() as u64;
        match &mut self.state {
            State::Writing(writer) => writer.write(batch).map_err(encode_error)?,
            State::Sampling { batches, .. } => {
                batches.push(batch.clone());
                let kept: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
                if self.rows >= self.options.sample_rows as u64 || kept >= SAMPLE_BYTES_MAX {
                    self.begin()?;
                }
            }
        }
        Ok(())
    }

    /// The batch with the columns the file holds.
    fn stored(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if !self.def.columns.iter().any(|c| matches!(c.column_type, ColumnType::Vector(_))) {
            return Ok(batch.clone());
        }
        let columns = batch.columns().iter().map(to_stored).collect::<Result<Vec<_>>>()?;
        let fields = batch
            .schema()
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()))
            .collect::<Vec<_>>();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Types and NULLs as the definition says.
    fn check(&self, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(Error::internal(format!(
                "a batch of {} columns for a segment of {}",
                batch.num_columns(),
                self.schema.fields().len()
            )));
        }
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            if field.data_type() != column.data_type() {
                return Err(Error::internal(format!(
                    "column {} of {} came as {} instead of {}",
                    field.name(),
                    self.def.qualified_name(),
                    column.data_type(),
                    field.data_type()
                )));
            }
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(Error::new(
                    ErrorKind::ConstraintViolation,
                    format!(
                        "NULL in column {} of {}, which is NOT NULL",
                        field.name(),
                        self.def.qualified_name()
                    ),
                )
                .with_sqlstate("23502"));
            }
        }
        Ok(())
    }

    /// Chooses encodings from the rows kept and writes those.
    fn begin(&mut self) -> Result<()> {
        let State::Sampling { batches, sink } = &mut self.state else {
            return Ok(());
        };
        let batches = std::mem::take(batches);
        let sink = std::mem::replace(sink, Box::new(ChecksumSink::new()));
        let encodings = self.encodings(&batches);
        let make = |compression, uncompressed: &[_]| {
            properties::properties(
                &self.def,
                &self.schema,
                &encodings,
                &self.options,
                compression,
                uncompressed,
            )
        };
        let codec = properties::codec(&self.options);
        let (all, none) = (make(codec, &[]), make(Compression::UNCOMPRESSED, &[]));
        let uncompressed = trial::incompressible(&self.schema, &batches, all, none).map_err(encode_error)?;
        let properties = make(codec, &uncompressed);
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(sink, self.schema.clone(), options).map_err(encode_error)?;
        for batch in &batches {
            writer.write(batch).map_err(encode_error)?;
        }
        self.state = State::Writing(Box::new(writer));
        Ok(())
    }

    fn encodings(&self, sample: &[RecordBatch]) -> Vec<ColumnEncoding> {
        let types = properties::column_types(&self.def, self.addressing);
        types
            .iter()
            .zip(&self.profiles)
            .enumerate()
            .map(|(i, (column_type, profile))| {
                let arrays: Vec<ArrayRef> = sample.iter().map(|b| b.column(i).clone()).collect();
                choose(column_type, profile, &arrays)
            })
            .collect()
    }

    pub(crate) fn close(mut self, meta: &mut SegmentMeta) -> Result<Encoded> {
        self.begin()?;
        let State::Writing(mut writer) = self.state else {
            return Err(Error::internal("a segment's Parquet writer is missing"));
        };
        writer.flush().map_err(encode_error)?;
        writer.sync().map_err(|e| Error::io("encoding a segment", e))?;
        writer.inner_mut().set_tail_aside();
        let metadata = writer.finish().map_err(encode_error)?;
        let sink = writer.inner_mut();
        let tail = sink.take_tail();
        let index_bytes = page_index_bytes(&tail)?;
        sink.put_data(&tail[..index_bytes]);
        let blocks = sink.close_blocks();
        let footer = footer(&metadata, &self.profiles, self.def.id.to_string(), self.id, blocks)?;
        let thrift = &footer[..footer.len() - TRAILER_BYTES];
        meta.footer_bytes = thrift.len() as u32;
        meta.footer_crc32c = crc32c::crc32c(thrift);
        meta.page_index_bytes = u32::try_from(index_bytes).ok();
        sink.put_footer(&footer);
        meta.bytes = sink.written();
        meta.xxh3 = sink.hash_text();
        let bytes = sink.take_pending();

        meta.rows = self.rows;
        meta.sorted = self.order.sorted();
        meta.columns = columns(&self.def, &self.profiles, &metadata);
        if self.addressing == Addressing::Columns {
            let [ids, versions] =
                self.spans.map(|s| if self.rows == 0 { Span { min: 0, max: 0 } } else { s });
            meta.row_ids = RowIds::Column;
            (meta.min_row_id, meta.max_row_id) = (RowId(ids.min), RowId(ids.max));
            meta.created = Created::Column;
            (meta.min_created, meta.max_created) = (CommitVersion(versions.min), CommitVersion(versions.max));
        }
        let key_filter = self.order.into_hashes().map(|hashes| KeyFilter::build(hashes.into_iter()).encode());
        meta.key_filter_bytes = key_filter.as_ref().map(|f| f.len() as u64);
        meta.key_filter_crc32c =
            key_filter.as_ref().map_or(0, |f| checksum::of(f, KeyFilter::OWN_CHECKSUM_BYTES));
        Ok(Encoded { bytes, key_filter })
    }
}

/// Bytes of the page index in front of the footer in a file's `tail`.
fn page_index_bytes(tail: &[u8]) -> Result<usize> {
    let short = || Error::internal("the Parquet writer made no footer");
    let (rest, trailer) = tail.split_last_chunk::<TRAILER_BYTES>().ok_or_else(short)?;
    let [a, b, c, d, ..] = *trailer;
    rest.len().checked_sub(u32::from_le_bytes([a, b, c, d]) as usize).ok_or_else(short)
}

/// The footer with our key-value metadata, trailer included. It is made a second time because the block
/// checksums it holds cover the page index, whose bytes are known only after the first.
fn footer(
    metadata: &ParquetMetaData,
    profiles: &[ColumnProfile],
    table: String,
    id: ObjectId,
    blocks: String,
) -> Result<Vec<u8>> {
    let file = metadata.file_metadata();
    let entries = [
        (FORMAT_KEY, FORMAT.to_owned()),
        (SEGMENT_KEY, id.to_string()),
        (TABLE_KEY, table),
        (BLOCKS_KEY, blocks),
    ];
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        Some(entries.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let metadata =
        ParquetMetaDataBuilder::new(file).set_row_groups(without_nan_bounds(metadata, profiles)?).build();
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().map_err(encode_error)?;
    Ok(bytes)
}

/// Row groups without statistics and page index of columns that hold a NaN: Parquet's bounds leave NaN out, SQL orders it
/// above every number, and readers would skip its rows.
fn without_nan_bounds(
    metadata: &ParquetMetaData,
    profiles: &[ColumnProfile],
) -> Result<Vec<RowGroupMetaData>> {
    let schema = metadata.file_metadata().schema_descr();
    let nan = |leaf: usize| profiles.get(schema.get_column_root_idx(leaf)).is_some_and(|p| p.nan);
    if !(0..schema.num_columns()).any(nan) {
        return Ok(metadata.row_groups().to_vec());
    }
    let group = |group: &RowGroupMetaData| {
        let columns = group
            .columns()
            .iter()
            .enumerate()
            .map(|(leaf, column)| match nan(leaf) {
                false => Ok(column.clone()),
                true => column
                    .clone()
                    .into_builder()
                    .clear_statistics()
                    .set_column_index_offset(None)
                    .set_column_index_length(None)
                    .build(),
            })
            .collect::<Result<Vec<_>, _>>()?;
        group.clone().into_builder().set_column_metadata(columns).build()
    };
    metadata.row_groups().iter().map(|g| group(g).map_err(encode_error)).collect()
}

fn columns(def: &TableDef, profiles: &[ColumnProfile], metadata: &ParquetMetaData) -> Vec<ColumnStats> {
    let schema = metadata.file_metadata().schema_descr();
    def.columns
        .iter()
        .zip(profiles)
        .enumerate()
        .map(|(root, (column, profile))| {
            let leaf = (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == root);
            let nested = matches!(column.column_type.arrow(), DataType::List(_) | DataType::Struct(_));
            let found = match leaf {
                Some(leaf) if !profile.nan && !nested => {
                    bounds(&column.column_type, metadata.row_groups(), leaf)
                }
                _ => Default::default(),
            };
            ColumnStats {
                null_count: profile.null_count,
                min_exact: found.min.as_ref().is_some_and(|(_, exact)| *exact),
                max_exact: found.max.as_ref().is_some_and(|(_, exact)| *exact),
                min: found.min.map(|(value, _)| value),
                max: found.max.map(|(value, _)| value),
                distinct: profile.distinct(),
                memory_bytes: profile.memory_bytes,
            }
        })
        .collect()
}

/// Names of the pseudo-columns a segment of this addressing has.
pub(super) fn pseudo_columns(addressing: Addressing) -> &'static [&'static str] {
    match addressing {
        Addressing::Load => &[],
        Addressing::Columns => &[ROW_ID_COLUMN, VERSION_COLUMN],
    }
}

fn encode_error(error: parquet::errors::ParquetError) -> Error {
    Error::internal(format!("encoding a segment: {error}")).with_source(error)
}
