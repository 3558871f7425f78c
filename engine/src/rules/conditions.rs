//! The order in which conditions are asked.
//!
//! DataFusion 55 computes the conditions of a filter as they are written, each for all rows of a batch as long as more than a fifth are left; then for
//! those alone, for which it copies every column of the batch. So what is cheap and leaves little goes first (two dates rather than two texts),
//! and once few rows are left, all that remains is asked of one copy of them.
//!
//! Only conditions that can't fail change places: comparisons of columns with columns and constants, and what is made of them. A filter with one
//! that may (divisions, casts, functions) stays as it is written: which rows it is computed for hangs on those before it.
//!
//! Owns: that order. Does not own: what is thought to be left ([`super::guess`]). No answer depends on it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

use super::guess::{Guess, Guesses};

/// The part of a batch of which DataFusion copies the rows that are left, before the next condition; a little less, for guesses are guesses.
const FEW: f64 = 0.15;
/// What comparing two values costs: of at most eight bytes, of sixteen, of any other size.
const NARROW: f64 = 1.0;
const WIDE: f64 = 2.0;
const LONG: f64 = 6.0;
/// What looking up a value in a list costs, beside comparing it.
const LIST: f64 = 3.0;
/// What comparing a text with a pattern costs.
const PATTERN: f64 = 20.0;
/// The least that a condition is thought to leave out.
const LEAST: f64 = 1e-3;
/// Conditions that are put in order at most.
const CONDITIONS: usize = 64;
/// How deep a condition is looked into.
const DEPTH: usize = 32;

/// Puts the conditions of filters in order.
#[derive(Debug)]
pub(super) struct ConditionsInOrder;

impl PhysicalOptimizerRule for ConditionsInOrder {
    fn name(&self) -> &'static str {
        "conditions_in_order"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let has_several = |node: &Arc<dyn ExecutionPlan>| {
            let filter = node.downcast_ref::<FilterExec>();
            filter.is_some_and(|filter| split_conjunction(filter.predicate()).len() > 1)
        };
        if !config.optimizer.join_reordering || !plan.exists(|node| Ok(has_several(node)))? {
            return Ok(plan);
        }
        let mut guesses = Guesses::default();
        plan.transform_up(|node| {
            let ordered = match node.downcast_ref::<FilterExec>() {
                Some(filter) => with_order(filter, &guesses)?,
                None => None,
            };
            let node = match ordered {
                Some(ordered) => Transformed::yes(ordered),
                None => Transformed::no(node),
            };
            guesses.add(&node.data);
            Ok(node)
        })
        .data()
    }
}

/// The filter with its conditions in order; None: nothing is known of its rows, or there is one condition, or too many, or one that may fail.
fn with_order(filter: &FilterExec, guesses: &Guesses) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(guess) = guesses.of(filter.input()) else { return Ok(None) };
    let written = split_conjunction(filter.predicate());
    if !(2..=CONDITIONS).contains(&written.len()) {
        return Ok(None);
    }
    let ordered = in_order(&written, &filter.input().schema(), guess);
    let Some(predicate) = ordered.and_then(|ordered| together(&ordered, guess)) else { return Ok(None) };
    let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
    Ok(Some(Arc::new(filter)))
}

/// What leaves out most for what it costs comes first. None: one of them may fail.
fn in_order<'a>(
    written: &[&'a Arc<dyn PhysicalExpr>],
    schema: &Schema,
    guess: &Guess,
) -> Option<Vec<&'a Arc<dyn PhysicalExpr>>> {
    let mut ranked = Vec::with_capacity(written.len());
    for condition in written {
        let left_out = (1.0 - guess.part(&[*condition])).max(LEAST);
        ranked.push((cost(condition, schema, DEPTH)? / left_out, *condition));
    }
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    Some(ranked.into_iter().map(|(_, condition)| condition).collect())
}

