//! INSERT, UPDATE, DELETE and MERGE: planned from the AST as a node of our own, never through DataFusion's provider hooks
//! (those read predicates from the optimised plan and lose subqueries, `WHERE false` and LIMIT).
//!
//! Owns: the plan of a change, its execution into a write set, assignment casts, ON CONFLICT, RETURNING, the direct
//! path of plain `INSERT … VALUES`. Does not own: retries (session), conflict rules and keys (storage).
//! Ordering: everything a statement reads is its snapshot; rows of RETURNING are handed out after the commit.

mod assign;
mod change;
mod conflict;
mod describe;
mod direct;
mod exec;
mod identity;
mod insert;
mod merge;
#[cfg(test)]
mod merge_tests;
mod node;
mod params;
mod returning;
mod target;
#[cfg(test)]
mod tests;
mod values;
mod vectors;
#[cfg(test)]
mod vectors_tests;
mod with;
mod write;

use std::sync::Arc;

use cairn_storage::id::{RowId, TableId};
use cairn_storage::transaction::TransactionBlock;
use cairn_storage::{CommitReceipt, Database, ErrorKind, Snapshot, Transaction};
use cairn_udfs::vector::VectorCasts;
use cairn_udfs::zones::ZonedTimes;
use cairn_udfs::{BoundedCalls, CheckedIntegers};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{Insert, Statement};
use futures::TryStreamExt;

pub(crate) use assign::{assign_batch, assign_column, cut, null_violation, row_text};
pub(crate) use describe::describe;
pub(crate) use direct::{key_value, needs_zone, set_value, whole_number};
pub(crate) use insert::default_expr;
pub(crate) use merge::HERE as MERGED;
pub(crate) use node::DmlPlanner;
pub(crate) use params::{bind, literal, lookup as parameter};
pub(crate) use target::{Target, column_ident, ident_text, split_name};
pub(crate) use with::put_before;

use crate::config::Settings;
use crate::context::{StatementContext, commit};
use crate::error::{Error, Result};
use crate::output::{Output, RowStream};
use crate::rights::Rights;
use returning::Returning;
use write::SharedTransaction;

/// A change ready to run.
struct Prepared {
    verb: &'static str,
    table: TableId,
    plan: LogicalPlan,
    transaction: SharedTransaction,
    returning: Option<Returning>,
    /// A duplicate key at commit means somebody else inserted it meanwhile: try again.
    retry_duplicates: bool,
}

/// Plans a change without running it, for EXPLAIN. Executing the plan fills a write set that nobody commits, so that
/// EXPLAIN ANALYZE measures and changes nothing.
///
/// # Errors
/// What is wrong with the statement.
pub(crate) async fn plan(ctx: &StatementContext, statement: &Statement) -> Result<LogicalPlan> {
    Ok(prepare(ctx, statement).await?.plan)
}

/// Plans, runs and commits one attempt of INSERT, UPDATE, DELETE or MERGE.
///
/// # Errors
/// What is wrong with the statement or its rows; `Conflict` when a fresh snapshot may succeed. Nothing has changed then.
pub(crate) async fn plan_and_run(ctx: &StatementContext, statement: &Statement) -> Result<Output> {
    let Prepared { verb, table, plan, transaction, mut returning, retry_duplicates } =
        prepare(ctx, statement).await?;
    transaction.open().await?;
    let ran = run(ctx, plan, returning.as_mut()).await;
    let transaction = transaction.take()?;
    let rows = match ran {
        Ok(rows) => rows,
        Err(error) => {
            transaction.rollback().await?;
            return Err(error);
        }
    };
    if returning.as_ref().is_some_and(Returning::names_new_ids) && transaction.has_segments(table) {
        // Rows written as segments are numbered in the table's order, which the shown rows do not follow.
        transaction.rollback().await?;
        return Err(Error::not_supported_yet("_row_id or _version in RETURNING of a change this large"));
    }
    let receipt = ctx.commit(transaction).await.map_err(|e| {
        if retry_duplicates && e.sqlstate() == "23505" {
            Error::new(ErrorKind::Conflict, "the key was inserted by another commit meanwhile")
        } else {
            e
        }
    })?;
    match returning {
        Some(returning) => {
            let (schema, mut batches) = returning.finish(receipt.version, first_row(&receipt, table))?;
            if receipt.repeated {
                // What it wrote is nowhere.
                batches.clear();
            }
            Ok(rows_output(schema, batches))
        }
        None => Ok(Output::Affected { verb, rows, notes: Vec::new() }),
    }
}

