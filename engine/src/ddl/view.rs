//! CREATE VIEW: a query stored as text, planned once when it is made to be sure that it can be.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use cairn_storage::Snapshot;
use cairn_storage::schema::ViewDef;
use cairn_storage::wal::CatalogEdit;
use datafusion::sql::sqlparser::ast::{self, CreateTableOptions, CreateView};

use super::limits::VIEW_BYTES_MAX;
use super::{at, column, exists, invalid, name, new_object, taken};
use crate::catalog::{SnapshotCatalog, plan_below};
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights::Rights;
use crate::search;
use crate::session::identifier;
use crate::statement::{Parameters, inspect, object_position, parse_query, schema_and_name};

/// CREATE [OR REPLACE] VIEW.
///
/// # Errors
/// 42P07 when the name is taken, 42P17 when the view would stand on itself, 2BP01 when views that stand on it would break,
/// or what is wrong with its query.
pub(crate) async fn create_view(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    view: &CreateView,
) -> Result<Output> {
    refuse_unread(view)?;
    refuse_parameters(view)?;
    let (schema, name) = new_object(context, &view.name)?;
    let position = object_position(&view.name);
    let known = context.snapshot.catalog().view(&schema, &name).filter(|_| view.or_replace);
    let replaces = known.is_some();
    if let Some(known) = known {
        context.rights.own(known.owner, &schema, &name).map_err(|e| at(e, position))?;
    }
    if !replaces && let Some(message) = taken(context, &schema, &name) {
        return exists(view.if_not_exists, "CREATE VIEW", "42P07", message, position);
    }
    let catalog = &catalog.described();
    let sql = text(view)?;
    let query = parse_query(&sql)?;
    if replaces && stands_on(&context.snapshot, &query, &context.search_path, &schema, &name) {
        return Err(at(invalid("42P17", format!("view {schema}.{name} would stand on itself")), position));
    }
    let plan =
        plan_below(&context.state, catalog, query, &context.search_path, context.rights.clone()).await?;
    let mut seen = HashSet::new();
    column::check_count(plan.schema().fields().len())?;
    for field in plan.schema().fields() {
        if !seen.insert(field.name()) {
            return Err(invalid("42701", format!("the view has two columns named {}", field.name()))
                .map(|e| e.with_hint("give one of them another name with AS")));
        }
    }
    let (search_path, owner) = (context.search_path.clone(), context.owner);
    let view = Arc::new(ViewDef { schema, name, sql, search_path, owner });
    if replaces {
        check_dependents(context, catalog, &view).await.map_err(|e| at(e, position))?;
    }
    let transaction = context.db.begin(&context.snapshot).await?;
    transaction.edit(CatalogEdit::PutView(view))?;
    context.commit(transaction).await?;
    Ok(Output::Done { verb: "CREATE VIEW", notes: Vec::new() })
}

/// Refuses a view whose query would have to be given values.
///
/// # Errors
/// 42P02 for a parameter.
pub(crate) fn refuse_parameters(view: &CreateView) -> Result<()> {
    match Parameters::of(view.query.as_ref()).names().first() {
        Some(name) => Err(invalid("42P02", format!("a view cannot have the parameter ${name}"))),
        None => Ok(()),
    }
}

/// Refuses a `view` with which others, that stand on it and work now, would not any more.
async fn check_dependents(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    view: &Arc<ViewDef>,
) -> Result<()> {
    let replaced = catalog.with_view(Arc::clone(view));
    let (mut broken, mut detail) = (Vec::new(), None);
    let stored = context.snapshot.catalog();
    for other in stored.schemas().flat_map(|schema| stored.views(schema)) {
        let Ok(query) = parse_query(&other.sql) else { continue };
        if !stands_on(&context.snapshot, &query, &other.search_path, &view.schema, &view.name) {
            continue;
        }
        // Whether it works does not depend on who asks.
        let plan = |names| plan_below(&context.state, names, query.clone(), &other.search_path, Rights::All);
        if let Err(error) = plan(&replaced).await
            && plan(catalog).await.is_ok()
        {
            let (schema, name) = (&other.schema, &other.name);
            if detail.is_none() && context.rights.sees(other.owner, schema, name) {
                detail = Some(format!("{schema}.{name}: {}", error.message()));
            }
            broken.push((other.owner, schema.clone(), name.clone()));
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    let names = context.rights.names(&broken);
    let message = format!("views stand on {}.{} and would break: {names}", view.schema, view.name);
    let error =
        invalid("2BP01", message).map(|e| e.with_hint("keep the columns they read, or drop them first"));
    Err(match detail {
        Some(detail) => error.map(|e| e.with_detail(detail)),
        None => error,
    })
}

/// The query's text, with the view's column names around it when some are written.
fn text(view: &CreateView) -> Result<String> {
    let mut sql = view.query.to_string();
    if !view.columns.is_empty() {
        let mut names = Vec::with_capacity(view.columns.len());
        for column in &view.columns {
            if column.data_type.is_some() || column.options.is_some() {
                return Err(Error::not_supported_yet("a type or option on a view's column"));
            }
            names.push(identifier(&name::new_object(&column.name)?));
        }
        sql = format!("SELECT * FROM ({sql}) AS v ({})", names.join(", "));
    }
    if sql.len() > VIEW_BYTES_MAX {
        return Err(Error::new(
            cairn_storage::ErrorKind::ResourceExhausted,
            format!("the query of a view has at most {VIEW_BYTES_MAX} bytes"),
        )
        .map(|e| e.with_sqlstate("54000")));
    }
    Ok(sql)
}

/// Whether `query` reads `schema.name`, itself or through views.
fn stands_on(snapshot: &Snapshot, query: &ast::Query, search_path: &str, schema: &str, name: &str) -> bool {
    let mut waiting: VecDeque<(String, String)> = relations(query, search_path).into();
    let mut seen = HashSet::new();
    while let Some((s, n)) = waiting.pop_front() {
        if s == schema && n == name {
            return true;
        }
        if seen.insert((s.clone(), n.clone()))
            && let Some(view) = snapshot.catalog().view(&s, &n)
            && let Ok(query) = parse_query(&view.sql)
        {
            waiting.extend(relations(&query, &view.search_path));
        }
    }
    false
}

/// Schema and name of everything a query reads.
pub(super) fn relations(query: &ast::Query, search_path: &str) -> Vec<(String, String)> {
    let shape = inspect(&ast::Statement::Query(Box::new(query.clone())));
    let names = shape.relations.into_iter().chain(search::searched_in(query));
    names.filter_map(|name| schema_and_name(&name, search_path).ok()).collect()
}

fn refuse_unread(view: &CreateView) -> Result<()> {
    let unread = [
        (view.materialized, "CREATE MATERIALIZED VIEW"),
        (view.temporary, "CREATE TEMPORARY VIEW"),
        (
            view.or_alter
                || view.secure
                || view.copy_grants
                || view.with_no_schema_binding
                || view.params.is_some(),
            "an option of CREATE VIEW",
        ),
        (!matches!(view.options, CreateTableOptions::None), "WITH (…) of CREATE VIEW"),
        (!view.cluster_by.is_empty(), "CLUSTER BY"),
        (view.comment.is_some(), "COMMENT"),
        (view.to.is_some(), "CREATE VIEW … TO"),
    ];
    match unread.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(at(Error::not_supported_yet(what), object_position(&view.name))),
        None => Ok(()),
    }
}
