//! Which columns of a view are columns of tables, as they are.
//!
//! Owns: following a column of a plan down to a table. A condition on one that the view computes would compute it for hidden rows.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::JoinType;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// The columns of a view.
#[derive(Debug)]
pub(super) struct Columns {
    schema: SchemaRef,
    /// Of each, whether it is a table's.
    of_table: Vec<bool>,
}

impl Columns {
    /// Those of an analysed plan.
    pub(super) fn of(plan: &LogicalPlan) -> Self {
        let schema = SchemaRef::clone(plan.schema().inner());
        let of_table = (0..schema.fields().len()).map(|index| is_of_table(plan, index)).collect();
        Self { schema, of_table }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Where the column of that name is; None: there is none, or another of that name.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        let mut named = (0..self.of_table.len()).filter(|index| self.schema.field(*index).name() == name);
        match (named.next(), named.next()) {
            (Some(index), None) => Some(index),
            _ => None,
        }
    }

    /// The type of the column that an expression is; None: it is something else, or computed.
    pub(super) fn type_of(&self, expr: &Expr) -> Option<&DataType> {
        let Expr::Column(column) = expr else { return None };
        let index = self.position(&column.name)?;
        self.of_table.get(index)?.then(|| self.schema.field(index).data_type())
    }
}

/// Whether a column of a plan is one of a table all the way down.
fn is_of_table(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Projection(projection) => {
            let below = projection.expr.get(index).and_then(|expr| below(expr, &projection.input));
            below.is_some_and(|index| is_of_table(&projection.input, index))
        }
        LogicalPlan::SubqueryAlias(alias) => is_of_table(&alias.input, index),
        LogicalPlan::Filter(filter) => is_of_table(&filter.input, index),
        LogicalPlan::Sort(sort) => is_of_table(&sort.input, index),
        LogicalPlan::Limit(limit) => is_of_table(&limit.input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => is_of_table(input, index),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| is_of_table(input, index)),
        LogicalPlan::Window(window) => {
            index < window.input.schema().fields().len() && is_of_table(&window.input, index)
        }
        LogicalPlan::Aggregate(aggregate) => {
            let below = aggregate.group_expr.get(index).and_then(|expr| below(expr, &aggregate.input));
            below.is_some_and(|index| is_of_table(&aggregate.input, index))
        }
        LogicalPlan::Join(join)
            if matches!(
                join.join_type,
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
            ) =>
        {
            match index.checked_sub(join.left.schema().fields().len()) {
                Some(index) => is_of_table(&join.right, index),
                None => is_of_table(&join.left, index),
            }
        }
        _ => false,
    }
}

/// Where the column that an expression over `input` is stands there; None: it is computed.
fn below(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match expr {
        Expr::Alias(alias) => below(&alias.expr, input),
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    }
}
