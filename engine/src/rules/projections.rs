//! Projections on projections that read the same.
//!
//! DataFusion 55 drops one of two projections in a row whose expressions are equal. Where an expression has the name of what it is made
//! of that is another answer: of `SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM (SELECT a + 1 AS a FROM t))` two additions are left.
//! Here the upper one's name is written twice, so that they differ, and are put together as any two are.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::Alias;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule of DataFusion's that drops them. This one comes before it, each time.
pub(super) const DROPS: &str = "optimize_projections";

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
        match plan {
            LogicalPlan::Projection(Projection { mut expr, input, schema, .. }) if equals(&expr, &input) => {
                let renamed = expr.iter_mut().find_map(|expr| match expr {
                    Expr::Alias(alias) => Some(alias),
                    _ => None,
                });
                let changed = renamed.map(|alias| *alias = twice(alias)).is_some();
                let plan =
                    Projection::try_new_with_schema(expr, input, schema).map(LogicalPlan::Projection)?;
                Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
            }
            plan => Ok(Transformed::no(plan)),
        }
    }
}

/// Whether the plan is a projection to the same. Without new names all that is read is passed on unchanged.
fn equals(expr: &[Expr], input: &Arc<LogicalPlan>) -> bool {
    matches!(input.as_ref(), LogicalPlan::Projection(below) if below.expr == expr)
}

fn twice(alias: &Alias) -> Alias {
    Alias { expr: Box::new(Expr::Alias(alias.clone())), ..alias.clone() }
}
