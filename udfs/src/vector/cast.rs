//! CAST to VECTOR(n), and of vectors to TEXT.
//!
//! Owns: the functions that do what Arrow's casts cannot, and the analyzer rule that puts them in the casts' place. Does
//! not own: the conversion itself (`convert`).

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TryCast, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::rewrite;

use super::convert::{BadVector, InvalidVector, Why, cut, vectors};
use super::{dimensions, text_of, vector_type};

/// Replaces casts to and from vectors by functions. Runs after type coercion.
#[derive(Debug, Default)]
pub struct VectorCasts;

impl AnalyzerRule for VectorCasts {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite::expressions(plan, |expr, schema| self.rewrite(expr, schema))
    }

    fn name(&self) -> &'static str {
        "vector_casts"
    }
}

impl VectorCasts {
    /// `expr`, its types settled, with every cast to or from a vector replaced.
    ///
    /// # Errors
    /// None today.
    pub fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| Ok(replaced(expr, schema)))
    }
}

fn replaced(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (inner, field, safe) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        _ => return Transformed::no(expr),
    };
    let Ok(from) = inner.get_type(schema) else { return Transformed::no(expr) };
    let to = field.data_type();
    match dimensions(to) {
        Some(dim) if from != *to => Transformed::yes(call(Conversion::ToVector { dim, safe }, inner)),
        None if dimensions(&from).is_some() && to.is_string() => {
            let text = call(Conversion::ToText, inner);
            Transformed::yes(if *to == DataType::Utf8View {
                text
            } else {
                Expr::Cast(Cast::new(Box::new(text), to.clone()))
            })
        }
        _ => Transformed::no(expr),
    }
}

fn call(conversion: Conversion, inner: &Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(conversion.function()), vec![inner.clone()]))
}

/// What a cast to or from a vector does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Conversion {
    /// Of this dimension; what is none is NULL when `safe`.
    ToVector {
        dim: usize,
        safe: bool,
    },
    ToText,
}

impl Conversion {
    /// That of a function; None: it is no cast.
    pub(crate) fn of(function: &ScalarUDF) -> Option<Self> {
        function.inner().downcast_ref::<Converted>().map(|converted| converted.conversion)
    }

    /// The function that does it.
    pub(crate) fn function(self) -> ScalarUDF {
        ScalarUDF::from(Converted::new(self))
    }
}

/// One cast as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Converted {
    conversion: Conversion,
    signature: Signature,
}

impl Converted {
    fn new(conversion: Conversion) -> Self {
        Self { conversion, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn convert(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match self.conversion {
            Conversion::ToVector { dim, safe: false } => {
                vectors(array, Some(dim)).map_err(|bad| refused(array, dim, bad))
            }
            Conversion::ToVector { dim, safe: true } => each_or_null(array, dim),
            Conversion::ToText if *array.data_type() == DataType::Null => {
                Ok(new_null_array(&DataType::Utf8View, array.len()))
            }
            Conversion::ToText => {
                Ok(Arc::new(text_of(array.as_fixed_size_list()).collect::<StringViewArray>()))
            }
        }
    }
}

/// Column and row are unknown to a cast, so its error names the value.
fn refused(array: &ArrayRef, dim: usize, bad: BadVector) -> DataFusionError {
    if matches!(bad.why, Why::Type(_) | Why::Text(..)) {
        return bad.into();
    }
    let BadVector { row, why } = bad;
    let value = array_value_to_string(array, row).unwrap_or_default();
    InvalidVector::error(why.sqlstate(), format!("\"{}\" is no VECTOR({dim}): {why}", cut(&value)))
}

fn each_or_null(array: &ArrayRef, dim: usize) -> Result<ArrayRef> {
    if let Ok(all) = vectors(array, Some(dim)) {
        return Ok(all);
    }
    let each: Vec<ArrayRef> = (0..array.len())
        .map(|row| {
            vectors(&array.slice(row, 1), Some(dim)).unwrap_or_else(|_| new_null_array(&vector_type(dim), 1))
        })
        .collect();
    let each: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
    Ok(concat(&each)?)
}

impl ScalarUDFImpl for Converted {
    fn name(&self) -> &str {
        match self.conversion {
            Conversion::ToVector { .. } => "cast_to_vector",
            Conversion::ToText => "vector_to_text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.conversion {
            Conversion::ToVector { dim, .. } => vector_type(dim),
            Conversion::ToText => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(self.convert(array)?)),
            [ColumnarValue::Scalar(value)] => {
                let converted = self.convert(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&converted, 0)?))
            }
            _ => internal_err!("{} takes one value", self.name()),
        }
    }
}
