//! The answer of a search as a table: the nearest rows of another table.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_storage::Database;
use cairn_storage::id::RowId;
use cairn_storage::index::{RowSet, SearchReport, VectorHit, VectorQuery};
use datafusion::arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, col};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::SearchExec;
use super::{DISTANCE_COLUMN, RANK_COLUMN, Search, matching};
use crate::provider::usable;
use crate::scan::storage_error;

/// What an answer holds besides the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `_distance` and `_rank`; rows without a vector are no answer.
    Ranked,
    /// Nothing; rows without a vector come last, as a sort has them.
    Sorted,
}

/// See the module. The conditions that come first are in `filters`.
#[derive(Clone, Debug)]
pub(super) struct SearchTable {
    db: Arc<Database>,
    search: Search,
    shape: Shape,
    filters: Vec<Expr>,
    schema: SchemaRef,
}

impl SearchTable {
    pub(super) fn new(db: Arc<Database>, search: Search, shape: Shape, filters: Vec<Expr>) -> Self {
        let of_table = search.table.schema();
        let schema = match shape {
            Shape::Sorted => of_table,
            Shape::Ranked => {
                let own = [
                    Field::new(DISTANCE_COLUMN, DataType::Float32, false),
                    Field::new(RANK_COLUMN, DataType::UInt64, false),
                ];
                let fields = of_table.fields().iter().cloned().chain(own.map(Arc::new));
                Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
            }
        };
        Self { db, search, shape, filters, schema }
    }

    /// The same search among the rows for which `condition` is true too; None when it cannot come first: it is about the
    /// answer itself, or needs more than the row.
    pub(super) fn among(&self, condition: &Expr) -> Result<Option<Self>> {
        let own = condition.column_refs().iter().any(|c| c.name == DISTANCE_COLUMN || c.name == RANK_COLUMN);
        if self.shape != Shape::Ranked || own || !usable(condition)? {
            return Ok(None);
        }
        let mut among = self.clone();
        among.filters.push(condition.clone());
        Ok(Some(among))
    }

    async fn nearest(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<(Vec<VectorHit>, SearchReport, Option<u64>)> {
        let search = &self.search;
        let table = search.snapshot();
        let rows = match filters {
            [] => None,
            filters => Some(RowSet::new(matching::row_ids(state, table, filters, None).await?)),
        };
        let query = VectorQuery {
            column: search.column,
            metric: search.metric,
            query: &search.query,
            k: search.k,
            effort: search.effort,
            rows: rows.as_ref(),
        };
        let (mut hits, report) = table.nearest(&query).await.map_err(storage_error)?;
        self.db.index_units_lost(report.lost.iter().map(|(unit, _)| *unit));
        if self.shape == Shape::Sorted && hits.len() < search.k {
            let mut without = filters.to_vec();
            without.push(col(format!("\"{}\"", search.column_name().replace('"', "\"\""))).is_null());
            let more = matching::row_ids(state, table, &without, Some(search.k - hits.len())).await?;
            hits.extend(more.into_iter().map(|row| VectorHit { row: RowId(row), distance: f32::NAN }));
        }
        Ok((hits, report, rows.map(|rows| rows.len())))
    }

    /// The rows of `hits` in the columns of `projection`.
    async fn rows(
        &self,
        hits: &[VectorHit],
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let table = self.search.snapshot();
        let width = table.def().columns.len();
        let all = self.search.table.schema().fields().len();
        let columns: Vec<usize> = projection.iter().copied().filter(|i| *i < width).collect();
        let pseudo = projection.iter().any(|i| (width..all).contains(i));
        let ids: Vec<RowId> = hits.iter().map(|hit| hit.row).collect();
        let rows = table.rows(&ids, &columns, pseudo).await.map_err(storage_error)?;
        if rows.num_rows() != hits.len() {
            return internal_err!("{} of {} rows found by a search are there", rows.num_rows(), hits.len());
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(projection.len());
        let mut next = 0;
        for &index in projection {
            arrays.push(if index < width {
                next += 1;
                Arc::clone(rows.column(next - 1))
            } else if index < all {
                Arc::clone(rows.column(columns.len() + index - width))
            } else if index == all {
                Arc::new(Float32Array::from_iter_values(hits.iter().map(|hit| hit.distance)))
            } else {
                Arc::new(UInt64Array::from_iter_values(1..=hits.len() as u64))
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(hits.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
    }
}

#[async_trait]
impl TableProvider for SearchTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    /// None: a condition that the optimizer moves here, or infers from a join, would change which rows are the nearest.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (mut hits, report, matching) = self.nearest(state, &self.filters).await?;
        hits.truncate(limit.unwrap_or(usize::MAX));
        let every: Vec<usize>;
        let projection = match projection {
            Some(projection) => projection,
            None => {
                every = (0..self.schema.fields().len()).collect();
                &every
            }
        };
        let schema = Arc::new(self.schema.project(projection)?);
        let batch = self.rows(&hits, projection, &schema).await?;
        Ok(Arc::new(SearchExec::new(&self.search, batch, report, matching)))
    }
}
