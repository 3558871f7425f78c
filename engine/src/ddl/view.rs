//! CREATE VIEW: a query stored as text, planned once when it is made to be sure that it can be.
//!
//! Owns: that text, which names the view's columns where `*` was written, so that they stay those that it was made with; what becomes of
//! views when a view or a table under them changes. Does not own: planning a view where it is read (`catalog::view`).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use cairn_storage::Snapshot;
use cairn_storage::schema::{TableDef, ViewDef};
use cairn_storage::wal::CatalogEdit;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, CreateTableOptions, CreateView, SelectItem, SetExpr};

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
    let sql = view.query.to_string();
    check_length(&sql)?;
    let query = parse_query(&sql)?;
    if replaces && stands_on(&context.snapshot, &query, &context.search_path, &schema, &name) {
        return Err(at(invalid("42P17", format!("view {schema}.{name} would stand on itself")), position));
    }
    let sql = text(view, of_lasting_columns(context, catalog, query, sql).await?)?;
    let plan = planned(context, catalog, parse_query(&sql)?).await?;
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

async fn planned(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    query: Box<ast::Query>,
) -> Result<LogicalPlan> {
    plan_below(&context.state, catalog, query, &context.search_path, context.rights.clone()).await
}

/// `sql`, the text of `query`, with the names of its columns where it says `*`: columns that its tables get later are not the view's.
async fn of_lasting_columns(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    query: Box<ast::Query>,
    sql: String,
) -> Result<String> {
    if !is_open(&query.body) {
        return Ok(sql);
    }
    let plan = planned(context, catalog, query.clone()).await?;
    let columns = |plan: &LogicalPlan| -> Vec<(String, DataType)> {
        plan.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect()
    };
    let wanted = columns(&plan);
    if let Some(written) = written_out(&query, &plan) {
        let written = written.to_string();
        // Not every name that the planner has for a table can be written.
        if let Ok(again) = parse_query(&written)
            && let Ok(again) = planned(context, catalog, again).await
            && columns(&again) == wanted
        {
            return Ok(written);
        }
    }
    // A query around it would lose the order of its rows.
    if query.order_by.is_some() && query.limit_clause.is_none() {
        return Ok(sql);
    }
    let names: Vec<String> = wanted.iter().map(|(name, _)| identifier(name)).collect();
    let mut distinct = HashSet::new();
    if !names.iter().all(|name| distinct.insert(name)) {
        // Which is told of the view.
        return Ok(sql);
    }
    Ok(format!("SELECT {} FROM ({sql}) AS v", names.join(", ")))
}

/// Whether the columns of a query are those that its tables have.
fn is_open(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.projection.iter().any(is_star),
        SetExpr::Query(query) => is_open(&query.body),
        SetExpr::SetOperation { left, right, .. } => is_open(left) || is_open(right),
        _ => false,
    }
}

fn is_star(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// A SELECT with the columns that its one `*` stands for in `plan`, which is its own; None: it is of another form.
fn written_out(query: &ast::Query, plan: &LogicalPlan) -> Option<ast::Query> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let mut stars = select.projection.iter().enumerate().filter(|(_, item)| is_star(item));
    let (Some((star, _)), None) = (stars.next(), stars.next()) else { return None };
    let behind = select.projection.len() - star - 1;
    let exprs = items_of(plan)?;
    let columns = exprs.get(star..exprs.len().checked_sub(behind)?)?;
    let columns: Option<Vec<SelectItem>> = columns.iter().map(column_item).collect();
    let columns = columns.filter(|columns| !columns.is_empty())?;
    select.projection.splice(star..=star, columns);
    Some(query)
}

/// The items of the SELECT that a plan is of.
fn items_of(mut plan: &LogicalPlan) -> Option<&[Expr]> {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => return Some(&projection.expr),
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Limit(limit) => &limit.input,
            LogicalPlan::Distinct(Distinct::All(input)) => input,
            _ => return None,
        };
    }
}

fn column_item(expr: &Expr) -> Option<SelectItem> {
    let Expr::Column(column) = expr else { return None };
    let quoted = |name: &str| ast::Ident::with_quote('"', name);
    let mut parts: Vec<ast::Ident> = match &column.relation {
        Some(table) => table.to_vec().iter().map(|part| quoted(part)).collect(),
        None => Vec::new(),
    };
    parts.push(quoted(&column.name));
    Some(SelectItem::UnnamedExpr(match parts.len() {
        1 => ast::Expr::Identifier(parts.remove(0)),
        _ => ast::Expr::CompoundIdentifier(parts),
    }))
}

