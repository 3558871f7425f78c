//! Functions that give lists, as relations: `FROM json_each('{"a": 1}')`.
//!
//! Owns: making such a call the query that it stands for, `SELECT e['key'] AS key, e['value'] AS value FROM (SELECT unnest(json_each('{"a": 1}')) AS e)`.
//! Does not own: the functions (`cairn_udfs`). Columns of what stands beside the call have no place in that query: the planner has no lateral joins
//! for them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArguments, Ident, ObjectName, Query, TableAlias, TableFactor, VisitorMut,
};

use super::parse::parse_query;
use super::place::{name_of, object_position};
use super::walk;
use crate::error::{Error, Result};

/// Functions whose elements have a key and a value.
const OF_PAIRS: [&str; 4] = ["json_each", "json_each_text", "jsonb_each", "jsonb_each_text"];
/// Functions whose elements are values.
const OF_VALUES: [&str; 4] =
    ["json_array_elements", "json_array_elements_text", "jsonb_array_elements", "jsonb_array_elements_text"];

/// Whether a relation is a call of such a function.
pub(super) fn is_listed(factor: &TableFactor) -> bool {
    called(factor).is_some()
}

/// Makes every such call in a statement the query that it stands for.
///
/// # Errors
/// 0A000 for a call whose arguments name columns.
pub(crate) fn query_lists(statement: &mut ast::Statement) -> Result<()> {
    match walk::visit_mut(statement, &mut Lists) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Lists;

impl VisitorMut for Lists {
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match queried(factor) {
            Ok(Some(query)) => *factor = query,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(Box::new(error)),
        }
        ControlFlow::Continue(())
    }
}

/// A call of such a function.
struct Called<'a> {
    name: &'a ObjectName,
    /// The same in small letters.
    function: String,
    args: &'a [FunctionArg],
    alias: Option<&'a TableAlias>,
}

fn called(factor: &TableFactor) -> Option<Called<'_>> {
    let (name, args, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, args.args.as_slice(), alias),
        TableFactor::Function { name, args, alias, .. } => (name, args.as_slice(), alias),
        _ => return None,
    };
    let [part] = name.0.as_slice() else { return None };
    let function = name_of(part.as_ident()?);
    let is_listed = OF_PAIRS.contains(&function.as_str()) || OF_VALUES.contains(&function.as_str());
    is_listed.then_some(Called { name, function, args, alias: alias.as_ref() })
}

/// The query that a relation stands for; None: it is no such call.
fn queried(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let Some(Called { name, function, args, alias }) = called(factor) else { return Ok(None) };
    let is_pair = OF_PAIRS.contains(&function.as_str());
    if names_columns(args) {
        return Err(of_columns(name, &function, is_pair));
    }
    let text = match is_pair {
        true => "SELECT e['key'] AS key, e['value'] AS value FROM (SELECT unnest(json_each(NULL)) AS e) AS e",
        false => "SELECT unnest(json_each(NULL)) AS value",
    };
    let mut query = parse_query(text)?;
    give(&mut query, name, args);
    let alias = alias.cloned().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::with_quote('"', function),
        columns: Vec::new(),
        at: None,
    });
    Ok(Some(TableFactor::Derived { lateral: false, subquery: query, alias: Some(alias), sample: None }))
}

/// Puts the call into the query where that has one of `json_each`.
fn give(query: &mut Query, name: &ObjectName, args: &[FunctionArg]) {
    let _: ControlFlow<()> = walk::expressions_mut(query, |expr| {
        if let Expr::Function(call) = expr
            && call.name.to_string() == "json_each"
            && let FunctionArguments::List(list) = &mut call.args
        {
            call.name = name.clone();
            list.args = args.to_vec();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
}

/// Whether arguments name columns that are not those of a subquery in them.
fn names_columns(args: &[FunctionArg]) -> bool {
    struct Names(usize);
    impl ast::Visitor for Names {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 = self.0.saturating_sub(1);
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) if self.0 == 0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let mut names = Names(0);
    args.iter().any(|arg| walk::visit(arg, &mut names).is_break())
}

fn of_columns(name: &ObjectName, function: &str, is_pair: bool) -> Error {
    let value = if is_pair { "e['key'], e['value']" } else { "e" };
    let hint = format!(
        "make its rows in the select list: SELECT id, {value} FROM (SELECT id, unnest({function}(doc)) AS e FROM t) AS q"
    );
    let error = Error::not_supported_yet(format!("a column as the argument of {function} in FROM"))
        .map(|e| e.with_hint(hint));
    match object_position(name) {
        Some(position) => error.at(position),
        None => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;

    use super::*;
    use crate::statement::inspect;

    fn queried(sql: &str) -> Result<String> {
        let mut statement = Statement::Query(parse_query(sql)?);
        assert!(inspect(&statement).lists, "{sql}");
        query_lists(&mut statement)?;
        Ok(statement.to_string())
    }

    #[test]
    fn calls_in_from_are_queries() {
        for (from, meant) in [
            (
                "json_each('{}')",
                "(SELECT e['key'] AS key, e['value'] AS value FROM (SELECT unnest(json_each('{}')) AS e) AS e) AS \"json_each\"",
            ),
            (
                "LATERAL JSONB_EACH_TEXT($1, '$.a') AS j (k, v)",
                "(SELECT e['key'] AS key, e['value'] AS value FROM (SELECT unnest(JSONB_EACH_TEXT($1, '$.a')) AS e) AS e) AS j (k, v)",
            ),
            (
                "json_array_elements((SELECT a FROM t)) x",
                "(SELECT unnest(json_array_elements((SELECT a FROM t))) AS value) x",
            ),
        ] {
            assert_eq!(
                queried(&format!("SELECT 1 AS a FROM {from}")).unwrap(),
                format!("SELECT 1 AS a FROM {meant}")
            );
        }
    }

    #[test]
    fn columns_are_refused_with_what_works() {
        for from in ["t, json_each(t.doc) AS e", "t CROSS JOIN LATERAL json_each(doc || '') AS e"] {
            let error = queried(&format!("SELECT 1 AS a FROM {from}")).unwrap_err();
            assert_eq!(error.sqlstate(), "0A000");
            assert!(error.hint().is_some_and(|hint| hint.contains("unnest(json_each(doc))")), "{error}");
        }
    }
}
