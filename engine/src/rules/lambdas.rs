//! Parameters of lambdas, apart from the columns they are read with.
//!
//! DataFusion 55 numbers the parameters of a lambda behind the columns of the rows it is planned for, and does not number them anew when
//! expressions come to stand over other rows: a projection that is merged with the one below it, or that a file's source takes, the key of a
//! sort that tells a source which rows it does not want any more. Where those rows have more columns, one of them is taken for the parameter.
//! So the parameters begin far behind whatever number a column has. What evaluates a lambda asks for their order alone.
//!
//! What a nested loop join need not compute for each pair of rows, DataFusion computes below it, for each row of one side: a lambda, too, which is no value, and
//! what stands in one beside its parameters. So a call with a lambda that looks at both sides is closed until those rules are over: they see its columns alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, LambdaVariable};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{HigherOrderFunctionExpr, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;

use super::joins::with_condition;

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
        let is_looped = plan.is::<NestedLoopJoinExec>();
        with_condition(plan, |filter| {
            let numbered = numbered(filter.expression())?;
            let closed = match is_looped {
                true => numbered.transform_data(|condition| closed(condition, filter))?,
                false => numbered,
            };
            Ok(closed.transformed.then_some(closed.data))
        })
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

/// `condition` with calls closed that take lambdas and are not of one side of the join alone.
fn closed(
    condition: Arc<dyn PhysicalExpr>,
    filter: &JoinFilter,
) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    condition.transform_down(|expr| {
        if !expr.is::<HigherOrderFunctionExpr>() {
            return Ok(Transformed::no(expr));
        }
        let mut columns: Vec<Column> = collect_columns(&expr).into_iter().collect();
        columns.sort_by_key(Column::index);
        let looks_at = |side: JoinSide| {
            let of_side =
                |column: &Column| filter.column_indices().get(column.index()).map(|of| of.side) == Some(side);
            columns.iter().any(of_side)
        };
        // What is of one side is computed below as a whole, unless that would be once for many answers.
        if !(is_volatile(&expr) || looks_at(JoinSide::Left) && looks_at(JoinSide::Right)) {
            return Ok(Transformed::no(expr));
        }
        let columns = columns.into_iter().map(|column| Arc::new(column) as Arc<dyn PhysicalExpr>).collect();
        let closed = Arc::new(Closed { call: expr, columns }) as Arc<dyn PhysicalExpr>;
        Ok(Transformed::new(closed, true, TreeNodeRecursion::Jump))
    })
}

/// `condition` with its calls as they were before they were closed.
pub(super) fn opened(condition: &Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let opened = Arc::clone(condition).transform_up(|expr| match expr.downcast_ref::<Closed>() {
        Some(closed) => Ok(Transformed::yes(Arc::clone(&closed.call))),
        None => Ok(Transformed::no(expr)),
    });
    opened.data()
}

/// A call of which nothing shows but the columns it reads.
#[derive(Debug, Eq)]
struct Closed {
    call: Arc<dyn PhysicalExpr>,
    columns: Vec<Arc<dyn PhysicalExpr>>,
}

impl PartialEq for Closed {
    fn eq(&self, other: &Self) -> bool {
        self.call.eq(&other.call)
    }
}

impl Hash for Closed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.hash(state);
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.call, f)
    }
}

impl PhysicalExpr for Closed {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.call.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.call.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.call.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.call.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.columns.iter().collect()
    }

    /// The same call of other columns.
    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        if children.len() != self.columns.len() {
            return internal_err!("a call of {} columns is given {}", self.columns.len(), children.len());
        }
        let call = Arc::clone(&self.call).transform_up(|expr| {
            if !expr.is::<Column>() {
                return Ok(Transformed::no(expr));
            }
            let place = self.columns.iter().position(|column| column.eq(&expr));
            Ok(match place.and_then(|place| children.get(place)) {
                Some(column) => Transformed::yes(Arc::clone(column)),
                None => Transformed::no(expr),
            })
        });
        Ok(Arc::new(Self { call: call.data()?, columns: children }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt_sql(f)
    }

    fn is_volatile_node(&self) -> bool {
        is_volatile(&self.call)
    }
}
