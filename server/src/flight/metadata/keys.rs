//! Primary keys; and the columns of answers about foreign ones, of which there are none.

use std::sync::{Arc, LazyLock};

use arrow_flight::sql::CommandGetPrimaryKeys;
use cairn_engine::{RelationKind, Result, Session};
use datafusion::arrow::array::{Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

static PRIMARY: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("key_name", true),
    ]))
});

static FOREIGN: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

pub(super) fn primary_schema() -> SchemaRef {
    Arc::clone(&PRIMARY)
}

pub(super) fn foreign_schema() -> SchemaRef {
    Arc::clone(&FOREIGN)
}

/// Columns of the primary keys of the tables that the command names, which are several only without a schema.
pub(super) fn primary(session: &Session, wanted: &CommandGetPrimaryKeys) -> Result<RecordBatch> {
    let catalog = wanted.catalog.as_deref();
    let in_catalog = catalog.is_none_or(|catalog| catalog == Session::catalog_name());
    let mut rows: Vec<(String, String, i32)> = Vec::new();
    for relation in session.relations() {
        let named = relation.kind == RelationKind::Table
            && relation.name == wanted.table
            && wanted.db_schema.as_deref().is_none_or(|schema| schema == relation.schema);
        if in_catalog && named {
            let key = session.primary_key(&relation.schema, &relation.name).unwrap_or_default();
            rows.extend((1..).zip(key).map(|(place, column)| (relation.schema.clone(), column, place)));
        }
    }
    let texts = |value: fn(&(String, String, i32)) -> &str| {
        Arc::new(rows.iter().map(|row| Some(value(row))).collect::<StringArray>())
    };
    let same = |value: &str| Arc::new(StringArray::from(vec![value; rows.len()]));
    Ok(RecordBatch::try_new(
        primary_schema(),
        vec![
            same(Session::catalog_name()),
            texts(|(schema, ..)| schema),
            same(&wanted.table),
            texts(|(_, column, _)| column),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|(.., place)| *place))),
            // Keys have no names.
            Arc::new(StringArray::new_null(rows.len())),
        ],
    )?)
}
