//! What the database tells about itself to clients that browse it.
//!
//! Owns: one schema and one way to the rows of every command of this kind. Does not own: what there is
//! (`cairn_engine::Session::relations`).

mod info;
mod keys;
mod relations;
mod types;

use arrow_flight::sql::metadata::{
    GetCatalogsBuilder, GetDbSchemasBuilder, GetTablesBuilder, SqlInfoDataBuilder, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{Command, CommandGetTableTypes};
use cairn_engine::{Error, Result};
use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use crate::session::Lease;

/// Columns of the answer to `command`.
///
/// # Errors
/// `Unsupported` for a command there is no answer to.
pub(super) fn schema(command: &Command) -> Result<SchemaRef> {
    Ok(match command {
        Command::CommandGetCatalogs(_) => GetCatalogsBuilder::new().schema(),
        Command::CommandGetDbSchemas(_) => GetDbSchemasBuilder::new(None::<String>, None::<String>).schema(),
        Command::CommandGetTables(tables) => {
            let (none, types) = (None::<String>, Vec::<String>::new());
            GetTablesBuilder::new(none.clone(), none.clone(), none, types, tables.include_schema).schema()
        }
        Command::CommandGetTableTypes(_) => CommandGetTableTypes {}.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => std::sync::Arc::new(SqlInfoDataBuilder::schema().clone()),
        Command::CommandGetXdbcTypeInfo(_) => XdbcTypeInfoDataBuilder::new().schema(),
        Command::CommandGetPrimaryKeys(_) => keys::primary_schema(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => keys::foreign_schema(),
        other => return Err(unknown(other)),
    })
}

/// Rows of the answer to `command`.
///
/// # Errors
/// As [`schema`]; what is wrong with a view whose columns are asked for.
pub(super) async fn rows(session: &Lease, command: Command) -> Result<RecordBatch> {
    let sql = session.sql_of_browsing();
    sql.engine().look().await?;
    match command {
        Command::CommandGetCatalogs(catalogs) => relations::catalogs(catalogs),
        Command::CommandGetDbSchemas(schemas) => relations::schemas(sql.engine(), schemas),
        Command::CommandGetTables(tables) => relations::tables(&sql, tables).await,
        Command::CommandGetTableTypes(types) => relations::table_types(types),
        Command::CommandGetSqlInfo(wanted) => info::rows(sql.engine(), wanted),
        Command::CommandGetXdbcTypeInfo(wanted) => types::rows(wanted),
        Command::CommandGetPrimaryKeys(wanted) => keys::primary(sql.engine(), &wanted),
        // There are no foreign keys.
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(keys::foreign_schema())),
        other => Err(unknown(&other)),
    }
}

fn unknown(command: &Command) -> Error {
    Error::not_supported_yet(format!("the command {}", command.type_url()))
}

/// An answer that could not be put together.
fn unbuilt(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("metadata can't be put together: {error}"))
}
