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
//! A plain `SELECT columns FROM t WHERE … ORDER BY distance LIMIT k` needs no plan: `session::direct` goes to (2) at once.
//!
//! A call whose vector is made of columns is one search per row of what stands before it in FROM: [`each`].
//!
//! A condition that a search is given is applied first, so it never shortens an answer: there are `min(k, matching rows)` rows. Any other
//! stands above it and filters the answer.

mod answer;
mod call;
mod conditions;
mod constants;
mod each;
mod exec;
mod filter_text;
mod held;
mod literal;
mod matching;
mod order;
mod recall;
mod relation;
mod resident;
mod rule;
mod stand_in;
mod subquery;
mod table;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_storage::index::{SearchReport, VectorHit, VectorQuery, VectorSearcher};
use cairn_storage::schema::ColumnType;
use cairn_storage::{Database, Snapshot, TableSnapshot};
use cairn_vector::Metric;
use datafusion::catalog::Session as PlannerSession;
use datafusion::execution::context::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{self, TableFactor, Visitor};

use crate::context::StatementContext;
use crate::error::Result;
use crate::provider::CairnTable;
use crate::rights::Rights;
use crate::statement::walk;
use crate::statement::{sort_by_hidden_columns, tell_tables_apart};
use matching::Conditions;

pub(crate) use answer::{Pick, rows};
pub(crate) use each::EachPlanner;
pub(crate) use held::Held;
pub(crate) use literal::of_scalar;
pub(crate) use matching::lasting;
use recall::RecallSampler;
pub(crate) use recall::{SAMPLE_RATE_DEFAULT, SampleRate, Sampled};
pub(crate) use rule::K_MAX;
pub(crate) use stand_in::stand_in;
pub(crate) use subquery::bind as bind_subqueries;

pub(crate) use call::{ARGUMENTS, FUNCTION, is_search, searched, searched_in};

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
            if is_search(factor) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    walk::visit(statement, &mut Calls).is_break()
}

/// Gives a session's optimizer the other form.
pub(crate) fn register(builder: SessionStateBuilder, searches: &Arc<Searches>) -> SessionStateBuilder {
    let builder = builder.with_analyzer_rule(Arc::new(conditions::ConditionsFirst));
    let builder = builder.with_optimizer_rule(Arc::new(rule::NearestRows::new(Arc::clone(searches))));
    builder.with_optimizer_rule(Arc::new(each::InputsFirst))
}

/// Where calls find what they name.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// What searches share.
    pub(crate) searches: Arc<Searches>,
    /// The version that is searched.
    pub(crate) snapshot: Snapshot,
    /// Schema that unqualified names resolve in.
    pub(crate) search_path: String,
    /// Whether answers show `_row_id` and `_version`.
    pub(crate) pseudo_columns: bool,
    /// What may be searched.
    pub(crate) rights: Rights,
    /// Whether only the columns are asked for: a subquery that stands for a vector is not run, any vector takes its place.
    pub(crate) described: bool,
}

impl Scope {
    /// That of a statement.
    pub(crate) fn of(context: &StatementContext) -> Self {
        Self {
            searches: Arc::clone(&context.searches),
            snapshot: context.snapshot.clone(),
            search_path: context.search_path.clone(),
            pseudo_columns: context.pseudo_columns,
            rights: context.rights.clone(),
            described: false,
        }
    }
}

/// Plans a query whose parameters are bound, calls of `vector_search` included. Every query of a statement comes through here.
///
/// # Errors
/// What is wrong with the query.
pub(crate) async fn plan(
    state: &SessionState,
    scope: Scope,
    mut statement: ast::Statement,
) -> Result<LogicalPlan> {
    sort_by_hidden_columns(&mut statement)?;
    tell_tables_apart(&mut statement, &scope.search_path)?;
    if !is_called(&statement) {
        return Ok(state.statement_to_plan(PlannerStatement::Statement(Box::new(statement))).await?);
    }
    constants::compute(state, &mut statement)?;
    each::fold(&mut statement);
    let mut state = state.clone();
    state.register_relation_planner(Arc::new(relation::VectorSearch::new(scope)))?;
    Ok(state.statement_to_plan(PlannerStatement::Statement(Box::new(statement))).await?)
}

/// What the searches of one engine share.
#[derive(Debug)]
pub(crate) struct Searches {
    db: Arc<Database>,
    conditions: Conditions,
    recall: Arc<RecallSampler>,
}

impl Searches {
    pub(crate) fn new(db: Arc<Database>) -> Self {
        Self { db, conditions: Conditions::default(), recall: Arc::default() }
    }

    /// The searcher of `search` among the rows for which all of `filters` are true.
    ///
    /// # Errors
    /// What evaluating them meets; storage errors.
    pub(crate) async fn searcher(
        &self,
        state: &dyn PlannerSession,
        search: &Search,
        filters: &[Expr],
    ) -> Result<VectorSearcher> {
        if filters.is_empty() {
            return Ok(search.snapshot().searcher(search.column, search.metric, search.exact).await?);
        }
        self.conditions.searcher(state, search, filters).await
    }

    /// What is known of the recall of searches.
    pub(crate) fn recall(&self) -> &RecallSampler {
        &self.recall
    }

    /// One search for `query`, checked under the metric; units it could not use are built again. `rate` is the part of such
    /// searches whose recall is looked at.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) fn nearest(
        &self,
        searcher: &VectorSearcher,
        search: &Search,
        query: &[f32],
        rate: SampleRate,
    ) -> Result<(Vec<VectorHit>, SearchReport)> {
        let query = VectorQuery { query, k: search.k, width: search.width };
        let (hits, report) = searcher.nearest(&query)?;
        // A width of one's own choosing says nothing of the index.
        if let (Some(index), None) = (searcher.index(), search.width) {
            let table = search.snapshot().def().id;
            self.recall.searched(rate.0, (table, index.id), searcher, &query, &hits);
        }
        if !report.lost.is_empty() {
            self.db.index_units_lost(report.lost.iter().map(|(unit, _)| *unit));
        }
        Ok((hits, report))
    }
}

/// The rate a session has set.
fn sample_rate(session: &dyn PlannerSession) -> SampleRate {
    session.config().get_extension::<SampleRate>().map_or(SampleRate(SAMPLE_RATE_DEFAULT), |rate| *rate)
}

/// What is searched for.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) table: CairnTable,
    /// Position of the VECTOR column in the definition.
    pub(crate) column: usize,
    pub(crate) metric: Metric,
    pub(crate) k: usize,
    /// Every row is compared.
    pub(crate) exact: bool,
    /// Width of walks; None: as the index's target recall asks.
    pub(crate) width: Option<usize>,
}

impl Search {
    pub(crate) fn snapshot(&self) -> &TableSnapshot {
        self.table.table()
    }

    /// Components of its vectors.
    fn dim(&self) -> usize {
        match self.snapshot().def().columns[self.column].column_type {
            ColumnType::Vector(dim) => dim.into(),
            _ => 0,
        }
    }

    /// The column's name.
    fn column_name(&self) -> &str {
        &self.snapshot().def().columns[self.column].name
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.snapshot();
        write!(
            f,
            "table={}, version={}, column={}, metric={}, k={}",
            table.def().qualified_name(),
            table.version(),
            self.column_name(),
            self.metric.name(),
            self.k
        )
    }
}
