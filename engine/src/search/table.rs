//! The answer of a search as a table: the nearest rows of another table.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use cairn_storage::id::RowId;
use cairn_storage::index::{SearchReport, VectorHit, VectorSearcher};
use cairn_storage::object::ReadMeter;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as TableColumn, DFSchema, Result};
use datafusion::logical_expr::{Expr, SortExpr, TableProviderFilterPushDown, TableType, col};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;

use super::answer::{self, Pick};
use super::call::invalid;
use super::exec::SearchExec;
use super::held::Held;
use super::{DISTANCE_COLUMN, RANK_COLUMN, Search, Searches, matching, sample_rate};
use crate::measure::ReadMeters;
use crate::provider::usable;

/// What an answer holds besides the table's columns.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// `_distance` and `_rank`; rows without a vector are no answer.
    Ranked,
    /// Nothing; rows without a vector come first or last, as a sort by this over the table's columns has them.
    Sorted(SortExpr),
}

/// See the module. The conditions that come first are in `filters`.
#[derive(Clone, Debug)]
pub(super) struct SearchTable {
    searches: Arc<Searches>,
    search: Search,
    /// Checked under the metric; empty when there is one for each row of another relation.
    query: Vec<f32>,
    shape: Shape,
    filters: Vec<Expr>,
    schema: SchemaRef,
}

impl SearchTable {
    pub(super) fn new(
        searches: Arc<Searches>,
        search: Search,
        query: Vec<f32>,
        shape: Shape,
        filters: Vec<Expr>,
    ) -> Self {
        let of_table = search.table.schema();
        let schema = match shape {
            Shape::Sorted(_) => of_table,
            Shape::Ranked => {
                let own = [
                    Field::new(DISTANCE_COLUMN, DataType::Float32, false),
                    Field::new(RANK_COLUMN, DataType::UInt64, false),
                ];
                let fields = of_table.fields().iter().cloned().chain(own.map(Arc::new));
                Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
            }
        };
        Self { searches, search, query, shape, filters, schema }
    }

    /// The same answer, its columns called `names` from the first on, as many as there are; `_row_id` and `_version` have no
    /// place among them.
    ///
    /// # Errors
    /// 42P10 for more names than columns, 42701 for a name that two columns would have.
    pub(super) fn renamed(mut self, names: &[String]) -> crate::error::Result<Self> {
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        let is_named = |position: &usize| !matches!(self.pick(*position), Pick::RowId | Pick::Version);
        let places: Vec<usize> = (0..fields.len()).filter(is_named).collect();
        if names.len() > places.len() {
            let (columns, names) = (places.len(), names.len());
            let message = format!("{names} names are given for the {columns} columns of vector_search");
            return Err(invalid("42P10", message));
        }
        for (place, name) in places.into_iter().zip(names) {
            fields[place] = Arc::new(fields[place].as_ref().clone().with_name(name));
        }
        let twice = {
            let mut seen = HashSet::new();
            fields.iter().find(|field| !seen.insert(field.name())).map(|field| field.name().clone())
        };
        if let Some(twice) = twice {
            let message = format!("two columns of vector_search would have the name {twice}");
            return Err(invalid("42701", message).map(|e| e.with_hint("give the other one a name too")));
        }
        self.schema = Arc::new(Schema::new(fields));
        Ok(self)
    }

