//! `embedding <-> (SELECT …)`: a subquery that stands where a vector to search for does.
//!
//! Such a subquery is run first, at the statement's snapshot, and its vector put in its place: only a constant can be looked
//! up in an index. One that depends on the rows around it, or gives no vector, stays what it is. Runs for EXPLAIN too.
//!
//! Each sees the queries of WITH that are before it, of every query around it. They are run in the order in which they
//! may name each other (WITH before what follows it, the inner ones before those around them), so what one is planned with
//! holds no subquery that still has to be run.

use std::collections::HashMap;
use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart,
    Query, TableFactor, VisitMut, VisitorMut, With,
};

use super::call::{call_of, invalid};
use super::literal::may_be_vector;
use super::{Scope, is_called, plan};
use crate::dml;
use crate::error::{Error, Result};
use crate::session::with_values;
use crate::statement::name_of;
use crate::statement::walk;

/// Functions that are distances.
const DISTANCES: &[&str] =
    &["l2_distance", "cosine_distance", "inner_product", "negative_inner_product", "l1_distance"];

/// Puts the vectors of subqueries in their places; `statement` is as the planner should see it.
///
/// # Errors
/// 21000 for a subquery of more than one row, 42P19 for one in a recursive query that it names; what running it meets.
pub(crate) async fn bind(
    state: &SessionState,
    scope: &Scope,
    params: Option<&ParamValues>,
    statement: &mut ast::Statement,
) -> Result<()> {
    // What is the same query gives the same vector everywhere in the statement.
    let mut known: HashMap<String, Option<Expr>> = HashMap::new();
    // Places, of those so far, whose subquery stays.
    let mut kept = 0;
    while let Some(query) = next(statement, kept)? {
        let text = query.to_string();
        let vector = match known.get(&text).cloned() {
            Some(vector) => vector,
            None => {
                let vector = Box::pin(vector(state, scope, params, query)).await?;
                known.insert(text, vector.clone());
                vector
            }
        };
        match vector {
            Some(vector) => kept -= put(statement, kept, vector),
            None => kept += 1,
        }
    }
    Ok(())
}

