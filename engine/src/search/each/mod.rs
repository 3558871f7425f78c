//! `FROM queries q, LATERAL vector_search('t', 'c', q.vector, …) n`: one search for each row of another relation.
//!
//! Owns: recognising a call whose vector is made of columns, or whose filter names columns of others, and giving it the relations before it as its input. SQL's
//! lateral joins have no place in the planner for this: the call and everything before it in FROM become one relation
//! here ([`fold`]), planned as one node ([`node`]) over the conditions on its input ([`rule`]), whose searches use every core ([`exec`]). Does not own: the
//! arguments of a call (`relation`).

mod exec;
mod node;
mod row_filter;
mod rule;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, Select, TableFactor,
    TableWithJoins, Value, Visitor, VisitorMut,
};

pub(super) use node::EachNode;
pub(crate) use node::EachPlanner;
pub(super) use row_filter::RowFilter;
pub(super) use rule::InputsFirst;

use super::call::{FUNCTION, call_of, filter_of, searched};
use crate::statement::{name_of, parse_expression, walk};

/// Makes of every call that differs from row to row of what stands before it in FROM, and of that, one relation: a
/// parenthesised join that ends with the call.
pub(super) fn fold(statement: &mut ast::Statement) {
    struct Fold;
    impl VisitorMut for Fold {
        type Break = ();

        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            let mut folded: Vec<TableWithJoins> = Vec::with_capacity(select.from.len());
            for from in std::mem::take(&mut select.from) {
                let alone = TableWithJoins { relation: from.relation, joins: Vec::new() };
                let mut current = match folded.is_empty() {
                    false if is_each(&alone.relation, &folded, None) => {
                        let mut before = std::mem::take(&mut folded).into_iter();
                        let call =
                            Join { relation: alone.relation.clone(), global: false, join_operator: cross() };
                        before.next().map_or(alone, |first| nested(joined(first, before), call))
                    }
                    _ => alone,
                };
                for join in from.joins {
                    if !is_each(&join.relation, &folded, Some(&current)) {
                        current.joins.push(join);
                        continue;
                    }
                    // Relations of a comma list before it are its input too.
                    let mut before = std::mem::take(&mut folded).into_iter().chain([current]);
                    let Some(first) = before.next() else { return ControlFlow::Continue(()) };
                    current = nested(joined(first, before), join);
                }
                folded.push(current);
            }
            select.from = folded;
            ControlFlow::Continue(())
        }
    }
    let _ = walk::visit_mut(statement, &mut Fold);
}

/// Whether a relation is a call that differs from row to row of what stands before it: `others`, and `last`.
fn is_each(relation: &TableFactor, others: &[TableWithJoins], last: Option<&TableWithJoins>) -> bool {
    if has_vector_of_columns(relation) {
        return true;
    }
    let named = named_in_filter(relation);
    !named.is_empty() && others.iter().chain(last).any(|tables| has_one_of(tables, &named))
}

/// What stands before the columns in the filter of a call, where that is not the table it searches.
fn named_in_filter(relation: &TableFactor) -> Vec<String> {
    let mut named = Vec::new();
    let Some(filter) = filter_of(relation).filter(|filter| filter.contains('.')) else { return named };
    let table = searched(relation);
    let table = table.as_ref().and_then(|table| table.0.last()?.as_ident()).map(name_of);
    // What is wrong with it the call will tell.
    let Ok(filter) = parse_expression(filter) else { return named };
    let _: ControlFlow<()> = walk::expressions(&filter, |expr| {
        if let Expr::CompoundIdentifier(parts) = expr {
            // A relation, or the schema it is in before it.
            let before = parts.iter().take(parts.len().saturating_sub(1).min(2)).map(name_of);
            named.extend(before.filter(|name| name != FUNCTION && Some(name) != table.as_ref()));
        }
        ControlFlow::Continue(())
    });
    named
}

/// Whether one of the relations in `tables` has one of these names.
fn has_one_of(tables: &TableWithJoins, names: &[String]) -> bool {
    let mut relations =
        std::iter::once(&tables.relation).chain(tables.joins.iter().map(|join| &join.relation));
    relations.any(|relation| match relation {
        TableFactor::NestedJoin { table_with_joins, alias: None } => has_one_of(table_with_joins, names),
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. } => names.contains(&name_of(&alias.name)),
        TableFactor::Table { name, alias: None, .. } => {
            let name = name.0.last().and_then(|part| part.as_ident()).map(name_of);
            name.is_some_and(|name| names.contains(&name))
        }
        _ => false,
    })
}

/// Whether a relation is a call whose vector is made of columns.
pub(super) fn has_vector_of_columns(relation: &TableFactor) -> bool {
    let Some((_, args, _)) = call_of(relation) else { return false };
    let vector = args
        .iter()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .nth(2);
    vector.is_some_and(has_columns)
}

fn has_columns(expr: &Expr) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    // A subquery's columns are its own.
    !matches!(expr, Expr::Subquery(_)) && walk::visit(expr, &mut Columns).is_break()
}

/// What stands before the call in a relation that [`fold`] made, and the call's join; any other relation as it is.
pub(super) fn unfold(relation: TableFactor) -> (TableFactor, Option<Join>) {
    match relation {
        TableFactor::NestedJoin { mut table_with_joins, alias: None }
            if table_with_joins
                .joins
                .last()
                .is_some_and(|join| is_each(&join.relation, &[], Some(&*table_with_joins))) =>
        {
            let join = table_with_joins.joins.pop();
            if table_with_joins.joins.is_empty() {
                (table_with_joins.relation, join)
            } else {
                (TableFactor::NestedJoin { table_with_joins, alias: None }, join)
            }
        }
        other => (other, None),
    }
}

/// Whether the rows without an answer stay, and the condition of the join; None: no such join.
pub(super) fn kind(operator: &JoinOperator) -> Option<(bool, Option<&Expr>)> {
    let condition = |constraint| match constraint {
        &JoinConstraint::None => Some(None),
        JoinConstraint::On(Expr::Value(value)) if value.value == Value::Boolean(true) => Some(None),
        JoinConstraint::On(condition) => Some(Some(condition)),
        _ => None,
    };
    match operator {
        JoinOperator::CrossJoin(constraint)
        | JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint) => condition(constraint).map(|c| (false, c)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
            condition(constraint).map(|c| (true, c))
        }
        _ => None,
    }
}

fn cross() -> JoinOperator {
    JoinOperator::CrossJoin(JoinConstraint::None)
}

/// Relations of a comma list as one, `first` before the others.
fn joined(mut first: TableWithJoins, others: impl Iterator<Item = TableWithJoins>) -> TableWithJoins {
    first.joins.extend(others.map(|next| {
        let relation = if next.joins.is_empty() {
            next.relation
        } else {
            TableFactor::NestedJoin { table_with_joins: Box::new(next), alias: None }
        };
        Join { relation, global: false, join_operator: cross() }
    }));
    first
}

fn nested(mut before: TableWithJoins, join: Join) -> TableWithJoins {
    before.joins.push(join);
    let relation = TableFactor::NestedJoin { table_with_joins: Box::new(before), alias: None };
    TableWithJoins { relation, joins: Vec::new() }
}