    /// The same search among the rows for which `condition` is true too; None when it cannot come first: it is about the
    /// answer itself, or needs more than the row.
    pub(super) fn among(&self, condition: &Expr) -> Result<Option<Self>> {
        if !matches!(self.shape, Shape::Ranked) || !usable(condition)? {
            return Ok(None);
        }
        // The answer's columns may have other names than the table's.
        let of_table = self.search.table.schema();
        let mut own = false;
        let condition = condition.clone().transform(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            match self.schema.index_of(&column.name) {
                Ok(index) if index < of_table.fields().len() => {
                    let name = of_table.field(index).name().clone();
                    Ok(Transformed::yes(Expr::Column(TableColumn::new(column.relation.clone(), name))))
                }
                _ => {
                    own = true;
                    Ok(Transformed::no(expr))
                }
            }
        })?;
        if own {
            return Ok(None);
        }
        let mut among = self.clone();
        among.filters.push(condition.data);
        Ok(Some(among))
    }

    /// The same search, its reads counted by `meter`.
    pub(super) fn metered(&self, meter: ReadMeter) -> Self {
        let mut metered = self.clone();
        metered.search.table = metered.search.table.metered(meter);
        metered
    }

    /// `held` holds the hits from then on.
    async fn nearest(
        &self,
        state: &dyn Session,
        held: &Held,
    ) -> Result<(Vec<VectorHit>, SearchReport, Option<u64>)> {
        let (search, searches) = (&self.search, &self.searches);
        let table = search.snapshot();
        let searcher = self.searcher(state).await?;
        held.searching(searcher.most_rows(search.k))?;
        let (mut hits, report) = searches.nearest(&searcher, search, &self.query, sample_rate(state))?;
        if let Shape::Sorted(by) = &self.shape
            && (by.nulls_first || hits.len() < search.k)
            && searcher.has_nulls()
        {
            let mut without = self.filters.clone();
            without.push(col(format!("\"{}\"", search.column_name().replace('"', "\"\""))).is_null());
            let (mut rows, _held) = matching::row_ids(state, table, &without).await?;
            rows.sort_unstable();
            let without = rows.into_iter().map(|row| VectorHit { row: RowId(row), distance: f32::NAN });
            if by.nulls_first {
                hits = without.chain(hits).take(search.k).collect();
            } else {
                hits.extend(without.take(search.k - hits.len()));
            }
        }
        held.found(hits.len())?;
        Ok((hits, report, searcher.matching_rows()))
    }

    /// The orders that an answer in the columns of `schema` has. A sort by one of them is left out of the plan, which keeps
    /// equal distances in the order of their row ids: pages of an answer neither repeat nor lose rows.
    fn orders(&self, state: &dyn Session, schema: &SchemaRef) -> Result<Vec<PhysicalSortExpr>> {
        match &self.shape {
            Shape::Sorted(by) => {
                let columns = DFSchema::try_from(Arc::clone(schema))?;
                if !by.expr.column_refs().iter().all(|column| columns.has_column(column)) {
                    return Ok(Vec::new());
                }
                let expr = state.create_physical_expr(by.expr.clone(), &columns)?;
                let options = SortOptions { descending: !by.asc, nulls_first: by.nulls_first };
                Ok(vec![PhysicalSortExpr::new(expr, options)])
            }
            Shape::Ranked => {
                let own = self.schema.fields().iter().skip(self.search.table.schema().fields().len());
                let own = own.filter_map(|field| Some((field.name(), schema.index_of(field.name()).ok()?)));
                let ascending = SortOptions { descending: false, nulls_first: false };
                Ok(own
                    .map(|(name, index)| PhysicalSortExpr::new(Arc::new(Column::new(name, index)), ascending))
                    .collect())
            }
        }
    }

    /// What is searched for.
    pub(super) fn search(&self) -> &Search {
        &self.search
    }

    /// What it shares with others.
    pub(super) fn searches(&self) -> &Searches {
        &self.searches
    }

    /// The searcher among the rows that its conditions leave.
    pub(super) async fn searcher(&self, state: &dyn Session) -> Result<VectorSearcher> {
        Ok(self.searches.searcher(state, &self.search, &self.filters).await?)
    }

    /// The searcher among the rows for which `more` is true too.
    pub(super) async fn searcher_among(
        &self,
        state: &dyn Session,
        more: Vec<Expr>,
    ) -> crate::error::Result<VectorSearcher> {
        let filters: Vec<Expr> = self.filters.iter().cloned().chain(more).collect();
        self.searches.searcher(state, &self.search, &filters).await
    }

    /// What stands at position `index` of the schema.
    pub(super) fn pick(&self, index: usize) -> Pick {
        let (of_table, width) =
            (self.search.table.schema().fields().len(), self.search.snapshot().def().columns.len());
        match index {
            _ if index < width => Pick::Column(index),
            _ if index < of_table => {
                if index == width {
                    Pick::RowId
                } else {
                    Pick::Version
                }
            }
            _ if index == of_table => Pick::Distance,
            _ => Pick::Rank,
        }
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
        let meter = ReadMeters::next(state);
        let metered = meter.clone().map(|meter| self.metered(meter));
        let search = metered.as_ref().unwrap_or(self);
        let held = Held::new(&state.runtime_env().memory_pool);
        let (mut hits, report, matching) = search.nearest(state, &held).await?;
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
        let picks: Vec<Pick> = projection.iter().map(|index| self.pick(*index)).collect();
        let ranks: Vec<u64> = (1..=hits.len() as u64).collect();
        let fetched = held.another();
        let batch = answer::rows(search.search.snapshot(), &hits, &ranks, &picks, &schema, &fetched).await?;
        let orders = self.orders(state, &schema)?;
        let found = SearchExec::new(&self.search, (batch, fetched), orders, report, matching);
        Ok(Arc::new(found.metered(meter)))
    }
}
