//! Functions of one vector: `vector`, `vector_dims`, `l2_norm`, `l2_normalize`.
//!
//! Owns: their types and rows. Does not own: lengths and directions (`cairn_vector`).

use std::sync::Arc;

use cairn_vector::metric;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int32Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float32Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::convert::{InvalidVector, is_source, list, vectors};
use super::{DIM_MAX, dimensions, vector_type};

/// The functions of this module.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [Operation::Make, Operation::Dimensions, Operation::Norm, Operation::Normalize]
        .into_iter()
        .map(|operation| ScalarUDF::from(OfVector::new(operation)))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Make,
    Dimensions,
    Norm,
    Normalize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfVector {
    operation: Operation,
    signature: Signature,
}

impl OfVector {
    fn new(operation: Operation) -> Self {
        Self { operation, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn compute(&self, array: &ArrayRef, dim: Option<usize>) -> Result<ArrayRef> {
        let vectors = vectors(array, dim)?;
        let (rows, dim) = (vectors.len(), dimensions(vectors.data_type()).unwrap_or(1));
        let nulls = vectors.nulls().cloned();
        let components = vectors.as_fixed_size_list().values().as_primitive::<Float32Type>().values();
        let each = || components.chunks_exact(dim);
        Ok(match self.operation {
            Operation::Make => vectors,
            Operation::Dimensions => {
                let dim = i32::try_from(dim).unwrap_or(i32::MAX);
                Arc::new(Int32Array::new(vec![dim; rows].into(), nulls))
            }
            Operation::Norm => {
                let norms: Vec<f32> = each().map(|vector| metric::l2_norm(vector.into())).collect();
                Arc::new(Float32Array::new(norms.into(), nulls))
            }
            Operation::Normalize => {
                let mut out = vec![0.0; components.len()];
                for (vector, out) in each().zip(out.chunks_exact_mut(dim)) {
                    metric::l2_normalize(vector.into(), out)
                        .map_err(|e| InvalidVector::error("22000", format!("{}: {e}", self.name())))?;
                }
                list(Arc::new(Float32Array::from(out)), dim, nulls)
            }
        })
    }

    fn check(&self, args: &ReturnFieldArgs<'_>) -> Result<()> {
        let wrong = |found: String| {
            let takes =
                if self.operation == Operation::Make { "a vector and its dimension" } else { "one vector" };
            Err(InvalidVector::error("42883", format!("{} takes {takes}{found}", self.name())))
        };
        match args.arg_fields {
            [value, ..] if !is_source(value.data_type()) => {
                wrong(format!(", not a value of type {}", value.data_type()))
            }
            [_] => Ok(()),
            [_, n] if self.operation == Operation::Make && n.data_type().is_integer() => Ok(()),
            _ => wrong(String::new()),
        }
    }

    /// Dimension of a result that is a vector: of the argument's type, of `n`, or of the argument when it is a constant.
    fn dim(&self, args: &ReturnFieldArgs<'_>) -> Result<Option<usize>> {
        if let Some(n) = args.scalar_arguments.get(1).copied().flatten() {
            return given_dim(n).map(Some);
        }
        let data_type = args.arg_fields[0].data_type();
        if dimensions(data_type).is_some() || *data_type == DataType::Null {
            return Ok(dimensions(data_type));
        }
        let Some(Some(constant)) = args.scalar_arguments.first() else {
            let hint = format!("{} does not know the dimension; write CAST(value AS VECTOR(n))", self.name());
            return Err(InvalidVector::error("42804", hint));
        };
        Ok(dimensions(vectors(&constant.to_array()?, None)?.data_type()))
    }
}

/// `n` of `vector(value, n)`.
fn given_dim(n: &ScalarValue) -> Result<usize> {
    let number = n.cast_to(&DataType::Int64)?;
    match number {
        ScalarValue::Int64(Some(n)) if (1..=DIM_MAX as i64).contains(&n) => {
            Ok(usize::try_from(n).unwrap_or(1))
        }
        _ => Err(InvalidVector::error("22000", format!("a vector has 1 to {DIM_MAX} dimensions, not {n}"))),
    }
}

impl ScalarUDFImpl for OfVector {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Make => "vector",
            Operation::Dimensions => "vector_dims",
            Operation::Norm => "l2_norm",
            Operation::Normalize => "l2_normalize",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types stay as they are; the function converts, and so can name what is wrong.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("{} has its type from its arguments", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.check(&args)?;
        let data_type = match self.operation {
            Operation::Dimensions => DataType::Int32,
            Operation::Norm => DataType::Float32,
            // NULL is a vector of any dimension, and a parameter has no value yet.
            Operation::Make | Operation::Normalize => self.dim(&args)?.map_or(DataType::Null, vector_type),
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let dim = dimensions(args.return_type());
        match args.args.first() {
            _ if *args.return_type() == DataType::Null => Ok(ColumnarValue::Scalar(ScalarValue::Null)),
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(self.compute(array, dim)?)),
            Some(ColumnarValue::Scalar(value)) => {
                let made = self.compute(&value.to_array()?, dim)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?))
            }
            None => internal_err!("{} takes a vector", self.name()),
        }
    }
}
