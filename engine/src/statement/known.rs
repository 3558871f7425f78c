//! Calls as other engines write them, as calls of functions that there are.
//!
//! Owns: `struct_pack(a := 1)`, which is `named_struct('a', 1)`; texts that are put together without a delimiter, which is a comma; `mode(x ORDER BY x)`,
//! which is `mode() WITHIN GROUP (ORDER BY x)`; `~x`, which is `bit_not(x)`; `approx_quantile(x, [a, b])`, which is `[approx_quantile(x, a), approx_quantile(x, b)]`;
//! `max(x, n)`, which is `arg_max(x, x, n)`; `make_interval(days => 3)`, which is `make_interval(0, 0, 0, 3, 0, 0, 0)`. Does not own: other names of functions
//! (`cairn_udfs`).

use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{
    Array, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, OrderByExpr, UnaryOperator, Value, Visit,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::cast::call;
use super::walk;
use crate::dml::ident_text;
use crate::error::Error;

/// Aggregates with a delimiter that may be left out.
const DELIMITED: [&str; 3] = ["string_agg", "group_concat", "listagg"];
/// Aggregates of one fraction, of which a list of fractions asks for a list.
const QUANTILES: [&str; 2] = ["approx_quantile", "approx_percentile_cont"];
/// Aggregates that are asked for several values, and what gives them.
const EXTREMES: [(&str, &str); 2] = [("max", "arg_max"), ("min", "arg_min")];
/// Expressions that a call may become by copies of its arguments.
const COPIES_MAX: usize = 10_000;
/// What `make_interval` takes, in that order.
const INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Such a call as one of a function that there is; anything else as it is.
pub(super) fn known(expr: Expr) -> Expr {
    match expr {
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => call("bit_not", vec![*expr]),
        Expr::Function(function) if function.name.0.len() == 1 => quantiles(spelled(function)),
        other => other,
    }
}

/// Makes `max(x, n)` of what [`known`] has made of it, for a name; what was taken out, None: it was written otherwise.
pub(super) fn shortened(function: &mut Function) -> Option<FunctionArg> {
    let (extreme, _) = EXTREMES.into_iter().find(|(_, arg_extreme)| is_made(&function.name, arg_extreme))?;
    match &mut function.args {
        FunctionArguments::List(list) if list.args.len() == 3 => {
            function.name = ObjectName::from(vec![Ident::new(extreme)]);
            Some(list.args.remove(0))
        }
        _ => None,
    }
}

/// Whether [`shortened`] has made it.
pub(super) fn is_shortened(function: &Function) -> bool {
    let has_two = matches!(&function.args, FunctionArguments::List(list) if list.args.len() == 2);
    has_two && EXTREMES.into_iter().any(|(extreme, _)| is_made(&function.name, extreme))
}

/// Puts back what [`shortened`] has taken out.
pub(super) fn lengthened(function: &mut Function, value: FunctionArg) {
    let made = EXTREMES.into_iter().find(|(extreme, _)| is_made(&function.name, extreme));
    if let (Some((_, arg_extreme)), FunctionArguments::List(list)) = (made, &mut function.args) {
        list.args.insert(0, value);
        function.name = ObjectName::from(vec![Ident::new(arg_extreme)]);
    }
}

/// Whether it is that name, and stands nowhere in a text.
fn is_made(name: &ObjectName, of: &str) -> bool {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => name.value == of && name.span == Span::empty(),
        _ => false,
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
    } else if is("make_interval") {
        if let Some(parts) = interval_parts(&list.args) {
            list.args = parts;
        }
    } else if let Some((_, arg_extreme)) = EXTREMES.into_iter().find(|(extreme, _)| is(extreme))
        && let [value, n] = list.args.as_slice()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty()
        && may_be_copied(value, 2)
    {
        list.args = vec![value.clone(), value.clone(), n.clone()];
        function.name = ObjectName::from(vec![Ident::new(arg_extreme)]);
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

/// A quantile at each fraction of a list as a list of quantiles; anything else as it is.
fn quantiles(function: Function) -> Expr {
    let Some((at, fractions)) = fractions(&function) else { return Expr::Function(function) };
    let each = |fraction: Expr| {
        let mut function = function.clone();
        if let FunctionArguments::List(list) = &mut function.args
            && let Some(arg) = list.args.get_mut(at)
        {
            *arg = FunctionArg::Unnamed(FunctionArgExpr::Expr(fraction));
        }
        Expr::Function(function)
    };
    Expr::Array(Array { elem: fractions.into_iter().map(each).collect(), named: false })
}

/// Which argument of a call is a list of fractions that is written out, and those.
fn fractions(function: &Function) -> Option<(usize, Vec<Expr>)> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let name = function.name.to_string();
    if !QUANTILES.iter().any(|of| name.eq_ignore_ascii_case(of)) {
        return None;
    }
    // WITHIN GROUP says what they are of.
    let at = usize::from(function.within_group.is_empty());
    match list.args.get(at) {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Array(fractions))))
            if !fractions.elem.is_empty() && may_be_copied(function, fractions.elem.len()) =>
        {
            Some((at, fractions.elem.clone()))
        }
        _ => None,
    }
}