/// The vector a query gives; None: it does not stand alone, or gives no vector.
async fn vector(
    state: &SessionState,
    scope: &Scope,
    params: Option<&ParamValues>,
    query: Box<Query>,
) -> Result<Option<Expr>> {
    // What is wrong with it the statement will tell.
    let Ok(plan) = planned(state, scope, params, query).await else { return Ok(None) };
    let [field] = plan.schema().fields().as_ref() else { return Ok(None) };
    if !may_be_vector(field.data_type()) {
        return Ok(None);
    }
    let physical = state.create_physical_plan(&plan).await?;
    let batches = collect(physical, state.task_ctx()).await?;
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

async fn planned(
    state: &SessionState,
    scope: &Scope,
    params: Option<&ParamValues>,
    query: Box<Query>,
) -> Result<LogicalPlan> {
    let mut statement = ast::Statement::Query(query);
    if is_called(&statement) {
        // A search is planned with the vector it searches for.
        statement = dml::bind(&statement, params)?;
    }
    with_values(plan(state, scope.clone(), statement).await?, params)
}

/// The subquery in the first place behind `kept` others, below the queries of WITH that it names.
fn next(statement: &mut ast::Statement, kept: usize) -> Result<Option<Box<Query>>> {
    let (mut before, mut found) = (kept, None);
    each_subquery(statement, |expr, around| {
        if before > 0 {
            before -= 1;
            return ControlFlow::Continue(());
        }
        if let Expr::Subquery(query) = &*expr {
            found = Some(below(around, query));
        }
        ControlFlow::Break(())
    });
    found.transpose()
}

/// Puts `vector` in the first place behind `kept` others; returns how many of those were inside of what stood there.
fn put(statement: &mut ast::Statement, kept: usize, vector: Expr) -> usize {
    let (mut before, mut inside, mut vector) = (kept, 0, Some(vector));
    each_subquery(statement, |expr, _| {
        if before > 0 {
            before -= 1;
            return ControlFlow::Continue(());
        }
        if let Some(vector) = vector.take() {
            let mut replaced = std::mem::replace(expr, vector);
            each_subquery(&mut replaced, |_, _| {
                inside += 1;
                ControlFlow::Continue(())
            });
        }
        ControlFlow::Break(())
    });
    inside
}

/// A query that a place is in.
struct Around {
    with: Option<With>,
    /// Its own queries that are over or begun before the place. Those of its WITH come first, so this is also how many of them
    /// the place may name.
    over: usize,
}

/// `query` below what it names of the WITHs around it.
fn below(around: &[Around], query: &Query) -> Result<Box<Query>> {
    let mut query = query.clone();
    for Around { with, over } in around.iter().rev() {
        let Some(with) = with else { continue };
        if with.recursive
            && let Some(own) = with.cte_tables.get(*over)
            && names(&query, &own.alias.name)
        {
            let message = format!("the recursive query {} is named in a subquery of its own", own.alias.name);
            return Err(invalid("42P19", message).map(|e| e.with_hint("name it in FROM of the query itself")));
        }
        let seen = &with.cte_tables[..with.cte_tables.len().min(*over)];
        if seen.iter().any(|cte| names(&query, &cte.alias.name)) {
            let with = With { cte_tables: seen.to_vec(), ..with.clone() };
            query = dml::put_before(Some(with), query);
        }
    }
    Ok(Box::new(query))
}

/// Whether `query` reads a relation of that name, without a schema.
fn names(query: &Query, name: &Ident) -> bool {
    let name = name_of(name);
    let is_named = walk::relations(query, |relation| match relation.0.as_slice() {
        [ObjectNamePart::Identifier(only)] if name_of(only) == name => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    is_named.is_break()
}

/// Shows every subquery that stands where a vector to search for does, with the queries around it, until `see` breaks: those
/// of WITH before what follows it, the inner ones before those around them.
fn each_subquery(node: &mut impl VisitMut, see: impl FnMut(&mut Expr, &[Around]) -> ControlFlow<()>) {
    struct Subqueries<F> {
        around: Vec<Around>,
        see: F,
    }

    impl<F: FnMut(&mut Expr, &[Around]) -> ControlFlow<()>> Subqueries<F> {
        fn show(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Subquery(_) => (self.see)(expr, &self.around),
                Expr::Nested(inner) => self.show(inner),
                Expr::Cast { expr, .. } => self.show(expr),
                _ => ControlFlow::Continue(()),
            }
        }

        fn show_arguments(&mut self, args: &mut [FunctionArg]) -> ControlFlow<()> {
            args.iter_mut().try_for_each(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.show(expr),
                _ => ControlFlow::Continue(()),
            })
        }
    }

    impl<F: FnMut(&mut Expr, &[Around]) -> ControlFlow<()>> VisitorMut for Subqueries<F> {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            self.around.push(Around { with: query.with.clone(), over: 0 });
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
            self.around.pop();
            if let Some(around) = self.around.last_mut() {
                around.over += 1;
            }
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::BinaryOp { left, op, right } if is_distance(op) => {
                    self.show(left)?;
                    self.show(right)
                }
                Expr::Function(call) => {
                    let name = call.name.0.last().and_then(|part| part.as_ident()).map(name_of);
                    match (name, &mut call.args) {
                        (Some(name), FunctionArguments::List(list)) if DISTANCES.contains(&name.as_str()) => {
                            self.show_arguments(&mut list.args)
                        }
                        _ => ControlFlow::Continue(()),
                    }
                }
                _ => ControlFlow::Continue(()),
            }
        }

        fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if call_of(factor).is_none() {
                return ControlFlow::Continue(());
            }
            match factor {
                TableFactor::Table { args: Some(args), .. } => self.show_arguments(&mut args.args),
                TableFactor::Function { args, .. } => self.show_arguments(args),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    let _ = walk::visit_mut(node, &mut Subqueries { around: Vec::new(), see });
}

fn is_distance(op: &BinaryOperator) -> bool {
    match op {
        BinaryOperator::Spaceship => true,
        BinaryOperator::Custom(op) => matches!(op.as_str(), "<->" | "<#>" | "<+>"),
        _ => false,
    }
}
