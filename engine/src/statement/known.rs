//! Calls as other engines write them, as calls of functions that there are.
//!
//! Owns: `struct_pack(a := 1)`, which is `named_struct('a', 1)`; texts that are put together without a delimiter, which is a comma; `mode(x ORDER BY x)`,
//! which is `mode() WITHIN GROUP (ORDER BY x)`; `~x`, which is `bit_not(x)`. Does not own: other names of functions (`cairn_udfs`).

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, OrderByExpr, UnaryOperator, Value,
};

use super::cast::call;
use crate::dml::ident_text;

/// Aggregates with a delimiter that may be left out.
const DELIMITED: [&str; 3] = ["string_agg", "group_concat", "listagg"];

/// Such a call as one of a function that there is; anything else as it is.
pub(super) fn known(expr: Expr) -> Expr {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => call("bit_not", vec![*expr]),
        Expr::Function(function) if function.name.0.len() == 1 => Expr::Function(spelled(function)),
        other => other,
    }
}

fn spelled(mut function: Function) -> Function {
    let FunctionArguments::List(list) = &mut function.args else { return function };
    let name = function.name.to_string();
    let is = |of: &str| name.eq_ignore_ascii_case(of);
    if is("struct_pack") {
        if let Some(members) = members(&list.args) {
            list.args = members;
            function.name = ObjectName::from(vec![Ident::new("named_struct")]);
        }
    } else if is("mode")
        && let Some(order) = own_order(list)
    {
        list.args.clear();
        list.clauses.clear();
        function.within_group = order;
    } else if matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Expr(_))])
        && DELIMITED.into_iter().any(is)
    {
        list.args.push(text(",".to_owned()));
    }
    function
}

/// The order within a call of one argument, when it is by that argument.
fn own_order(list: &FunctionArgumentList) -> Option<Vec<OrderByExpr>> {
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))] = list.args.as_slice() else { return None };
    match list.clauses.as_slice() {
        [FunctionArgumentClause::OrderBy(order)] if matches!(order.as_slice(), [by] if by.expr == *of) => {
            Some(order.clone())
        }
        _ => None,
    }
}

fn text(text: String) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::value(Value::SingleQuotedString(text))))
}

/// Names and values of arguments that all have a name; None: some have none.
fn members(args: &[FunctionArg]) -> Option<Vec<FunctionArg>> {
    let mut members = Vec::with_capacity(args.len() * 2);
    for arg in args {
        let FunctionArg::Named { name, arg, .. } = arg else { return None };
        members.push(text(ident_text(name)));
        members.push(FunctionArg::Unnamed(arg.clone()));
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use crate::statement::{Statement, parse};

    #[test]
    fn calls_are_of_functions_that_there_are() {
        let query = |sql: &str| match parse(sql) {
            Ok(Statement::Query(query)) => query.to_string(),
            other => format!("{other:?}"),
        };
        for (written, meant) in [
            ("struct_pack(A := 1, \"B c\" => x + 1)", "named_struct('a', 1, 'B c', x + 1)"),
            ("struct_pack(1)", "struct_pack(1)"),
            ("STRING_AGG(DISTINCT x ORDER BY x)", "STRING_AGG(DISTINCT x, ',' ORDER BY x)"),
            ("string_agg(x, '-')", "string_agg(x, '-')"),
            ("a.string_agg(x)", "a.string_agg(x)"),
            ("mode(x ORDER BY x DESC)", "mode() WITHIN GROUP (ORDER BY x DESC)"),
            ("mode(x ORDER BY y)", "mode(x ORDER BY y)"),
            ("~x & 1", "bit_not(x) & 1"),
            ("count(*)", "count(*)"),
        ] {
            assert_eq!(query(&format!("SELECT {written} AS a")), format!("SELECT {meant} AS a"));
        }
    }
}