/// Whether so many copies are not too much, and none of copies: a statement must not grow by each level it is nested.
fn may_be_copied(part: &impl Visit, times: usize) -> bool {
    let mut left = COPIES_MAX / times.max(1);
    let flow = walk::expressions(part, |expr| {
        left = left.saturating_sub(1);
        let is_copied = match expr {
            Expr::Function(function) => {
                let name = function.name.to_string();
                let names = EXTREMES.into_iter().flat_map(|(extreme, arg_extreme)| [extreme, arg_extreme]);
                names.chain(QUANTILES).any(|of| name.eq_ignore_ascii_case(of))
            }
            _ => false,
        };
        if is_copied || left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    flow.is_continue()
}

/// The parts of an interval in their order, where some are given by name; None: none is, or another.
fn interval_parts(args: &[FunctionArg]) -> Option<Vec<FunctionArg>> {
    let mut parts: Vec<Option<FunctionArgExpr>> = vec![None; INTERVAL_PARTS.len()];
    let mut is_named = false;
    for (place, arg) in args.iter().enumerate() {
        let (place, arg) = match arg {
            FunctionArg::Unnamed(arg) if !is_named => (place, arg),
            FunctionArg::Named { name, arg, .. } => {
                is_named = true;
                let name = ident_text(name);
                (INTERVAL_PARTS.iter().position(|part| *part == name)?, arg)
            }
            _ => return None,
        };
        let part = parts.get_mut(place)?;
        if part.is_some() {
            return None;
        }
        *part = Some(arg.clone());
    }
    let zero = || FunctionArgExpr::Expr(Expr::value(Value::Number("0".to_owned(), false)));
    let parts = parts.into_iter().map(|part| FunctionArg::Unnamed(part.unwrap_or_else(zero)));
    is_named.then(|| parts.collect())
}

/// What is wrong with the names in a call of `make_interval`; None: nothing, or it has none.
pub(super) fn misnamed(function: &Function) -> Option<Error> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let is_named = |arg: &FunctionArg| matches!(arg, FunctionArg::Named { .. });
    if !list.args.iter().any(is_named) || !function.name.to_string().eq_ignore_ascii_case("make_interval") {
        return None;
    }
    let mut given = [false; INTERVAL_PARTS.len()];
    let mut is_behind_name = false;
    for (place, arg) in list.args.iter().enumerate() {
        let (part, name) = match arg {
            FunctionArg::Named { name, .. } => {
                is_behind_name = true;
                let name = ident_text(name);
                (INTERVAL_PARTS.iter().position(|part| *part == name), name)
            }
            _ if is_behind_name => {
                return Some(wrong_part(
                    "42601",
                    "a part of make_interval without a name stands behind one with a name",
                ));
            }
            _ => (Some(place), (place + 1).to_string()),
        };
        match part.and_then(|part| given.get_mut(part)) {
            None => return Some(wrong_part("42883", &format!("make_interval has no part {name}"))),
            Some(given) if *given => {
                return Some(wrong_part("42601", &format!("make_interval is given {name} twice")));
            }
            Some(given) => *given = true,
        }
    }
    None
}

fn wrong_part(sqlstate: &'static str, message: &str) -> Error {
    let hint = format!(
        "its parts are {}, each by its place or its name: make_interval(1, days => 3)",
        INTERVAL_PARTS.join(", ")
    );
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate).with_hint(hint))
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::COPIES_MAX;
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
            (
                "approx_quantile(x + 1, [0.1, $1])",
                "[approx_quantile(x + 1, 0.1), approx_quantile(x + 1, $1)]",
            ),
            ("approx_quantile(x, ARRAY[0.5]) FILTER (WHERE y)", "[approx_quantile(x, 0.5) FILTER (WHERE y)]"),
            (
                "approx_quantile([0, 1]) WITHIN GROUP (ORDER BY x)",
                "[approx_quantile(0) WITHIN GROUP (ORDER BY x), approx_quantile(1) WITHIN GROUP (ORDER BY x)]",
            ),
            ("quantile_cont(x, [0.1, 0.5])", "quantile_cont(x, [0.1, 0.5])"),
            ("quantile_disc(x, [0.1, 0.5])", "quantile_disc(x, [0.1, 0.5])"),
            ("approx_quantile(x, [])", "approx_quantile(x, [])"),
            ("approx_quantile(x, 0.5)", "approx_quantile(x, 0.5)"),
            ("max(x, 2)", "arg_max(x, x, 2)"),
            ("MIN(x + y, $1) OVER (ORDER BY z)", "arg_min(x + y, x + y, $1) OVER (ORDER BY z)"),
            ("max(DISTINCT x)", "max(DISTINCT x)"),
            ("max(max(x, 2), 2)", "max(arg_max(x, x, 2), 2)"),
            ("make_interval(days => 3, Hours := 2)", "make_interval(0, 0, 0, 3, 2, 0, 0)"),
            ("make_interval(1, days => 3)", "make_interval(1, 0, 0, 3, 0, 0, 0)"),
            ("make_interval(1, 2)", "make_interval(1, 2)"),
        ] {
            assert_eq!(query(&format!("SELECT {written} AS a")), format!("SELECT {meant} AS a"));
        }
    }

    #[test]
    fn parts_of_an_interval_have_their_names() {
        for (args, sqlstate, part) in [
            ("day => 3", "42883", "no part day"),
            ("1, years => 3", "42601", "years twice"),
            ("days => 3, DAYS => 4", "42601", "days twice"),
            ("days => 3, 1", "42601", "without a name"),
            ("1, 2, 3, 4, 5, 6, 7, 8, days => 1", "42883", "no part 8"),
        ] {
            let error = parse(&format!("SELECT make_interval({args})")).unwrap_err();
            assert_eq!(error.sqlstate(), sqlstate, "{args}");
            assert!(error.message().contains(part), "{}", error.message());
            assert!(error.hint().is_some_and(|hint| hint.contains("years, months")), "{args}");
        }
    }

    #[test]
    fn columns_are_called_as_they_are_written() {
        let Ok(Statement::Query(query)) = parse("SELECT max(x, 2), a AT TIME ZONE 'UTC' FROM t") else {
            panic!("it parses")
        };
        let text = query.to_string();
        assert!(text.contains("AS \"max(x, 2)\"") && text.contains("AS \"a AT TIME ZONE 'UTC'\""), "{text}");
    }

    #[test]
    fn what_is_nested_does_not_grow() {
        let nested = |open: &str, close: &str| format!("SELECT {}x{}", open.repeat(20), close.repeat(20));
        for sql in [nested("max(", ", 2)"), nested("approx_quantile(", ", [0.1, 0.2])")] {
            let Ok(Statement::Query(query)) = parse(&sql) else { panic!("{sql}") };
            assert!(query.to_string().len() < 2_000, "{query}");
        }
        let many = format!("SELECT approx_quantile(x, [{}0.1])", "0.1, ".repeat(COPIES_MAX));
        let Ok(Statement::Query(query)) = parse(&many) else { panic!("it parses") };
        assert_eq!(query.to_string().matches("approx_quantile").count(), 2, "once in the name of the column");
    }
}
