//! Sums, differences and products of decimals, in 64 bits where the values fit.
//!
//! Decimals are kept in 128 bits, and Arrow checks each step of them for what 128 bits can't hold; where the two sides of a sum have digits of their own
//! behind the point, both are multiplied for each row first, a constant too. Amounts of money need 64 bits: here they are computed in those, from the columns to
//! the last step, and a batch in which a value or a step needs more is computed as ever. So results and errors are the same.
//!
//! Owns: expressions of `+`, `-` and `*` over decimal columns and constants, in projections and below aggregates. They look like what they stand
//! for. Does not own: types, which the planner has chosen, and any other expression.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

/// Batches with values of more than 64 bits after which an expression is no longer tried.
const MISSES: usize = 3;
/// How deep an expression is looked into.
const DEPTH: usize = 16;

/// What becomes of an expression over columns of that schema.
type Change = fn(&Arc<dyn PhysicalExpr>, &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>>;

/// `plan` with decimals computed in 64 bits where they fit.
pub(super) fn narrowed(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    changed(plan, |expr, schema| {
        Arc::clone(expr).transform_down(|expr| {
            if expr.is::<Narrow>() {
                return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
            }
            if expr.is::<BinaryExpr>() && is_narrow(&expr, schema, DEPTH) {
                let narrow: Arc<dyn PhysicalExpr> = Arc::new(Narrow::new(expr));
                return Ok(Transformed::new(narrow, true, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::no(expr))
        })
    })
}

/// `plan` with expressions of DataFusion's alone, for a process that does not know these.
pub(super) fn apart(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    changed(plan, |expr, _| {
        Arc::clone(expr).transform_down(|expr| {
            let whole = expr.downcast_ref::<Narrow>().map(|narrow| Arc::clone(&narrow.whole));
            Ok(match whole {
                Some(whole) => Transformed::yes(whole),
                None => Transformed::no(expr),
            })
        })
    })
}

fn changed(plan: Arc<dyn ExecutionPlan>, change: Change) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            if !may_change(projection.input()) {
                return Ok(Transformed::no(plan));
            }
            let below = projection.input().schema();
            let mut is_changed = false;
            let mut items = Vec::with_capacity(projection.expr().len());
            for item in projection.expr() {
                let expr = change(&item.expr, &below)?;
                is_changed |= expr.transformed;
                items.push(ProjectionExpr { expr: expr.data, alias: item.alias.clone() });
            }
            if is_changed {
                let (input, schema) = (Arc::clone(projection.input()), projection.schema());
                let plan = ProjectionExec::try_new_with_schema_metadata(items, input, schema.as_ref())?;
                return Ok(Transformed::yes(Arc::new(plan) as Arc<dyn ExecutionPlan>));
            }
        } else if let Some(aggregate) = plan.downcast_ref::<AggregateExec>()
            && let Some(plan) = with_arguments(aggregate, change)?
        {
            return Ok(Transformed::yes(plan));
        }
        Ok(Transformed::no(plan))
    })
    .data()
}

/// Whether nothing that the planner knows of the rows below a projection is told in terms of its expressions: an order, or values that are in one partition.
fn may_change(input: &Arc<dyn ExecutionPlan>) -> bool {
    let by_columns = match input.output_partitioning() {
        Partitioning::Hash(keys, _) => keys.iter().all(|key| key.is::<Column>()),
        Partitioning::RoundRobinBatch(_) | Partitioning::UnknownPartitioning(_) => true,
        Partitioning::Range(_) => false,
    };
    by_columns && input.output_ordering().is_none()
}

