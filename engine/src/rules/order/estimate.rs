//! How many rows will a part of a plan have?
//!
//! Owns: guesses from what tables keep of their rows: counts, bounds and distinct values. They decide in which order joins run and
//! which aggregates are narrowed; no answer depends on them. `None` where a source keeps no counts (files): whoever asks leaves the plan as it was written.
//! Nothing is read, and only columns that stand in a condition are looked at.

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::Column;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, FetchType, Filter, Join, JoinType, LogicalPlan, TableScan,
};

use super::selectivity::selectivity;
use crate::provider::CairnTable;
use crate::scan::statistics::{self, Summary};

/// Part of the groups that a grouping by something unknown leaves.
const GROUPS: f64 = 0.1;
/// The smallest part that an anti join is thought to leave.
const ANTI_LEAST: f64 = 0.1;

/// The rows of `plan`, at least one.
pub(in crate::rules) fn rows(plan: &LogicalPlan) -> Option<f64> {
    let rows = match plan {
        LogicalPlan::TableScan(scan) => scanned(scan, &[])?,
        LogicalPlan::Filter(filter) => filtered(filter)?,
        LogicalPlan::Projection(projection) => rows(&projection.input)?,
        LogicalPlan::SubqueryAlias(alias) => rows(&alias.input)?,
        LogicalPlan::Window(window) => rows(&window.input)?,
        LogicalPlan::Repartition(repartition) => rows(&repartition.input)?,
        LogicalPlan::Sort(sort) => at_most(rows(&sort.input)?, sort.fetch),
        LogicalPlan::Limit(limit) => match limit.get_fetch_type() {
            Ok(FetchType::Literal(fetch)) => at_most(rows(&limit.input)?, fetch),
            _ => rows(&limit.input)?,
        },
        LogicalPlan::Distinct(Distinct::All(input)) => rows(input)?,
        LogicalPlan::Distinct(Distinct::On(on)) => rows(&on.input)?,
        LogicalPlan::Aggregate(aggregate) => groups(aggregate)?,
        LogicalPlan::Union(union) => union.inputs.iter().map(|input| rows(input)).sum::<Option<f64>>()?,
        LogicalPlan::Values(values) => values.values.len() as f64,
        LogicalPlan::EmptyRelation(_) => 1.0,
        LogicalPlan::Join(join) => joined(join)?,
        _ => return None,
    };
    Some(rows.max(1.0))
}

/// What is known of the values of `column`, one of the columns of `plan`. Conditions are not taken into account: there are never more
/// distinct values than rows.
pub(in crate::rules) fn column(plan: &LogicalPlan, column: &Column) -> Option<Summary> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = provider.downcast_ref::<CairnTable>()?.table();
            statistics::summary(table, &column.name)
        }
        LogicalPlan::SubqueryAlias(alias) => below(plan, &alias.input, column),
        LogicalPlan::Projection(projection) => {
            plain(projection.expr.get(plan.schema().maybe_index_of_column(column)?)?, &projection.input)
        }
        LogicalPlan::Aggregate(aggregate) => {
            plain(aggregate.group_expr.get(plan.schema().maybe_index_of_column(column)?)?, &aggregate.input)
        }
        LogicalPlan::Join(join) => match join.left.schema().has_column(column) {
            true => self::column(&join.left, column),
            false => self::column(&join.right, column),
        },
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Window(_) => plan.inputs().first().and_then(|input| self::column(input, column)),
        LogicalPlan::Distinct(Distinct::All(input)) => self::column(input, column),
        _ => None,
    }
}

/// Distinct values of `expr` among the `rows` of `plan`.
pub(in crate::rules) fn distinct(expr: &Expr, plan: &LogicalPlan, rows: f64) -> f64 {
    plain(expr, plan).map_or(rows, |summary| summary.distinct).clamp(1.0, rows.max(1.0))
}

