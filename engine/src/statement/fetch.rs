//! `FETCH FIRST n ROWS ONLY`, the standard's spelling of LIMIT.
//!
//! Owns: making a LIMIT of it wherever a query says so, for the planner and for whatever needs none. How many rows is a number or
//! a parameter, one when nothing is said.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Fetch, LimitClause, Query, Value, VisitMut, VisitorMut};

use super::token::syntax_error;
use super::walk;
use crate::error::{Error, Result};

/// Makes a LIMIT of every FETCH in `tree`.
///
/// # Errors
/// 0A000 for PERCENT and WITH TIES, 42601 for a query that has a LIMIT already.
pub(super) fn as_limit(tree: &mut impl VisitMut) -> Result<()> {
    match walk::visit_mut(tree, &mut Fetches) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Fetches;

impl VisitorMut for Fetches {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let Some(fetch) = query.fetch.take() else { return ControlFlow::Continue(()) };
        match limit(fetch, query.limit_clause.take()) {
            Ok(limit) => {
                query.limit_clause = Some(limit);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

fn limit(fetch: Fetch, before: Option<LimitClause>) -> Result<LimitClause> {
    let Fetch { with_ties, percent, quantity } = fetch;
    if percent {
        return Err(Error::not_supported_yet("FETCH … PERCENT"));
    }
    if with_ties {
        return Err(Error::not_supported_yet("FETCH … WITH TIES"));
    }
    let (offset, limit_by) = match before {
        None => (None, Vec::new()),
        Some(LimitClause::LimitOffset { limit: None, offset, limit_by }) => (offset, limit_by),
        Some(_) => return Err(syntax_error("a query has LIMIT or FETCH, not both")),
    };
    let limit = quantity.unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
    Ok(LimitClause::LimitOffset { limit: Some(limit), offset, limit_by })
}
