//! `ORDER BY t.v` where `v` is the name of another item.
//!
//! Owns: sorting by the table's column there, as PostgreSQL does, and refusing where it cannot be told what would have to be sorted. A
//! name with a table before it means the table's column, and the planner takes the item for it: rows in another order than was asked
//! for, and with LIMIT other rows. Therefore what is sorted by becomes items of a query under names that nothing else has, and
//! ORDER BY and LIMIT go to one around it, which has the items as they were.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, Expr, GroupByExpr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Value, Visit, Visitor, VisitorMut,
};

use super::parse::parse_query;
use super::place::{ident_position, name_of};
use super::walk;
use crate::error::{Error, Result};

/// What the query is called that has the items.
const SORTED: &str = "_sorted";

/// Rewrites every query of a statement that sorts by a column which has the name of another item.
///
/// # Errors
/// 0A000 where an item is a `*`, a name is that of several items, or anything else reads the items' names.
pub(crate) fn sort_by_hidden_columns(statement: &mut ast::Statement) -> Result<()> {
    match walk::visit_mut(statement, &mut Queries) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Queries;

impl VisitorMut for Queries {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let Some(error) = hidden_sort(query) else { return ControlFlow::Continue(()) };
        match sort_around(query) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(error),
        }
    }
}

/// The error for a column that a query sorts by and another item hides.
fn hidden_sort(query: &Query) -> Option<Box<Error>> {
    let (SetExpr::Select(select), Some(order_by)) = (query.body.as_ref(), &query.order_by) else {
        return None;
    };
    let OrderByKind::Expressions(sorts) = &order_by.kind else { return None };
    let mut columns = Columns { depth: 0, items: &select.projection };
    match sorts.iter().try_for_each(|sort| walk::visit(&sort.expr, &mut columns)) {
        ControlFlow::Continue(()) => None,
        ControlFlow::Break(error) => Some(error),
    }
}

/// What one part of ORDER BY sorts by.
enum Key {
    /// The item at this place.
    Item(usize),
    /// What is computed from columns of FROM.
    Computed(Box<Expr>),
}

/// Puts a query around that sorts; false: nothing has changed, since it cannot be told what it would have to sort by.
fn sort_around(query: &mut Query) -> bool {
    let (Some(keys), Ok(mut inner)) = (keys(query), parse_query("SELECT 1")) else { return false };
    std::mem::swap(&mut query.body, &mut inner.body);
    let (SetExpr::Select(around), SetExpr::Select(select)) = (query.body.as_mut(), inner.body.as_mut())
    else {
        std::mem::swap(&mut query.body, &mut inner.body);
        return false;
    };
    around.projection.clear();
    for (i, item) in select.projection.iter_mut().enumerate() {
        // Every item has one: its keys were found.
        let Some(name) = output_name(item).cloned() else { continue };
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        // Moved: a copy of a long chain takes more stack than there may be.
        let expr = std::mem::replace(expr, Expr::Wildcard(AttachedToken::empty()));
        *item = SelectItem::ExprWithAlias { expr, alias: item_name(i) };
        around
            .projection
            .push(SelectItem::ExprWithAlias { expr: Expr::Identifier(item_name(i)), alias: name });
    }
    let mut sorted_by = Vec::with_capacity(keys.len());
    for key in keys {
        sorted_by.push(match key {
            Key::Item(i) => item_name(i),
            Key::Computed(expr) => {
                let alias = item_name(select.projection.len());
                select.projection.push(SelectItem::ExprWithAlias { expr: *expr, alias: alias.clone() });
                alias
            }
        });
    }
    let name = Ident::with_quote('"', SORTED);
    let alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
    let relation = TableFactor::Derived { lateral: false, subquery: inner, alias, sample: None };
    around.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(sorts) = &mut order_by.kind
    {
        for (sort, by) in sorts.iter_mut().zip(sorted_by) {
            sort.expr = Expr::Identifier(by);
        }
    }
    true
}

/// What a query sorts by; None: it cannot be told.
fn keys(query: &Query) -> Option<Vec<Key>> {
    let (SetExpr::Select(select), Some(order_by)) = (query.body.as_ref(), &query.order_by) else {
        return None;
    };
    let OrderByKind::Expressions(sorts) = &order_by.kind else { return None };
    let names: Vec<String> =
        select.projection.iter().map(|item| output_name(item).map(name_of)).collect::<Option<_>>()?;
    let mut seen = HashSet::new();
    if select.distinct.is_some() || !names.iter().all(|name| seen.insert(name)) || reads_items(select) {
        return None;
    }
    sorts.iter().map(|sort| key(&sort.expr, &names, &select.projection)).collect()
}

