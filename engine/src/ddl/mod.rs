//! CREATE, ALTER, DROP and TRUNCATE: changes of the catalog, each one transaction.
//!
//! Owns: what may be created under which name with which columns, and what stands on what when something is dropped. Does not
//! own: retries (`session`), applying an edit (storage).

mod alter;
mod column;
mod drop;
mod identity;
mod index;
mod limits;
mod name;
mod table;
mod view;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

pub(crate) use alter::alter_table;
pub(crate) use drop::{drop, truncate};
pub(crate) use identity::{identity_text, kind as identity_kind, value_unless_given};
pub(crate) use index::{
    INDEX_OPTIONS, OPERATOR_CLASSES, create_index, create_index_text, explain_create_index, metric_name,
    reindex,
};
pub use limits::{COLUMNS_MAX, KEY_COLUMNS_MAX, NAME_BYTES_MAX};
pub(crate) use name::new_object as new_name;
pub(crate) use table::{create_table, create_table_for};
pub(crate) use view::{create_view, refuse_parameters};

use crate::catalog::unknown_schema;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::statement::{ident_position, object_position, schema_and_name};
use cairn_storage::wal::CatalogEdit;

/// CREATE SCHEMA.
pub(crate) async fn create_schema(
    context: &StatementContext,
    name: &ObjectName,
    if_not_exists: bool,
) -> Result<Output> {
    let [part] = name.0.as_slice() else {
        return Err(invalid("42601", format!("{name} is not the name of a schema")));
    };
    let ident =
        part.as_ident().ok_or_else(|| invalid("42601", format!("{name} is not the name of a schema")))?;
    let schema = name::new_schema(ident)?;
    context.rights.change_schemas().map_err(|e| at(e, object_position(name)))?;
    if context.snapshot.catalog().has_schema(&schema) {
        let message = format!("schema {schema} already exists");
        return exists(if_not_exists, "CREATE SCHEMA", "42P06", message, object_position(name));
    }
    let transaction = context.db.begin(&context.snapshot).await?;
    transaction.edit(CatalogEdit::CreateSchema { name: schema })?;
    context.commit(transaction).await?;
    Ok(Output::Done { verb: "CREATE SCHEMA", notes: Vec::new() })
}

/// Schema and name for something new: the schema must exist and take objects, the name must follow the rules.
fn new_object(context: &StatementContext, name: &ObjectName) -> Result<(String, String)> {
    let (schema, object) = schema_and_name(name, &context.search_path)?;
    let ident: Option<&Ident> = name.0.last().and_then(|p| p.as_ident());
    if let Some(ident) = ident {
        name::new_object(ident)?;
    }
    if name::is_reserved_schema(&schema) {
        return Err(at(
            invalid("42501", format!("schema {schema} is Cairn's own; nothing can be created in it")),
            object_position(name),
        ));
    }
    if !context.snapshot.catalog().has_schema(&schema) {
        let error = unknown_schema(&context.snapshot, &context.rights, &schema);
        return Err(at(error, object_position(name)));
    }
    context.rights.create_in(&schema).map_err(|e| at(e, object_position(name)))?;
    Ok((schema, object))
}

/// What to answer when a new object is there already: a note with IF NOT EXISTS, an error without.
fn exists(
    if_not_exists: bool,
    verb: &'static str,
    sqlstate: &'static str,
    message: String,
    position: Option<crate::error::Position>,
) -> Result<Output> {
    if if_not_exists {
        return Ok(Output::Done { verb, notes: vec![format!("{message}, skipped")] });
    }
    let error = Error::new(ErrorKind::AlreadyExists, message).map(|e| {
        e.with_sqlstate(sqlstate).with_hint("use another name, drop it first, or say IF NOT EXISTS")
    });
    Err(at(error, position))
}

/// A table or view of that name, as "table s.t already exists".
fn taken(context: &StatementContext, schema: &str, name: &str) -> Option<String> {
    let catalog = context.snapshot.catalog();
    if catalog.table(schema, name).is_some() {
        Some(format!("table {schema}.{name} already exists"))
    } else {
        catalog.view(schema, name).map(|_| format!("view {schema}.{name} already exists"))
    }
}

fn invalid(sqlstate: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate))
}

fn at(error: Error, position: Option<crate::error::Position>) -> Error {
    match position {
        Some(position) => error.at(position),
        None => error,
    }
}

fn at_ident(error: Error, ident: &Ident) -> Error {
    at(error, ident_position(ident))
}
