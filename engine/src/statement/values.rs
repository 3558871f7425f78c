//! VALUES that hold subqueries, as a UNION ALL of SELECTs.
//!
//! The planner computes VALUES before any subquery has run and fails. Owns: that rewriting, on the tree. Does not own: the
//! form of plain values (`dml::values`).

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, VisitorMut,
};

use super::parse::parse_query;
use super::walk;
use crate::error::{Error, Result};

/// Rewrites every VALUES with a subquery in `query`.
///
/// # Errors
/// Only that the template of a SELECT does not parse.
pub(crate) fn select_values(query: &mut Query) -> Result<()> {
    match walk::visit_mut(query, &mut SelectValues) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct SelectValues;

impl VisitorMut for SelectValues {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let SetExpr::Values(values) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        if !values.rows.iter().any(|row| row.content.iter().any(has_subquery)) {
            return ControlFlow::Continue(());
        }
        let rows = std::mem::take(&mut values.rows);
        match union(rows.into_iter().map(|row| row.content).collect()) {
            Ok(body) => {
                *query.body = body;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

fn has_subquery(expr: &Expr) -> bool {
    walk::expressions(expr, |expr| match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// Halves over halves, so that many rows are no deep tree.
fn union(mut rows: Vec<Vec<Expr>>) -> Result<SetExpr> {
    if rows.len() <= 1 {
        return select(rows.pop().unwrap_or_default());
    }
    let right = rows.split_off(rows.len() / 2);
    Ok(SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: Box::new(union(rows)?),
        right: Box::new(union(right)?),
    })
}

/// One row, its columns named as those of VALUES are.
fn select(row: Vec<Expr>) -> Result<SetExpr> {
    let mut query = parse_query("SELECT 1")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        let named =
            |(i, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("column{}", i + 1)) };
        select.projection = row.into_iter().enumerate().map(named).collect();
    }
    Ok(*query.body)
}