/// All of the conditions as one: those that follow where few rows are left are one of their own, so that these rows are copied once. None: there are none.
fn together(conditions: &[&Arc<dyn PhysicalExpr>], guess: &Guess) -> Option<Arc<dyn PhysicalExpr>> {
    let (first, others) = conditions.split_first()?;
    let mut all = Arc::clone(first);
    for (at, condition) in others.iter().enumerate() {
        let rest = &others[at..];
        if rest.len() > 1 && guess.part(&conditions[..=at]) <= FEW {
            return Some(both(all, together(rest, guess)?));
        }
        all = both(all, Arc::clone(condition));
    }
    Some(all)
}

fn both(a: Arc<dyn PhysicalExpr>, b: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(a, Operator::And, b))
}

/// What a condition costs for a row, in comparisons of numbers; None: it may fail, or is none of those known here.
fn cost(expr: &Arc<dyn PhysicalExpr>, schema: &Schema, depth: usize) -> Option<f64> {
    let below = depth.checked_sub(1)?;
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::And | Operator::Or => Some(cost(left, schema, below)? + cost(right, schema, below)?),
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => Some(value(left, schema)?.max(value(right, schema)?)),
            _ => None,
        };
    }
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        return cost(not.arg(), schema, below);
    }
    if let Some(null) = expr.downcast_ref::<IsNullExpr>() {
        return value(null.arg(), schema).map(|_| NARROW);
    }
    if let Some(set) = expr.downcast_ref::<IsNotNullExpr>() {
        return value(set.arg(), schema).map(|_| NARROW);
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        let is_constant = like.pattern().is::<Literal>();
        return if is_constant { value(like.expr(), schema).map(|_| PATTERN) } else { None };
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        let is_constant = list.list().iter().all(|item| item.is::<Literal>());
        return if is_constant { Some(value(list.expr(), schema)? + LIST) } else { None };
    }
    match expr.is::<Column>() || expr.is::<Literal>() {
        true => value(expr, schema),
        false => None,
    }
}

/// What comparing such a value costs; None: it is computed, or has parts.
fn value(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<f64> {
    if !expr.is::<Column>() && !expr.is::<Literal>() {
        return None;
    }
    let data_type = expr.data_type(schema).ok()?;
    match data_type.primitive_width() {
        Some(0..=8) => Some(NARROW),
        Some(_) => Some(WIDE),
        None if data_type == DataType::Boolean || data_type == DataType::Null => Some(NARROW),
        None if data_type.is_nested() => None,
        None => Some(LONG),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{col, in_list, lit};

    use super::*;

    fn compared(
        left: Arc<dyn PhysicalExpr>,
        op: Operator,
        right: Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, op, right))
    }

    #[test]
    fn what_may_fail_has_no_cost() {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int32, true),
            Field::new("d", DataType::Decimal128(15, 2), true),
            Field::new("t", DataType::Utf8View, true),
            Field::new("l", DataType::new_list(DataType::Int32, true), true),
        ]);
        let column = |name: &str| col(name, &schema).unwrap();
        let cost = |expr: &Arc<dyn PhysicalExpr>| cost(expr, &schema, DEPTH);
        let numbers = compared(column("n"), Operator::Lt, lit(5));
        let texts = compared(column("t"), Operator::Eq, lit("a"));
        assert_eq!(cost(&numbers), Some(NARROW));
        assert_eq!(cost(&texts), Some(LONG));
        assert_eq!(cost(&compared(column("d"), Operator::Gt, column("d"))), Some(WIDE));
        assert_eq!(cost(&both(Arc::clone(&numbers), Arc::clone(&texts))), Some(NARROW + LONG));
        let list = in_list(column("n"), vec![lit(1), lit(2)], &false, &schema).unwrap();
        assert_eq!(cost(&list), Some(NARROW + LIST));
        let quotient = compared(lit(7), Operator::Divide, column("n"));
        assert_eq!(cost(&compared(quotient, Operator::Gt, lit(1))), None);
        assert_eq!(cost(&compared(column("l"), Operator::Eq, column("l"))), None);
        let deep = (0..2 * DEPTH).fold(Arc::clone(&numbers), |all, _| both(all, Arc::clone(&numbers)));
        assert_eq!(cost(&deep), None, "it is not looked into without end");
    }
}
