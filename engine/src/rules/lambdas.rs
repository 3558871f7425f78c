//! Parameters of lambdas, apart from the columns they are read with.
//!
//! DataFusion 55 numbers the parameters of a lambda behind the columns of the rows it is planned for, and does not number them anew when
//! expressions come to stand over other rows: a projection that is merged with the one below it, or that a file's source takes, the key of a
//! sort that tells a source which rows it does not want any more. Where those rows have more columns, one of them is taken for the parameter.
//! So the parameters begin far behind whatever number a column has. What evaluates a lambda asks for their order alone.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::expressions::LambdaVariable;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;

/// More than any rows have columns.
const BEHIND_COLUMNS: usize = 1_000_000;

/// `plan` with parameters that no column is taken for, whatever the rules behind this one merge.
pub(super) fn apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let mut is_changed = false;
            let mut items = Vec::with_capacity(projection.expr().len());
            for item in projection.expr() {
                let numbered = numbered(&item.expr)?;
                is_changed |= numbered.transformed;
                items.push(ProjectionExpr { expr: numbered.data, alias: item.alias.clone() });
            }
            if is_changed {
                let (input, schema) = (Arc::clone(projection.input()), projection.schema());
                let plan = ProjectionExec::try_new_with_schema_metadata(items, input, schema.as_ref())?;
                return Ok(Transformed::yes(Arc::new(plan)));
            }
        } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let numbered = numbered(filter.predicate())?;
            if numbered.transformed {
                let plan = FilterExecBuilder::from(filter).with_predicate(numbered.data).build()?;
                return Ok(Transformed::yes(Arc::new(plan)));
            }
        } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
            let mut is_changed = false;
            let mut keys = Vec::with_capacity(sort.expr().len());
            for key in sort.expr().iter() {
                let numbered = numbered(&key.expr)?;
                is_changed |= numbered.transformed;
                keys.push(PhysicalSortExpr::new(numbered.data, key.options));
            }
            if is_changed && let Some(order) = LexOrdering::new(keys) {
                let plan = SortExec::new(order, Arc::clone(sort.input()))
                    .with_fetch(sort.fetch())
                    .with_preserve_partitioning(sort.preserve_partitioning());
                return Ok(Transformed::yes(Arc::new(plan)));
            }
        }
        Ok(Transformed::no(plan))
    })
    .data()
}

fn numbered(expr: &Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Arc::clone(expr).transform_up(|expr| match expr.downcast_ref::<LambdaVariable>() {
        Some(parameter) if parameter.index() < BEHIND_COLUMNS => {
            let index = parameter.index() + BEHIND_COLUMNS;
            let parameter = LambdaVariable::new(index, Arc::clone(parameter.field()));
            Ok(Transformed::yes(Arc::new(parameter) as Arc<dyn PhysicalExpr>))
        }
        _ => Ok(Transformed::no(expr)),
    })
}
