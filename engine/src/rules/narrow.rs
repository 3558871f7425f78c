//! Aggregates of what a join looks for, and of nothing else.
//!
//! A correlated subquery with an aggregate becomes a join with that aggregate over the whole inner table: of
//! `SELECT … FROM part, lineitem WHERE p_partkey = l_partkey AND p_brand = … AND l_quantity < (SELECT avg(l_quantity) FROM lineitem WHERE l_partkey = p_partkey)`
//! an average for each part there is. Here a semi join below the aggregate leaves the rows of those groups that the other side of the join may look for.
//!
//! Owns: where that changes no answer, and where it is expected to pay. Does not own: guesses of rows (`order/estimate`), and where the semi join
//! stands among joins below the aggregate (`order`, which comes behind).
//!
//! # Why no answer changes
//! - Only a side of a join is touched of which rows without a partner are in no result: the inner side of an outer join, the right side of a left semi or
//!   anti join, and no `NOT IN`. Keys compare by equality, so a group whose key is NULL has no partner.
//! - A condition on what rows are grouped by holds for all rows of a group or for none, so groups go as a whole. It passes what stands between the join and
//!   the aggregate: names, projections of the key itself, and conditions on groups (HAVING).
//! - What is looked for comes out of a part of the other side in which every value of the key stands that the whole has, and perhaps more: conditions and joins above it
//!   only take rows away. It is read a second time, so it must have the same rows then: tables of a snapshot, conditions, projections and joins,
//!   none with a volatile function; no LIMIT, no aggregate (a sum of floats may differ), no file.
//! - Both sides have the same type, one whose equality is that of grouping: no floats, no intervals, nothing nested.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, NullEquality, Result, TableReference};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, Join, JoinConstraint, JoinType, LogicalPlan, Operator, Projection,
    SubqueryAlias, TableScan,
};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::order::{estimate, step};
use crate::provider::CairnTable;

/// How the second reading of keys is called in a plan, with a number; a table that is narrowed is known by it.
const KEYS: &str = "__keys";
/// What adding a row to its group costs, beside looking it up in a hash table.
const ADD: f64 = 2.0;
/// What a group costs on its own: it is made in every partition, sent, and put together.
const GROUP: f64 = 3.0;
/// What the operators of a small join cost, in rows.
const OPERATORS: f64 = 1000.0;
/// An aggregate is only narrowed where that costs less than this part of the whole one: guesses are guesses.
const GAIN: f64 = 0.75;

/// Narrows aggregates on one side of a join to the keys of the other.
#[derive(Debug)]
pub(super) struct AggregatesNarrowed;

impl OptimizerRule for AggregatesNarrowed {
    fn name(&self) -> &'static str {
        "aggregates_narrowed"
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !config.options().optimizer.join_reordering || !is_worth_it(&plan)? {
            return Ok(Transformed::no(plan));
        }
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) => narrowed(join, config.alias_generator()),
            node => Ok(Transformed::no(node)),
        })
    }
}

