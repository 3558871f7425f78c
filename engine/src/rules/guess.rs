//! How many rows will a node of a physical plan have?
//!
//! Owns: the guesses that `order/estimate` makes of a logical plan, for physical ones: by what tables keep of their rows, and by conditions of
//! which DataFusion's own statistics know nothing (it takes a fifth of the rows for what any comparison of texts leaves). Sides of joins and the
//! order of conditions hang on them; no answer does. Nothing is guessed of what stands on files, functions or nodes that are not known here.
//!
//! Nodes are guessed from the leaves upwards, each once ([`Guesses::add`]).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::common::{Column as Name, JoinSide, JoinType};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use datafusion::physical_expr::expressions::{
    BinaryExpr as PhysicalBinary, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal,
    NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;

use super::order::selectivity::selectivity;
use super::sorted::hands_on;
use crate::scan::SegmentScanExec;
use crate::scan::statistics::Summary;

/// Part of the groups that a grouping by something unknown leaves.
const GROUPS: f64 = 0.1;
/// The smallest part that an anti join is thought to leave.
const ANTI_LEAST: f64 = 0.1;
/// How deep a condition is looked into: what lies below is guessed like anything unknown.
const DEPTH: usize = 32;

/// A column of a table, by the scan that puts it out.
#[derive(Clone, Debug)]
struct Origin {
    scan: Arc<dyn ExecutionPlan>,
    at: usize,
    /// What is known of it, once somebody has asked: every segment is looked at.
    known: Arc<OnceLock<Option<Summary>>>,
}

impl Origin {
    fn summary(&self) -> Option<Summary> {
        *self.known.get_or_init(|| self.scan.downcast_ref::<SegmentScanExec>()?.summary(self.at))
    }
}

/// What is thought of a node's rows.
#[derive(Clone, Debug)]
pub(super) struct Guess {
    /// How many there are, at least one.
    pub(super) rows: f64,
    /// Where its columns come from; None: they are computed.
    columns: Vec<Option<Origin>>,
}

impl Guess {
    /// The part of the rows for which all `conditions` hold.
    pub(super) fn part(&self, conditions: &[&Arc<dyn PhysicalExpr>]) -> f64 {
        part(conditions, &|at| self.columns.get(at)?.as_ref())
    }

    /// Distinct values of `expr`; as many as rows where nothing is known of it.
    fn distinct(&self, expr: &Arc<dyn PhysicalExpr>) -> f64 {
        let known = column(expr).and_then(|at| self.columns.get(at)?.as_ref()?.summary());
        known.map_or(self.rows, |summary| summary.distinct).clamp(1.0, self.rows)
    }

    /// The same columns with so many rows.
    fn with_rows(self, rows: f64) -> Self {
        Self { rows: rows.max(1.0), ..self }
    }
}

/// Guesses of the nodes of one plan.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// By address; the node is held, so that no other one comes to have it.
    known: HashMap<usize, (Arc<dyn ExecutionPlan>, Guess)>,
}

impl Guesses {
    /// Guesses `plan`, whose inputs were added before.
    pub(super) fn add(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        if let Some(guess) = self.guess(plan) {
            self.known.insert(address(plan), (Arc::clone(plan), guess));
        }
    }

    /// What was guessed of `plan`; None: nothing is known of it.
    pub(super) fn of(&self, plan: &Arc<dyn ExecutionPlan>) -> Option<&Guess> {
        self.known.get(&address(plan)).map(|(_, guess)| guess)
    }