/// Part of the rows of its left side that a semi or anti join leaves, `left` and `right` being the rows of both sides.
pub(super) fn kept(join: &Join, left: f64, right: f64) -> f64 {
    let found = join.on.iter().map(|(a, b)| {
        let values = distinct(a, &join.left, left);
        (distinct(b, &join.right, right) / values).min(1.0)
    });
    let found = found.fold(1.0, f64::min);
    match join.join_type {
        JoinType::LeftAnti | JoinType::RightAnti => (1.0 - found).max(ANTI_LEAST),
        _ => found,
    }
}

fn at_most(rows: f64, fetch: Option<usize>) -> f64 {
    fetch.map_or(rows, |fetch| rows.min(fetch as f64))
}

/// The column at the same place one level below.
fn below(plan: &LogicalPlan, input: &LogicalPlan, column: &Column) -> Option<Summary> {
    let index = plan.schema().maybe_index_of_column(column)?;
    self::column(input, &Column::from(input.schema().qualified_field(index)))
}

/// What is known of an expression that is a column of `plan`, be it under another name or type.
fn plain(expr: &Expr, plan: &LogicalPlan) -> Option<Summary> {
    match expr {
        Expr::Column(name) => column(plan, name),
        Expr::Alias(alias) => plain(&alias.expr, plan),
        Expr::Cast(cast) => plain(&cast.expr, plan),
        _ => None,
    }
}

fn filtered(filter: &Filter) -> Option<f64> {
    let conditions = split_conjunction(&filter.predicate);
    match filter.input.as_ref() {
        LogicalPlan::TableScan(scan) => scanned(scan, &conditions),
        input => Some(rows(input)? * selectivity(&conditions, &|name| column(input, name))),
    }
}

/// The rows of a scan under its own conditions and `more`, of which it may know some.
fn scanned(scan: &TableScan, more: &[&Expr]) -> Option<f64> {
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<CairnTable>()?.table();
    let mut conditions: Vec<&Expr> = scan.filters.iter().flat_map(split_conjunction).collect();
    for condition in more {
        if !conditions.contains(condition) {
            conditions.push(condition);
        }
    }
    let part = selectivity(&conditions, &|name| statistics::summary(table, &name.name));
    Some(at_most(statistics::rows(table) * part, scan.fetch))
}

/// The rows of a table, whatever is asked of them.
pub(in crate::rules) fn stored(scan: &TableScan) -> Option<f64> {
    let provider = source_as_provider(&scan.source).ok()?;
    Some(statistics::rows(provider.downcast_ref::<CairnTable>()?.table()).max(1.0))
}

/// The groups of an aggregate.
pub(in crate::rules) fn groups(aggregate: &Aggregate) -> Option<f64> {
    let input = rows(&aggregate.input)?;
    if aggregate.group_expr.is_empty() {
        return Some(1.0);
    }
    let values = aggregate.group_expr.iter().map(|expr| match plain(expr, &aggregate.input) {
        Some(summary) => summary.distinct,
        None => input * GROUPS,
    });
    Some(values.product::<f64>().min(input))
}

fn joined(join: &Join) -> Option<f64> {
    let (left, right) = (rows(&join.left)?, rows(&join.right)?);
    let pairs = || {
        let keys = join
            .on
            .iter()
            .map(|(a, b)| 1.0 / distinct(a, &join.left, left).max(distinct(b, &join.right, right)));
        let filter = join.filter.as_ref().map_or(1.0, |filter| {
            selectivity(&split_conjunction(filter), &|name| match join.left.schema().has_column(name) {
                true => column(&join.left, name),
                false => column(&join.right, name),
            })
        });
        left * right * keys.product::<f64>() * filter
    };
    Some(match join.join_type {
        JoinType::Inner => pairs(),
        JoinType::Left => pairs().max(left),
        JoinType::Right => pairs().max(right),
        JoinType::Full => pairs().max(left + right),
        JoinType::LeftSemi | JoinType::LeftAnti => left * kept(join, left, right),
        JoinType::LeftMark => left,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
    })
}