/// Whether there is a join, and an aggregate.
fn is_worth_it(plan: &LogicalPlan) -> Result<bool> {
    let (mut joins, mut aggregates) = (false, false);
    plan.apply_with_subqueries(|node| {
        joins |= matches!(node, LogicalPlan::Join(_));
        aggregates |= matches!(node, LogicalPlan::Aggregate(_));
        Ok(if joins && aggregates { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(joins && aggregates)
}

/// One of the keys of a join, by its number, as a column of some plan, by its position.
#[derive(Clone, Copy)]
struct Place {
    key: usize,
    at: usize,
}

/// An aggregate below one side of a join, whose groups have keys of the join.
struct Target<'a> {
    aggregate: &'a Aggregate,
    /// Nodes between the join and the aggregate.
    above: usize,
    /// Columns of its input.
    keys: Vec<Place>,
}

/// A part of the other side that has all values of some keys.
struct Source<'a> {
    plan: &'a LogicalPlan,
    keys: Vec<Place>,
}

fn narrowed(join: Join, names: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    for right in [true, false] {
        let Some((target, source)) = chosen(&join, right)? else { continue };
        let name = names.next(KEYS);
        let keys = source.keys_as(&name)?;
        let on = target.on(&source, &name);
        let above = target.above;
        let mut is_right = false;
        return LogicalPlan::Join(join).map_children(|side| {
            let is_inner = is_right == right;
            is_right = true;
            if is_inner { below(side, above, &keys, &on) } else { Ok(Transformed::no(side)) }
        });
    }
    Ok(Transformed::no(LogicalPlan::Join(join)))
}

/// `plan` with the semi join below the aggregate that stands so many nodes deep.
fn below(
    plan: LogicalPlan,
    above: usize,
    keys: &Arc<LogicalPlan>,
    on: &[(Expr, Expr)],
) -> Result<Transformed<LogicalPlan>> {
    plan.map_children(|input| {
        if above > 0 {
            return below(input, above - 1, keys, on);
        }
        let join = Join::try_new(
            Arc::new(input),
            Arc::clone(keys),
            on.to_vec(),
            None,
            JoinType::LeftSemi,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        Ok(Transformed::yes(LogicalPlan::Join(join)))
    })
}

/// The aggregate on that side of a join, and the keys that it is narrowed to. None where it stays as it is.
fn chosen(join: &Join, right: bool) -> Result<Option<(Target<'_>, Source<'_>)>> {
    if !may_lose_rows(join, right) {
        return Ok(None);
    }
    let (inner, outer) = if right { (&join.right, &join.left) } else { (&join.left, &join.right) };
    let (mut groups, mut wanted) = (Vec::new(), Vec::new());
    for (key, (a, b)) in join.on.iter().enumerate() {
        let (of_inner, of_outer) = if right { (b, a) } else { (a, b) };
        if let (Some(at), Some(of)) = (place(of_inner, inner.schema()), place(of_outer, outer.schema())) {
            groups.push(Place { key, at });
            wanted.push(Place { key, at: of });
        }
    }
    let Some(target) = target(inner, &groups, 0) else { return Ok(None) };
    wanted.retain(|place| target.keys.iter().any(|key| key.key == place.key));
    if is_narrowed(&target.aggregate.input)? || is_volatile(inner)? {
        return Ok(None);
    }
    let mut found = Vec::new();
    sources(outer, wanted, &mut found)?;
    let Some(whole) = target.cost(1.0) else { return Ok(None) };
    let mut best: Option<(f64, Source<'_>)> = None;
    for source in found.into_iter().filter(|source| target.fits(source)) {
        let Some(cost) = target.cost_with(&source) else { continue };
        if cost < whole * GAIN && best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, source));
        }
    }
    Ok(best.map(|(_, source)| (target, source)))
}

/// Whether rows of that side which have no partner are in no row of the result, and change none.
fn may_lose_rows(join: &Join, right: bool) -> bool {
    let of_types = match right {
        true => [JoinType::Inner, JoinType::Left, JoinType::LeftSemi, JoinType::LeftAnti],
        false => [JoinType::Inner, JoinType::Right, JoinType::RightSemi, JoinType::RightAnti],
    };
    of_types.contains(&join.join_type)
        && join.null_equality == NullEquality::NullEqualsNothing
        && !join.null_aware
}

/// The lowest aggregate below `plan` which groups by those of its columns, or by some of them.
fn target<'a>(plan: &'a LogicalPlan, keys: &[Place], above: usize) -> Option<Target<'a>> {
    if keys.is_empty() {
        return None;
    }
    match plan {
        LogicalPlan::SubqueryAlias(alias) => target(&alias.input, keys, above + 1),
        LogicalPlan::Filter(filter) => target(&filter.input, keys, above + 1),
        LogicalPlan::Projection(projection) => {
            target(&projection.input, &passed(&projection.expr, &projection.input, keys), above + 1)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let keys = passed(&aggregate.group_expr, &aggregate.input, keys);
            if keys.is_empty() {
                return None;
            }
            let lower = target(&aggregate.input, &keys, above + 1);
            let lower = lower.filter(|lower| lower.keys.len() == keys.len());
            Some(lower.unwrap_or(Target { aggregate, above, keys }))
        }
        _ => None,
    }
}

