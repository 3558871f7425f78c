//! How many grouping sets a SELECT may have.
//!
//! CUBE of n expressions has 2ⁿ, and those of several clauses multiply; the planner writes all of them down before any limit of time
//! or memory is asked. Owns: counting them on the tree.

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Select};

use crate::error::{Error, Result};

/// Most grouping sets of one SELECT, as in PostgreSQL.
const GROUPING_SETS_MAX: usize = 4_096;

/// Refuses more.
///
/// # Errors
/// `ResourceExhausted` (54001).
pub(super) fn check(select: &Select) -> Result<()> {
    let GroupByExpr::Expressions(expressions, _) = &select.group_by else { return Ok(()) };
    let sets = expressions.iter().map(sets_of).fold(1, usize::saturating_mul);
    if sets <= GROUPING_SETS_MAX {
        return Ok(());
    }
    let message = format!("GROUP BY makes more than {GROUPING_SETS_MAX} grouping sets");
    Err(Error::new(ErrorKind::ResourceExhausted, message)
        .map(|e| e.with_sqlstate("54001").with_hint("name those you need with GROUPING SETS")))
}

fn sets_of(expr: &Expr) -> usize {
    match expr {
        Expr::Cube(items) => 2_usize.saturating_pow(u32::try_from(items.len()).unwrap_or(u32::MAX)),
        Expr::Rollup(items) => items.len() + 1,
        Expr::GroupingSets(sets) => sets.len().max(1),
        _ => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::statement::parse;

    #[test]
    fn grouping_sets_are_counted_before_they_are_made() {
        let columns = |count: usize| vec!["a"; count].join(", ");
        let query = |clause: String| format!("SELECT count(*) FROM t GROUP BY {clause}");
        for clause in [
            columns(5_000),
            format!("CUBE ({})", columns(12)),
            format!("CUBE ({}), ROLLUP ({})", columns(10), columns(3)),
            format!("GROUPING SETS (({}), ())", columns(20)),
        ] {
            parse(&query(clause)).unwrap();
        }
        for clause in [
            format!("CUBE ({})", columns(13)),
            format!("CUBE ({})", columns(70)),
            format!("CUBE ({}), CUBE ({})", columns(6), columns(7)),
            format!("CUBE ({}), ROLLUP ({})", columns(10), columns(4)),
        ] {
            let error = parse(&query(clause.clone())).unwrap_err();
            let told = (error.sqlstate(), error.message());
            assert_eq!(told, ("54001", "GROUP BY makes more than 4096 grouping sets"), "{clause}");
        }
    }
}
