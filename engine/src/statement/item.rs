//! What the columns of a SELECT are called that have no name of their own.
//!
//! Owns: names for items that are neither a column nor named with AS: their text, as short as names are. A scalar subquery is
//! called as its column is, and `max(x, n)` as it was written. Of two equal names the later has its place behind it, since the planner wants every name once.

use std::collections::{HashSet, VecDeque};
use std::fmt::{self, Write};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, ObjectNamePart, OutputClause, Query, Select, SelectItem, SetExpr, TableFactor,
    VisitorMut,
};

use super::known::{is_shortened, lengthened, shortened};
use super::walk;
use crate::dml::ident_text;

/// Characters of a name that is made of a text, the last of which says that something is missing.
const NAME_CHARS_MAX: usize = 64;

/// Names the columns of the rows that `statement` answers, stores or inserts, and of the tables that its queries make.
pub(super) fn name_columns(statement: &mut ast::Statement) {
    match statement {
        ast::Statement::Query(query) => name_columns_of(query),
        ast::Statement::CreateTable(table) => table.query.iter_mut().for_each(|query| name_columns_of(query)),
        ast::Statement::CreateView(view) => name_columns_of(&mut view.query),
        ast::Statement::Insert(insert) => match &mut insert.source {
            // Rows have no names, and may be many.
            Some(query) if !matches!(query.body.as_ref(), SetExpr::Values(_)) => name_columns_of(query),
            _ => {}
        },
        _ => {}
    }
}

/// The same of one query.
pub(super) fn name_columns_of(query: &mut Query) {
    name_in(query);
    let _: ControlFlow<()> = walk::visit_mut(query, &mut Inner);
}

/// Tables made of queries: those in FROM, and those of WITH.
struct Inner;

impl VisitorMut for Inner {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for table in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            name_in(&mut table.query);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, .. } = factor {
            name_in(subquery);
        }
        ControlFlow::Continue(())
    }
}

fn name_in(query: &mut Query) {
    let mut body = query.body.as_mut();
    loop {
        body = match body {
            SetExpr::Select(select) => return name_items(select),
            SetExpr::Query(query) => query.body.as_mut(),
            // The first one's names are those of all.
            SetExpr::SetOperation { left, .. } => left.as_mut(),
            _ => return,
        }
    }
}

fn name_items(select: &mut Select) {
    let mut names = HashSet::new();
    for (i, item) in select.projection.iter_mut().enumerate() {
        let expr = match item {
            SelectItem::UnnamedExpr(expr) => expr,
            SelectItem::ExprWithAlias { alias, .. } => {
                // A name that was chosen stays; choosing one twice is the planner's error.
                names.insert(alias.value.clone());
                continue;
            }
            _ => continue,
        };
        let (mut name, is_column) = match column(expr) {
            // The planner tells columns of two tables apart.
            Some(name) => (name, true),
            None => (text(expr), false),
        };
        let is_new = names.insert(name.clone());
        if is_column && is_new {
            continue;
        }
        if !is_new {
            name = format!("{name}_{}", i + 1);
            names.insert(name.clone());
        }
        // Moved: a copy of a long chain takes more stack than there may be.
        let expr = std::mem::replace(expr, Expr::Wildcard(AttachedToken::empty()));
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    }
}

