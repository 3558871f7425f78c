//! The condition in the text of `filter => '…'`.

use std::ops::ControlFlow;

use cairn_storage::schema::TableDef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query, VisitMut, VisitorMut};

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
        let [table, column] = parts.as_slice() else { return ControlFlow::Continue(()) };
        let first = name_of(table);
        // A column's name first: a field of it.
        if self.0.columns.iter().any(|column| column.name == first) {
            return ControlFlow::Continue(());
        }
        if first == self.0.name || first == FUNCTION {
            *expr = SqlExpr::Identifier(column.clone());
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
