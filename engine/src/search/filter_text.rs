//! The condition in the text of `filter => '…'`.

use std::fmt;
use std::ops::ControlFlow;

use cairn_storage::schema::{ColumnType, ROW_ID_COLUMN, TableDef, VERSION_COLUMN};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Query, VisitorMut};

use super::call::{FUNCTION, invalid};
use crate::error::{Error, Result};
use crate::provider::{CairnTable, usable};
use crate::statement::walk;
use crate::statement::{call_session_words, compare_exactly_in, name_of, parse_expression};

/// The condition in `text` over the table's columns, `_row_id` and `_version` among them.
///
/// # Errors
/// 42601 and 42804 for a text that is no condition, 42703 for columns of others, 42P02 for parameters, 0A000 for subqueries
/// and volatile functions.
pub(super) fn condition(
    text: &str,
    table: &CairnTable,
    context: &mut dyn RelationPlannerContext,
) -> Result<Vec<Expr>> {
    let mut parsed = parse_expression(text).map_err(in_filter)?;
    call_session_words(&mut parsed);
    let def = table.table().def();
    if let ControlFlow::Break(error) = walk::visit_mut(&mut parsed, &mut OfTable(def)) {
        return Err(error);
    }
    compare_exactly_in(&mut parsed, def);
    let whole = CairnTable::with_pseudo_columns(table.table().clone());
    let schema = DFSchema::try_from_qualified_schema(TableReference::bare(FUNCTION), &whole.schema())?;
    let expr = context.sql_to_expr(parsed, &schema).map_err(|error| in_filter(error.into()))?;
    if let Some(error) = refused(&expr, def)? {
        return Err(error);
    }
    match expr.get_type(&schema) {
        // NULL is true of no row; what has no type the planner has words for.
        Ok(DataType::Boolean | DataType::Null) | Err(_) => Ok(split_conjunction_owned(expr)),
        Ok(other) => {
            let shown = ColumnType::from_arrow(&other).map_or_else(|| other.to_string(), |t| t.to_string());
            let message = format!("filter of vector_search must be a condition, not a value of type {shown}");
            Err(invalid("42804", message))
        }
    }
}

/// An error that the text gives. Its place is one in the text, not in the statement.
fn in_filter(error: Error) -> Error {
    let made = Error::new(error.kind(), format!("filter of vector_search: {}", error.message()));
    made.map(|mut made| {
        made = made.with_sqlstate(error.sqlstate());
        if let Some(detail) = error.detail() {
            made = made.with_detail(detail);
        }
        match error.hint() {
            Some(hint) => made.with_hint(hint),
            None => made,
        }
    })
}

/// Why an expression is no condition over single rows of the table alone; None: it is one.
fn refused(expr: &Expr, table: &TableDef) -> Result<Option<Error>> {
    let mut refused = None;
    expr.apply(|part| {
        refused = match part {
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                Some(invalid("42803", "filter of vector_search is about single rows: it has no aggregates"))
            }
            Expr::Placeholder(placeholder) => Some(parameter(&placeholder.id)),
            Expr::OuterReferenceColumn(_, column) => Some(foreign(table, column)),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if refused.is_none() && !usable(expr)? {
        refused = Some(Error::not_supported_yet("a volatile function in filter => '…'"));
    }
    Ok(refused)
}

fn parameter(id: &str) -> Error {
    invalid("42P02", format!("filter of vector_search is a text of its own: there is no parameter {id} in it"))
        .map(|e| {
            e.with_hint(
                "write the condition in WHERE directly over vector_search, where it comes first too; or make the whole text a parameter: filter => $1",
            )
        })
}

fn foreign(table: &TableDef, column: &dyn fmt::Display) -> Error {
    let message = format!(
        "filter of vector_search is about the columns of table \"{}\": {column} is none of them",
        table.qualified_name()
    );
    invalid("42703", message).map(|e| {
        e.with_hint(
            "a condition on other tables stands in WHERE, and narrows the answer; ask for more rows with k",
        )
    })
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
        let has = |ident: &Ident| {
            let name = name_of(ident);
            let own = self.0.columns.iter().map(|column| column.name.as_str());
            own.chain([ROW_ID_COLUMN, VERSION_COLUMN]).any(|column| column == name)
        };
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
        ControlFlow::Break(foreign(self.0, &format!("{table}.{column}")))
    }
}
