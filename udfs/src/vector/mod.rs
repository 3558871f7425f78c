//! Vectors in SQL: values of VECTOR(n) from whatever can be one, distances, and the functions around them.
//!
//! Owns: the vector's Arrow type and its check, conversion (`convert`), casts (`cast`), distances (`distance`) with their
//! operators (`operator`) and IN (`lists`), functions of one vector (`function`), their text (`shown`). Does not own: sums over
//! components, which are `cairn_vector`'s, so that SQL and index give the same bits; columns and rows (engine).

mod cast;
mod convert;
mod distance;
mod function;
mod lists;
mod operator;
mod shown;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;

pub use cairn_vector::Metric;
pub use cairn_vector::metric::DIM_MAX;
pub(crate) use cast::Conversion;
pub use cast::VectorCasts;
pub use convert::{BadVector, InvalidVector, Why, list, parse, vectors};
pub use distance::Distance;
pub use shown::{is_whole, short_text_at, text_at, text_of};

/// Registers functions and operators; DataFusion's functions of the same names are replaced.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in distance::functions().into_iter().chain(function::functions()) {
        // One of DataFusion's that has this name would stay under its other names, and take this one back where a session is built
        // from what another has.
        registry.deregister_udf(function.name())?;
        registry.register_udf(Arc::new(function))?;
    }
    registry.register_function_rewrite(Arc::new(lists::VectorLists))?;
    registry.register_expr_planner(Arc::new(operator::VectorOperators::default()))
}

/// The Arrow type of VECTOR(`dim`).
#[must_use]
pub fn vector_type(dim: usize) -> DataType {
    DataType::FixedSizeList(component_field(), i32::try_from(dim).unwrap_or(i32::MAX))
}

fn component_field() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, true))
}

/// Dimensions of a vector type; None for any other type.
#[must_use]
pub fn dimensions(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(item, size) if *item.data_type() == DataType::Float32 => {
            usize::try_from(*size).ok().filter(|dim| (1..=DIM_MAX).contains(dim))
        }
        _ => None,
    }
}
