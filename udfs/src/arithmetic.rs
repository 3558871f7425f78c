//! Integer `+`, `-`, `*` and negation that fail instead of wrapping around.
//!
//! Owns: the functions that stand for these operators, and the analyzer rule that puts them in once types are settled.
//! Does not own: decimals and floats, whose operators are DataFusion's. DataFusion's own integer operators wrap: a sum
//! above the largest BIGINT would silently become a small number.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Datum};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::rewrite;

/// Replaces integer operators by functions that check. Runs after type coercion: both sides have one type.
#[derive(Debug)]
pub struct CheckedIntegers {
    add: Arc<ScalarUDF>,
    subtract: Arc<ScalarUDF>,
    multiply: Arc<ScalarUDF>,
    negate: Arc<ScalarUDF>,
}

impl Default for CheckedIntegers {
    fn default() -> Self {
        let function = |operation| Arc::new(ScalarUDF::from(Checked::new(operation)));
        Self {
            add: function(Operation::Add),
            subtract: function(Operation::Subtract),
            multiply: function(Operation::Multiply),
            negate: function(Operation::Negate),
        }
    }
}

impl AnalyzerRule for CheckedIntegers {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite::expressions(plan, |expr, schema| self.rewrite(expr, schema))
    }

    fn name(&self) -> &'static str {
        "checked_integers"
    }
}

impl CheckedIntegers {
    /// `expr`, its types settled, with every integer operator replaced.
    ///
    /// # Errors
    /// None today.
    pub fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| Ok(self.checked(expr, schema)))
    }

    fn checked(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        // Those made here are of integers: finding the type of a long sum at each of its levels again takes ever longer.
        let is_integer = |expr: &Expr| match expr {
            Expr::ScalarFunction(call) if call.func.inner().is::<Checked>() => true,
            expr => expr.get_type(schema).is_ok_and(|t| t.is_integer()),
        };
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let function = match op {
                    Operator::Plus => &self.add,
                    Operator::Minus => &self.subtract,
                    Operator::Multiply => &self.multiply,
                    _ => return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
                };
                if !is_integer(&left) || !is_integer(&right) {
                    return Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }));
                }
                Transformed::yes(call(function, vec![*left, *right]))
            }
            Expr::Negative(inner) if is_integer(&inner) => Transformed::yes(call(&self.negate, vec![*inner])),
            other => Transformed::no(other),
        }
    }
}

/// The operation that `function` stands for, as its place among them; None: it is none of this module.
pub(crate) fn place(function: &ScalarUDF) -> Option<u8> {
    let checked = function.inner().downcast_ref::<Checked>()?;
    OPERATIONS.iter().position(|operation| *operation == checked.operation)?.try_into().ok()
}

/// The function of the operation at `place`; None: there is none.
pub(crate) fn at(place: u8) -> Option<ScalarUDF> {
    OPERATIONS.get(usize::from(place)).map(|operation| ScalarUDF::from(Checked::new(*operation)))
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Negate,
}

/// In the order of their places.
const OPERATIONS: [Operation; 4] =
    [Operation::Add, Operation::Subtract, Operation::Multiply, Operation::Negate];

/// One operator as a function of one or two integers of the same type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

impl Checked {
    fn new(operation: Operation) -> Self {
        let arguments = if operation == Operation::Negate { 1 } else { 2 };
        Self { operation, signature: Signature::any(arguments, Volatility::Immutable) }
    }

    /// As it is written with the operator it stands for; `text` says how an argument is. Nothing is cloned: names are asked for at
    /// every level of a long sum.
    fn written(&self, args: &[Expr], text: impl Fn(&Expr) -> String) -> String {
        match (self.operator(), args) {
            (Some(op), [left, right]) => format!("{} {op} {}", text(left), text(right)),
            (None, [inner]) => format!("(- {})", text(inner)),
            _ => self.name().to_owned(),
        }
    }

    /// An argument in the text of an operator: in parentheses where they are needed.
    fn operand(&self, arg: &Expr) -> String {
        match (arg, self.operator()) {
            (Expr::BinaryExpr(inner), Some(op)) if inner.op.precedence() < op.precedence() => {
                format!("({arg})")
            }
            _ => arg.to_string(),
        }
    }

    fn operator(&self) -> Option<Operator> {
        match self.operation {
            Operation::Add => Some(Operator::Plus),
            Operation::Subtract => Some(Operator::Minus),
            Operation::Multiply => Some(Operator::Multiply),
            Operation::Negate => None,
        }
    }

    fn compute(&self, args: &[&dyn Datum]) -> Result<ArrayRef, ArrowError> {
        match (self.operation, args) {
            (Operation::Negate, [value]) => numeric::neg(value.get().0),
            (Operation::Add, [left, right]) => numeric::add(*left, *right),
            (Operation::Subtract, [left, right]) => numeric::sub(*left, *right),
            (Operation::Multiply, [left, right]) => numeric::mul(*left, *right),
            _ => Err(ArrowError::InvalidArgumentError("wrong number of arguments".into())),
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
            Operation::Negate => "checked_negate",
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.written(args, |arg| self.operand(arg)))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.written(args, |arg| arg.schema_name().to_string()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [first, ..] => Ok(first.clone()),
            [] => exec_err!("{} needs arguments", self.name()),
        }
    }

    /// NULL only of NULL, like the operator it stands for: plans made before it took the operator's place rely on that.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalars = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let data = args
            .args
            .iter()
            .map(|arg| match arg {
                ColumnarValue::Array(array) => Ok(Box::new(Arc::clone(array)) as Box<dyn Datum>),
                ColumnarValue::Scalar(value) => Ok(Box::new(value.to_scalar()?) as Box<dyn Datum>),
            })
            .collect::<Result<Vec<_>>>()?;
        let borrowed: Vec<&dyn Datum> = data.iter().map(AsRef::as_ref).collect();
        let result = self.compute(&borrowed).map_err(|e| out_of_range(args.return_field.data_type(), e))?;
        Ok(if all_scalars {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        match (self.operation, inputs) {
            (Operation::Add, [left, right]) => left.add(*right),
            (Operation::Subtract, [left, right]) => left.sub(*right),
            (Operation::Multiply, [left, right]) => left.mul(*right),
            (_, [first, ..]) => Interval::make_unbounded(&first.data_type()),
            (_, []) => exec_err!("{} needs arguments", self.name()),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        // No wrapping: what increases with its inputs keeps their order.
        Ok(match (self.operator(), inputs) {
            (Some(Operator::Plus), [left, right]) => left.sort_properties.add(&right.sort_properties),
            (Some(Operator::Minus), [left, right]) => left.sort_properties.sub(&right.sort_properties),
            (None, [value]) => -value.sort_properties,
            _ => SortProperties::Unordered,
        })
    }
}

/// The error of a result that its type cannot hold, naming type and operands.
fn out_of_range(result: &DataType, error: ArrowError) -> DataFusionError {
    let error = match error {
        ArrowError::ArithmeticOverflow(text) => {
            let operands = text.trim_start_matches("Overflow happened on: ");
            ArrowError::ArithmeticOverflow(format!("{} out of range: {operands}", sql_name(result)))
        }
        other => other,
    };
    DataFusionError::ArrowError(Box::new(error), None)
}

fn sql_name(integer: &DataType) -> &'static str {
    match integer {
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::UInt8 => "UTINYINT",
        DataType::UInt16 => "USMALLINT",
        DataType::UInt32 => "UINTEGER",
        DataType::UInt64 => "UBIGINT",
        _ => "BIGINT",
    }
}
