//! A table of ours as DataFusion sees it.
//!
//! Owns: schema, key and which filters a scan takes. Does not own: reading (`scan`) and writing (`dml`). DataFusion's own
//! hooks for INSERT, UPDATE, DELETE, MERGE and TRUNCATE stay at their refusing defaults on purpose: they see the
//! optimised plan, from which a `WHERE false` or a subquery has already gone, and would change every row.
//!
//! Column defaults are not given to DataFusion (`get_column_default`): it would want them as planned expressions from a
//! method that can't plan. `dml` plans the SQL text kept in the definition itself.

use std::sync::Arc;

use async_trait::async_trait;
use cairn_storage::TableSnapshot;
use cairn_storage::object::ReadMeter;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Constraint, Constraints, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::scan::{self, ScanRequest, pseudo};

/// One table at one version.
#[derive(Clone, Debug)]
pub(crate) struct CairnTable {
    table: TableSnapshot,
    schema: SchemaRef,
    constraints: Constraints,
    /// Why a sort by distance above it uses no index.
    unsearched: Option<Arc<str>>,
}

impl CairnTable {
    /// The table's own columns.
    pub(crate) fn new(table: TableSnapshot) -> Self {
        let schema = table.def().arrow_schema();
        Self::with_schema(table, schema)
    }

    /// The table's own columns, then `_row_id` and `_version` (UInt64, not null).
    pub(crate) fn with_pseudo_columns(table: TableSnapshot) -> Self {
        let schema = pseudo::with_pseudo_columns(&table.def().arrow_schema());
        Self::with_schema(table, schema)
    }

    /// The same, its reads counted by `meter`.
    pub(crate) fn metered(self, meter: ReadMeter) -> Self {
        Self { table: self.table.metered(meter), ..self }
    }

    /// The table behind it.
    pub(crate) fn table(&self) -> &TableSnapshot {
        &self.table
    }

    fn with_schema(table: TableSnapshot, schema: SchemaRef) -> Self {
        let key = table.def().key_indices();
        // The planner trusts a key (GROUP BY, DISTINCT, joins drop work); ours is enforced by every commit.
        let declared = if key.is_empty() { Vec::new() } else { vec![Constraint::PrimaryKey(key)] };
        Self { table, schema, constraints: Constraints::new_unverified(declared), unsearched: None }
    }

    /// The same, saying in EXPLAIN why a sort by distance above it uses no index.
    pub(crate) fn with_unsearched(mut self, why: &str) -> Self {
        self.unsearched = Some(why.into());
        self
    }

    /// What [`with_unsearched`](Self::with_unsearched) told it.
    pub(crate) fn unsearched(&self) -> Option<&str> {
        self.unsearched.as_deref()
    }
}

#[async_trait]
impl TableProvider for CairnTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let args = ScanArgs::default()
            .with_projection(projection.map(Vec::as_slice))
            .with_filters(Some(filters))
            .with_limit(limit);
        Ok(self.scan_with_args(state, args).await?.into_inner())
    }

    async fn scan_with_args<'a>(&self, state: &dyn Session, args: ScanArgs<'a>) -> Result<ScanResult> {
        let every: Vec<usize>;
        let projection = match args.projection() {
            Some(projection) => projection,
            None => {
                every = (0..self.schema.fields().len()).collect();
                &every
            }
        };
        let request = ScanRequest {
            table: &self.table,
            schema: &self.schema,
            projection,
            filters: args.filters().unwrap_or_default(),
            limit: args.limit(),
            unsearched: self.unsearched.clone(),
        };
        Ok(ScanResult::new(scan::plan(request, state).await?))
    }

    /// Filters only narrow what is read; the plan keeps them above the scan.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        table_filters(filters)
    }
}

/// Which of `filters` a table takes. A placeholder has its value before anything is read: a plan that is kept has its filters where
/// those of others are. A parameter of a lambda may have the name of a column, which has no table's name before it in a scan.
pub(crate) fn table_filters(filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
    let taken = |filter: &&Expr| -> Result<TableProviderFilterPushDown> {
        let holds_lambda = filter.exists(|expr| Ok(matches!(expr, Expr::Lambda(_))))?;
        Ok(match reads_its_row(filter)? && !holds_lambda {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        })
    };
    filters.iter().map(taken).collect()
}

/// Whether a filter means the same each time it is evaluated and needs nothing but the row.
pub(crate) fn usable(filter: &Expr) -> Result<bool> {
    Ok(reads_its_row(filter)? && !filter.exists(|expr| Ok(matches!(expr, Expr::Placeholder(_))))?)
}

/// The same, whatever the values of placeholders are.
fn reads_its_row(filter: &Expr) -> Result<bool> {
    let mut usable = !filter.is_volatile();
    filter.apply(|expr| {
        let foreign = matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::OuterReferenceColumn(..)
        );
        if foreign {
            usable = false;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(usable)
}
