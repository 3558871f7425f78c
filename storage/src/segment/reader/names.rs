//! A file's columns under the names that a definition has for them.
//!
//! Owns: a footer with other names, as it is kept in memory. Readers that go by name, which DataFusion's does, then find a column that
//! was renamed, and none that was dropped, whatever took its name since. Does not own: types, which stay those of the file.

use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use crate::id::ColumnId;
use crate::schema::{ROW_ID_FIELD, TableDef, VERSION_FIELD};

/// What comes before the id in the name of a column that is there no more.
const DROPPED: &str = "__cairn_dropped_";

/// The metadata with the names that `def` has for its columns; the same when those are its names already.
///
/// # Errors
/// When a column cannot be described again.
pub(super) fn as_defined(metadata: ParquetMetaData, def: &TableDef) -> Result<ParquetMetaData, ParquetError> {
    let file = metadata.file_metadata();
    let root = file.schema_descr().root_schema();
    let names: Vec<String> = root.get_fields().iter().map(|field| name(field, def)).collect();
    if root.get_fields().iter().zip(&names).all(|(field, name)| field.name() == name) {
        return Ok(metadata);
    }
    let fields = root.get_fields().iter().zip(&names);
    let fields = fields.map(|(field, name)| renamed(field, name)).collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder(root.name()).with_fields(fields).build()?;
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    let groups = metadata.row_groups().iter().map(|group| {
        let mut of = RowGroupMetaData::builder(Arc::clone(&schema))
            .set_num_rows(group.num_rows())
            .set_total_byte_size(group.total_byte_size())
            .set_sorting_columns(group.sorting_columns().cloned())
            .set_column_metadata(group.columns().to_vec());
        if let Some(ordinal) = group.ordinal() {
            of = of.set_ordinal(ordinal);
        }
        if let Some(offset) = group.file_offset() {
            of = of.set_file_offset(offset);
        }
        of.build()
    });
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let named = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        Arc::clone(&schema),
        file.column_orders().cloned(),
    );
    let (columns, offsets) = (metadata.column_index().cloned(), metadata.offset_index().cloned());
    let builder = ParquetMetaDataBuilder::new(named).set_row_groups(groups);
    Ok(builder.set_column_index(columns).set_offset_index(offsets).build())
}

fn name(field: &Type, def: &TableDef) -> String {
    let info = field.get_basic_info();
    let id = info.has_id().then(|| ColumnId(info.id().unsigned_abs()));
    let Some(id) = id.filter(|id| *id != ROW_ID_FIELD && *id != VERSION_FIELD) else {
        return field.name().to_owned();
    };
    match def.columns.iter().find(|column| column.id == id) {
        Some(column) => column.name.clone(),
        None => format!("{DROPPED}{}", id.0),
    }
}

fn renamed(field: &TypePtr, name: &str) -> Result<TypePtr, ParquetError> {
    if field.name() == name {
        return Ok(Arc::clone(field));
    }
    let info = field.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let logical = info.logical_type_ref().cloned();
    let renamed = match field.as_ref() {
        Type::PrimitiveType { physical_type, type_length, scale, precision, .. } => {
            Type::primitive_type_builder(name, *physical_type)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(logical)
                .with_length(*type_length)
                .with_precision(*precision)
                .with_scale(*scale)
                .with_id(id)
                .build()?
        }
        Type::GroupType { fields, .. } => Type::group_type_builder(name)
            .with_repetition(info.repetition())
            .with_converted_type(info.converted_type())
            .with_logical_type(logical)
            .with_fields(fields.clone())
            .with_id(id)
            .build()?,
    };
    Ok(Arc::new(renamed))
}
