//! SQL functions of Cairn that need no engine state.
//!
//! Owns: `version()`, functions that answer with a constant of their session, integer arithmetic and sums that never wrap
//! around, vectors, the session's time zone, bounds on what a call of DataFusion's functions makes, and what people expect of a SQL engine that DataFusion has not:
//! dates, texts, JSON, lists, lambdas, numbers, aggregates, ids, types. Does not own: DataFusion's other functions, which every session has, and
//! functions that read tables (engine).

mod aggregates;
mod arithmetic;
mod bounded;
pub mod codec;
mod dates;
mod function;
mod ids;
mod json;
mod lambdas;
mod lengths;
mod lists;
mod math;
mod names;
mod operators;
mod patterns;
mod rewrite;
mod series;
mod strings;
mod subquery;
mod sum;
mod values;
pub mod vector;
pub mod zones;

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarUDF, Volatility, create_udf};

pub use arithmetic::CheckedIntegers;
pub use bounded::{BoundedCalls, TooLarge};
pub use function::InvalidArgument;
pub use lambdas::takes_lambda;
pub use series::register_series;
pub use subquery::EmptySubqueries;

/// Registers every function of this crate; `version` is the text of `version()`, `memory_limit` the bytes that queries may use
/// together.
///
/// # Errors
/// When the registry takes no functions, or has not those of DataFusion.
pub fn register(registry: &mut dyn FunctionRegistry, version: &str, memory_limit: usize) -> Result<()> {
    registry.register_udf(Arc::new(constant("version", &format!("Cairn {version}"))))?;
    registry.register_udaf(Arc::new(AggregateUDF::from(sum::ExactSum::default())))?;
    names::register(registry)?;
    patterns::register(registry)?;
    bounded::register(registry, memory_limit)?;
    registry.register_udf(Arc::new(dates::local_timestamp()))?;
    let limit = bounded::limit(memory_limit);
    for (section, functions) in sections() {
        for function in functions {
            registry.register_udf(Arc::new(function.function(section, limit)))?;
        }
    }
    let (of_json, of_text) = (registry.udf("json_extract")?, registry.udf("json_extract_string")?);
    registry.register_expr_planner(Arc::new(json::JsonOperators { of_json, of_text }))?;
    let (overlap, prefix) = (registry.udf("array_has_any")?, registry.udf("starts_with")?);
    registry.register_expr_planner(Arc::new(operators::Operators { overlap, prefix }))?;
    let date_part = Arc::new(dates::with_ends(registry.udf("date_part")?.as_ref()));
    registry.register_udf(Arc::clone(&date_part))?;
    registry.register_function_rewrite(Arc::new(dates::YearsWithEnds { date_part }))?;
    let of_list = registry.udf("array_length")?;
    registry.register_function_rewrite(Arc::new(lengths::ListLengths { of_list }))?;
    aggregates::register(registry, limit)?;
    lambdas::register(registry)?;
    vector::register(registry)
}

/// The functions of a row that are ours alone, by their headings.
fn sections() -> [(&'static str, Vec<function::Spec>); 7] {
    [
        ("Time and Date Functions", dates::functions()),
        ("String Functions", strings::functions()),
        ("JSON Functions", json::functions()),
        ("Array Functions", lists::functions()),
        ("Math Functions", math::functions()),
        ("Id Functions", ids::functions()),
        ("Other Functions", values::functions()),
    ]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn a_function_is_there_by_its_own_name_under_each_name() {
        let mut state = SessionContext::new().state();
        register(&mut state, "0", 1 << 30).unwrap();
        for name in FunctionRegistry::udfs(&state) {
            let function = FunctionRegistry::udf(&state, &name).unwrap();
            let own = FunctionRegistry::udf(&state, function.name()).unwrap();
            assert!(Arc::ptr_eq(&function, &own), "{name} is {}, which is another function", function.name());
        }
    }

    #[test]
    fn the_book_says_of_each_function_what_it_does() {
        let book = include_str!("../../docs/src/functions.md");
        let listed = |syntax: &str, does: &str| {
            let row = format!("| `{}` | {}", syntax.replace('|', "\\|"), does.replace('|', "\\|"));
            assert!(book.contains(&row), "docs/src/functions.md should have a row that begins\n{row}");
        };
        for function in sections().into_iter().flat_map(|(section, functions)| {
            functions.into_iter().map(move |function| function.function(section, 1 << 20))
        }) {
            let said = function.documentation().unwrap();
            listed(&said.syntax_example, &said.description);
        }
        for function in lambdas::functions() {
            let said = function.documentation().unwrap();
            listed(&said.syntax_example, &said.description);
        }
        let there = SessionContext::new().udafs();
        let mut state = SessionContext::new().state();
        register(&mut state, "0", 1 << 30).unwrap();
        for (name, function) in state.aggregate_functions() {
            // Other names of DataFusion's are listed above the tables.
            if !there.contains(name) && function.name() == name {
                let said = function.documentation().unwrap();
                listed(&said.syntax_example, &said.description);
            }
        }
    }

    #[test]
    fn functions_do_not_take_names_of_others() {
        let context = SessionContext::new();
        let there: HashSet<String> = context.udfs().into_iter().chain(context.udafs()).collect();
        let mut seen = HashSet::new();
        for (section, functions) in sections() {
            for function in functions {
                let function = function.function(section, 1 << 20);
                for name in [function.name()].into_iter().chain(function.aliases().iter().map(String::as_str))
                {
                    assert!(!there.contains(name), "{name} is one of DataFusion's");
                    assert!(seen.insert(name.to_owned()), "{name} is there twice");
                }
                let said = function.documentation().unwrap();
                assert!(
                    said.syntax_example.starts_with(&format!("{}(", function.name())),
                    "{}",
                    function.name()
                );
                assert!(!said.description.is_empty() && said.sql_example.is_some(), "{}", function.name());
            }
        }
    }
}
