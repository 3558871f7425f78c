//! The condition in the text of `filter => '…'`.

use std::fmt;
use std::ops::ControlFlow;

use cairn_storage::schema::{ColumnType, ROW_ID_COLUMN, TableDef, VERSION_COLUMN};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as PlanResult, TableReference};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Query, VisitorMut};

use super::call::{FUNCTION, invalid};
use super::each::RowFilter;
use crate::error::{Error, Result};
use crate::provider::{CairnTable, usable};
use crate::statement::walk;
use crate::statement::{call_session_words, compare_exactly_in, name_of, parse_expression, settle_nested};

/// What the columns of the searched table are qualified with beside those of other relations, unless one of these has the name.
const SEARCHED: &str = "_searched";

/// The condition in `text` over the table's columns, `_row_id` and `_version` among them, and what of it names columns of `around`,
/// which stands before the call in FROM.
///
/// # Errors
/// 42601 and 42804 for a text that is no condition, 42703 for columns of others, 42P02 for parameters, 0A000 for subqueries
/// and volatile functions.
pub(super) fn condition(
    text: &str,
    table: &CairnTable,
    around: Option<&DFSchema>,
    context: &mut dyn RelationPlannerContext,
) -> Result<(Vec<Expr>, RowFilter)> {
    let mut parsed = parse_expression(text).map_err(in_filter)?;
    call_session_words(&mut parsed);
    settle_nested(&mut parsed);
    let def = table.table().def();
    let mut columns = OfTable { def, around, names_others: false, parameters: Vec::new() };
    if let ControlFlow::Break(error) = walk::visit_mut(&mut parsed, &mut columns) {
        return Err(error);
    }
    compare_exactly_in(&mut parsed, def);
    let around = around.filter(|_| columns.names_others);
    let whole = CairnTable::with_pseudo_columns(table.table().clone()).schema();
    let searched = around.map_or_else(|| FUNCTION.to_owned(), name_beside);
    let of_table = TableReference::bare(searched.as_str());
    let mut schema = DFSchema::try_from_qualified_schema(of_table.clone(), &whole)?;
    if let Some(around) = around {
        let _ = walk::visit_mut(&mut parsed, &mut Qualified::new(&whole, &searched));
        schema = schema.join(around)?;
    }
    let expr = context.sql_to_expr(parsed, &schema).map_err(|error| in_filter(error.into()))?;
    if let Some(error) = refused(&expr, def)? {
        return Err(error);
    }
    match expr.get_type(&schema) {
        // NULL is true of no row; what has no type the planner has words for.
        Ok(DataType::Boolean | DataType::Null) | Err(_) => {
            let (mut own, mut of_rows) = (split_conjunction_owned(expr), RowFilter::default());
            if around.is_some() {
                let taken = own.into_iter().map(|part| of_rows.take(part, &of_table));
                own = taken.filter_map(PlanResult::transpose).collect::<PlanResult<_>>()?;
            }
            Ok((own, of_rows))
        }
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
            "name what stands before the call in FROM: FROM q, vector_search('t', 'c', q.v, filter => 'tenant = q.tenant'); a condition in WHERE narrows the answer",
        )
    })
}

/// Refuses what a condition of a search cannot name, and leaves out the table's own name before a column.
struct OfTable<'a> {
    def: &'a TableDef,
    /// What stands before the call.
    around: Option<&'a DFSchema>,
    /// Whether a column of it is named.
    names_others: bool,
    /// Parameters of the lambdas around.
    parameters: Vec<String>,
}

/// A name that none of the relations in `around` has.
fn name_beside(around: &DFSchema) -> String {
    let mut name = SEARCHED.to_owned();
    while around.iter().any(|(of, _)| of.is_some_and(|of| of.table() == name)) {
        name.push('_');
    }
    name
}

