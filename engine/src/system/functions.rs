//! `system.functions`: every SQL function by name and kind, how it is called and what it does.
//!
//! Owns: what is said of functions that stand in FROM. What is said of the others stands beside them, here and in DataFusion.

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;

use super::{Kind, SystemSource, SystemTable, schema, text, texts};
use crate::engine::Engine;
use crate::error::Result;

/// Functions that have no documentation of their own: how they are called, and what they do.
const OTHERS: &[(&str, &str, &str)] = &[
    ("current_database", "current_database()", "The name before the schema in `cairn.public.notes`: cairn."),
    ("current_schema", "current_schema()", "The schema that unqualified names resolve in."),
    ("current_user", "current_user", "The name of the user whose session it is."),
    (
        "generate_series",
        "generate_series(start, end, step)",
        "A row for each value from start to end, both included.",
    ),
    ("range", "range(start, end, step)", "A row for each value from start to end, the end not included."),
    ("read_arrow", "read_arrow(path)", "The rows of Arrow files, which a pattern or a directory may name."),
    ("read_csv", "read_csv(path)", "The rows of CSV files, which a pattern or a directory may name."),
    (
        "read_json",
        "read_json(path)",
        "The rows of files with one JSON object a line, which a pattern or a directory may name.",
    ),
    (
        "read_ndjson",
        "read_ndjson(path)",
        "The rows of files with one JSON object a line, which a pattern or a directory may name.",
    ),
    (
        "read_parquet",
        "read_parquet(path)",
        "The rows of Parquet files, which a pattern or a directory may name.",
    ),
    ("session_user", "session_user", "The name of the user whose session it is."),
    ("user", "user", "The name of the user whose session it is."),
    (
        crate::search::FUNCTION,
        "vector_search(table, column, vector, k => 10, filter => text, metric => text, mode => text, ef => number)",
        "The rows of a table that are nearest to a vector, the nearest first.",
    ),
];

/// `system.functions`
#[derive(Debug)]
pub(super) struct Functions;

#[async_trait]
impl SystemTable for Functions {
    fn name(&self) -> &'static str {
        "functions"
    }

    fn schema(&self) -> SchemaRef {
        schema(&[
            ("name", Kind::Text, false),
            ("kind", Kind::Text, false),
            ("syntax", Kind::Text, true),
            ("description", Kind::Text, true),
        ])
    }

    async fn rows(&self, source: &SystemSource) -> Result<Vec<ArrayRef>> {
        let functions = source.engine.functions();
        let said: Vec<_> = functions.iter().map(|(name, kind)| said(&source.engine, name, kind)).collect();
        Ok(vec![
            texts(functions.iter().map(|(name, _)| name.as_str())),
            texts(functions.iter().map(|(_, kind)| *kind)),
            text(said.iter().map(|said| said.as_ref().map(|(syntax, _)| syntax.as_str()))),
            text(said.iter().map(|said| said.as_ref().map(|(_, does)| does.as_str()))),
        ])
    }
}

/// How a function is called, and what it does: the first paragraph of what is said about it, on one line.
fn said(engine: &Engine, name: &str, kind: &str) -> Option<(String, String)> {
    if let Some(documentation) = engine.documentation(name, kind) {
        let does = documentation.description.trim().split("\n\n").next().unwrap_or_default();
        let on_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        return Some((on_one_line(&documentation.syntax_example), on_one_line(does)));
    }
    let (_, syntax, does) = OTHERS.iter().find(|(other, ..)| *other == name)?;
    Some(((*syntax).to_owned(), (*does).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(OTHERS.is_sorted_by_key(|(name, ..)| *name));
    }
}
