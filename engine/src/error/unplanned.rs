//! Queries that the planner has no way to run yet, named as the user wrote them.
//!
//! Owns: recognising DataFusion's texts about correlated subqueries, LATERAL and parameters of lambdas, which speak of its plan nodes, and how
//! such a query can be written instead. Does not own: every other error (`translate`).

use super::Error;

const AS_A_JOIN: &str = "write it as a join: SELECT a.id, max(b.x) FROM a LEFT JOIN b ON … GROUP BY a.id";

/// The same where LIMIT may stand, as for the rows nearest to each vector.
const AS_A_JOIN_OR_SEARCH: &str = "write it as a join: SELECT a.id, max(b.x) FROM a LEFT JOIN b ON … GROUP BY a.id; or, for the rows nearest to a vector: FROM a, vector_search('b', 'c', a.v, k => 3, filter => 'x = a.x')";

/// The error for `text`, when it is one of those.
pub(super) fn unplanned(text: &str) -> Option<Error> {
    if let Some(expr) = text.strip_prefix("Physical plan does not support logical expression ") {
        return expression(expr);
    }
    if let Some(aggregate) = of_moving_frame(text) {
        let error = Error::not_supported_yet(format!("{aggregate} over a frame whose beginning moves"));
        return Some(error.map(|e| {
            e.with_hint("begin at the first row: ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW")
        }));
    }
    let (what, hint) = if text.starts_with("Correlated scalar subquery must be aggregated") {
        (
            "a subquery as a value that reads the outer query and has no aggregate",
            "aggregate it, as in max(x); or write it as a join",
        )
    } else if text.starts_with("Correlated scalar subquery can only be used") {
        (
            "a subquery as a value that reads the outer query, in ORDER BY or ON",
            "compute it in the select list of a subquery in FROM",
        )
    } else if text.starts_with("qualifier for lambda variable")
        || text.starts_with("missing field of lambda variable")
    {
        (
            "an aggregate, a window function or unnest() over the parameter of a lambda",
            "list_aggregate(list, 'sum') and its like take lists; list_reduce makes one value of a list",
        )
    } else if text.eq_ignore_ascii_case("table function 'unnest' not found") {
        ("UNNEST behind LATERAL", "write it in the select list: SELECT a.id, unnest(a.list) FROM a")
    } else if text.starts_with("Argument #") && text.contains("got Column(") {
        (
            "a column as the argument of a function in FROM",
            "write unnest(range(1, a.n + 1)) in the select list",
        )
    } else {
        return None;
    };
    Some(Error::not_supported_yet(what).map(|e| e.with_hint(hint)))
}

fn expression(expr: &str) -> Option<Error> {
    let (what, hint) = if expr.starts_with("ScalarSubquery") {
        (
            "a subquery as a value that reads the outer query otherwise than by equality in WHERE, or has LIMIT".to_owned(),
            AS_A_JOIN,
        )
    } else if expr.starts_with("InSubquery") {
        ("this IN (subquery) that reads the outer query".to_owned(), "write EXISTS (…), or a join")
    } else if expr.starts_with("Exists") {
        ("this EXISTS (subquery) that reads the outer query".to_owned(), "write a join")
    } else if expr.starts_with("OuterReferenceColumn") {
        let column = outer_column(expr).unwrap_or_default();
        (format!("the outer column{column} at this place of LATERAL or of a subquery"), AS_A_JOIN_OR_SEARCH)
    } else {
        return None;
    };
    Some(Error::not_supported_yet(what).map(|e| e.with_hint(hint)))
}

/// The aggregate that cannot take rows back: `mode` of `Aggregate can not be used as a sliding accumulator because `retract_batch` is not
/// implemented: mode(t.x) …`.
fn of_moving_frame(text: &str) -> Option<&str> {
    let (_, why) = text.split_once("can not be used as a sliding accumulator")?;
    why.split_once("is not implemented: ")?.1.split('(').next()
}

/// ` a.v` of `… Column { relation: Some(Bare { table: "a" }), name: "v" })`.
fn outer_column(expr: &str) -> Option<String> {
    let column = expr.split("Column { relation: ").nth(1)?;
    let quoted = |after: &str| column.split(after).nth(1)?.split('"').next();
    let name = quoted("name: \"")?;
    Some(match quoted("table: \"") {
        Some(table) => format!(" {table}.{name}"),
        None => format!(" {name}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_column_is_named() {
        let text = "Physical plan does not support logical expression OuterReferenceColumn(Field { name: \"v\", data_type: \
                    Int32 }, Column { relation: Some(Bare { table: \"a\" }), name: \"v\" })";
        let error = unplanned(text).unwrap();
        assert_eq!(error.sqlstate(), "0A000");
        assert!(error.message().contains("the outer column a.v"), "{error}");
        assert!(unplanned("anything else").is_none());
        let moving = "Aggregate can not be used as a sliding accumulator because `retract_batch` is not implemented: arg_max(t.x, t.x, \
                      Int64(2)) ORDER BY [t.x ASC NULLS LAST] ROWS BETWEEN 1 PRECEDING AND CURRENT ROW";
        let error = unplanned(moving).unwrap();
        assert!(error.message().starts_with("arg_max over a frame"), "{error}");
    }
}
