//! Projections on projections.
//!
//! DataFusion 55 puts projections in a row together, and drops the lower one of two whose expressions are equal, be it after it has put
//! others into the upper one. Where an expression has the name of what it is made of that is another answer: of
//! `SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM t))` two additions are left.
//!
//! Before it does, every lower projection has each of its names written twice, or three times where the one below has them twice.
//! What was put together has one of each, so no two are equal; without names of their own, equal projections are indeed the same.
//! Behind it, names are as they were.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::Alias;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule of DataFusion's that drops them.
pub(super) const DROPS: &str = "optimize_projections";

/// Makes projections in a row differ.
#[derive(Debug)]
pub(super) struct ProjectionsDiffer;

impl OptimizerRule for ProjectionsDiffer {
    fn name(&self) -> &'static str {
        "projections_differ"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(upper) = plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Projection(lower) = upper.input.as_ref() else {
            return Ok(Transformed::no(LogicalPlan::Projection(upper)));
        };
        if !lower.expr.iter().any(|expr| matches!(expr, Expr::Alias(_))) {
            return Ok(Transformed::no(LogicalPlan::Projection(upper)));
        }
        let times = match lower.input.as_ref() {
            LogicalPlan::Projection(lowest) if lowest.expr.iter().any(|expr| written(expr) == 2) => 3,
            _ => 2,
        };
        let lower = named(lower.clone(), times)?;
        let Projection { expr, schema, .. } = upper;
        let upper = Projection::try_new_with_schema(expr, Arc::new(LogicalPlan::Projection(lower)), schema)?;
        Ok(Transformed::yes(LogicalPlan::Projection(upper)))
    }
}

/// Writes names once again.
#[derive(Debug)]
pub(super) struct NamesOnce;

impl OptimizerRule for NamesOnce {
    fn name(&self) -> &'static str {
        "names_once"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Projection(projection) if projection.expr.iter().any(|expr| written(expr) > 1) => {
                Ok(Transformed::yes(LogicalPlan::Projection(named(projection, 1)?)))
            }
            plan => Ok(Transformed::no(plan)),
        }
    }
}

fn named(projection: Projection, times: usize) -> Result<Projection> {
    let Projection { expr, input, schema, .. } = projection;
    let expr = expr.into_iter().map(|expr| with_name(expr, times)).collect();
    Projection::try_new_with_schema(expr, input, schema)
}

/// How often the name of `expr` is written.
fn written(expr: &Expr) -> usize {
    match expr {
        Expr::Alias(alias) => match alias.expr.as_ref() {
            Expr::Alias(inner) if is_same(alias, inner) => 1 + written(&alias.expr),
            _ => 1,
        },
        _ => 0,
    }
}

/// `expr` with its name written so many times; without a name it stays.
fn with_name(expr: Expr, times: usize) -> Expr {
    let Expr::Alias(mut alias) = expr else { return expr };
    while let Expr::Alias(inner) = alias.expr.as_ref()
        && is_same(&alias, inner)
    {
        alias = inner.clone();
    }
    (1..times).fold(Expr::Alias(alias.clone()), |expr, _| {
        Expr::Alias(Alias { expr: Box::new(expr), ..alias.clone() })
    })
}

fn is_same(alias: &Alias, inner: &Alias) -> bool {
    (&alias.relation, &alias.name, &alias.metadata) == (&inner.relation, &inner.name, &inner.metadata)
}
