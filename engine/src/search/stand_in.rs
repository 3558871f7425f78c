//! Searches that are described and not run: their parameters have types, and no values yet; their subqueries are not run either.
//!
//! Owns: a value of the right type in every place of a call that must be constant, so that it can be planned. Which value it is
//! changes no column of the answer. Does not own: parameters elsewhere, whose types the planner finds.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Query, TableFactor, Value, Visitor, VisitorMut,
};

use super::call::{arguments_mut, call_of};
use super::each::has_vector_of_columns;
use super::relation::VectorSearch;
use super::{Scope, is_called, plan};
use crate::context::StatementContext;
use crate::error::Result;
use crate::statement::walk;
use crate::statement::{Parameters, name_of};

/// Takes the types of the parameters in calls of `vector_search`, and puts stand-ins in their places.
///
/// # Errors
/// A table that may not be searched.
pub(crate) async fn stand_in(
    context: &StatementContext,
    statement: &mut ast::Statement,
    parameters: &mut Parameters,
) -> Result<()> {
    if !is_called(statement) {
        return Ok(());
    }
    let search = VectorSearch::new(Scope::of(context));
    let mut calls = Calls { search, parameters, replaced: Vec::new() };
    if let ControlFlow::Break(error) = walk::visit_mut(statement, &mut calls) {
        return Err(error);
    }
    // With stand-ins in its own calls, so that it can be planned.
    let with = match &*statement {
        ast::Statement::Query(query) => query.with.clone(),
        _ => None,
    };
    for mut query in calls.replaced {
        if query.with.is_none() {
            query.with.clone_from(&with);
        }
        // What is wrong with it the statement will tell when it runs it.
        if let Ok(plan) =
            plan(&context.state, Scope::of(context), ast::Statement::Query(Box::new(query))).await
        {
            parameters.take_types(&plan);
        }
    }
    Ok(())
}

struct Calls<'a> {
    search: VectorSearch,
    parameters: &'a mut Parameters,
    /// Subqueries that a stand-in has taken the place of.
    replaced: Vec<Query>,
}

impl VisitorMut for Calls<'_> {
    type Break = crate::error::Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        if call_of(factor).is_none() {
            return ControlFlow::Continue(());
        }
        let has_vector = !has_vector_of_columns(factor);
        let args = arguments_mut(factor);
        for arg in args.iter_mut() {
            self.named(arg);
        }
        match self.vector(args, has_vector) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Calls<'_> {
    fn named(&mut self, arg: &mut FunctionArg) {
        let (name, value) = match arg {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (name_of(name), value),
            _ => return,
        };
        if !needs_value(value) {
            return;
        }
        let text = |text: &str| (DataType::Utf8, Value::SingleQuotedString(text.to_owned()));
        let (data_type, stand_in) = match name.as_str() {
            "k" | "ef" => {
                assign_numbers(self.parameters, value);
                (DataType::Int64, Value::Number("1".to_owned(), false))
            }
            "filter" => text("true"),
            "metric" => text("l2"),
            "mode" => text("auto"),
            _ => return,
        };
        self.parameters.assign(value, &data_type);
        *value = Expr::value(stand_in);
    }

    fn vector(&mut self, args: &mut [FunctionArg], has_vector: bool) -> Result<()> {
        let mut positional = args.iter_mut().filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
            _ => None,
        });
        let (Some(table), Some(column), Some(vector)) =
            (positional.next(), positional.next(), positional.next())
        else {
            return Ok(());
        };
        if !has_vector || !needs_value(vector) {
            return Ok(());
        }
        let (data_type, dim) = self.search.vector_type(table, column)?;
        assign(self.parameters, vector, &data_type);
        if let Some(query) = subquery(vector) {
            self.replaced.push(query.clone());
        }
        // Every metric takes a vector of length 1.
        let components: Vec<&str> = (0..dim).map(|i| if i == 0 { "1" } else { "0" }).collect();
        *vector = Expr::value(Value::SingleQuotedString(format!("[{}]", components.join(","))));
        Ok(())
    }
}

/// That what numbers are added, taken away or multiplied are whole, where they are parameters.
fn assign_numbers(parameters: &mut Parameters, number: &Expr) {
    match number {
        Expr::Nested(inner) => assign_numbers(parameters, inner),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply,
            right,
        } => {
            assign_numbers(parameters, left);
            assign_numbers(parameters, right);
        }
        other => parameters.assign(other, &DataType::Int64),
    }
}

/// That a vector is `data_type`, when it is a parameter, cast or not.
fn assign(parameters: &mut Parameters, vector: &Expr, data_type: &DataType) {
    match vector {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => assign(parameters, inner, data_type),
        other => parameters.assign(other, data_type),
    }
}

fn subquery(vector: &Expr) -> Option<&Query> {
    match vector {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => subquery(inner),
        Expr::Subquery(query) => Some(query),
        _ => None,
    }
}

/// Whether an argument is known only when the statement runs.
fn needs_value(argument: &Expr) -> bool {
    struct Unknown;
    impl Visitor for Unknown {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Subquery(_) => ControlFlow::Break(()),
                Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    walk::visit(argument, &mut Unknown).is_break()
}
