//! Lists that are written out and members of values, in forms whose names the planner resolves.
//!
//! The planner reads the elements of `[x]` as if nothing stood around the list: neither the parameter of a lambda nor a column of an outer query. Those
//! of a call it reads rightly, so a list that names anything becomes `make_array(x)`, which is what the planner makes of it. And it knows `v[1]['a']`,
//! not `v[1].a`. Owns: that. Does not own: `x.a` of a lambda's parameter (`lambda`), what lists and members are.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Ident, Subscript, Value, VisitMut};

use super::cast::call;
use super::place::name_of;
use super::walk;

/// Whether [`settle_nested`] may have something to do.
pub(super) fn is_nested(expr: &Expr) -> bool {
    match expr {
        Expr::Array(array) => !array.elem.iter().all(|element| matches!(element, Expr::Value(_))),
        Expr::CompoundFieldAccess { access_chain, .. } => {
            access_chain.iter().any(|access| matches!(access, AccessExpr::Dot(_)))
        }
        _ => false,
    }
}

/// Gives lists and members in a statement or an expression those forms. Names of items are made of their texts before.
pub(crate) fn settle_nested(tree: &mut impl VisitMut) {
    let _: ControlFlow<()> = walk::expressions_mut(tree, |expr| {
        settle(expr);
        ControlFlow::Continue(())
    });
}

fn settle(expr: &mut Expr) {
    if matches!(*expr, Expr::Array(_)) {
        if names_any(expr)
            && let Expr::Array(array) = std::mem::replace(expr, Expr::value(Value::Null))
        {
            *expr = call("make_array", array.elem);
        }
    } else if let Expr::CompoundFieldAccess { root, access_chain } = expr {
        if let Some(whole) = qualified(root, access_chain) {
            access_chain.drain(..whole.len() - 1);
            **root = Expr::CompoundIdentifier(whole);
        }
        members_by_text(access_chain);
    }
}

/// Whether a list names a column or a parameter.
fn names_any(list: &Expr) -> bool {
    let flow = walk::expressions(list, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    flow.is_break()
}

/// The name that an access begins with, where it has several parts: `t.v` of `t.v[1]`.
fn qualified(root: &Expr, access_chain: &[AccessExpr]) -> Option<Vec<Ident>> {
    let Expr::Identifier(first) = root else { return None };
    let rest = access_chain.iter().map_while(|access| match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name.clone()),
        _ => None,
    });
    let whole: Vec<Ident> = std::iter::once(first.clone()).chain(rest).collect();
    (whole.len() > 1).then_some(whole)
}

/// Makes every `.a` of an access `['a']`.
pub(super) fn members_by_text(access_chain: &mut [AccessExpr]) {
    for access in access_chain {
        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
            *access = member(name);
        }
    }
}

/// `['a']`
pub(super) fn member(name: &Ident) -> AccessExpr {
    let index = Expr::value(Value::SingleQuotedString(name_of(name)));
    AccessExpr::Subscript(Subscript::Index { index })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statement::{inspect, parse_query};
    use datafusion::sql::sqlparser::ast::Statement;

    #[test]
    fn lists_that_name_something_are_calls() {
        for (sql, expected) in [
            ("[a, 1]", "make_array(a, 1)"),
            ("ARRAY[t.a]", "make_array(t.a)"),
            ("[[1, a], [2]]", "make_array(make_array(1, a), [2])"),
            ("f(v, x -> [x])", "f(v, x -> make_array(x))"),
            ("{'k': [a]}", "{'k': make_array(a)}"),
            ("[1, -2]", "[1, -2]"),
            ("ARRAY['a', NULL]", "ARRAY['a', NULL]"),
            ("[]", "[]"),
            ("v[1].A", "v[1]['a']"),
            ("t.v[1].\"B\".c", "t.v[1]['B']['c']"),
            ("t.s.a[2]", "t.s.a[2]"),
            ("{'a': b}.a", "{'a': b}['a']"),
            ("(s).a", "(s)['a']"),
            ("f(v, x -> x.a[1].b)", "f(v, x -> x['a'][1]['b'])"),
            ("v[i]", "v[i]"),
        ] {
            let sql = format!("SELECT {} AS a", sql.replace("f(", "list_transform("));
            let mut statement = Statement::Query(parse_query(&sql).unwrap());
            let written = statement.to_string();
            let is_nested = inspect(&statement).nested;
            settle_nested(&mut statement);
            let settled = statement.to_string().replace("list_transform(", "f(");
            assert_eq!(settled, format!("SELECT {expected} AS a"));
            assert!(is_nested || statement.to_string() == written, "{sql}");
        }
    }
}