    fn guess(&self, plan: &Arc<dyn ExecutionPlan>) -> Option<Guess> {
        let guess = if let Some(scan) = plan.downcast_ref::<SegmentScanExec>() {
            let origin = |at| Some(Origin { scan: Arc::clone(plan), at, known: Arc::default() });
            let columns = (0..plan.schema().fields().len()).map(origin).collect();
            Guess { rows: scan.rows(), columns }
        } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let input = self.of(filter.input())?;
            let rows = input.rows * input.part(&split_conjunction(filter.predicate()));
            let projection = filter.projection().as_deref();
            Guess { rows, columns: projected(input.columns.clone(), projection) }
        } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let input = self.of(projection.input())?;
            let columns =
                projection.expr().iter().map(|item| input.columns.get(column(&item.expr)?)?.clone());
            Guess { rows: input.rows, columns: columns.collect() }
        } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            self.grouped(aggregate, plan.schema().fields().len())?
        } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            self.joined(join)?
        } else if hands_on(plan) {
            self.of(plan.children().first()?)?.clone()
        } else {
            return None;
        };
        let rows = plan.fetch().map_or(guess.rows, |fetch| guess.rows.min(fetch as f64));
        Some(guess.with_rows(rows))
    }

    fn grouped(&self, aggregate: &AggregateExec, width: usize) -> Option<Guess> {
        let (input, groups) = (self.of(aggregate.input())?, aggregate.group_expr());
        if groups.is_empty() {
            return Some(Guess { rows: 1.0, columns: vec![None; width] });
        }
        if !groups.is_single() {
            return None;
        }
        let origin = |expr: &Arc<dyn PhysicalExpr>| input.columns.get(column(expr)?)?.clone();
        let values = groups.expr().iter().map(|(expr, _)| match origin(expr) {
            Some(_) => input.distinct(expr),
            None => input.rows * GROUPS,
        });
        let rows = values.product::<f64>().min(input.rows);
        let mut columns: Vec<_> = groups.expr().iter().map(|(expr, _)| origin(expr)).collect();
        columns.resize(width, None);
        Some(Guess { rows, columns })
    }

    fn joined(&self, join: &HashJoinExec) -> Option<Guess> {
        let (left, right) = (self.of(join.left())?, self.of(join.right())?);
        let pairs = || {
            let values = |side: &Guess, keys: Vec<&Arc<dyn PhysicalExpr>>| {
                keys.into_iter().map(|key| side.distinct(key)).product::<f64>().min(side.rows)
            };
            let of_left = values(left, join.on().iter().map(|(key, _)| key).collect());
            let of_right = values(right, join.on().iter().map(|(_, key)| key).collect());
            // Several keys are one of the side that has fewer.
            let keys = if join.on().len() > 1 { of_left.min(of_right) } else { of_left.max(of_right) };
            let met = join.filter().map_or(1.0, |filter| {
                let origin = |at: usize| {
                    let of = filter.column_indices().get(at)?;
                    let side = if of.side == JoinSide::Left { left } else { right };
                    side.columns.get(of.index)?.as_ref()
                };
                part(&split_conjunction(filter.expression()), &origin)
            });
            left.rows * right.rows / keys.max(1.0) * met
        };
        let found = |of: &Guess, other: &Guess, is_left: bool| {
            let keys = join.on().iter().map(|(a, b)| {
                let (of_key, other_key) = if is_left { (a, b) } else { (b, a) };
                (other.distinct(other_key) / of.distinct(of_key)).min(1.0)
            });
            keys.fold(1.0, f64::min)
        };
        let missed = |found: f64| (1.0 - found).max(ANTI_LEAST);
        let both = || -> Vec<Option<Origin>> { left.columns.iter().chain(&right.columns).cloned().collect() };
        let marked =
            |side: &Guess| -> Vec<Option<Origin>> { side.columns.iter().cloned().chain([None]).collect() };
        let (rows, columns) = match join.join_type() {
            JoinType::Inner => (pairs(), both()),
            JoinType::Left => (pairs().max(left.rows), both()),
            JoinType::Right => (pairs().max(right.rows), both()),
            JoinType::Full => (pairs().max(left.rows + right.rows), both()),
            JoinType::LeftSemi => (left.rows * found(left, right, true), left.columns.clone()),
            JoinType::RightSemi => (right.rows * found(right, left, false), right.columns.clone()),
            JoinType::LeftAnti => (left.rows * missed(found(left, right, true)), left.columns.clone()),
            JoinType::RightAnti => (right.rows * missed(found(right, left, false)), right.columns.clone()),
            JoinType::LeftMark => (left.rows, marked(left)),
            JoinType::RightMark => (right.rows, marked(right)),
        };
        Some(Guess { rows, columns: projected(columns, join.projection.as_deref()) })
    }
}

fn address(plan: &Arc<dyn ExecutionPlan>) -> usize {
    Arc::as_ptr(plan).cast::<()>().addr()
}

fn projected(columns: Vec<Option<Origin>>, projection: Option<&[usize]>) -> Vec<Option<Origin>> {
    match projection {
        Some(projection) => projection.iter().map(|at| columns.get(*at).cloned().flatten()).collect(),
        None => columns,
    }
}

/// Where a plain column stands, be it as another type.
fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) => column(cast.expr()),
        None => expr.downcast_ref::<Column>().map(Column::index),
    }
}

fn part<'a>(conditions: &[&Arc<dyn PhysicalExpr>], origin: &dyn Fn(usize) -> Option<&'a Origin>) -> f64 {
    let conditions: Vec<Expr> = conditions.iter().map(|condition| logical(condition, DEPTH)).collect();
    let conditions: Vec<&Expr> = conditions.iter().collect();
    selectivity(&conditions, &|name| origin(name.name.parse().ok()?)?.summary())
}

/// A condition as its part of the rows is guessed: columns are called by where they stand, and what is not known is a column that is not there.
fn logical(expr: &Arc<dyn PhysicalExpr>, depth: usize) -> Expr {
    let unknown = || Expr::Column(Name::new_unqualified(""));
    let Some(below) = depth.checked_sub(1) else { return unknown() };
    let inner = |expr: &Arc<dyn PhysicalExpr>| Box::new(logical(expr, below));
    if let Some(column) = expr.downcast_ref::<Column>() {
        Expr::Column(Name::new_unqualified(column.index().to_string()))
    } else if let Some(literal) = expr.downcast_ref::<Literal>() {
        Expr::Literal(literal.value().clone(), None)
    } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        logical(cast.expr(), below)
    } else if let Some(binary) = expr.downcast_ref::<PhysicalBinary>() {
        let is_known = matches!(binary.op(), Operator::And | Operator::Or) || binary.op().swap().is_some();
        match is_known {
            true => {
                Expr::BinaryExpr(BinaryExpr::new(inner(binary.left()), *binary.op(), inner(binary.right())))
            }
            false => unknown(),
        }
    } else if let Some(not) = expr.downcast_ref::<NotExpr>() {
        Expr::Not(inner(not.arg()))
    } else if let Some(null) = expr.downcast_ref::<IsNullExpr>() {
        Expr::IsNull(inner(null.arg()))
    } else if let Some(set) = expr.downcast_ref::<IsNotNullExpr>() {
        Expr::IsNotNull(inner(set.arg()))
    } else if let Some(list) = expr.downcast_ref::<InListExpr>() {
        // They are only counted.
        Expr::InList(InList::new(inner(list.expr()), vec![unknown(); list.len()], list.negated()))
    } else if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let (of, pattern) = (inner(like.expr()), Box::new(unknown()));
        Expr::Like(Like::new(like.negated(), of, pattern, None, like.case_insensitive()))
    } else {
        unknown()
    }
}
