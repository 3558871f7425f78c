//! The rows a condition leaves, as row ids, and searches among no others.
//!
//! Owns: evaluating conditions, keeping what they left for the next search with the same. A condition is evaluated over
//! one state of a table; whatever commits to the table ends what was kept for it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cairn_storage::TableSnapshot;
use cairn_storage::index::{RowSet, VectorSearcher};
use cairn_storage::version::TableState;
use cairn_vector::Metric;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference, internal_datafusion_err};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Volatility, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use super::call::FUNCTION;
use super::held::Held;
use super::{Search, resident};
use crate::dml::simplified;
use crate::provider::CairnTable;
use crate::rules::parameters_apart;
use crate::scan::{ScanRequest, plan as plan_scan};

/// Most memory of what is kept.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Most conditions kept.
const KEPT_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// The least recently used first.
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    state: Weak<TableState>,
    column: usize,
    metric: Metric,
    exact: bool,
    filters: Vec<Expr>,
    filters_hash: u64,
    searcher: VectorSearcher,
    bytes: usize,
}

impl Kept {
    fn is_of(&self, search: &Search, filters: &[Expr], filters_hash: u64) -> bool {
        let table = search.snapshot();
        std::ptr::eq(self.state.as_ptr(), Arc::as_ptr(table.state()))
            && (self.column, self.metric, self.exact) == (search.column, search.metric, search.exact)
            && self.filters_hash == filters_hash
            && self.filters == filters
    }
}

impl Conditions {
    /// The searcher among the rows for which all of `filters` are true: the one that is kept, or one that is kept from now on.
    ///
    /// # Errors
    /// What evaluating them meets; the store's.
    pub(super) async fn searcher(
        &self,
        state: &dyn Session,
        search: &Search,
        filters: &[Expr],
    ) -> crate::error::Result<VectorSearcher> {
        let table = search.snapshot();
        // A reader of the past sees less of the same state.
        let hash = if table.is_newest() && lasting(filters)? { Some(hash_of(filters)) } else { None };
        if let Some(kept) = hash.and_then(|hash| self.kept(search, filters, hash)) {
            return Ok(kept);
        }
        let searcher = table.searcher(search.column, search.metric, search.exact).await?;
        let searcher = searcher.among(rows(state, table, filters).await?);
        if let Some(hash) = hash {
            self.keep(search, filters, hash, &searcher);
        }
        Ok(searcher)
    }

    fn kept(&self, search: &Search, filters: &[Expr], hash: u64) -> Option<VectorSearcher> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|kept| kept.is_of(search, filters, hash))?;
        let found = kept.remove(at)?;
        let searcher = found.searcher.clone();
        kept.push_back(found);
        Some(searcher)
    }

    fn keep(&self, search: &Search, filters: &[Expr], filters_hash: u64, searcher: &VectorSearcher) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A state nobody else holds is in the past.
        kept.retain(|kept| kept.state.strong_count() > 0);
        kept.push_back(Kept {
            state: Arc::downgrade(search.snapshot().state()),
            column: search.column,
            metric: search.metric,
            exact: search.exact,
            filters: filters.to_vec(),
            filters_hash,
            searcher: searcher.clone(),
            bytes: searcher.condition_bytes(),
        });
        let mut bytes: usize = kept.iter().map(|kept| kept.bytes).sum();
        while bytes > KEPT_BYTES_MAX || kept.len() > KEPT_MAX {
            let Some(oldest) = kept.pop_front() else { break };
            bytes -= oldest.bytes;
        }
    }
}

fn hash_of(filters: &[Expr]) -> u64 {
    let mut hasher = DefaultHasher::new();
    filters.hash(&mut hasher);
    hasher.finish()
}

