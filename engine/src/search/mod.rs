//! Vector search in SQL: `vector_search(…)` and `ORDER BY distance LIMIT k`.
//!
//! Owns: recognising both, the rows a condition leaves, putting an answer's rows together. Does not own: distances
//! (`cairn_vector`), units and which rows they cover (`cairn_storage::index`).
//!
//! # Life of a search
//! 1. [`relation`] plans a call of `vector_search`, [`conditions`] gives it the WHERE directly over it, [`rule`] finds the other form in an optimised plan; both put a
//!    [`SearchTable`](table::SearchTable) where the table was.
//! 2. When that is scanned, [`matching`] turns the condition into row ids, storage finds the nearest of them, and only
//!    their rows are read, in the columns that are asked for.
//! 3. [`exec`] hands them on; EXPLAIN shows what was searched and why.
//!
//! The condition is applied first, so it never shortens an answer: there are `min(k, matching rows)` rows.

mod conditions;
mod exec;
mod literal;
mod matching;
mod relation;
mod rule;
mod table;

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_storage::index::Effort;
use cairn_storage::{Database, TableSnapshot};
use cairn_vector::Metric;
use datafusion::execution::context::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{self, TableFactor, Visit, Visitor};

use crate::context::StatementContext;
use crate::error::Result;
use crate::provider::CairnTable;

pub(crate) use relation::{ARGUMENTS, FUNCTION};

/// Name of the distance in a search's answer.
pub(crate) const DISTANCE_COLUMN: &str = "_distance";
/// Name of the place in a search's answer, from 1.
pub(crate) const RANK_COLUMN: &str = "_rank";

/// Whether `vector_search` is called anywhere in a statement.
pub(crate) fn is_called(statement: &ast::Statement) -> bool {
    struct Calls;
    impl Visitor for Calls {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, args: Some(_), .. } if relation::is_search(name) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    statement.visit(&mut Calls).is_break()
}

/// Gives a session's optimizer the other form.
pub(crate) fn register(builder: SessionStateBuilder, db: &Arc<Database>) -> SessionStateBuilder {
    let builder = builder.with_analyzer_rule(Arc::new(conditions::ConditionsFirst));
    builder.with_optimizer_rule(Arc::new(rule::NearestRows::new(Arc::clone(db))))
}

/// Plans a query whose parameters are bound, calls of `vector_search` at the statement's snapshot included.
///
/// # Errors
/// What is wrong with the query.
pub(crate) async fn plan(context: &StatementContext, statement: ast::Statement) -> Result<LogicalPlan> {
    let called = is_called(&statement);
    let statement = PlannerStatement::Statement(Box::new(statement));
    if !called {
        return Ok(context.state.statement_to_plan(statement).await?);
    }
    let mut state = SessionState::clone(&context.state);
    state.register_relation_planner(Arc::new(relation::VectorSearch::new(context)))?;
    Ok(state.statement_to_plan(statement).await?)
}

/// What is searched for.
#[derive(Clone, Debug)]
struct Search {
    table: CairnTable,
    /// Position of the VECTOR column in the definition.
    column: usize,
    metric: Metric,
    /// Checked under the metric.
    query: Vec<f32>,
    k: usize,
    effort: Effort,
}

impl Search {
    fn snapshot(&self) -> &TableSnapshot {
        self.table.table()
    }

    /// The column's name.
    fn column_name(&self) -> &str {
        &self.snapshot().def().columns[self.column].name
    }
}
