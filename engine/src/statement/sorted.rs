//! `ORDER BY t.v` where `v` is the name of another item.
//!
//! Owns: refusing it. A name with a table before it means the table's column, and the planner takes the item for it: rows in another
//! order than was asked for, and with LIMIT other rows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, Ident, OrderByKind, Query, SelectItem, SetExpr, Visitor};

use super::place::{ident_position, name_of};
use super::walk;
use crate::error::{Error, Result};

/// Refuses a statement that sorts by a column which has the name of another item.
///
/// # Errors
/// 0A000.
pub(crate) fn refuse_hidden_sorts(statement: &ast::Statement) -> Result<()> {
    match walk::visit(statement, &mut Queries) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Queries;

impl Visitor for Queries {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let (SetExpr::Select(select), Some(order_by)) = (query.body.as_ref(), &query.order_by) else {
            return ControlFlow::Continue(());
        };
        let OrderByKind::Expressions(sorts) = &order_by.kind else { return ControlFlow::Continue(()) };
        let mut columns = Columns { depth: 0, items: &select.projection };
        sorts.iter().try_for_each(|sort| walk::visit(&sort.expr, &mut columns))
    }
}

/// The columns that one ORDER BY names, but for those of its subqueries.
struct Columns<'a> {
    depth: usize,
    items: &'a [SelectItem],
}

impl Visitor for Columns<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let Expr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let [.., table, column] = parts.as_slice() else { return ControlFlow::Continue(()) };
        let hides = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { expr, alias } => {
                name_of(alias) == name_of(column) && !is_column(expr, table, column)
            }
            _ => false,
        };
        if self.depth > 0 || !self.items.iter().any(hides) {
            return ControlFlow::Continue(());
        }
        let what = format!("ORDER BY {expr} where {} is the name of another item", name_of(column));
        let error = Error::not_supported_yet(what)
            .map(|e| e.with_hint("give the item another name, or sort in a query around this one"));
        ControlFlow::Break(Box::new(match ident_position(column) {
            Some(position) => error.at(position),
            None => error,
        }))
    }
}

/// Whether an item is the column of that name, of that table where it says of which.
fn is_column(item: &Expr, table: &Ident, column: &Ident) -> bool {
    match item {
        Expr::Nested(inner) => is_column(inner, table, column),
        Expr::Identifier(name) => name_of(name) == name_of(column),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., of, name] => name_of(of) == name_of(table) && name_of(name) == name_of(column),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statement::parse_query;

    #[test]
    fn only_another_item_hides_a_column() {
        for (sql, passes) in [
            ("SELECT id AS v FROM t ORDER BY t.v", false),
            ("SELECT lower(t.v) AS v FROM t ORDER BY length(t.v) LIMIT 1", false),
            ("SELECT x FROM (SELECT u.v AS v, 1 AS x FROM t, u ORDER BY t.v LIMIT 2) AS q", false),
            ("SELECT id AS v FROM t ORDER BY v", true),
            ("SELECT t.v AS v, v AS w FROM t ORDER BY t.v", true),
            ("SELECT v AS v FROM t ORDER BY t.v", true),
            ("SELECT id AS v FROM t ORDER BY (SELECT max(u.v) FROM u)", true),
            ("SELECT id FROM t ORDER BY t.v", true),
        ] {
            let statement = ast::Statement::Query(parse_query(sql).unwrap());
            assert_eq!(refuse_hidden_sorts(&statement).is_ok(), passes, "{sql}");
        }
    }
}
