//! Functions of a few bytes that ask for gigabytes: refused before they have taken them.
//!
//! Owns: the wrapper around DataFusion's functions whose results can be much larger than their arguments, the function that stands
//! for `||`, the rule that puts them in place of what syntax is planned to, and the limit of one value and of the values made
//! together. What is too large for sure is refused before anything is allocated; what only may be is made in parts, up to the
//! limit. Does not own: what the functions compute (DataFusion), constants that a select list, CASE and aggregates copy for each row
//! of a batch, memory of queries (engine).

mod bound;
mod calls;
mod centroids;
mod column;
mod concatenation;
mod function;
mod places;
mod series;

use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use calls::BoundedCalls;
pub(crate) use function::is_concatenation;

use bound::Bound;
use centroids::Centroids;

/// Bytes a value may have, and the values of one batch together.
const VALUE_MAX: usize = 256 << 20;
/// Least limit: less than this, ordinary batches would not fit.
const VALUE_MAX_FLOOR: usize = 64 << 20;
/// Limits that fit into the memory of queries, which does not count them: a value is copied when it is folded, put into a batch
/// and shown, and several calls run at a time.
const SHARE: usize = 16;

/// A call whose result would be too large to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Which function would make how much, and how much there may be.
    pub message: String,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TooLarge {}

impl TooLarge {
    /// As the error of a function.
    pub(crate) fn error(message: String) -> DataFusionError {
        DataFusionError::External(Box::new(Self { message }))
    }
}

/// Puts bounds on the functions that `registry` has; `memory_limit` is what queries may use together, in bytes, and what the limit
/// is a share of.
///
/// # Errors
/// When the registry has not one of the functions, or takes none.
pub(crate) fn register(registry: &mut dyn FunctionRegistry, memory_limit: usize) -> Result<()> {
    let limit = limit(memory_limit);
    for (name, _) in Bound::FUNCTIONS {
        let function = function::bounded(&registry.udf(name)?, limit);
        registry.register_udf(function)?;
    }
    for name in centroids::FUNCTIONS {
        let function = Centroids::new(Arc::clone(registry.udaf(name)?.inner()));
        registry.register_udaf(Arc::new(AggregateUDF::from(function)))?;
    }
    Ok(())
}

/// The function for `||`, as [`BoundedCalls`] has it with that `memory_limit`.
pub(crate) fn concatenation(memory_limit: usize) -> Arc<ScalarUDF> {
    function::concatenation(limit(memory_limit))
}

/// The limit where queries may use `memory_limit` bytes together.
pub(crate) fn limit(memory_limit: usize) -> u64 {
    (memory_limit / SHARE).clamp(VALUE_MAX_FLOOR, VALUE_MAX) as u64
}

/// `bytes` as a limit is written.
fn shown(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) {
        format!("{} GiB", bytes >> 30)
    } else if bytes >= 1 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}