/// Qualifies the columns of the searched table, so that none of another has its name.
struct Qualified<'a> {
    table: &'a Schema,
    name: &'a str,
    /// Parameters of the lambdas around, which hide columns of their names.
    parameters: Vec<String>,
}

impl<'a> Qualified<'a> {
    fn new(table: &'a Schema, name: &'a str) -> Self {
        Self { table, name, parameters: Vec::new() }
    }
}

/// Adds the parameters of a lambda that a walk comes to.
fn begin_lambda(parameters: &mut Vec<String>, expr: &SqlExpr) {
    if let SqlExpr::Lambda(lambda) = expr {
        parameters.extend(lambda.params.iter().map(|parameter| name_of(&parameter.name)));
    }
}

/// Takes those of one away that it has gone through.
fn end_lambda(parameters: &mut Vec<String>, expr: &SqlExpr) {
    if let SqlExpr::Lambda(lambda) = expr {
        parameters.truncate(parameters.len().saturating_sub(lambda.params.len()));
    }
}

impl VisitorMut for Qualified<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        begin_lambda(&mut self.parameters, expr);
        match expr {
            // A column that a parameter would hide.
            SqlExpr::CompoundIdentifier(parts) => {
                if let [of, column] = parts.as_mut_slice()
                    && name_of(of) == FUNCTION
                    && self.table.column_with_name(&name_of(column)).is_some()
                {
                    *of = Ident::with_quote('"', self.name);
                }
            }
            SqlExpr::Identifier(column) => {
                let name = name_of(column);
                if !self.parameters.contains(&name) && self.table.column_with_name(&name).is_some() {
                    let column = Ident::with_quote('"', name);
                    *expr = SqlExpr::CompoundIdentifier(vec![Ident::with_quote('"', self.name), column]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        end_lambda(&mut self.parameters, expr);
        ControlFlow::Continue(())
    }
}

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

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Error> {
        end_lambda(&mut self.parameters, expr);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Error> {
        begin_lambda(&mut self.parameters, expr);
        let SqlExpr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let has = |ident: &Ident| {
            let name = name_of(ident);
            let own = self.def.columns.iter().map(|column| column.name.as_str());
            own.chain([ROW_ID_COLUMN, VERSION_COLUMN]).any(|column| column == name)
        };
        let is_own = |table: &Ident| name_of(table) == self.def.name || name_of(table) == FUNCTION;
        if let [table, column, member, ..] = parts.as_slice()
            && is_own(table)
            && has(column)
            && !(name_of(table) == self.def.schema && is_own(column) && has(member))
        {
            parts.remove(0);
            return ControlFlow::Continue(());
        }
        let (schema, table, column) = match parts.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] => (Some(schema), table, column),
            _ => return ControlFlow::Continue(()),
        };
        let is_table = schema.is_none_or(|schema| name_of(schema) == self.def.schema)
            && (name_of(table) == self.def.name || schema.is_none() && name_of(table) == FUNCTION);
        if is_table && has(column) {
            let column = column.clone();
            // The name alone would be the parameter.
            *expr = match self.parameters.contains(&name_of(&column)) {
                true => SqlExpr::CompoundIdentifier(vec![Ident::with_quote('"', FUNCTION), column]),
                false => SqlExpr::Identifier(column),
            };
            return ControlFlow::Continue(());
        }
        let is_around = |relation: &Ident, column: &Ident| {
            let (relation, column) = (name_of(relation), name_of(column));
            let mut fields = self.around.iter().flat_map(|around| around.iter());
            fields.any(|(of, field)| of.is_some_and(|of| of.table() == relation) && *field.name() == column)
        };
        // A column with its relation, with a field of it behind or the schema before.
        if parts.windows(2).any(|pair| is_around(&pair[0], &pair[1])) {
            self.names_others = true;
            return ControlFlow::Continue(());
        }
        // A field of a column; a relation of that name has come first, as the planner has it.
        if parts.first().is_some_and(has) {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(foreign(self.def, &format!("{table}.{column}")))
    }
}
