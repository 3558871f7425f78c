//! Finds the columns that compression would not make smaller, by encoding a page of rows both ways.
//!
//! Bit-packed and delta-encoded pages of unordered values hardly shrink, but every read pays for decompressing them:
//! with ZSTD two of lineitem's 16 columns gain, and a point read of all of them takes half the time when only those are
//! compressed, for 2 % more bytes.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

/// Rows encoded for the trial.
const TRIAL_ROWS: usize = 8 * 1024;

/// Compression is kept where it saves at least one byte in this many …
const LEAST_SHARE: u64 = 10;
/// … and one byte per this many rows.
const LEAST_ROWS_PER_BYTE: u64 = 4;

/// Leaf columns better left uncompressed, judged by data pages alone: a dictionary is shared by a whole row group.
pub(super) fn incompressible(
    schema: &SchemaRef,
    sample: &[RecordBatch],
    compressed: WriterProperties,
    plain: WriterProperties,
) -> Result<Vec<ColumnPath>> {
    let (rows, small) = encode(schema, sample, compressed)?;
    let (_, large) = encode(schema, sample, plain)?;
    if rows == 0 {
        return Ok(Vec::new());
    }
    let leaves = large.file_metadata().schema_descr().columns().iter().enumerate();
    Ok(leaves
        .filter(|(leaf, _)| {
            let (small, large) = (data_bytes(&small, *leaf), data_bytes(&large, *leaf));
            let saved = large.saturating_sub(small);
            saved * LEAST_SHARE < large || saved * LEAST_ROWS_PER_BYTE < rows
        })
        .map(|(_, column)| column.path().clone())
        .collect())
}

fn encode(
    schema: &SchemaRef,
    sample: &[RecordBatch],
    properties: WriterProperties,
) -> Result<(u64, ParquetMetaData)> {
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(std::io::sink(), schema.clone(), options)?;
    let mut left = TRIAL_ROWS;
    for batch in sample {
        let rows = left.min(batch.num_rows());
        writer.write(&batch.slice(0, rows))?;
        left -= rows;
    }
    Ok(((TRIAL_ROWS - left) as u64, writer.close()?))
}

/// Bytes of a leaf column's data pages.
fn data_bytes(metadata: &ParquetMetaData, leaf: usize) -> u64 {
    let groups = metadata.offset_index().map_or(&[][..], Vec::as_slice);
    let pages =
        groups.iter().filter_map(|columns| columns.get(leaf)).flat_map(|column| column.page_locations());
    pages.map(|page| u64::from(page.compressed_page_size.unsigned_abs())).sum()
}