/// Refuses to give the table `before` the columns that only `after` has where a view that reads it would break, or have other rows:
/// a join by common names has one more, or a name that was a column of a table further out is one of the nearer table. `doomed` go anyway.
pub(super) async fn check_added_columns(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    (before, after): (&Arc<TableDef>, Arc<TableDef>),
    doomed: &BTreeSet<(String, String)>,
) -> Result<()> {
    let catalog = catalog.described();
    let (then, now) = (catalog.with_table(Arc::clone(before)), catalog.with_table(after));
    let (mut changed, mut detail) = (Vec::new(), None);
    let stored = context.snapshot.catalog();
    for view in stored.schemas().flat_map(|schema| stored.views(schema)) {
        let (schema, name) = (&view.schema, &view.name);
        let Ok(query) = parse_query(&view.sql) else { continue };
        if doomed.contains(&(schema.clone(), name.clone()))
            || !stands_on(&context.snapshot, &query, &view.search_path, &before.schema, &before.name)
        {
            continue;
        }
        // One that is broken stays so.
        let Ok((columns, rows)) = rows_of(context, &then, view, query.clone(), None).await else { continue };
        let error = match rows_of(context, &now, view, query, Some(columns)).await {
            Ok((_, same)) if same == rows => continue,
            Ok(_) => "its rows would be others".to_owned(),
            Err(error) => error.message().to_owned(),
        };
        if detail.is_none() && context.rights.sees(view.owner, schema, name) {
            detail = Some(format!("{schema}.{name}: {error}"));
        }
        changed.push((view.owner, schema.clone(), name.clone()));
    }
    if changed.is_empty() {
        return Ok(());
    }
    let names = context.rights.names(&changed);
    let message = format!("views stand on {} and would change: {names}", before.qualified_name());
    let error = invalid("2BP01", message)
        .map(|e| e.with_hint("give the column another name, or drop the views and create them again"));
    Err(match detail {
        Some(detail) => error.map(|e| e.with_detail(detail)),
        None => error,
    })
}

/// How the rows of a view come about, in its `columns` or in all, which are returned with it.
async fn rows_of(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    view: &ViewDef,
    query: Box<ast::Query>,
    columns: Option<Vec<String>>,
) -> Result<(Vec<String>, String)> {
    // Whose it is makes no difference to what it means.
    let plan = plan_below(&context.state, catalog, query, &view.search_path, Rights::All).await?;
    let own = || plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    let columns: Vec<String> = columns.unwrap_or_else(own);
    let mut exprs = Vec::with_capacity(columns.len());
    for name in &columns {
        let mut found = plan.schema().iter().filter(|(_, field)| field.name() == name);
        match (found.next(), found.next()) {
            (Some(column), None) => exprs.push(Expr::Column(Column::from(column))),
            _ => return Err(invalid("42701", format!("it would have two columns named {name}"))),
        }
    }
    let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
    let plan = context.state.optimize(&plan)?;
    Ok((columns, unnumbered(&plan.display_indent().to_string())))
}

/// A plan's text without the numbers of names that the optimizer makes up, which go on counting: `__correlated_sq_7`.
fn unnumbered(plan: &str) -> String {
    let mut text = String::with_capacity(plan.len());
    let mut rest = plan;
    while let Some(at) = rest.find("__") {
        let (before, name) = rest.split_at(at);
        text.push_str(before);
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        text.push_str(name[..end].trim_end_matches(|c: char| c.is_ascii_digit()));
        rest = &name[end..];
    }
    text.push_str(rest);
    text
}

/// The text with the view's column names around it when some are written.
fn text(view: &CreateView, mut sql: String) -> Result<String> {
    if !view.columns.is_empty() {
        let mut names = Vec::with_capacity(view.columns.len());
        for column in &view.columns {
            if column.data_type.is_some() || column.options.is_some() {
                return Err(Error::not_supported_yet("a type or option on a view's column"));
            }
            names.push(identifier(&name::new_object(&column.name)?));
        }
        let names = names.join(", ");
        sql = format!("SELECT {names} FROM ({sql}) AS v ({names})");
    }
    check_length(&sql)?;
    Ok(sql)
}

fn check_length(sql: &str) -> Result<()> {
    if sql.len() > VIEW_BYTES_MAX {
        return Err(Error::new(
            cairn_storage::ErrorKind::ResourceExhausted,
            format!("the query of a view has at most {VIEW_BYTES_MAX} bytes"),
        )
        .map(|e| e.with_sqlstate("54000")));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::unnumbered;

    #[test]
    fn made_up_names_lose_their_numbers_only() {
        let plan = "LeftSemi Join: t1.a2 = __correlated_sq_12.b\n  x__1 7 __common_expr_3";
        assert_eq!(unnumbered(plan), "LeftSemi Join: t1.a2 = __correlated_sq_.b\n  x__ 7 __common_expr_");
        assert_eq!(unnumbered("TableScan: t"), "TableScan: t");
    }
}
