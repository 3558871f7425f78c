//! DROP and TRUNCATE, and what stands on what is dropped.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::id::{IndexId, ObjectId, TableId, UserId};
use cairn_storage::schema::TableDef;
use cairn_storage::wal::CatalogEdit;
use datafusion::sql::sqlparser::ast::ObjectName;

use super::view::relations;
use super::{at, invalid, name};
use crate::catalog::{missing, unknown_schema};
use crate::config::DEFAULT_SCHEMA;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights::{self, Right};
use crate::statement::{DropKind, DropStatement, name_of, object_position, parse_query, schema_and_name};

/// What one DROP removes; sets, so that naming something twice is once.
#[derive(Default)]
struct Doomed {
    tables: BTreeSet<(String, String, TableId)>,
    views: BTreeSet<(String, String)>,
    schemas: BTreeSet<String>,
}

impl Doomed {
    fn holds(&self, schema: &str, name: &str) -> bool {
        self.views.contains(&(schema.to_owned(), name.to_owned()))
            || self.tables.iter().any(|(s, n, _)| s == schema && n == name)
    }
}

/// DROP TABLE, VIEW or SCHEMA.
///
/// # Errors
/// 42P01 or 3F000 without IF EXISTS, 42809 for the wrong kind, 2BP01 when views stand on it and CASCADE is not said, 42501 when
/// one of them is another's.
pub(crate) async fn drop(context: &StatementContext, statement: &DropStatement) -> Result<Output> {
    let mut doomed = Doomed::default();
    let mut notes = Vec::new();
    let mut indexes = Vec::new();
    for object in &statement.names {
        let found = match statement.kind {
            DropKind::Schema => schema(context, object, statement.cascade, &mut doomed),
            DropKind::Table | DropKind::View => {
                table_or_view(context, object, (statement.kind, false), &mut doomed)
            }
            DropKind::Index => super::index::without(context, object).map(|dropped| indexes.push(dropped)),
        };
        match found.map_err(|e| if e.position().is_some() { e } else { at(e, object_position(object)) }) {
            Ok(()) => {}
            Err(error) if statement.if_exists && error.kind() == ErrorKind::NotFound => {
                notes.push(format!("{}, skipped", error.message()))
            }
            Err(error) => return Err(error),
        }
    }
    let verb = match statement.kind {
        DropKind::Table => "DROP TABLE",
        DropKind::View => "DROP VIEW",
        DropKind::Schema => "DROP SCHEMA",
        DropKind::Index => "DROP INDEX",
    };
    dependents(context, statement.cascade, &mut doomed, &mut notes)?;
    notes.extend(leads_nowhere(context, &doomed.schemas).await);
    let transaction = context.db.begin(&context.snapshot).await?;
    let mut units = RemovedUnits::default();
    for (_, _, table) in &doomed.tables {
        units.0.extend(RemovedUnits::of_table(context, *table).0);
    }
    units.0.extend(indexes.iter().map(|index| (index.table, index.units.clone())));
    let tables = doomed.tables.iter().map(|(schema, name, _)| (schema.clone(), name.clone()));
    let objects = tables.chain(doomed.views.iter().cloned()).collect();
    rights::forget(context, &transaction, &doomed.schemas, &objects).await?;
    let mut edits: Vec<CatalogEdit> =
        doomed.views.into_iter().map(|(schema, name)| CatalogEdit::DropView { schema, name }).collect();
    edits.extend(doomed.tables.into_iter().map(|(_, _, table)| CatalogEdit::DropTable { table }));
    edits.extend(indexes.iter().map(|index| index.edit.clone()));
    edits.extend(doomed.schemas.into_iter().map(|name| CatalogEdit::DropSchema { name }));
    for edit in edits {
        transaction.edit(edit)?;
    }
    context.commit(transaction).await?;
    units.remove(context).await;
    Ok(Output::Done { verb, notes })
}

/// What to say where one of `schemas` is the one that sessions begin in. They begin in `public` then.
async fn leads_nowhere(context: &StatementContext, schemas: &BTreeSet<String>) -> Option<String> {
    if schemas.is_empty() {
        return None;
    }
    // Settings that cannot be read keep nobody from dropping a schema: who begins a session is told of them.
    let kept = context.engine.defaults(&context.snapshot).await.unwrap_or_default();
    let schema = kept.get("search_path").filter(|schema| schemas.contains(schema.as_str()))?;
    Some(format!(
        "search_path is {schema} FOR DATABASE; sessions begin in public until there is such a schema again"
    ))
}

/// Index units that a commit takes out.
#[derive(Debug, Default)]
pub(crate) struct RemovedUnits(Vec<(TableId, Vec<ObjectId>)>);

impl RemovedUnits {
    /// Those of a table's indexes.
    pub(super) fn of_table(context: &StatementContext, table: TableId) -> Self {
        Self(vec![(table, units_of(context, table))])
    }