impl Target<'_> {
    /// What the aggregate costs over that part of its rows. None where too little is known.
    fn cost(&self, part: f64) -> Option<f64> {
        let rows = estimate::rows(&self.aggregate.input)? * part;
        let groups = estimate::groups(self.aggregate)? * part;
        Some(rows * ADD + groups * GROUP)
    }

    /// What it costs with the semi join, the second reading of its keys included.
    fn cost_with(&self, source: &Source<'_>) -> Option<f64> {
        let rows = estimate::rows(&self.aggregate.input)?;
        let keys = estimate::rows(source.plan)?;
        let join = work(source.plan)? + step(keys, rows) + OPERATORS;
        Some(join + self.cost(self.part(source, rows, keys)?)?)
    }

    /// The part of its `rows` that such keys leave, of which there are `keys`. None where nothing is known of the values of one.
    fn part(&self, source: &Source<'_>, rows: f64, keys: f64) -> Option<f64> {
        let (mut all, mut wanted, mut least) = (1.0, 1.0, 1.0_f64);
        for place in &source.keys {
            let group = column_at(self.aggregate.input.schema(), self.at(place.key)?);
            let of_group = estimate::column(&self.aggregate.input, &group)?.distinct.clamp(1.0, rows);
            let key = Expr::Column(column_at(source.plan.schema(), place.at));
            let of_key = estimate::distinct(&key, source.plan, keys);
            all *= of_group;
            wanted *= of_key;
            least = least.min(of_key / of_group);
        }
        Some(least.min(wanted.min(keys) / all.min(rows)).min(1.0))
    }

    /// Whether columns of both have one name each, and one type whose equality is that of groups.
    fn fits(&self, source: &Source<'_>) -> bool {
        let (input, from) = (self.aggregate.input.schema(), source.plan.schema());
        source.keys.iter().all(|place| {
            self.at(place.key).is_some_and(|at| {
                let data_type = input.field(at).data_type();
                data_type == from.field(place.at).data_type()
                    && is_exact(data_type)
                    && position(input, &column_at(input, at)) == Some(at)
                    && position(from, &column_at(from, place.at)) == Some(place.at)
            })
        })
    }

    /// Where a key stands in its input.
    fn at(&self, key: usize) -> Option<usize> {
        self.keys.iter().find(|place| place.key == key).map(|place| place.at)
    }

    /// The conditions of the semi join.
    fn on(&self, source: &Source<'_>, name: &str) -> Vec<(Expr, Expr)> {
        let schema = self.aggregate.input.schema();
        let keys = source.keys.iter().enumerate();
        let pairs = keys.filter_map(|(i, place)| Some((i, self.at(place.key)?)));
        let right = |i| Expr::Column(Column::new(Some(TableReference::bare(name)), key_name(i)));
        pairs.map(|(i, at)| (Expr::Column(column_at(schema, at)), right(i))).collect()
    }
}

impl Source<'_> {
    /// The keys alone, under a name of their own: the tables may be those of the aggregate.
    fn keys_as(&self, name: &str) -> Result<Arc<LogicalPlan>> {
        let schema = self.plan.schema();
        let columns = self.keys.iter().enumerate();
        let columns =
            columns.map(|(i, place)| Expr::Column(column_at(schema, place.at)).alias(key_name(i))).collect();
        let keys = Projection::try_new(columns, Arc::new(self.plan.clone()))?;
        let keys =
            SubqueryAlias::try_new(Arc::new(LogicalPlan::Projection(keys)), TableReference::bare(name))?;
        Ok(Arc::new(LogicalPlan::SubqueryAlias(keys)))
    }
}

fn key_name(number: usize) -> String {
    format!("key_{number}")
}

