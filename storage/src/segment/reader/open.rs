//! Opening a segment: footer, block table, page index, and how its columns answer the table's.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use object_store::ObjectStore;
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Repetition;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, ParquetMetaDataReader,
};

use super::super::SegmentMeta;
use super::super::cache::{CacheKey, CacheValue, Form, SegmentCache};
use super::super::encode::{BLOCKS_KEY, FORMAT, FORMAT_KEY, SEGMENT_KEY, TABLE_KEY};
use super::super::sink::{BLOCK_BYTES, parse_blocks};
use super::super::vectors::stored_type;
use super::addresses::IdPage;
use super::blocks::{BlockSource, data_end, read_error};
use super::lookup::KeyPage;
use super::names;
use super::{decode_error, path_of};
use crate::error::{Error, Result, newer};
use crate::id::ColumnId;
use crate::object::{ReadMeter, read_ranges};
use crate::schema::{ROW_ID_FIELD, TableDef, VERSION_FIELD};

/// What every reader of a segment shares: all that was parsed once.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) arrow: ArrowReaderMetadata,
    pub(super) blocks: Arc<[u32]>,
    /// For each column of the definition its root column in the file.
    pub(super) roots: Vec<Option<usize>>,
    /// For each root column its leaf, where it has only one.
    pub(super) leaves: Vec<Option<usize>>,
    /// Root columns of `_row_id` and `_version`.
    pub(super) row_id_root: Option<usize>,
    pub(super) version_root: Option<usize>,
    /// First row of each row group and, last, the row count.
    pub(super) group_starts: Vec<u64>,
    /// Bounds of the first key column's pages, made at the first lookup.
    pub(super) key_pages: OnceLock<Vec<KeyPage>>,
    /// Bounds of the pages of row ids, made when the first is looked for.
    pub(super) row_id_pages: OnceLock<Vec<IdPage>>,
}

pub(super) async fn open(
    store: &Arc<dyn ObjectStore>,
    meta: &SegmentMeta,
    (def, form): (&TableDef, Form),
    cache: &SegmentCache,
    meter: Option<&ReadMeter>,
) -> Result<Arc<Opened>> {
    let key = CacheKey::Opened(meta.id, form);
    if let Some(CacheValue::Opened(opened)) = cache.get(key) {
        return Ok(opened);
    }
    // A plan may name a table several times: its footers are read once.
    let turn = cache.turn(key);
    let _turn = turn.lock().await;
    if let Some(CacheValue::Opened(opened)) = cache.peek(key) {
        return Ok(opened);
    }
    let tail = read_tail(store, meta, meter).await?;
    let path = meta.path();
    let metadata =
        ParquetMetaDataReader::decode_metadata(&tail.footer).map_err(|e| decode_error(&path, e))?;
    let blocks: Arc<[u32]> = block_table(meta, &metadata)?.into();
    let source = BlockSource::new(Arc::clone(store), meta, Arc::clone(&blocks), meter.cloned());
    // The checksums of what was read in front of the footer stand in it.
    source.verify(&tail.data_range(), &tail.data)?;
    let metadata = with_page_index(&source, meta, metadata, &tail).await?;
    let bytes = metadata.memory_size() + blocks.len() * 4;
    let opened = Arc::new(match_columns(metadata, blocks, def).map_err(|e| decode_error(&path, e))?);
    cache.put(key, CacheValue::Opened(Arc::clone(&opened)), bytes);
    Ok(opened)
}

/// The end of a segment's object.
struct Tail {
    /// Where `data` begins, at a block's start, when there is any.
    start: u64,
    /// The page index, and what stands before it in its first block; nothing when the meta does not tell how long the index is.
    data: Bytes,
    /// The footer's Thrift part, checked against the meta.
    footer: Bytes,
}

impl Tail {
    fn data_range(&self) -> Range<u64> {
        self.start..self.start + self.data.len() as u64
    }

    /// Bytes `range` of the object when they are in `data`.
    fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        let data = self.data_range();
        let inside = data.start <= range.start && range.start <= range.end && range.end <= data.end;
        inside
            .then(|| self.data.slice((range.start - data.start) as usize..(range.end - data.start) as usize))
    }
}

/// Page index and footer in one read; only the footer where the meta says no more. What stands before the footer is not verified yet.
async fn read_tail(
    store: &Arc<dyn ObjectStore>,
    meta: &SegmentMeta,
    meter: Option<&ReadMeter>,
) -> Result<Tail> {
    let path = path_of(meta);
    let end = data_end(meta)
        .filter(|&end| end >= 4)
        .ok_or_else(|| Error::corrupt(&path, "its meta names a footer larger than the object"))?;
    let start = match meta.page_index_bytes {
        // Whole blocks have checksums.
        Some(bytes) => end
            .checked_sub(bytes.into())
            .map(|start| start / BLOCK_BYTES as u64 * BLOCK_BYTES as u64)
            .ok_or_else(|| Error::corrupt(&path, "its meta names a page index larger than the object"))?,
        None => end,
    };
    let range = start..meta.bytes;
    let mut bytes = match read_ranges(&**store, &path, std::slice::from_ref(&range), meter).await {
        Ok(read) => read.into_iter().next().unwrap_or_default(),
        Err(error) => return Err(read_error(store, &path, meta.bytes, error).await),
    };
    if bytes.len() as u64 != meta.bytes - start {
        return Err(Error::corrupt(
            &path,
            format!("cut short: no {} bytes at offset {start}", meta.bytes - start),
        ));
    }
    let data = bytes.split_to((end - start) as usize);
    let (footer, trailer) = (bytes.slice(..meta.footer_bytes as usize), &bytes[meta.footer_bytes as usize..]);
    if trailer[..4] != meta.footer_bytes.to_le_bytes() || &trailer[4..] != b"PAR1" {
        let at = meta.bytes - trailer.len() as u64;
        return Err(Error::corrupt(
            &path,
            format!("its last 8 bytes, at offset {at}, are not those that were written"),
        ));
    }
    if crc32c::crc32c(&footer) != meta.footer_crc32c {
        return Err(Error::corrupt(&path, format!("checksum mismatch in the footer at offset {end}")));
    }
    Ok(Tail { start, data, footer })
}

