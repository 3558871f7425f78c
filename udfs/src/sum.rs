//! `sum` of integers that is exact or fails.
//!
//! Owns: sums of BIGINT and UBIGINT, kept in 128 bits until they are shown. Does not own: sums of other types, which are
//! DataFusion's, as is everything about how an aggregate runs. DataFusion's own integer sum wraps around; one that
//! checked each step would depend on the order of rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type,
};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

/// What integers are added up in: no table has rows enough to fill it.
const EXACT: DataType = DataType::Decimal128(38, 0);

/// See the module.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ExactSum(Sum);

fn is_exact(result: &DataType) -> bool {
    matches!(result, DataType::Int64 | DataType::UInt64)
}

fn exact_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), EXACT, field.is_nullable()))
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.0.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        if !is_exact(&result) {
            return self.0.accumulator(args);
        }
        let inner = self.0.accumulator(widened(args))?;
        Ok(Box::new(Wide { inner, result }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_exact(args.return_field.data_type()) {
            return self.0.state_fields(args);
        }
        let return_field = exact_field(&args.return_field);
        self.0.state_fields(StateFieldsArgs { return_field, ..args })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        if !is_exact(&result) {
            return self.0.create_groups_accumulator(args);
        }
        let inner = self.0.create_groups_accumulator(widened(args))?;
        Ok(Box::new(Wide { inner, result }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        // DataFusion slides a distinct sum over BIGINT only.
        if !is_exact(&result) || args.is_distinct {
            return self.0.create_sliding_accumulator(args);
        }
        let inner = self.0.create_sliding_accumulator(widened(args))?;
        Ok(Box::new(Wide { inner, result }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.0.simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.0.value_from_stats(args)
    }
}

fn widened(args: AccumulatorArgs<'_>) -> AccumulatorArgs<'_> {
    AccumulatorArgs { return_field: exact_field(&args.return_field), ..args }
}

/// A sum over [`EXACT`] that takes and gives integers.
#[derive(Debug)]
struct Wide<A: ?Sized> {
    result: DataType,
    inner: Box<A>,
}

impl Accumulator for Wide<dyn Accumulator> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&wide(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.inner.evaluate()?.to_array()?;
        ScalarValue::try_from_array(&narrow(&sum, &self.result)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&wide(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

impl GroupsAccumulator for Wide<dyn GroupsAccumulator> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.update_batch(&wide(values)?, groups, filter, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        narrow(&self.inner.evaluate(emit_to)?, &self.result)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.inner.merge_batch(states, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&wide(values)?, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

fn wide(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    values
        .iter()
        .map(|values| match values.data_type() {
            DataType::Int64 => widen(values.as_primitive::<Int64Type>()),
            DataType::UInt64 => widen(values.as_primitive::<UInt64Type>()),
            other => exec_err!("a sum of integers was given {other}"),
        })
        .collect()
}

fn widen<T>(values: &PrimitiveArray<T>) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128>,
{
    let wide: PrimitiveArray<Decimal128Type> = values.unary(Into::into);
    Ok(Arc::new(wide.with_data_type(EXACT)))
}

fn narrow(sums: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let sums = sums.as_primitive::<Decimal128Type>();
    match to {
        DataType::UInt64 => narrowed::<UInt64Type>(sums, "UBIGINT"),
        _ => narrowed::<Int64Type>(sums, "BIGINT"),
    }
}

fn narrowed<T>(sums: &PrimitiveArray<Decimal128Type>, name: &str) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
{
    let narrow = sums.try_unary::<_, T, _>(|sum| {
        T::Native::try_from(sum).map_err(|_| {
            datafusion::arrow::error::ArrowError::ArithmeticOverflow(format!(
                "{name} out of range: the sum is {sum}; sum a cast to DECIMAL instead"
            ))
        })
    })?;
    Ok(Arc::new(narrow))
}
