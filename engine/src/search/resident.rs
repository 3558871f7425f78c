//! Conditions over columns that are kept decoded, so that searches under ever other conditions scan nothing.
//!
//! Owns: evaluating a condition over whole columns in memory. Where the columns are too large to keep, or the condition
//! fails on some row, the scan of [`matching`](super::matching) decides: that row may be one that is deleted.

use std::sync::Arc;

use cairn_storage::TableSnapshot;
use cairn_storage::index::RowSet;
use cairn_storage::schema::TableDef;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::prep_null_mask_filter;
use datafusion::arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::common::{DFSchema, internal_datafusion_err};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;

use crate::dml::physical_expr;
use crate::error::Result;

/// Rows evaluated together: what is computed of them stays in the processor's cache.
const ROWS_AT_A_TIME: usize = 32 * 1024;

/// The visible rows for which every one of `filters` is true; None: scan for them.
///
/// # Errors
/// What is wrong with the condition itself; the store's.
pub(super) async fn rows(
    state: &SessionState,
    table: &TableSnapshot,
    filters: &[Expr],
) -> Result<Option<RowSet>> {
    let Some(condition) = conjunction(filters.to_vec()) else { return Ok(None) };
    let Some(columns) = columns_of(table.def(), &condition) else { return Ok(None) };
    // Who reads the past must not see what a segment got since.
    if !table.is_newest() {
        return Ok(None);
    }
    let schema = table.projected_schema(&columns, false)?;
    let predicate = physical_expr(state, condition, &DFSchema::try_from(Arc::clone(&schema))?)?;
    let mut set = RowSet::default();
    for view in table.segments().await? {
        let reader = table.open_segment(&view.meta).await?;
        let mut arrays = Vec::with_capacity(columns.len());
        for &column in &columns {
            let Some(array) = reader.kept_column(column).await? else { return Ok(None) };
            arrays.push(array);
        }
        let rows = whole(&schema, arrays, view.meta.rows)?;
        let Some(mut positions) = matching(predicate.as_ref(), &rows) else { return Ok(None) };
        if let Some(deleted) = &view.deleted {
            positions.retain(|position| !deleted.contains(*position));
        }
        set.add_segment(view.meta.id, positions);
    }
    for batch in table.hot_batches(&columns, true)? {
        let Some(rows) = matching(predicate.as_ref(), &batch) else { return Ok(None) };
        let row_ids = batch.column(columns.len()).as_primitive::<UInt64Type>().values();
        set.add_hot(rows.into_iter().map(|row| row_ids[row as usize]));
    }
    Ok(Some(set))
}

/// Positions of the condition's columns in the definition, ascending; None: it names a pseudo-column.
fn columns_of(def: &TableDef, condition: &Expr) -> Option<Vec<usize>> {
    let position = |name: &str| def.columns.iter().position(|column| column.name == name);
    let named = condition.column_refs().into_iter().map(|column| position(&column.name));
    let mut columns = named.collect::<Option<Vec<_>>>()?;
    columns.sort_unstable();
    columns.dedup();
    Some(columns)
}

fn whole(schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: u64) -> Result<RecordBatch> {
    let rows = usize::try_from(rows).map_err(|_| internal_datafusion_err!("a segment of too many rows"))?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}

/// The rows of a batch for which the predicate is true; None: it fails on one.
fn matching(predicate: &dyn PhysicalExpr, batch: &RecordBatch) -> Option<Vec<u32>> {
    let mut matching = Vec::new();
    for start in (0..batch.num_rows()).step_by(ROWS_AT_A_TIME) {
        let part = batch.slice(start, ROWS_AT_A_TIME.min(batch.num_rows() - start));
        let mask = predicate.evaluate(&part).and_then(|mask| mask.into_array(part.num_rows())).ok()?;
        let mask = mask.as_boolean_opt()?;
        let start = u32::try_from(start).ok()?;
        let cleared;
        let mask = if mask.null_count() > 0 {
            cleared = prep_null_mask_filter(mask);
            &cleared
        } else {
            mask
        };
        matching.extend(mask.values().set_indices_u32().map(|row| start + row));
    }
    Some(matching)
}
