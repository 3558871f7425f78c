//! The rows a condition leaves, as row ids.

use std::sync::Arc;

use cairn_storage::TableSnapshot;
use cairn_storage::schema::ROW_ID_COLUMN;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::catalog::Session;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result, TableReference};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col};
use datafusion::physical_plan::collect;

use crate::provider::CairnTable;

/// Name the table has in the plan that finds them.
const TABLE: &str = "searched";

/// Ids of at most `limit` visible rows for which every one of `filters` is true.
pub(super) async fn row_ids(
    state: &dyn Session,
    table: &TableSnapshot,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Vec<u64>> {
    let provider = Arc::new(CairnTable::with_pseudo_columns(table.clone()));
    let mut plan = LogicalPlanBuilder::scan(TABLE, provider_as_source(provider), None)?;
    let filters = filters.iter().map(|filter| of_table(filter.clone())).collect::<Result<Vec<_>>>()?;
    if let Some(condition) = conjunction(filters) {
        plan = plan.filter(condition)?;
    }
    let plan = plan.project(vec![col(ROW_ID_COLUMN)])?.limit(0, limit)?.build()?;
    let physical = state.create_physical_plan(&plan).await?;
    let batches = collect(physical, state.task_ctx()).await?;
    Ok(batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec())
        .collect())
}

/// The expression with its columns named as those of [`TABLE`].
fn of_table(filter: Expr) -> Result<Expr> {
    filter
        .transform(|expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    let table = TableReference::bare(TABLE);
                    Transformed::yes(Expr::Column(Column::new(Some(table), column.name)))
                }
                other => Transformed::no(other),
            })
        })
        .data()
}
