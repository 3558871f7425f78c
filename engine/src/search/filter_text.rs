//! The condition in the text of `filter => '…'`.

use std::ops::ControlFlow;

use cairn_storage::schema::TableDef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Query, VisitMut, VisitorMut};

use super::relation::{FUNCTION, invalid};
use crate::error::{Error, Result};
use crate::provider::{CairnTable, usable};
use crate::statement::{name_of, parse_expression};

/// The condition in `text` over the table's columns.
///
/// # Errors
/// 42601 for a text that is no condition, 42703 for columns of others, 0A000 for subqueries and volatile functions.
pub(super) fn condition(
    text: &str,
    table: &CairnTable,
    context: &mut dyn RelationPlannerContext,
) -> Result<Vec<Expr>> {
    let mut parsed = parse_expression(text).map_err(|error| {
        let (kind, sqlstate) = (error.kind(), error.sqlstate());
        // Its place is one in the text, not in the statement.
        Error::new(kind, format!("filter of vector_search: {}", error.message()))
            .map(|e| e.with_sqlstate(sqlstate))
    })?;
    if let ControlFlow::Break(error) = parsed.visit(&mut OfTable(table.table().def())) {
        return Err(error);
    }
    let schema = DFSchema::try_from_qualified_schema(TableReference::bare(FUNCTION), &table.schema())?;
    let expr = context.sql_to_expr(parsed, &schema)?;
    if expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(_) | Expr::WindowFunction(_))))? {
        return Err(invalid("42803", "filter of vector_search is about single rows: it has no aggregates"));
    }
    if !usable(&expr)? {
        return Err(Error::not_supported_yet("a volatile function in filter => '…'"));
    }
    Ok(split_conjunction_owned(expr))
}

/// Refuses what a condition over one table cannot name, and leaves out the table's own name before a column.
struct OfTable<'a>(&'a TableDef);

impl VisitorMut for OfTable<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        let error = Error::not_supported_yet("a subquery in filter => '…'");
        ControlFlow::Break(error.map(|e| {
            e.with_hint(
                "WHERE … IN (SELECT …) around vector_search narrows its answer; ask for more rows with k",
            )
        }))
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Error> {
        let SqlExpr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let has = |ident: &Ident| self.0.columns.iter().any(|column| column.name == name_of(ident));
        let (schema, table, column) = match parts.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] => (Some(schema), table, column),
            _ => return ControlFlow::Continue(()),
        };
        let is_table = schema.is_none_or(|schema| name_of(schema) == self.0.schema)
            && (name_of(table) == self.0.name || schema.is_none() && name_of(table) == FUNCTION);
        if is_table && has(column) {
            *expr = SqlExpr::Identifier(column.clone());
            return ControlFlow::Continue(());
        }
        // A column's name first: a field of it.
        if parts.first().is_some_and(has) {
            return ControlFlow::Continue(());
        }
        let message = format!(
            "filter of vector_search is about the columns of table \"{}\": {table}.{column} is none of them",
            self.0.qualified_name()
        );
        ControlFlow::Break(invalid("42703", message).map(|e| {
            e.with_hint("a condition on other tables stands in WHERE, and narrows the answer; ask for more rows with k")
        }))
    }
}
