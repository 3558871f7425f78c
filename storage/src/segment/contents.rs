//! What stands in one segment's file, for people who look into it.
//!
//! Owns: reading it alone, without its meta: footer, sizes, and which blocks are damaged. Changes nothing.

use bytes::Bytes;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use serde::Serialize;

use super::encode::{BLOCKS_KEY, FORMAT_KEY, SEGMENT_KEY, TABLE_KEY};
use super::sink::{BLOCK_BYTES, parse_blocks};
use crate::error::{Error, Result};

/// Bytes behind the footer: its length and the magic.
const TRAILER_BYTES: usize = 8;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentContents {
    /// Version of the segment format.
    pub format: String,
    /// The segment's id.
    pub segment: String,
    /// Its table.
    pub table: String,
    /// Length of the file.
    pub bytes: u64,
    /// Length of the footer.
    pub footer_bytes: u64,
    /// Rows in it, deleted ones included.
    pub rows: u64,
    /// Rows of each row group.
    pub row_groups: Vec<u64>,
    /// Its columns, nested ones by their leaves.
    pub columns: Vec<ColumnContents>,
    /// Blocks that have a checksum.
    pub blocks: u64,
    /// Offsets of those whose checksum is wrong.
    pub damaged_blocks: Vec<u64>,
}

/// One column.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnContents {
    /// Its path in the file.
    pub name: String,
    /// Parquet's type, and what it stands for.
    pub r#type: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// Bytes before compression.
    pub uncompressed_bytes: u64,
    /// NULLs, where they are counted.
    pub nulls: Option<u64>,
    /// How its pages are packed, in the first row group.
    pub compression: String,
    /// Encodings of its pages, in the first row group.
    pub encodings: Vec<String>,
}

impl SegmentContents {
    /// Reads the file `what`.
    ///
    /// # Errors
    /// `Corrupt` when it is no segment, or its footer can't be read.
    pub fn read(what: &str, bytes: &Bytes) -> Result<Self> {
        let damaged = |why: &str| Error::corrupt(what, why);
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(bytes)
            .map_err(|error| Error::corrupt(what, &error).with_source(error))?;
        let trailer = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("it is too short"))?;
        let footer_bytes = bytes[trailer..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        let data = trailer
            .checked_sub(footer_bytes as usize)
            .ok_or_else(|| damaged("its footer is longer than the file"))?;
        let entries = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
        let entry = |key: &str| entries.iter().find(|e| e.key == key).and_then(|e| e.value.clone());
        let missing = || damaged("it is a Parquet file, but no segment of Cairn's");
        let blocks = parse_blocks(&entry(BLOCKS_KEY).ok_or_else(missing)?).ok_or_else(missing)?;
        if blocks.len() != data.div_ceil(BLOCK_BYTES) {
            return Err(damaged("it has not as many checksums as blocks"));
        }
        let parts = bytes[..data].chunks(BLOCK_BYTES).zip(&blocks).enumerate();
        let wrong = parts.filter(|(_, (part, checksum))| crc32c::crc32c(part) != **checksum);
        let damaged_blocks = wrong.map(|(at, _)| (at * BLOCK_BYTES) as u64).collect();
        Ok(Self {
            format: entry(FORMAT_KEY).ok_or_else(missing)?,
            segment: entry(SEGMENT_KEY).ok_or_else(missing)?,
            table: entry(TABLE_KEY).ok_or_else(missing)?,
            bytes: bytes.len() as u64,
            footer_bytes: footer_bytes.into(),
            rows: count(metadata.file_metadata().num_rows()),
            row_groups: metadata.row_groups().iter().map(|group| count(group.num_rows())).collect(),
            columns: columns(&metadata),
            blocks: blocks.len() as u64,
            damaged_blocks,
        })
    }
}

fn columns(metadata: &ParquetMetaData) -> Vec<ColumnContents> {
    let Some(first) = metadata.row_groups().first() else { return Vec::new() };
    let column = |(at, chunk): (usize, &ColumnChunkMetaData)| {
        let chunks = || metadata.row_groups().iter().filter_map(|group| group.columns().get(at));
        let sum = |bytes: fn(&ColumnChunkMetaData) -> i64| -> u64 {
            chunks().map(|chunk| count(bytes(chunk))).sum()
        };
        let physical = chunk.column_type();
        ColumnContents {
            name: chunk.column_path().string(),
            r#type: match chunk.column_descr().logical_type_ref() {
                Some(logical) => format!("{physical} {logical:?}"),
                None => physical.to_string(),
            },
            bytes: sum(ColumnChunkMetaData::compressed_size),
            uncompressed_bytes: sum(ColumnChunkMetaData::uncompressed_size),
            nulls: chunks().map(|chunk| chunk.statistics().and_then(|s| s.null_count_opt())).sum(),
            compression: chunk.compression().to_string(),
            encodings: chunk.encodings().map(|encoding| encoding.to_string()).collect(),
        }
    };
    first.columns().iter().enumerate().map(column).collect()
}

/// A number that Parquet says is no less than 0.
fn count(number: i64) -> u64 {
    number.max(0) as u64
}