/// The block checksums in the Thrift part of a footer, whose own was checked.
///
/// # Errors
/// `Corrupt` when it is not the footer of the segment the meta means.
pub(super) fn block_checksums(meta: &SegmentMeta, footer: &[u8]) -> Result<Vec<u32>> {
    let metadata =
        ParquetMetaDataReader::decode_metadata(footer).map_err(|e| decode_error(&meta.path(), e))?;
    block_table(meta, &metadata)
}

/// The block checksums, after checking that this is the segment the meta means.
fn block_table(meta: &SegmentMeta, metadata: &ParquetMetaData) -> Result<Vec<u32>> {
    let entries = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
    let entry = |key: &str| entries.iter().find(|e| e.key == key).and_then(|e| e.value.as_deref());
    if let Some(format) = entry(FORMAT_KEY).filter(|format| *format != FORMAT) {
        return Err(newer(meta.path(), format_args!("it has format {format}")));
    }
    if entry(SEGMENT_KEY) != Some(meta.id.to_string().as_str())
        || entry(TABLE_KEY) != Some(meta.table.to_string().as_str())
        || metadata.file_metadata().num_rows() != meta.rows as i64
    {
        return Err(Error::corrupt(meta.path(), "it is not the segment its meta describes"));
    }
    let blocks = entry(BLOCKS_KEY).and_then(parse_blocks);
    let count = data_end(meta).unwrap_or(0).div_ceil(BLOCK_BYTES as u64);
    blocks
        .filter(|blocks| blocks.len() as u64 == count)
        .ok_or_else(|| Error::corrupt(meta.path(), "its table of block checksums does not fit its length"))
}

async fn with_page_index(
    source: &BlockSource,
    meta: &SegmentMeta,
    metadata: ParquetMetaData,
    tail: &Tail,
) -> Result<ParquetMetaData> {
    let path = meta.path();
    let mut decoder = ParquetMetaDataPushDecoder::try_new_with_metadata(meta.bytes, metadata)
        .map_err(|e| decode_error(&path, e))?
        .with_page_index_policy(PageIndexPolicy::Optional);
    loop {
        match decoder.try_decode().map_err(|e| decode_error(&path, e))? {
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::NeedsData(ranges) => {
                let bytes = match ranges.iter().map(|range| tail.slice(range)).collect::<Option<Vec<Bytes>>>()
                {
                    Some(bytes) => bytes,
                    None => source.read_ranges(&ranges).await?,
                };
                decoder.push_ranges(ranges, bytes).map_err(|e| decode_error(&path, e))?;
            }
            DecodeResult::Finished => return Err(Error::corrupt(&path, "its page index does not decode")),
        }
    }
}

fn match_columns(
    metadata: ParquetMetaData,
    blocks: Arc<[u32]>,
    def: &TableDef,
) -> Result<Opened, parquet::errors::ParquetError> {
    let metadata = names::as_defined(metadata, def)?;
    let schema = metadata.file_metadata().schema_descr();
    let inferred = parquet_to_arrow_schema(schema, None)?;
    let mut by_id = HashMap::new();
    let mut fields = Vec::with_capacity(inferred.fields().len());
    for (root, (parquet, field)) in
        schema.root_schema().get_fields().iter().zip(inferred.fields()).enumerate()
    {
        let info = parquet.get_basic_info();
        let id = info.has_id().then(|| ColumnId(info.id().unsigned_abs()));
        let surface = id.and_then(|id| {
            by_id.insert(id, root);
            if id == ROW_ID_FIELD || id == VERSION_FIELD {
                return Some(DataType::UInt64);
            }
            def.columns.iter().find(|c| c.id == id).map(|c| stored_type(&c.column_type))
        });
        let nullable = info.repetition() != Repetition::REQUIRED;
        // What was widened since is read as it was written.
        let narrower = |surface: &DataType| surface.is_numeric() && surface != field.data_type();
        let data_type = surface.filter(|s| !narrower(s)).unwrap_or_else(|| field.data_type().clone());
        fields.push(Field::new(parquet.name(), data_type, nullable));
    }
    let group_starts = std::iter::once(0)
        .chain(metadata.row_groups().iter().scan(0, |next, group| {
            *next += group.num_rows() as u64;
            Some(*next)
        }))
        .collect();
    let leaves = super::points::leaves(metadata.file_metadata().schema_descr());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    Ok(Opened {
        arrow: ArrowReaderMetadata::try_new(Arc::new(metadata), options)?,
        blocks,
        roots: def.columns.iter().map(|c| by_id.get(&c.id).copied()).collect(),
        leaves,
        row_id_root: by_id.get(&ROW_ID_FIELD).copied(),
        version_root: by_id.get(&VERSION_FIELD).copied(),
        group_starts,
        key_pages: OnceLock::new(),
        row_id_pages: OnceLock::new(),
    })
}