/// Every part of `plan` that may be read a second time and has, in each of these columns, all values that `plan` has there but NULL.
fn sources<'a>(plan: &'a LogicalPlan, keys: Vec<Place>, found: &mut Vec<Source<'a>>) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    // Of conditions at a scan each stands above it, too: without that one, more rows come than are expected.
    let is_pruned = matches!(plan, LogicalPlan::TableScan(scan) if !scan.filters.is_empty());
    if !is_pruned && is_repeatable(plan)? {
        found.push(Source { plan, keys: keys.clone() });
    }
    match plan {
        LogicalPlan::SubqueryAlias(alias) => sources(&alias.input, keys, found),
        LogicalPlan::Filter(filter) => sources(&filter.input, keys, found),
        LogicalPlan::Sort(sort) => sources(&sort.input, keys, found),
        LogicalPlan::Limit(limit) => sources(&limit.input, keys, found),
        LogicalPlan::Distinct(Distinct::All(input)) => sources(input, keys, found),
        LogicalPlan::Projection(projection) => {
            sources(&projection.input, passed(&projection.expr, &projection.input, &keys), found)
        }
        LogicalPlan::Aggregate(aggregate) => {
            sources(&aggregate.input, passed(&aggregate.group_expr, &aggregate.input, &keys), found)
        }
        LogicalPlan::Window(window) => {
            let width = window.input.schema().fields().len();
            sources(&window.input, keys.into_iter().filter(|place| place.at < width).collect(), found)
        }
        LogicalPlan::Join(join) => {
            let [left, right] = sides(join, &keys);
            sources(&join.left, left, found)?;
            sources(&join.right, right, found)
        }
        _ => Ok(()),
    }
}

/// Columns of a join as columns of its sides; one that is equal to a column of the other side stands on both.
fn sides(join: &Join, keys: &[Place]) -> [Vec<Place>; 2] {
    let width = join.left.schema().fields().len();
    let equal = equal_columns(join);
    let mut places = [Vec::new(), Vec::new()];
    for Place { key, at } in keys.iter().copied() {
        let (right, at) = match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full if at < width => (false, at),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => (true, at - width),
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark if at < width => (false, at),
            JoinType::RightSemi | JoinType::RightAnti => (true, at),
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark | JoinType::RightMark => continue,
        };
        places[usize::from(right)].push(Place { key, at });
        // Whether a row with a value there has found its partner.
        let has_partner = match join.join_type {
            JoinType::Inner => true,
            JoinType::Left | JoinType::RightSemi => right,
            JoinType::Right | JoinType::LeftSemi => !right,
            _ => false,
        };
        let partner = equal.iter().find(|pair| pair[usize::from(right)] == at);
        if let (true, Some(pair)) = (has_partner, partner) {
            places[usize::from(!right)].push(Place { key, at: pair[usize::from(!right)] });
        }
    }
    places
}

/// The columns of both sides that are equal in all rows that a join brings together.
fn equal_columns(join: &Join) -> Vec<[usize; 2]> {
    let (left, right) = (join.left.schema(), join.right.schema());
    let keys = join.on.iter().filter_map(|(a, b)| Some([place(a, left)?, place(b, right)?]));
    let conditions = join.filter.iter().flat_map(split_conjunction).filter_map(|condition| match condition {
        Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) => {
            match (place_of_sides(a, join)?, place_of_sides(b, join)?) {
                ((false, of_left), (true, of_right)) | ((true, of_right), (false, of_left)) => {
                    Some([of_left, of_right])
                }
                _ => None,
            }
        }
        _ => None,
    });
    let is_exact = |[a, b]: &[usize; 2]| {
        let data_type = left.field(*a).data_type();
        data_type == right.field(*b).data_type() && is_exact(data_type)
    };
    keys.chain(conditions).filter(is_exact).collect()
}

