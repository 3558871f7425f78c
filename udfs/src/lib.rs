//! SQL functions of Cairn that need no engine state.
//!
//! Owns: `version()`, and functions that answer with a constant of their session. Does not own: DataFusion's functions,
//! which every session has, and functions that read tables (engine).

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// Registers every function of this crate; `version` is the text of `version()`.
///
/// # Errors
/// When the registry takes no functions.
pub fn register(registry: &mut dyn FunctionRegistry, version: &str) -> Result<()> {
    registry.register_udf(Arc::new(constant("version", &format!("Cairn {version}"))))?;
    Ok(())
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