/// Whether the same conditions over the same rows leave the same rows at any time and in any session.
///
/// # Errors
/// None today; visiting can fail.
pub(crate) fn lasting(filters: &[Expr]) -> Result<bool> {
    let mut lasting = true;
    for filter in filters {
        filter.apply(|expr| {
            if let Expr::ScalarFunction(call) = expr
                && call.func.signature().volatility != Volatility::Immutable
            {
                lasting = false;
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(lasting)
}

/// The visible rows for which every one of `filters` is true.
///
/// # Errors
/// What evaluating them meets; the store's.
async fn rows(state: &dyn Session, table: &TableSnapshot, filters: &[Expr]) -> crate::error::Result<RowSet> {
    if let Some(comparisons) = resident::Condition::of_comparisons(table, filters)?
        && let Some(set) = resident::rows(table, &comparisons).await?
    {
        return Ok(set);
    }
    let schema = CairnTable::with_pseudo_columns(table.clone()).schema();
    let state = session_state(state)?;
    let condition = condition(state, filters, &schema)?;
    if let Some(planned) = resident::Condition::planned(state, table, &condition)?
        && let Some(set) = resident::rows(table, &planned).await?
    {
        return Ok(set);
    }
    let (ids, _held) = scanned(state, table, &schema, condition).await?;
    Ok(table.row_set(ids).await?)
}

/// All of `filters` as one condition over `schema`, its types settled and its constants computed.
///
/// # Errors
/// What the planner says of them.
fn condition(state: &SessionState, filters: &[Expr], schema: &SchemaRef) -> crate::error::Result<Expr> {
    let filters = filters.iter().map(|filter| unqualified(filter.clone())).collect::<Result<Vec<_>>>()?;
    let whole = conjunction(filters).unwrap_or_else(|| lit(true));
    Ok(match simplified(state, whole, &DFSchema::try_from(Arc::clone(schema))?)? {
        // NULL has no type of its own, and is true of no row.
        Expr::Literal(value, _) if value.is_null() => lit(ScalarValue::Boolean(None)),
        condition => condition,
    })
}

/// The session itself.
///
/// # Errors
/// `Internal` for a session of another kind.
pub(super) fn session_state(state: &dyn Session) -> Result<&SessionState> {
    let state = state.as_any().downcast_ref::<SessionState>();
    state.ok_or_else(|| internal_datafusion_err!("a session without its state"))
}

/// Ids of the visible rows for which every one of `filters` is true, by a scan, and what holds them.
///
/// # Errors
/// What evaluating them meets; the store's.
pub(super) async fn row_ids(
    state: &dyn Session,
    table: &TableSnapshot,
    filters: &[Expr],
) -> crate::error::Result<(Vec<u64>, Held)> {
    let state = session_state(state)?;
    let schema = CairnTable::with_pseudo_columns(table.clone()).schema();
    let condition = condition(state, filters, &schema)?;
    scanned(state, table, &schema, condition).await
}

/// The same by one condition over `schema`, which has the pseudo-columns.
async fn scanned(
    state: &SessionState,
    table: &TableSnapshot,
    schema: &SchemaRef,
    condition: Expr,
) -> crate::error::Result<(Vec<u64>, Held)> {
    let row_id = table.def().columns.len();
    let mut projection = vec![row_id];
    for column in condition.column_refs() {
        projection.push(schema.index_of(&column.name)?);
    }
    projection.sort_unstable();
    projection.dedup();
    // Of a lambda a scan makes nothing.
    let mut filters = split_conjunction_owned(condition.clone());
    let mut holds_lambda = false;
    for index in (0..filters.len()).rev() {
        if filters[index].exists(|expr| Ok(matches!(expr, Expr::Lambda(_))))? {
            holds_lambda = true;
            filters.remove(index);
        }
    }
    let request = ScanRequest {
        table,
        schema,
        projection: &projection,
        filters: &filters,
        limit: None,
        unsearched: None,
    };
    let plan = plan_scan(request, state).await?;
    let row_id = projection.iter().position(|column| *column == row_id).unwrap_or(0);
    let predicate = predicate(state, condition, &plan.schema())?;
    let filtered = FilterExecBuilder::new(predicate, plan).apply_projection(Some(vec![row_id]))?.build()?;
    let mut plan: Arc<dyn ExecutionPlan> = Arc::new(filtered);
    if holds_lambda {
        plan = parameters_apart(plan)?;
    }
    // Row groups and pages are left out by the predicate only once the source has it.
    let plan = FilterPushdown::new().optimize(plan, state.config_options())?;
    let row_id = plan.schema().index_of(cairn_storage::schema::ROW_ID_COLUMN)?;
    let context = state.task_ctx();
    let held = Held::new(context.memory_pool());
    let mut batches = execute_stream(plan, context)?;
    let mut ids = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        ids.extend_from_slice(batch.column(row_id).as_primitive::<UInt64Type>().values());
        held.set(ids.capacity() * size_of::<u64>())?;
    }
    Ok((ids, held))
}

/// `condition` over rows of `schema`, to be evaluated.
///
/// # Errors
/// What the planner says of it.
pub(super) fn predicate(
    state: &SessionState,
    condition: Expr,
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>> {
    // The parameter of a lambda gets a qualifier there, and no column without one may have its name.
    let rows = TableReference::bare(FUNCTION);
    let of_rows = DFSchema::try_from_qualified_schema(rows.clone(), schema)?;
    let condition = condition.transform(|expr| {
        Ok(match expr {
            Expr::Column(column) if column.relation.is_none() => {
                Transformed::yes(Expr::Column(Column::new(Some(rows.clone()), column.name)))
            }
            other => Transformed::no(other),
        })
    })?;
    state.create_physical_expr(condition.data, &of_rows)
}

/// The expression with its columns named without a table.
pub(super) fn unqualified(filter: Expr) -> Result<Expr> {
    filter
        .transform(|expr| {
            Ok(match expr {
                Expr::Column(column) if column.relation.is_some() => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
                }
                other => Transformed::no(other),
            })
        })
        .data()
}
