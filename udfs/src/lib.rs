//! SQL functions of Cairn that need no engine state.
//!
//! Owns: `version()`, functions that answer with a constant of their session, integer arithmetic and sums that never wrap
//! around, vectors, bounds on what a call of DataFusion's functions makes. Does not own: DataFusion's other functions, which every
//! session has, and functions that read tables (engine).

mod arithmetic;
mod bounded;
pub mod codec;
mod rewrite;
mod sum;
pub mod vector;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarUDF, Volatility, create_udf};

pub use arithmetic::CheckedIntegers;
pub use bounded::{BoundedCalls, TooLarge};

/// Registers every function of this crate; `version` is the text of `version()`, `memory_limit` the bytes that queries may use
/// together.
///
/// # Errors
/// When the registry takes no functions, or has not those of DataFusion.
pub fn register(registry: &mut dyn FunctionRegistry, version: &str, memory_limit: usize) -> Result<()> {
    registry.register_udf(Arc::new(constant("version", &format!("Cairn {version}"))))?;
    registry.register_udaf(Arc::new(AggregateUDF::from(sum::ExactSum::default())))?;
    bounded::register(registry, memory_limit)?;
    vector::register(registry)
}

/// A function without arguments that answers `value`.
#[must_use]
pub fn constant(name: &str, value: &str) -> ScalarUDF {
    let value = ScalarValue::Utf8View(Some(value.to_owned()));
    create_udf(
        name,
        Vec::new(),
        DataType::Utf8View,
        Volatility::Stable,
        Arc::new(move |_| Ok(ColumnarValue::Scalar(value.clone()))),
    )
}