/// Whether `plan` has the same rows when it is read again in the same statement, and hides nothing that would have to be computed twice.
fn is_repeatable(plan: &LogicalPlan) -> Result<bool> {
    let mut is = true;
    plan.apply(|node| {
        is &= match node {
            LogicalPlan::TableScan(scan) => scan.fetch.is_none() && is_own(scan),
            LogicalPlan::Filter(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => true,
            LogicalPlan::Join(join) => matches!(
                join.join_type,
                JoinType::Inner
                    | JoinType::LeftSemi
                    | JoinType::LeftAnti
                    | JoinType::RightSemi
                    | JoinType::RightAnti
            ),
            _ => false,
        };
        node.apply_expressions(|expr| {
            is &= !expr.is_volatile() && !expr.contains_outer();
            is &= !expr.exists(|expr| Ok(is_subquery(expr)))?;
            Ok(if is { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })?;
        Ok(if is { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is)
}

/// Whether it is a table of the database: it is read at one snapshot, however often.
fn is_own(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| provider.downcast_ref::<CairnTable>().is_some())
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}

fn is_volatile(plan: &LogicalPlan) -> Result<bool> {
    let mut is = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            is |= expr.is_volatile();
            Ok(if is { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(if is { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(is)
}

/// Whether it was narrowed before: rules run several times.
fn is_narrowed(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::SubqueryAlias(alias) if alias.alias.table().starts_with(KEYS)))
    })
}

/// Whether values are equal only where they are one group, and the other way round.
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        )
}

/// Those of the places that are plain columns one level below, where they stand there.
fn passed(exprs: &[Expr], input: &LogicalPlan, keys: &[Place]) -> Vec<Place> {
    let of = |place: &Place| {
        Some(Place { key: place.key, at: self::place(exprs.get(place.at)?, input.schema())? })
    };
    keys.iter().filter_map(of).collect()
}

/// Where a plain column stands, be it under another name.
fn place(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => position(schema, column),
        Expr::Alias(alias) => place(&alias.expr, schema),
        _ => None,
    }
}

/// On which side of a join a plain column stands, the right one or not, and where.
fn place_of_sides(expr: &Expr, join: &Join) -> Option<(bool, usize)> {
    let Expr::Column(column) = expr else { return None };
    let left = positions(join.left.schema(), column).map(|at| (false, at));
    let mut all = left.chain(positions(join.right.schema(), column).map(|at| (true, at)));
    all.next().filter(|_| all.next().is_none())
}

/// Where the only column of that name stands.
fn position(schema: &DFSchema, column: &Column) -> Option<usize> {
    let mut all = positions(schema, column);
    all.next().filter(|_| all.next().is_none())
}

/// Where columns of that name stand, under whatever schema's table: two of them are none.
fn positions(schema: &DFSchema, column: &Column) -> impl Iterator<Item = usize> {
    let of_name = schema.iter().enumerate().filter(move |(_, (qualifier, field))| {
        let is_qualified = match (&column.relation, qualifier) {
            (Some(relation), Some(qualifier)) => relation.resolved_eq(qualifier),
            (Some(_), None) => false,
            (None, _) => true,
        };
        is_qualified && *field.name() == column.name
    });
    of_name.map(|(at, _)| at)
}

fn column_at(schema: &DFSchema, at: usize) -> Column {
    Column::from(schema.qualified_field(at))
}

/// What reading such a part costs: rows of its tables, what is asked of each, and its joins.
fn work(plan: &LogicalPlan) -> Option<f64> {
    Some(match plan {
        LogicalPlan::TableScan(scan) => estimate::stored(scan)?,
        LogicalPlan::Filter(filter) => {
            let rows = match filter.input.as_ref() {
                LogicalPlan::TableScan(scan) => estimate::stored(scan)?,
                input => estimate::rows(input)?,
            };
            work(&filter.input)? + rows * split_conjunction(&filter.predicate).len() as f64
        }
        LogicalPlan::Projection(projection) => work(&projection.input)?,
        LogicalPlan::SubqueryAlias(alias) => work(&alias.input)?,
        LogicalPlan::Join(join) => {
            let join_itself = step(estimate::rows(&join.left)?, estimate::rows(&join.right)?);
            work(&join.left)? + work(&join.right)? + join_itself
        }
        _ => return None,
    })
}