/// Fills the write set; returns how many rows the change affects.
async fn run(ctx: &StatementContext, plan: LogicalPlan, returning: Option<&mut Returning>) -> Result<u64> {
    let physical = ctx.state.create_physical_plan(&plan).await?;
    let batches: Vec<RecordBatch> = execute_stream(physical, ctx.state.task_ctx())?.try_collect().await?;
    match returning {
        Some(returning) => {
            returning.collect(batches, &ctx.snapshot)?;
            Ok(returning.rows())
        }
        None => exec::count_of(&batches),
    }
}

/// Writes every row of `plan` into `table` of an open write set (CREATE TABLE … AS); returns how many.
///
/// # Errors
/// What fails in the query, or a value the table cannot hold.
pub(crate) async fn insert_rows_from_plan(
    ctx: &StatementContext,
    transaction: &Transaction,
    table: TableId,
    plan: LogicalPlan,
) -> Result<u64> {
    let physical = ctx.state.create_physical_plan(&plan).await?;
    write::insert_all(ctx, transaction, table, physical).await
}

async fn prepare(ctx: &StatementContext, statement: &Statement) -> Result<Prepared> {
    let statement = params::bind(statement, ctx.params.as_ref())?;
    let (with, statement) = with::take_apart(statement);
    match statement {
        Statement::Insert(insert) => insert::prepare(ctx, with, insert).await,
        Statement::Update(update) => change::prepare_update(ctx, with, update).await,
        Statement::Delete(delete) => change::prepare_delete(ctx, with, delete).await,
        Statement::Merge(merge) => merge::prepare(ctx, with, merge).await,
        _ => Err(Error::not_supported_yet("this statement")),
    }
}

/// Runs and commits `INSERT … VALUES` of plain literals without the planner, for each of `params` in one write; None: it is not that
/// plain.
///
/// # Errors
/// What storage says of the rows; `Conflict` when a fresh snapshot may succeed. Nothing has changed then.
pub(crate) async fn insert_directly(
    db: &Arc<Database>,
    block: Option<&TransactionBlock>,
    (snapshot, rights): (&Snapshot, &Rights),
    settings: &Settings,
    params: &[Option<&ParamValues>],
    insert: &Insert,
) -> Result<Option<u64>> {
    let Some((def, mut batch)) = direct::try_plan((snapshot, rights), settings, params, insert) else {
        return Ok(None);
    };
    let rows = batch.num_rows() as u64;
    let transaction = db.begin(snapshot).await?;
    let mut writer = transaction.writer(def.id)?;
    if def.identity.is_some() {
        let columns = writer.numbered(batch.columns().to_vec())?;
        batch = RecordBatch::try_new(def.arrow_schema(), columns).map_err(assign::arrow)?;
    }
    writer.write(batch).await?;
    writer.finish().await?;
    commit(block, &settings.info, settings.given.as_ref(), transaction).await?;
    Ok(Some(rows))
}

/// An expression outside a plan, ready to evaluate.
///
/// # Errors
/// What the planner says of the expression.
pub(crate) fn physical_expr(
    state: &SessionState,
    expr: Expr,
    schema: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>> {
    Ok(state.create_physical_expr(simplified(state, expr, schema)?, schema)?)
}

/// An expression outside a plan with its types settled and its constants computed: `now()` has its value only then.
///
/// # Errors
/// What the planner says of the expression.
pub(crate) fn simplified(state: &SessionState, mut expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(context);
    for rewrite in state.analyzer().function_rewrites() {
        expr = expr.transform_up(|expr| rewrite.rewrite(expr, schema, state.config_options()))?.data;
    }
    let coerced = simplifier.coerce(expr, schema)?;
    let zoned = ZonedTimes.rewrite(coerced, schema, state.config_options())?.data;
    let checked = CheckedIntegers::default().rewrite(zoned, schema)?.data;
    let checked = VectorCasts.rewrite(checked, schema)?.data;
    let bounded = match state.config().get_extension::<BoundedCalls>() {
        Some(calls) => calls.rewrite(checked, schema)?.data,
        None => checked,
    };
    Ok(simplifier.simplify(bounded)?)
}

fn first_row(receipt: &CommitReceipt, table: TableId) -> RowId {
    receipt.first_row_ids.iter().find(|(id, _)| *id == table).map_or(RowId(0), |(_, row)| *row)
}

/// Rows at hand as a result.
pub(crate) fn rows_output(schema: SchemaRef, batches: Vec<RecordBatch>) -> Output {
    let stream = futures::stream::iter(batches.into_iter().map(Ok));
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream));
    Output::Rows(RowStream::new(schema, stream))
}