/// The aggregate with other arguments of its functions; None: they stay, or it reads none.
fn with_arguments(aggregate: &AggregateExec, change: Change) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let reads_rows = matches!(
        aggregate.mode(),
        AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned
    );
    if !reads_rows {
        return Ok(None);
    }
    let schema = aggregate.input().schema();
    let mut is_changed = false;
    let mut functions = Vec::with_capacity(aggregate.aggr_expr().len());
    for function in aggregate.aggr_expr() {
        let mut arguments = Vec::new();
        let mut is_other = false;
        for argument in function.expressions() {
            let argument = change(&argument, &schema)?;
            is_other |= argument.transformed;
            arguments.push(argument.data);
        }
        // One that needs an order would lose what it is.
        let keeps_all = !function.is_reversed() && function.order_bys().is_empty();
        let other =
            if is_other && keeps_all { function.with_new_expressions(arguments, Vec::new()) } else { None };
        is_changed |= other.is_some();
        functions.push(other.map_or_else(|| Arc::clone(function), Arc::new));
    }
    Ok(is_changed.then(|| Arc::new(aggregate.with_new_aggr_exprs(functions)) as Arc<dyn ExecutionPlan>))
}

/// Whether an expression is made of decimals of 128 bits, with `+`, `-` and `*` alone.
fn is_narrow(expr: &Arc<dyn PhysicalExpr>, schema: &Schema, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else { return false };
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
            && is_narrow(binary.left(), schema, below)
            && is_narrow(binary.right(), schema, below);
    }
    (expr.is::<Column>() || expr.is::<Literal>())
        && matches!(expr.data_type(schema), Ok(DataType::Decimal128(..)))
}

/// An expression that is computed in 64 bits where that is enough.
#[derive(Debug)]
struct Narrow {
    whole: Arc<dyn PhysicalExpr>,
    /// Batches for which it was not.
    misses: AtomicUsize,
}

impl Narrow {
    fn new(whole: Arc<dyn PhysicalExpr>) -> Self {
        Self { whole, misses: AtomicUsize::new(0) }
    }

    /// Its values; None: they need more bits, or have no row.
    fn in_64_bits(&self, batch: &RecordBatch) -> Result<Option<ArrayRef>> {
        let Some(Term { scale, values: Values::Each(values, nulls) }) = term(&self.whole, batch) else {
            return Ok(None);
        };
        match self.whole.data_type(batch.schema_ref())? {
            DataType::Decimal128(precision, digits) if digits == scale => {
                let wide: Vec<i128> = values.into_iter().map(i128::from).collect();
                let array = Decimal128Array::try_new(wide.into(), nulls)?;
                Ok(Some(Arc::new(array.with_precision_and_scale(precision, scale)?)))
            }
            _ => Ok(None),
        }
    }
}

impl PartialEq for Narrow {
    fn eq(&self, other: &Self) -> bool {
        self.whole.eq(&other.whole)
    }
}

impl Eq for Narrow {}

impl Hash for Narrow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.whole.hash(state);
    }
}

impl fmt::Display for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.whole, f)
    }
}

impl PhysicalExpr for Narrow {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.whole.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.whole.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.whole.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.misses.load(Ordering::Relaxed) < MISSES {
            if let Some(values) = self.in_64_bits(batch)? {
                return Ok(ColumnarValue::Array(values));
            }
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        self.whole.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.whole]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([whole]) => Ok(Arc::new(Self::new(whole))),
            Err(children) => internal_err!("decimals of one expression, not of {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt_sql(f)
    }
}

/// Decimals with so many digits behind the point.
struct Term {
    scale: i8,
    values: Values,
}

enum Values {
    One(i64),
    Each(Vec<i64>, Option<NullBuffer>),
}

impl Term {
    /// The same values with more digits behind the point; None: they have less, or no longer fit.
    fn with_scale(self, scale: i8) -> Option<Self> {
        let digits = u32::try_from(scale.checked_sub(self.scale)?).ok()?;
        if digits == 0 {
            return Some(self);
        }
        let times = Values::One(10_i64.checked_pow(digits)?);
        Some(Self { scale, values: combined(self.values, times, i64::overflowing_mul)? })
    }
}

