//! `l2_distance`, `cosine_distance`, `inner_product`, `negative_inner_product`, `l1_distance`, and the operators' own form.
//!
//! Owns: distances of arrays and constants, row by row, as f32. Does not own: the sums (`cairn_vector`), which operator is
//! which function (`operator`). A constant on either side is prepared once for a whole batch; NULL gives NULL. A vector
//! without direction has no cosine distance: the answer is NaN, which sorts behind every number.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cairn_vector::{Floats, Metric, QueryDistance};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float32Array, new_null_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Float32Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::convert::{InvalidVector, is_source, vectors};
use super::{dimensions, is_whole, text_of};

/// Characters of a constant vector in a column's name.
const NAME_CHARS_MAX: usize = 32;

/// A distance of two vectors, as a function or as an operator.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Distance {
    metric: Metric,
    /// `inner_product`: the metric's value with its sign turned back.
    negated: bool,
    /// Written, and shown, as an operator.
    operator: bool,
    signature: Signature,
}

/// The functions of this module.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let plain = Metric::ALL.map(|metric| Distance::new(metric, false, false));
    let turned = Distance::new(Metric::InnerProduct, true, false);
    plain.into_iter().chain([turned]).map(ScalarUDF::from).collect()
}

impl Distance {
    fn new(metric: Metric, negated: bool, operator: bool) -> Self {
        Self { metric, negated, operator, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The metric of an operator; None: it is a function.
    pub(crate) fn operator_metric(&self) -> Option<Metric> {
        self.operator.then_some(self.metric)
    }

    /// The operator of `metric`.
    pub(crate) fn operator(metric: Metric) -> ScalarUDF {
        ScalarUDF::from(Self::new(metric, false, true))
    }

    /// The metric by which a sort of it has the nearest first; None: it has them last.
    #[must_use]
    pub fn sorted_metric(&self, ascending: bool) -> Option<Metric> {
        (ascending != self.negated).then_some(self.metric)
    }

    fn fault(&self, error: &DataFusionError) -> DataFusionError {
        let (sqlstate, message) = match error {
            DataFusionError::External(inner) => match inner.downcast_ref::<InvalidVector>() {
                Some(invalid) => (invalid.sqlstate, invalid.message.clone()),
                None => ("22000", inner.to_string()),
            },
            other => ("22000", other.strip_backtrace()),
        };
        InvalidVector::error(sqlstate, format!("{}: {message}", self.name()))
    }

    fn dimensions_differ(&self, expected: usize, found: usize) -> DataFusionError {
        InvalidVector::error("22000", format!("{}: expected {expected} dimensions, not {found}", self.name()))
    }

    /// Both sides as vectors of the same dimension; a constant is one row.
    fn operands(&self, left: &ColumnarValue, right: &ColumnarValue) -> Result<(ArrayRef, ArrayRef)> {
        let dim = dimensions(&left.data_type()).or_else(|| dimensions(&right.data_type()));
        let left = operand(left, dim).map_err(|e| self.fault(&e))?;
        let dim = if left.null_count() < left.len() { dimensions(left.data_type()) } else { dim };
        let right = operand(right, dim).map_err(|e| self.fault(&e))?;
        match (dimensions(left.data_type()), dimensions(right.data_type())) {
            (Some(a), Some(b))
                if a != b && left.null_count() < left.len() && right.null_count() < right.len() =>
            {
                Err(self.dimensions_differ(a, b))
            }
            _ => Ok((left, right)),
        }
    }

    /// Distances of every row of `rows` from one vector.
    fn one_to_many(&self, one: &ArrayRef, rows: &ArrayRef) -> ArrayRef {
        let prepared = QueryDistance::new(self.metric, components(one));
        let mut out = vec![0.0; rows.len()];
        prepared.many(Floats::from(components(rows)).bytes(), &mut out);
        self.array(out, rows.nulls().cloned())
    }

    fn pairs(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
        let dim = dimensions(left.data_type()).unwrap_or(1);
        let (a, b) = (components(left).chunks_exact(dim), components(right).chunks_exact(dim));
        let distance = |(a, b): (&[f32], &[f32])| self.metric.distance(a.into(), b.into());
        let out = a.zip(b).map(distance).collect::<Result<Vec<_>, _>>();
        let out = out.map_err(|e| InvalidVector::error("22000", format!("{}: {e}", self.name())))?;
        Ok(self.array(out, NullBuffer::union(left.nulls(), right.nulls())))
    }

    fn array(&self, mut values: Vec<f32>, nulls: Option<NullBuffer>) -> ArrayRef {
        for value in &mut values {
            // The processor's own NaN is negative, which would sort before every number.
            *value = match *value {
                v if v.is_nan() => f32::NAN,
                v if self.negated => -v,
                v => v,
            };
        }
        Arc::new(Float32Array::new(values.into(), nulls))
    }
}

/// `value` as vectors. Those of tables were checked when they were written; a constant costs nothing to check.
fn operand(value: &ColumnarValue, dim: Option<usize>) -> Result<ArrayRef> {
    match value {
        ColumnarValue::Array(array) if is_trusted(array) => Ok(Arc::clone(array)),
        ColumnarValue::Array(array) => Ok(vectors(array, dim)?),
        ColumnarValue::Scalar(scalar) => Ok(vectors(&scalar.to_array()?, dim)?),
    }
}

fn is_trusted(array: &ArrayRef) -> bool {
    dimensions(array.data_type()).is_some() && is_whole(array.as_fixed_size_list())
}

/// The components of all rows, one after the other.
fn components(array: &ArrayRef) -> &[f32] {
    array.as_fixed_size_list().values().as_primitive::<Float32Type>().values()
}

impl ScalarUDFImpl for Distance {
    fn name(&self) -> &str {
        match (self.metric, self.operator) {
            (Metric::L2, false) => "l2_distance",
            (Metric::L2, true) => "<->",
            (Metric::Cosine, false) => "cosine_distance",
            (Metric::Cosine, true) => "<=>",
            (Metric::InnerProduct, false) if self.negated => "inner_product",
            (Metric::InnerProduct, false) => "negative_inner_product",
            (Metric::InnerProduct, true) => "<#>",
            (Metric::L1, false) => "l1_distance",
            (Metric::L1, true) => "<+>",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(match args {
            [left, right] if self.operator => {
                format!("{} {} {}", written(left), self.name(), written(right))
            }
            _ => {
                let args: Vec<String> = args.iter().map(written).collect();
                format!("{}({})", self.name(), args.join(","))
            }
        })
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types stay as they are; the function converts, and so can name what is wrong.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [left, right] = arg_types else {
            return Err(InvalidVector::error("42883", format!("{} takes two vectors", self.name())));
        };
        for side in [left, right] {
            if !is_source(side) {
                return Err(InvalidVector::error(
                    "42883",
                    format!("{} takes two vectors, not a value of type {side}", self.name()),
                ));
            }
        }
        match (dimensions(left), dimensions(right)) {
            (Some(a), Some(b)) if a != b => Err(self.dimensions_differ(a, b)),
            _ => Ok(DataType::Float32),
        }
    }

    /// Constants are checked, and become vectors where they are not yet, once.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let dim = args.iter().find_map(|arg| dimensions(&info.get_data_type(arg).ok()?));
        let mut changed = false;
        let mut vectors_of = Vec::with_capacity(args.len());
        for arg in &args {
            vectors_of.push(match arg {
                Expr::Literal(value, metadata) if !value.is_null() => {
                    changed |= dimensions(&value.data_type()).is_none();
                    let vector = vectors(&value.to_array()?, dim).map_err(|bad| self.fault(&bad.into()))?;
                    Expr::Literal(ScalarValue::try_from_array(&vector, 0)?, metadata.clone())
                }
                other => other.clone(),
            });
        }
        if !changed {
            return Ok(ExprSimplifyResult::Original(args));
        }
        let same = ScalarUDF::from(Self::new(self.metric, self.negated, self.operator));
        let call = ScalarFunction::new_udf(Arc::new(same), vectors_of);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return internal_err!("{} takes two vectors", self.name());
        };
        let none = |value: &ColumnarValue| match value {
            ColumnarValue::Scalar(scalar) => scalar.is_null(),
            ColumnarValue::Array(array) => *array.data_type() == DataType::Null,
        };
        if none(left) || none(right) {
            return Ok(ColumnarValue::Scalar(ScalarValue::Float32(None)));
        }
        let (a, b) = self.operands(left, right)?;
        if a.null_count() == a.len() || b.null_count() == b.len() {
            return Ok(ColumnarValue::Array(new_null_array(&DataType::Float32, args.number_rows)));
        }
        let constant = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        Ok(match (constant(left), constant(right)) {
            (true, true) => {
                let distance = self.one_to_many(&a, &b);
                ColumnarValue::Scalar(ScalarValue::try_from_array(&distance, 0)?)
            }
            (true, false) => ColumnarValue::Array(self.one_to_many(&a, &b)),
            (false, true) => ColumnarValue::Array(self.one_to_many(&b, &a)),
            (false, false) => ColumnarValue::Array(self.pairs(&a, &b)?),
        })
    }
}

/// An operand in the name of a column. Long constants are cut, with a number that tells them apart.
fn written(expr: &Expr) -> String {
    let text = match expr {
        Expr::Literal(ScalarValue::FixedSizeList(vector), _) if dimensions(vector.data_type()).is_some() => {
            text_of(vector).next().flatten()
        }
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    };
    let Some(text) = text else { return expr.schema_name().to_string() };
    match text.char_indices().nth(NAME_CHARS_MAX) {
        None => format!("'{text}'"),
        Some((end, _)) => {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            format!("'{}…' #{:x}", &text[..end], hasher.finish())
        }
    }
}