fn key(expr: &Expr, names: &[String], items: &[SelectItem]) -> Option<Key> {
    match expr {
        Expr::Nested(inner) => key(inner, names, items),
        Expr::Identifier(name) => {
            let name = name_of(name);
            let item = names.iter().position(|item| *item == name);
            Some(item.map_or_else(|| Key::Computed(Box::new(expr.clone())), Key::Item))
        }
        Expr::Value(value) => {
            let Value::Number(digits, _) = &value.value else { return None };
            let place: usize = digits.to_string().parse().ok()?;
            (1..=items.len()).contains(&place).then(|| Key::Item(place - 1))
        }
        _ => (!names_item(expr, items)).then(|| Key::Computed(Box::new(expr.clone()))),
    }
}

/// Whether the rest of a SELECT may read its items by their names.
fn reads_items(select: &Select) -> bool {
    matches!(select.group_by, GroupByExpr::All(_))
        || names_item(&select.group_by, &select.projection)
        || names_item(&select.having, &select.projection)
        || names_item(&select.qualify, &select.projection)
}

/// Whether a part of a query has a name, with no table before it, that an item has which is not the column of that name.
fn names_item<V: Visit>(part: &V, items: &[SelectItem]) -> bool {
    let named = walk::expressions(part, |expr| match expr {
        Expr::Identifier(name) if items.iter().any(|item| is_other(item, name)) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    named.is_break()
}

fn is_other(item: &SelectItem, name: &Ident) -> bool {
    let SelectItem::ExprWithAlias { expr, alias } = item else { return false };
    let mut inner = expr;
    while let Expr::Nested(nested) = inner {
        inner = nested;
    }
    let is_column = matches!(inner, Expr::Identifier(column) if name_of(column) == name_of(name));
    name_of(alias) == name_of(name) && !is_column
}

/// What an item is called; None: it is several, or the planner's to name.
fn output_name(item: &SelectItem) -> Option<&Ident> {
    let mut expr = match item {
        SelectItem::ExprWithAlias { alias, .. } => return Some(alias),
        SelectItem::UnnamedExpr(expr) => expr,
        _ => return None,
    };
    loop {
        expr = match expr {
            Expr::Nested(inner) => inner,
            Expr::Identifier(name) => return Some(name),
            Expr::CompoundIdentifier(parts) => return parts.last(),
            _ => return None,
        };
    }
}

/// The name that item `i` has in the query that is sorted.
fn item_name(i: usize) -> Ident {
    Ident::with_quote('"', format!("_item{i}"))
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
        for (sql, expected) in [
            (
                "SELECT id AS v FROM t ORDER BY t.v LIMIT 2",
                "SELECT \"_item0\" AS v FROM (SELECT id AS \"_item0\", t.v AS \"_item1\" FROM t) AS \"_sorted\" ORDER BY \"_item1\" LIMIT 2",
            ),
            (
                "SELECT t.id, lower(t.v) AS v FROM t ORDER BY 1, length(t.v) DESC, v, w",
                "SELECT \"_item0\" AS id, \"_item1\" AS v FROM (SELECT t.id AS \"_item0\", lower(t.v) AS \"_item1\", length(t.v) AS \"_item2\", w AS \"_item3\" FROM t) AS \"_sorted\" ORDER BY \"_item0\", \"_item2\" DESC, \"_item1\", \"_item3\"",
            ),
            (
                "SELECT max(u.w) AS v FROM u GROUP BY u.v ORDER BY u.v",
                "SELECT \"_item0\" AS v FROM (SELECT max(u.w) AS \"_item0\", u.v AS \"_item1\" FROM u GROUP BY u.v) AS \"_sorted\" ORDER BY \"_item1\"",
            ),
            ("SELECT *, id AS v FROM t ORDER BY t.v", "0A000"),
            ("SELECT DISTINCT id AS v FROM t ORDER BY t.v", "0A000"),
            ("SELECT id AS v FROM t ORDER BY t.v, v + 1", "0A000"),
            ("SELECT lower(t.v) AS v, count(*) AS n FROM t GROUP BY v ORDER BY t.v", "0A000"),
            ("SELECT id AS v FROM t ORDER BY v", ""),
            ("SELECT t.v AS v, v AS w FROM t ORDER BY t.v", ""),
            ("SELECT v AS v FROM t ORDER BY t.v", ""),
            ("SELECT id AS v FROM t ORDER BY (SELECT max(u.v) FROM u)", ""),
            ("SELECT id FROM t ORDER BY t.v", ""),
        ] {
            let mut statement = ast::Statement::Query(parse_query(sql).unwrap());
            let before = statement.to_string();
            let got = match sort_by_hidden_columns(&mut statement) {
                Ok(()) => statement.to_string(),
                Err(error) => error.sqlstate().to_owned(),
            };
            assert_eq!(got, if expected.is_empty() { before } else { expected.to_owned() }, "{sql}");
        }
        let inner = "SELECT x FROM (SELECT u.v AS v, 1 AS x FROM t, u ORDER BY t.v LIMIT 2) AS q";
        let mut statement = ast::Statement::Query(parse_query(inner).unwrap());
        sort_by_hidden_columns(&mut statement).unwrap();
        assert!(statement.to_string().ends_with("ORDER BY \"_item2\" LIMIT 2) AS q"), "{statement}");
    }
}
