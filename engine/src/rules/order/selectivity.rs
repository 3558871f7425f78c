//! Which part of the rows does a condition leave?
//!
//! Values are thought to be spread evenly between a column's bounds, and conditions not to depend on each other, but for those that
//! make a range of one column.

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::scan::statistics::{Summary, number};

/// What is guessed where nothing is known: of a comparison for equality, of one by order, of a pattern, of anything else.
const EQUAL: f64 = 0.05;
const ORDERED: f64 = 1.0 / 3.0;
const PATTERN: f64 = 0.1;
const ANYTHING: f64 = 0.25;
/// The least part: what is thought to leave nothing may leave something.
const LEAST: f64 = 1e-9;

/// What is known of a column.
type Known<'a> = &'a dyn Fn(&Column) -> Option<Summary>;

/// The part of the rows for which all `conditions` hold, between 0 and 1.
pub(in crate::rules) fn selectivity(conditions: &[&Expr], known: Known<'_>) -> f64 {
    let mut ranges: Vec<(&Column, f64, f64, f64)> = Vec::new();
    let mut part = 1.0;
    for condition in conditions {
        let Some(bound) = bound(condition, known) else {
            part *= one(condition, known);
            continue;
        };
        let at = ranges.iter().position(|range| range.0 == bound.column).unwrap_or_else(|| {
            ranges.push((bound.column, 1.0, 1.0, bound.least));
            ranges.len() - 1
        });
        let range = &mut ranges[at];
        match bound.above {
            true => range.1 = range.1.min(bound.part),
            false => range.2 = range.2.min(bound.part),
        }
    }
    let ranges = ranges.iter().map(|(_, above, below, least)| (above + below - 1.0).max(*least));
    (part * ranges.product::<f64>()).clamp(LEAST, 1.0)
}

/// One end of a range of a column whose bounds are known.
struct Bound<'a> {
    column: &'a Column,
    /// Whether it is values above the end that are left.
    above: bool,
    part: f64,
    /// The part of one value.
    least: f64,
}

fn bound<'a>(condition: &'a Expr, known: Known<'_>) -> Option<Bound<'a>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (column, op, value) = match (stripped(left), stripped(right)) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
        _ => return None,
    };
    let above = match op {
        Operator::Gt | Operator::GtEq => true,
        Operator::Lt | Operator::LtEq => false,
        _ => return None,
    };
    let summary = known(column)?;
    let (least, most) = summary.bounds?;
    let at = if most > least { ((number(value)? - least) / (most - least)).clamp(0.0, 1.0) } else { 0.5 };
    let part = if above { 1.0 - at } else { at };
    Some(Bound { column, above, part, least: (1.0 / summary.distinct.max(1.0)).min(1.0) })
}

fn one(condition: &Expr, known: Known<'_>) -> f64 {
    match condition {
        Expr::Alias(alias) => one(&alias.expr, known),
        Expr::Not(inner) => 1.0 - one(inner, known),
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => 1.0,
        Expr::Literal(..) => 0.0,
        Expr::IsNull(inner) => summary(inner, known).map_or(EQUAL, |summary| summary.nulls),
        Expr::IsNotNull(inner) => 1.0 - summary(inner, known).map_or(EQUAL, |summary| summary.nulls),
        Expr::Like(like) => inverted(like.negated, PATTERN),
        Expr::InList(list) => {
            let one = summary(&list.expr, known).map_or(EQUAL, equal);
            inverted(list.negated, (one * list.list.len() as f64).min(1.0))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => selectivity(&split_conjunction(condition), known),
            Operator::Or => {
                let parts = [left, right].map(|side| selectivity(&split_conjunction(side), known));
                1.0 - (1.0 - parts[0]) * (1.0 - parts[1])
            }
            Operator::Eq | Operator::IsNotDistinctFrom => equality(left, right, known),
            Operator::NotEq | Operator::IsDistinctFrom => 1.0 - equality(left, right, known),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                bound(condition, known).map_or(ORDERED, |bound| bound.part.max(bound.least))
            }
            Operator::LikeMatch | Operator::ILikeMatch | Operator::RegexMatch | Operator::RegexIMatch => {
                PATTERN
            }
            _ => ANYTHING,
        },
        _ => ANYTHING,
    }
}

fn inverted(negated: bool, part: f64) -> f64 {
    if negated { 1.0 - part } else { part }
}

fn equality(left: &Expr, right: &Expr, known: Known<'_>) -> f64 {
    let sides = [left, right].map(|side| summary(side, known).map(equal));
    match sides {
        [Some(a), Some(b)] => a.min(b),
        [Some(one), None] | [None, Some(one)] => one,
        [None, None] => EQUAL,
    }
}

/// The part of one value.
fn equal(summary: Summary) -> f64 {
    (1.0 - summary.nulls) / summary.distinct.max(1.0)
}

fn summary(expr: &Expr, known: Known<'_>) -> Option<Summary> {
    match stripped(expr) {
        Expr::Column(column) => known(column),
        _ => None,
    }
}

/// `expr` without casts and names.
fn stripped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => stripped(&alias.expr),
        Expr::Cast(cast) => stripped(&cast.expr),
        _ => expr,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    /// 100 values, from 0 to 100, a tenth NULL.
    fn known(column: &Column) -> Option<Summary> {
        (column.name == "a").then_some(Summary { distinct: 100.0, bounds: Some((0.0, 100.0)), nulls: 0.1 })
    }

    fn of(condition: &Expr) -> f64 {
        (selectivity(&split_conjunction(condition), &known) * 1000.0).round() / 1000.0
    }

    #[test]
    fn known_columns_are_looked_at() {
        let a = || col("a");
        assert_eq!(of(&a().eq(lit(5))), 0.009);
        assert_eq!(of(&a().lt(lit(20))), 0.2);
        assert_eq!(of(&lit(20).lt(a())), 0.8);
        assert_eq!(of(&a().gt_eq(lit(20)).and(a().lt(lit(30)))), 0.1, "a range is one condition");
        assert_eq!(of(&a().gt(lit(200))), 0.01, "something may be there");
        assert_eq!(of(&a().in_list(vec![lit(1), lit(2)], false)), 0.018);
        assert_eq!(of(&a().in_list(vec![lit(1), lit(2)], true)), 0.982);
        assert_eq!(of(&a().is_null()), 0.1);
        assert_eq!(of(&a().lt(lit(50)).or(a().lt(lit(50)))), 0.75);
    }

    #[test]
    fn unknown_ones_are_guessed() {
        let b = || col("b");
        assert_eq!(of(&b().eq(lit(5))), 0.05);
        assert_eq!(of(&b().gt(lit(5))), 0.333);
        assert_eq!(of(&b().like(lit("%x"))), 0.1);
        assert_eq!(of(&b().not_like(lit("%x"))), 0.9);
        assert_eq!(of(&b().eq(lit(5)).and(col("a").lt(lit(50)))), 0.025);
        assert_eq!(of(&lit(true)), 1.0);
    }
}