/// What the columns of a query are called whose items have been named; None: its text does not say it, as `*` does not.
pub(crate) fn column_names(query: &Query) -> Option<Vec<String>> {
    let mut body = query.body.as_ref();
    let select = loop {
        body = match body {
            SetExpr::Select(select) => break select,
            SetExpr::Query(query) => query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return None,
        };
    };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(ident_text(alias)),
        SelectItem::UnnamedExpr(expr) => name_of_column(expr),
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

/// The name of a column without that of its table, when `expr` is one.
fn name_of_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => name_of_column(inner),
        Expr::Identifier(name) => Some(ident_text(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(ident_text),
        _ => None,
    }
}

/// What an item is called that is no column and has no name of its own.
pub(crate) fn computed_name(expr: &mut Expr) -> Option<String> {
    match column(expr) {
        Some(_) => None,
        None => Some(text(expr)),
    }
}

/// Names the items of RETURNING that are no columns and have no name, as long as they are as they were written.
pub(crate) fn name_returned(statement: &mut ast::Statement) {
    let items = match statement {
        ast::Statement::Insert(insert) => insert.returning.as_mut(),
        ast::Statement::Update(update) => update.returning.as_mut(),
        ast::Statement::Delete(delete) => delete.returning.as_mut(),
        ast::Statement::Merge(merge) => match &mut merge.output {
            Some(OutputClause::Returning { select_items, .. }) => Some(select_items),
            Some(OutputClause::Output { .. }) | None => None,
        },
        // WITH … before a change: the change is the query's body.
        ast::Statement::Query(query) => {
            if let SetExpr::Insert(change)
            | SetExpr::Update(change)
            | SetExpr::Delete(change)
            | SetExpr::Merge(change) = query.body.as_mut()
            {
                name_returned(change);
            }
            None
        }
        _ => None,
    };
    for item in items.into_iter().flatten() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if let Some(name) = computed_name(expr) {
            let expr = std::mem::replace(expr, Expr::Wildcard(AttachedToken::empty()));
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
        }
    }
}

/// The whole name of a column, when `expr` is one.
fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => column(inner),
        Expr::Identifier(name) => Some(ident_text(name)),
        Expr::CompoundIdentifier(parts) => Some(parts.iter().map(ident_text).collect::<Vec<_>>().join(".")),
        _ => None,
    }
}

/// The text of `expr` as a name; its functions get their names in lower case, whoever wrote them.
fn text(expr: &mut Expr) -> String {
    match expr {
        Expr::Nested(inner) => return text(inner),
        Expr::Subquery(query) => return column_of(query),
        _ => {}
    }
    let mut cut = VecDeque::new();
    let _: ControlFlow<()> = walk::expressions_mut(expr, |expr| {
        if let Expr::Function(function) = expr {
            for part in &mut function.name.0 {
                if let ObjectNamePart::Identifier(name) = part {
                    name.value = ident_text(name);
                }
            }
            cut.extend(shortened(function));
        }
        ControlFlow::Continue(())
    });
    let mut text = Beginning::default();
    let name = match write!(text, "{expr}") {
        Ok(()) => text.0,
        Err(_) => text.0.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect(),
    };
    // In the same order: what is cut out has none of them in it.
    let _: ControlFlow<()> = match cut.is_empty() {
        true => ControlFlow::Continue(()),
        false => walk::expressions_mut(expr, |expr| {
            if let Expr::Function(function) = expr
                && is_shortened(function)
                && let Some(value) = cut.pop_front()
            {
                lengthened(function, value);
            }
            ControlFlow::Continue(())
        }),
    };
    name
}

/// What the one column of a subquery is called.
fn column_of(query: &mut Query) -> String {
    let item = match query.body.as_mut() {
        SetExpr::Select(select) => match select.projection.as_mut_slice() {
            [only] => Some(only),
            _ => None,
        },
        _ => None,
    };
    match item {
        Some(SelectItem::ExprWithAlias { alias, .. }) => alias.value.clone(),
        Some(SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts))) if !parts.is_empty() => {
            ident_text(&parts[parts.len() - 1])
        }
        Some(SelectItem::UnnamedExpr(expr)) => column(expr).unwrap_or_else(|| text(expr)),
        _ => "subquery".to_owned(),
    }
}

/// As much of a text as a name may have; more is refused, so that long ones cost nothing.
#[derive(Default)]
struct Beginning(String);

