//! A door of the fuzz targets (`tests/src/fuzz`) to the parser, which nothing else outside this crate may call. No part of the
//! interface. What can be asked of a [`Session`](crate::Session) is fuzzed through that.

use crate::error::Result;
use crate::statement::{self, Statement};

/// The query of `sql` as a view would keep it; None: it is another statement.
///
/// # Errors
/// What is wrong with its syntax.
pub fn query_text(sql: &str) -> Result<Option<String>> {
    Ok(match statement::parse(sql)? {
        Statement::Query(query) => Some(query.to_string()),
        _ => None,
    })
}
