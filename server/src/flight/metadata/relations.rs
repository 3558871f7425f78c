//! Catalogs, schemas, tables and their types.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};
use cairn_engine::{Error, Relation, RelationKind, Result, Session};
use cairn_storage::schema::ColumnType;
use datafusion::arrow::array::{BooleanArray, RecordBatch, StringArray};
use datafusion::arrow::compute::kernels::comparison::like;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::super::wire;
use super::unbuilt;
use crate::session::SqlSession;

/// Keys of a column's metadata that Flight SQL knows.
const TYPE_NAME: &str = "ARROW:FLIGHT:SQL:TYPE_NAME";
const PRECISION: &str = "ARROW:FLIGHT:SQL:PRECISION";
const SCALE: &str = "ARROW:FLIGHT:SQL:SCALE";
const IS_AUTO_INCREMENT: &str = "ARROW:FLIGHT:SQL:IS_AUTO_INCREMENT";

fn type_name(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "TABLE",
        RelationKind::View => "VIEW",
        RelationKind::System => "SYSTEM TABLE",
    }
}

pub(super) fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    builder.append(Session::catalog_name());
    builder.build().map_err(unbuilt)
}

pub(super) fn schemas(session: &Session, command: CommandGetDbSchemas) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    for schema in session.schemas() {
        builder.append(Session::catalog_name(), schema);
    }
    builder.build().map_err(unbuilt)
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    for kind in [RelationKind::Table, RelationKind::View, RelationKind::System] {
        builder.append(type_name(kind));
    }
    builder.build().map_err(unbuilt)
}

pub(super) async fn tables(sql: &SqlSession, command: CommandGetTables) -> Result<RecordBatch> {
    let session = sql.engine();
    let relations = wanted(session.relations(), &command)?;
    let schemas = match command.include_schema {
        true => {
            let _turn = sql.turn().await;
            session.relation_schemas(relations.clone()).await?
        }
        false => {
            let none = Arc::new(Schema::empty());
            vec![none; relations.len()]
        }
    };
    let mut builder = command.into_builder();
    for (relation, schema) in relations.iter().zip(schemas) {
        let Relation { schema: namespace, name, kind } = relation;
        let mut columns = described(&schema);
        if *kind == RelationKind::Table && !schema.fields().is_empty() {
            columns = numbering(columns, session.identity_column(namespace, name).as_deref());
        }
        builder
            .append(Session::catalog_name(), namespace, name, type_name(*kind), &columns)
            .map_err(unbuilt)?;
    }
    builder.build().map_err(unbuilt)
}

/// Those that the command asks for: columns of views are planned, so no more than needed.
fn wanted(mut relations: Vec<Relation>, command: &CommandGetTables) -> Result<Vec<Relation>> {
    let types = &command.table_types;
    relations.retain(|r| types.is_empty() || types.iter().any(|t| t == type_name(r.kind)));
    keep_like(&mut relations, command.db_schema_filter_pattern.as_deref(), |r| &r.schema)?;
    keep_like(&mut relations, command.table_name_filter_pattern.as_deref(), |r| &r.name)?;
    Ok(relations)
}

fn keep_like(
    relations: &mut Vec<Relation>,
    pattern: Option<&str>,
    name: impl Fn(&Relation) -> &str,
) -> Result<()> {
    let Some(pattern) = pattern else { return Ok(()) };
    let names: StringArray = relations.iter().map(|r| Some(name(r))).collect();
    let kept: BooleanArray = like(&names, &StringArray::new_scalar(pattern)).map_err(Error::from)?;
    let mut kept = kept.values().iter();
    relations.retain(|_| kept.next().unwrap_or(false));
    Ok(())
}

/// Columns as they are sent, each with the SQL name of its type.
fn described(schema: &SchemaRef) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        let mut metadata = HashMap::new();
        if let Some(column_type) = ColumnType::from_arrow(field.data_type()) {
            metadata.insert(TYPE_NAME.to_owned(), column_type.to_string());
        }
        if let DataType::Decimal128(precision, scale) = field.data_type() {
            metadata.insert(PRECISION.to_owned(), precision.to_string());
            metadata.insert(SCALE.to_owned(), scale.to_string());
        }
        Field::new(field.name(), wire::data_type(field.data_type()), field.is_nullable())
            .with_metadata(metadata)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Columns of a table, each with whether it is the one that gives new rows a number.
fn numbering(columns: Schema, identity: Option<&str>) -> Schema {
    let fields = columns.fields().iter().map(|field| {
        let mut metadata = field.metadata().clone();
        let numbers = if identity.is_some_and(|name| name == field.name()) { "1" } else { "0" };
        metadata.insert(IS_AUTO_INCREMENT.to_owned(), numbers.to_owned());
        Field::clone(field).with_metadata(metadata)
    });
    Schema::new(fields.collect::<Vec<_>>())
}