impl Write for Beginning {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let known = self.0.chars().count();
        self.0.extend(part.chars().take(NAME_CHARS_MAX - known));
        match part.chars().nth(NAME_CHARS_MAX - known) {
            Some(_) => Err(fmt::Error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statement::parse_query;

    fn items(sql: &str) -> Vec<String> {
        let query = parse_query(sql).unwrap();
        let SetExpr::Select(select) = query.body.as_ref() else { panic!("{query} is no SELECT") };
        select
            .projection
            .iter()
            .map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
                other => other.to_string(),
            })
            .collect()
    }

    #[test]
    fn items_are_called_as_they_are_written() {
        assert_eq!(items("SELECT 1, 'a', COUNT(*), a+1, t.b"), ["1", "'a'", "count(*)", "a + 1", "t.b"]);
        assert_eq!(items("SELECT CAST(a AS INT), a::text, (a)"), ["CAST(a AS INT)", "a::TEXT", "(a)"]);
        assert_eq!(items("SELECT (SELECT max(b) FROM u), (SELECT u.c FROM u)"), ["max(b)", "c"]);
        assert_eq!(items("SELECT *, sum(a) AS s FROM t"), ["*", "s"]);
    }

    #[test]
    fn calls_that_stand_for_others_are_called_as_they_are_written() {
        let sql = "SELECT MAX(a, 2), [min(b + 1, max(c, 3)), min(b, 1)], arg_max(a, a, 2), max(max(a, 2), 2), quantile_cont(a, [0.1])";
        let names = [
            "max(a, 2)",
            "[min(b + 1, max(c, 3)), min(b, 1)]",
            "arg_max(a, a, 2)",
            "max(max(a, 2), 2)",
            "quantile_cont(a, [0.1])",
        ];
        assert_eq!(items(sql), names);
        // And mean what they did.
        let query = parse_query(sql).unwrap().to_string();
        for part in ["arg_max(a, a, 2) AS", "arg_min(b + 1, b + 1, arg_max(c, c, 3))", "arg_min(b, b, 1)"] {
            assert!(query.contains(part), "{query}");
        }
        assert!(query.contains("max(arg_max(a, a, 2), 2) AS"), "{query}");
    }

    #[test]
    fn columns_of_a_query_are_named_by_its_text() {
        let named = |sql: &str| column_names(&parse_query(sql).unwrap()).map(|names| names.join(" "));
        let sql = "SELECT Id, t.b AS \"B\", (t.c), max(d) FROM t UNION SELECT 1, 2, 3, 4";
        assert_eq!(named(sql).as_deref(), Some("id B c max(d)"));
        assert_eq!(named("SELECT id, * FROM t"), None);
        assert_eq!(named("VALUES (1)"), None);
    }

    #[test]
    fn equal_names_are_told_apart_by_their_places() {
        assert_eq!(items("SELECT 1, 1, a, a, (a), 2 AS b"), ["1", "1_2", "a", "a_4", "a_5", "b"]);
        assert_eq!(items("SELECT id, (SELECT id FROM u LIMIT 1)"), ["id", "id_2"]);
        assert_eq!(items("SELECT a.id, b.id"), ["a.id", "b.id"]);
    }

    #[test]
    fn long_texts_are_cut() {
        let name = items(&format!("SELECT '{}'", "ä".repeat(100))).remove(0);
        assert_eq!(name.chars().count(), NAME_CHARS_MAX);
        assert!(name.starts_with("'ää") && name.ends_with("ä…"), "{name}");
    }

    #[test]
    fn tables_made_of_queries_have_such_columns() {
        let sql = "WITH w AS (SELECT count(*) FROM t) SELECT * FROM w, (SELECT max(a) FROM t) AS m WHERE 1 IN (SELECT b + 1 FROM t)";
        let query = parse_query(sql).unwrap().to_string();
        assert!(query.contains("SELECT count(*) AS \"count(*)\" FROM t"), "{query}");
        assert!(query.contains("SELECT max(a) AS \"max(a)\" FROM t"), "{query}");
        assert!(query.contains("SELECT b + 1 FROM t"), "{query}");
    }
}