/// What an expression is for the rows of `batch`; None: 64 bits are not enough, or it is none of those known here.
fn term(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Option<Term> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        let decimals = batch.columns().get(column.index())?.as_primitive_opt::<Decimal128Type>()?;
        let values = Values::Each(low(decimals.values())?, decimals.nulls().cloned());
        return Some(Term { scale: decimals.scale(), values });
    }
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        let ScalarValue::Decimal128(Some(value), _, scale) = literal.value() else { return None };
        return Some(Term { scale: *scale, values: Values::One(i64::try_from(*value).ok()?) });
    }
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let (left, right) = (term(binary.left(), batch)?, term(binary.right(), batch)?);
    match binary.op() {
        Operator::Plus => sum(left, right, i64::overflowing_add),
        Operator::Minus => sum(left, right, i64::overflowing_sub),
        Operator::Multiply => {
            let scale = left.scale.checked_add(right.scale)?;
            Some(Term { scale, values: combined(left.values, right.values, i64::overflowing_mul)? })
        }
        _ => None,
    }
}

/// `op` of both, with the digits of the one that has more of them.
fn sum(left: Term, right: Term, op: impl Fn(i64, i64) -> (i64, bool)) -> Option<Term> {
    let scale = left.scale.max(right.scale);
    let (left, right) = (left.with_scale(scale)?, right.with_scale(scale)?);
    Some(Term { scale, values: combined(left.values, right.values, op)? })
}

/// The values in 64 bits; None: one needs more.
fn low(values: &[i128]) -> Option<Vec<i64>> {
    let mut lost = 0;
    let low = values.iter().map(|value| {
        let low = *value as i64;
        lost |= i128::from(low) ^ value;
        low
    });
    let low: Vec<i64> = low.collect();
    (lost == 0).then_some(low)
}

