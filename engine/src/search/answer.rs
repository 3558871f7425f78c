//! The rows of an answer, put together.

use std::sync::Arc;

use cairn_storage::TableSnapshot;
use cairn_storage::id::RowId;
use cairn_storage::index::VectorHit;
use datafusion::arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::{Result, internal_err};

use super::held::{Held, expected};
use crate::scan::storage_error;

/// What stands in one column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The table's column at this position of the definition.
    Column(usize),
    /// `_row_id`.
    RowId,
    /// `_version`.
    Version,
    /// The distance.
    Distance,
    /// The place in its answer, from 1.
    Rank,
}

/// The rows of `hits`, in their order, with their places; `schema` has one field per pick. `held` holds them from then on.
///
/// # Errors
/// Storage errors from reading the rows; `ResourcesExhausted`.
pub(crate) async fn rows(
    table: &TableSnapshot,
    hits: &[VectorHit],
    ranks: &[u64],
    picks: &[Pick],
    schema: &SchemaRef,
    held: &Held,
) -> Result<RecordBatch> {
    // As they are read, and put in their order.
    let each = |field: &FieldRef| expected(field.data_type(), hits.len());
    held.set(schema.fields().iter().map(each).fold(0_usize, usize::saturating_add).saturating_mul(2))?;
    let column = |pick: &Pick| if let Pick::Column(i) = pick { Some(*i) } else { None };
    let mut columns: Vec<usize> = picks.iter().filter_map(column).collect();
    columns.sort_unstable();
    columns.dedup();
    let pseudo = picks.iter().any(|pick| matches!(pick, Pick::RowId | Pick::Version));
    let ids: Vec<RowId> = hits.iter().map(|hit| hit.row).collect();
    let rows = table.rows(&ids, &columns, pseudo).await.map_err(storage_error)?;
    if rows.num_rows() != hits.len() {
        return internal_err!("{} of {} rows found by a search are there", rows.num_rows(), hits.len());
    }
    let arrays = picks.iter().map(|pick| -> ArrayRef {
        match pick {
            Pick::Column(i) => Arc::clone(rows.column(columns.partition_point(|c| c < i))),
            Pick::RowId => Arc::clone(rows.column(columns.len())),
            Pick::Version => Arc::clone(rows.column(columns.len() + 1)),
            Pick::Distance => Arc::new(Float32Array::from_iter_values(hits.iter().map(|hit| hit.distance))),
            Pick::Rank => Arc::new(UInt64Array::from(ranks.to_vec())),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(hits.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), arrays.collect(), &options)?;
    held.batch(&batch)?;
    Ok(batch)
}
