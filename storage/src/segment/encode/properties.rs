//! The Parquet schema and writer properties of a segment.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{DEFAULT_WRITE_BATCH_SIZE, EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::super::bounds::BOUND_BYTES;
use super::super::encoding::{ColumnEncoding, DICTIONARY_BYTES_MAX};
use super::super::vectors::stored_type;
use super::super::writer::{Addressing, SegmentCompression, SegmentWriterOptions};
use crate::id::ColumnId;
use crate::schema::{ColumnType, ROW_ID_FIELD, TableDef, VERSION_FIELD};

/// Bytes of vectors in one row group, which is held in memory while it is written …
const ROW_GROUP_VECTOR_BYTES: usize = 256 << 20;
/// … and in one page.
const PAGE_VECTOR_BYTES: usize = 1 << 20;

/// Bytes the vectors of one row take.
fn vector_bytes(def: &TableDef) -> usize {
    let of = |column_type: &ColumnType| match column_type {
        ColumnType::Vector(dim) => 4 * usize::from(*dim),
        _ => 0,
    };
    def.columns.iter().map(|c| of(&c.column_type)).sum()
}

/// Arrow schema of the file: the table's columns, then the pseudo-columns, each with its field id.
pub(super) fn schema(def: &TableDef, addressing: Addressing) -> SchemaRef {
    let with_id = |field: Field, id: ColumnId| {
        field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
    };
    let users = def.columns.iter().map(|column| {
        let stored = Field::new(&column.name, stored_type(&column.column_type), column.nullable);
        with_id(stored, column.id)
    });
    let pseudo = super::pseudo_columns(addressing)
        .iter()
        .zip([ROW_ID_FIELD, VERSION_FIELD])
        .map(|(name, id)| with_id(Field::new(*name, DataType::UInt64, false), id));
    Arc::new(Schema::new(users.chain(pseudo).collect::<Vec<_>>()))
}

/// Types of the same columns.
pub(super) fn column_types(def: &TableDef, addressing: Addressing) -> Vec<ColumnType> {
    let pseudo = super::pseudo_columns(addressing).iter().map(|_| ColumnType::UInt64);
    def.columns.iter().map(|c| c.column_type.clone()).chain(pseudo).collect()
}

/// The codec of columns that gain from it.
pub(super) fn codec(options: &SegmentWriterOptions) -> Compression {
    match options.compression {
        SegmentCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        SegmentCompression::Lz4 => Compression::LZ4_RAW,
    }
}

/// Properties with `compression` for every column not in `uncompressed`.
pub(super) fn properties(
    def: &TableDef,
    schema: &Schema,
    encodings: &[ColumnEncoding],
    options: &SegmentWriterOptions,
    compression: Compression,
    uncompressed: &[ColumnPath],
) -> WriterProperties {
    let width = vector_bytes(def).max(1);
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("cairn {}", env!("CARGO_PKG_VERSION")))
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_column_index_truncate_length(Some(BOUND_BYTES))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_data_page_row_count_limit(options.page_rows)
        .set_max_row_group_row_count(Some(options.row_group_rows.min(ROW_GROUP_VECTOR_BYTES / width)))
        .set_max_row_group_bytes(options.row_group_bytes)
        .set_write_batch_size((PAGE_VECTOR_BYTES / width).clamp(1, DEFAULT_WRITE_BATCH_SIZE));
    for (i, (field, encoding)) in schema.fields().iter().zip(encodings).enumerate() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        properties = match encoding {
            ColumnEncoding::Dictionary | ColumnEncoding::Default => properties,
            ColumnEncoding::Delta { .. } => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            ColumnEncoding::Plain => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::PLAIN),
            ColumnEncoding::PlainBytes => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::PLAIN)
                .set_column_data_page_size_limit(path, options.text_page_bytes),
        };
        // Bounds of JSON text and of vectors help nobody and cost a comparison per value.
        let column_type = def.columns.get(i).map(|c| &c.column_type);
        if matches!(column_type, Some(ColumnType::Json | ColumnType::Vector(_))) {
            let path = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            if column_type != Some(&ColumnType::Json) {
                // Read in place by vector search: value i of a page stands at i times its width.
                properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
            }
        }
    }
    for path in uncompressed {
        properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
    }
    properties.build()
}
