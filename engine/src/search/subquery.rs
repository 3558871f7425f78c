//! `embedding <-> (SELECT …)`: a subquery that stands where a vector to search for does.
//!
//! Such a subquery is run first, at the statement's snapshot, and its vector put in its place: only a constant can be looked
//! up in an index. One that depends on the rows around it, or gives no vector, stays what it is. Runs for EXPLAIN too.

use std::collections::HashMap;
use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use cairn_udfs::vector::dimensions;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::collect;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, TableFactor,
    VisitMut, VisitorMut,
};

use super::relation::call_of;
use crate::context::StatementContext;
use crate::dml;
use crate::error::{Error, Result};
use crate::session::plan_query;
use crate::statement::{inspect, name_of};

/// Functions that are distances.
const DISTANCES: &[&str] =
    &["l2_distance", "cosine_distance", "inner_product", "negative_inner_product", "l1_distance"];

/// Puts the vectors of subqueries in their places.
///
/// # Errors
/// 21000 for a subquery of more than one row; what running it meets.
pub(crate) async fn bind(context: &StatementContext, statement: &mut ast::Statement) -> Result<()> {
    let mut found: HashMap<String, Box<Query>> = HashMap::new();
    each_subquery(statement, |expr| {
        if let Expr::Subquery(query) = &*expr {
            found.insert(expr.to_string(), query.clone());
        }
    });
    if found.is_empty() {
        return Ok(());
    }
    let with = match &*statement {
        ast::Statement::Query(query) => query.with.clone(),
        _ => None,
    };
    let mut vectors: HashMap<String, Expr> = HashMap::new();
    for (text, mut query) in found {
        if query.with.is_none() {
            query.with.clone_from(&with);
        }
        if let Some(vector) = Box::pin(vector(context, &query)).await? {
            vectors.insert(text, vector);
        }
    }
    each_subquery(statement, |expr| {
        if let Some(vector) = vectors.get(&expr.to_string()) {
            *expr = vector.clone();
        }
    });
    Ok(())
}

/// The vector a query gives; None: it does not stand alone, or gives no vector.
async fn vector(context: &StatementContext, query: &Query) -> Result<Option<Expr>> {
    let shape = inspect(&ast::Statement::Query(Box::new(query.clone())));
    // What is wrong with it the statement will tell.
    let Ok(plan) = plan_query(context, &shape, query).await else { return Ok(None) };
    let [field] = plan.schema().fields().as_ref() else { return Ok(None) };
    let is_vector = match field.data_type() {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::List(_) => true,
        other => dimensions(other).is_some(),
    };
    if !is_vector {
        return Ok(None);
    }
    let physical = context.state.create_physical_plan(&plan).await?;
    let batches = collect(physical, context.state.task_ctx()).await?;
    let mut rows = batches.iter().filter(|batch| batch.num_rows() > 0);
    let value = match (rows.next(), rows.next()) {
        (None, _) => ScalarValue::try_from(field.data_type())?,
        (Some(batch), None) if batch.num_rows() == 1 => ScalarValue::try_from_array(batch.column(0), 0)?,
        _ => {
            let message = "a subquery that stands for one vector has more than one row";
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .map(|e| e.with_sqlstate("21000").with_hint("add LIMIT 1, or search for each of them: FROM queries q, LATERAL vector_search(…, q.vector) n")));
        }
    };
    if value.is_null() {
        return Ok(Some(Expr::value(ast::Value::Null)));
    }
    dml::literal(&value).map(Some)
}

/// Shows every subquery that stands where a vector to search for does.
fn each_subquery(statement: &mut ast::Statement, see: impl FnMut(&mut Expr)) {
    struct Subqueries<F>(F);

    impl<F: FnMut(&mut Expr)> Subqueries<F> {
        fn show(&mut self, expr: &mut Expr) {
            match expr {
                Expr::Subquery(_) => (self.0)(expr),
                Expr::Nested(inner) => self.show(inner),
                Expr::Cast { expr, .. } => self.show(expr),
                _ => {}
            }
        }

        fn show_argument(&mut self, arg: &mut FunctionArg) {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
                self.show(expr);
            }
        }
    }

    impl<F: FnMut(&mut Expr)> VisitorMut for Subqueries<F> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::BinaryOp { left, op, right } if is_distance(op) => {
                    self.show(left);
                    self.show(right);
                }
                Expr::Function(call) => {
                    let name = call.name.0.last().and_then(|part| part.as_ident()).map(name_of);
                    if let (Some(name), FunctionArguments::List(list)) = (name, &mut call.args)
                        && DISTANCES.contains(&name.as_str())
                    {
                        list.args.iter_mut().for_each(|arg| self.show_argument(arg));
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if call_of(factor).is_some() {
                let args = match factor {
                    TableFactor::Table { args: Some(args), .. } => args.args.as_mut_slice(),
                    TableFactor::Function { args, .. } => args.as_mut_slice(),
                    _ => &mut [],
                };
                args.iter_mut().for_each(|arg| self.show_argument(arg));
            }
            ControlFlow::Continue(())
        }
    }

    let _ = statement.visit(&mut Subqueries(see));
}

fn is_distance(op: &BinaryOperator) -> bool {
    match op {
        BinaryOperator::Spaceship => true,
        BinaryOperator::Custom(op) => matches!(op.as_str(), "<->" | "<#>" | "<+>"),
        _ => false,
    }
}