    /// Those of some indexes of a table.
    pub(super) fn of_indexes(context: &StatementContext, table: TableId, indexes: &[IndexId]) -> Self {
        let state = context.snapshot.table(table).map(|table| Arc::clone(table.state()));
        let units = state.iter().flat_map(|state| state.units.iter());
        Self(vec![(table, units.filter(|unit| indexes.contains(&unit.index)).map(|unit| unit.id).collect())])
    }

    /// Removes them once the commit is there; within a transaction that is for COMMIT to do.
    pub(crate) async fn remove(&self, context: &StatementContext) {
        // A commit that was there before has taken others out, and these may be in use.
        if context.block.is_none() && !context.is_repeated() {
            for (table, units) in &self.0 {
                context.db.remove_index_units(*table, units).await;
            }
        }
    }
}

/// Units of a table's indexes.
fn units_of(context: &StatementContext, table: TableId) -> Vec<ObjectId> {
    let state = context.snapshot.table(table).map(|table| Arc::clone(table.state()));
    state.iter().flat_map(|state| state.units.iter()).map(|unit| unit.id).collect()
}

/// A table or view to drop, or a table to be `emptied`.
fn table_or_view(
    context: &StatementContext,
    object: &ObjectName,
    (kind, emptied): (DropKind, bool),
    doomed: &mut Doomed,
) -> Result<()> {
    let (schema, object_name) = schema_and_name(object, &context.search_path)?;
    if name::is_reserved_schema(&schema) {
        return Err(invalid("42501", format!("{schema}.{object_name} is Cairn's own and cannot be dropped")));
    }
    let catalog = context.snapshot.catalog();
    if !catalog.has_schema(&schema) {
        return Err(unknown_schema(&context.snapshot, &context.rights, &schema));
    }
    let table = catalog.table(&schema, &object_name);
    let view = catalog.view(&schema, &object_name);
    match (kind, table, view) {
        (DropKind::Table, Some(def), _) => {
            match emptied {
                true => context.rights.table(Right::Truncate, def)?,
                false => context.rights.own(def.owner, &schema, &object_name)?,
            }
            doomed.tables.insert((schema, object_name, def.id));
            Ok(())
        }
        (DropKind::View, _, Some(view)) => {
            context.rights.own(view.owner, &schema, &object_name)?;
            doomed.views.insert((schema, object_name));
            Ok(())
        }
        (_, Some(_), _) => Err(invalid("42809", format!("{schema}.{object_name} is a table"))
            .map(|e| e.with_hint("use DROP TABLE"))),
        (_, _, Some(_)) => Err(invalid("42809", format!("{schema}.{object_name} is a view"))
            .map(|e| e.with_hint("use DROP VIEW"))),
        (DropKind::View, None, None) => {
            Err(Error::new(ErrorKind::NotFound, format!("view {schema}.{object_name} does not exist"))
                .map(|e| e.with_sqlstate("42P01")))
        }
        (_, None, None) => {
            let seen = catalog.tables(&schema).filter(|t| context.rights.sees(t.owner, &schema, &t.name));
            Err(missing(&schema, &object_name, seen.map(|t| t.name.as_str())))
        }
    }
}

fn schema(context: &StatementContext, object: &ObjectName, cascade: bool, doomed: &mut Doomed) -> Result<()> {
    let [part] = object.0.as_slice() else {
        return Err(invalid("42601", format!("{object} is not the name of a schema")));
    };
    let schema = part.as_ident().map(name_of).unwrap_or_default();
    let catalog = context.snapshot.catalog();
    if name::is_reserved_schema(&schema) || schema == DEFAULT_SCHEMA {
        return Err(invalid("42501", format!("schema {schema} cannot be dropped")));
    }
    if !catalog.has_schema(&schema) {
        return Err(unknown_schema(&context.snapshot, &context.rights, &schema));
    }
    context.rights.change_schemas()?;
    let tables = catalog.tables(&schema).map(|t| (t.owner, schema.clone(), t.name.clone()));
    let views = catalog.views(&schema).map(|v| (v.owner, schema.clone(), v.name.clone()));
    context.rights.own_all(&tables.chain(views).collect::<Vec<_>>())?;
    let tables: Vec<_> = catalog.tables(&schema).map(|t| (schema.clone(), t.name.clone(), t.id)).collect();
    let views: Vec<_> = catalog.views(&schema).map(|v| (schema.clone(), v.name.clone())).collect();
    let is_empty = tables.is_empty() && views.is_empty();
    if !cascade && !is_empty {
        return Err(invalid(
            "2BP01",
            format!("schema {schema} is not empty: {} tables and {} views", tables.len(), views.len()),
        )
        .map(|e| e.with_hint("DROP SCHEMA … CASCADE drops them too")));
    }
    doomed.tables.extend(tables);
    doomed.views.extend(views);
    doomed.schemas.insert(schema);
    Ok(())
}