/// `op` of both; None: a result needs more bits.
fn combined(left: Values, right: Values, op: impl Fn(i64, i64) -> (i64, bool)) -> Option<Values> {
    let mut is_over = false;
    let mut step = |a: i64, b: i64| {
        let (value, over) = op(a, b);
        is_over |= over;
        value
    };
    let values = match (left, right) {
        (Values::One(a), Values::One(b)) => Values::One(step(a, b)),
        (Values::Each(mut values, nulls), Values::One(b)) => {
            values.iter_mut().for_each(|a| *a = step(*a, b));
            Values::Each(values, nulls)
        }
        (Values::One(a), Values::Each(mut values, nulls)) => {
            values.iter_mut().for_each(|b| *b = step(a, *b));
            Values::Each(values, nulls)
        }
        (Values::Each(mut values, of_left), Values::Each(others, of_right)) => {
            values.iter_mut().zip(&others).for_each(|(a, b)| *a = step(*a, *b));
            Values::Each(values, NullBuffer::union(of_left.as_ref(), of_right.as_ref()))
        }
    };
    (!is_over).then_some(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::datatypes::Field;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::physical_expr::expressions::{col, lit};
    use datafusion::physical_plan::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    fn binary(
        left: &Arc<dyn PhysicalExpr>,
        op: Operator,
        right: &Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::clone(left), op, Arc::clone(right)))
    }

    fn decimal(value: i128, precision: u8, scale: i8) -> Arc<dyn PhysicalExpr> {
        Arc::new(Literal::new(ScalarValue::Decimal128(Some(value), precision, scale)))
    }

    /// Prices and discounts, of which one price is as given.
    fn batch(price: Option<i128>) -> RecordBatch {
        let prices = [Some(123_456), None, Some(-7), Some(0), price];
        let discounts = [Some(5), Some(6), None, Some(100), Some(3)];
        let prices = Decimal128Array::from_iter(prices).with_precision_and_scale(38, 2).unwrap();
        let discounts = Decimal128Array::from_iter(discounts).with_precision_and_scale(15, 4).unwrap();
        RecordBatch::try_from_iter_with_nullable([
            ("p", Arc::new(prices) as ArrayRef, true),
            ("d", Arc::new(discounts) as ArrayRef, true),
        ])
        .unwrap()
    }

    fn values(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> std::result::Result<ArrayRef, String> {
        let values = expr.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
        values.map_err(|error| error.strip_backtrace())
    }

    #[test]
    fn values_types_and_errors_are_those_of_128_bits() {
        let schema = batch(None).schema();
        let (p, d) = (col("p", &schema).unwrap(), col("d", &schema).unwrap());
        let one = decimal(1, 20, 0);
        let rest = binary(&one, Operator::Minus, &d);
        let expressions = [
            binary(&p, Operator::Multiply, &rest),
            binary(
                &binary(&p, Operator::Multiply, &rest),
                Operator::Multiply,
                &binary(&d, Operator::Plus, &one),
            ),
            binary(&p, Operator::Plus, &d),
            binary(&d, Operator::Minus, &p),
            binary(&p, Operator::Plus, &p),
        ];
        let far = i128::from(i64::MAX);
        for price in
            [Some(99), None, Some(far), Some(far + 1), Some(-far - 1), Some(i128::MAX / 3), Some(i128::MAX)]
        {
            let batch = batch(price);
            for whole in &expressions {
                assert!(is_narrow(whole, &schema, DEPTH));
                let narrow = Narrow::new(Arc::clone(whole));
                assert_eq!(values(&narrow, &batch), values(whole.as_ref(), &batch), "{whole} of {price:?}");
                let fits = price.is_none_or(|price| price == 99);
                let is_computed = narrow.in_64_bits(&batch).unwrap().is_some();
                assert!(is_computed || !fits, "{whole} of {price:?}");
                assert!(!is_computed || price.is_none_or(|price| price <= far), "{whole} of {price:?}");
            }
        }
    }

    fn narrows(plan: &Arc<dyn ExecutionPlan>) -> bool {
        let narrows = |expr: &Arc<dyn PhysicalExpr>| expr.exists(|expr| Ok(expr.is::<Narrow>())).unwrap();
        let found = plan.exists(|node| {
            let functions = node.downcast_ref::<AggregateExec>().map_or(&[][..], AggregateExec::aggr_expr);
            Ok(functions.iter().any(|function| function.expressions().iter().any(narrows)))
        });
        found.unwrap()
    }

    #[tokio::test]
    async fn aggregates_read_what_is_computed_in_64_bits() {
        let config = SessionConfig::new().with_target_partitions(2);
        let builder = SessionStateBuilder::new_with_default_features().with_config(config);
        let context = SessionContext::new_with_state(crate::rules::register(builder).build());
        context.register_batch("t", batch(Some(99))).unwrap();
        let sql = "SELECT d, sum(p * (1 - d)) AS s, max(p + d) AS m FROM t GROUP BY d ORDER BY d";
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let plain = apart(Arc::clone(&plan)).unwrap();
        assert!(narrows(&plan) && !narrows(&plain));
        let answer = collect(plan, context.task_ctx()).await.unwrap();
        assert_eq!(answer.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
        assert_eq!(answer, collect(plain, context.task_ctx()).await.unwrap());
    }

    #[test]
    fn what_never_fits_is_not_tried_for_long() {
        let batch = batch(Some(i128::from(i64::MAX) + 1));
        let p = col("p", &batch.schema()).unwrap();
        let narrow = Narrow::new(binary(&p, Operator::Minus, &p));
        for _ in 0..2 * MISSES {
            values(&narrow, &batch).unwrap();
        }
        assert_eq!(narrow.misses.load(Ordering::Relaxed), MISSES);
    }

    #[test]
    fn only_decimals_are_narrowed() {
        let schema = Schema::new(vec![
            Field::new("d", DataType::Decimal128(15, 2), true),
            Field::new("f", DataType::Float64, true),
        ]);
        let (d, f) = (col("d", &schema).unwrap(), col("f", &schema).unwrap());
        let is_narrow = |expr: &Arc<dyn PhysicalExpr>| is_narrow(expr, &schema, DEPTH);
        assert!(is_narrow(&binary(&d, Operator::Multiply, &d)));
        assert!(!is_narrow(&binary(&d, Operator::Divide, &d)));
        assert!(!is_narrow(&binary(&f, Operator::Plus, &f)));
        assert!(!is_narrow(&binary(&d, Operator::Plus, &lit(1.5))));
        let deep = (0..2 * DEPTH).fold(Arc::clone(&d), |all, _| binary(&all, Operator::Plus, &d));
        assert!(!is_narrow(&deep), "it is not looked into without end");
    }
}
