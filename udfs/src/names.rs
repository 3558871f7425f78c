//! Names that other engines have for functions of DataFusion.
//!
//! Owns: which name is whose. They are given before anything is bounded, so that bounds hold for them, too.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;

/// Functions and their other names, of DuckDB or PostgreSQL.
const NAMES: &[(&str, &[&str])] = &[
    ("array_min", &["list_min"]),
    ("ascii", &["ord", "unicode"]),
    ("ceil", &["ceiling"]),
    ("character_length", &["len"]),
    ("current_time", &["localtime", "current_localtime"]),
    ("ends_with", &["suffix"]),
    ("gcd", &["greatest_common_divisor"]),
    ("lcm", &["least_common_multiple"]),
    ("lower", &["lcase"]),
    ("make_array", &["list_value", "list_pack"]),
    ("now", &["get_current_timestamp", "statement_timestamp", "transaction_timestamp"]),
    ("octet_length", &["strlen"]),
    ("regexp_like", &["regexp_matches"]),
    ("signum", &["sign"]),
    ("starts_with", &["prefix"]),
    ("upper", &["ucase"]),
];

/// Registers the functions again, under all their names.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for (name, aliases) in NAMES {
        let function = registry.udf(name)?.as_ref().clone().with_aliases(aliases.iter().copied());
        registry.register_udf(Arc::new(function))?;
    }
    Ok(())
}