/// Views that read what is dropped: dropped too with CASCADE by whoever owns them, an error without.
fn dependents(
    context: &StatementContext,
    cascade: bool,
    doomed: &mut Doomed,
    notes: &mut Vec<String>,
) -> Result<()> {
    let catalog = context.snapshot.catalog();
    loop {
        let mut found = Vec::new();
        for schema in catalog.schemas() {
            for view in catalog.views(schema) {
                // A view that no longer parses reads nothing.
                let Ok(query) = parse_query(&view.sql) else { continue };
                if !doomed.holds(schema, &view.name)
                    && relations(&query, &view.search_path).iter().any(|(s, n)| doomed.holds(s, n))
                {
                    found.push((view.owner, schema.to_owned(), view.name.clone()));
                }
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        if !cascade {
            let names = context.rights.names(&found);
            return Err(invalid("2BP01", format!("views stand on it: {names}"))
                .map(|e| e.with_hint("CASCADE drops them too")));
        }
        context.rights.own_all(&found)?;
        notes.extend(found.iter().map(|(_, schema, name)| format!("view {schema}.{name} is dropped too")));
        doomed.views.extend(found.into_iter().map(|(_, schema, name)| (schema, name)));
    }
}

/// Views that read a table and may name a column of it; None: whatever they name. A view that names all columns, or anything else by
/// that name, is among them.
pub(super) fn standing_on(
    context: &StatementContext,
    table: &TableDef,
    column: Option<&str>,
) -> Vec<(Option<UserId>, String, String)> {
    let catalog = context.snapshot.catalog();
    let mut found = Vec::new();
    for schema in catalog.schemas() {
        for view in catalog.views(schema) {
            // A view that no longer parses reads nothing.
            let Ok(query) = parse_query(&view.sql) else { continue };
            let names = column.is_none_or(|column| may_name(&view.sql, column));
            let reads = relations(&query, &view.search_path);
            if names && reads.iter().any(|(s, n)| *s == table.schema && *n == table.name) {
                found.push((view.owner, schema.to_owned(), view.name.clone()));
            }
        }
    }
    found
}

/// Whether a query may name a column: by its name as a word of the text, or with all others (`*`, NATURAL JOIN).
fn may_name(query: &str, column: &str) -> bool {
    let (query, column) = (query.to_lowercase(), column.to_lowercase());
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: Vec<&str> = query.split(|c| !of_word(c)).collect();
    match column.chars().all(of_word) {
        _ if query.contains('*') || words.contains(&"natural") => true,
        true => words.contains(&column.as_str()),
        false => query.contains(&column),
    }
}

/// Views that are dropped, with those that stand on them.
///
/// # Errors
/// 42501 when one of them is another's.
pub(super) fn on_them(
    context: &StatementContext,
    views: Vec<(Option<UserId>, String, String)>,
    notes: &mut Vec<String>,
) -> Result<BTreeSet<(String, String)>> {
    context.rights.own_all(&views)?;
    notes.extend(views.iter().map(|(_, schema, name)| format!("view {schema}.{name} is dropped too")));
    let views = views.into_iter().map(|(_, schema, name)| (schema, name)).collect();
    let mut doomed = Doomed { views, ..Doomed::default() };
    dependents(context, true, &mut doomed, notes)?;
    Ok(doomed.views)
}

/// TRUNCATE: every row of the tables.
///
/// # Errors
/// 42P01 without IF EXISTS, 42809 for a view.
pub(crate) async fn truncate(
    context: &StatementContext,
    tables: &[ObjectName],
    if_exists: bool,
) -> Result<Output> {
    let mut ids: BTreeSet<TableId> = BTreeSet::new();
    let mut notes = Vec::new();
    for object in tables {
        let mut found = Doomed::default();
        match table_or_view(context, object, (DropKind::Table, true), &mut found)
            .map_err(|e| at(e, object_position(object)))
        {
            Ok(()) => ids.extend(found.tables.into_iter().map(|(_, _, id)| id)),
            Err(error) if if_exists && error.kind() == ErrorKind::NotFound => {
                notes.push(format!("{}, skipped", error.message()))
            }
            Err(error) if error.sqlstate() == "42809" => {
                return Err(error.map(|e| e.with_hint("only tables can be truncated")));
            }
            Err(error) => return Err(error),
        }
    }
    let transaction = context.db.begin(&context.snapshot).await?;
    let mut rows = 0;
    let mut emptied = Vec::new();
    for id in ids {
        if let Some(table) = context.snapshot.table(id) {
            rows += table.row_count().await?;
        }
        let units = units_of(context, id);
        if !units.is_empty() {
            transaction.edit(CatalogEdit::DropUnits { table: id, units: units.clone() })?;
        }
        transaction.truncate(id)?;
        emptied.push((id, units));
    }
    context.commit(transaction).await?;
    RemovedUnits(emptied).remove(context).await;
    Ok(Output::Affected { verb: "TRUNCATE", rows, notes })
}
