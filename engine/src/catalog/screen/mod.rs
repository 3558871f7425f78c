//! A view that hides rows, as those see it who may not read what is behind it.
//!
//! Owns: keeping a reader's conditions, functions and sorts away from rows that the view's own query leaves out. A condition that
//! fails, or takes its time, would tell what stands in them. The query is therefore planned by itself, below a leaf that nothing is
//! moved into but columns, a limit and [`harmless`](condition) conditions. Does not own: whose rights it is run with (`rights`).

mod columns;
mod condition;
mod exec;
mod hiding;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Constraint, Constraints, DFSchema, Dependency, Result};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;

use self::columns::Columns;
use self::exec::ViewExec;
use crate::rules::with_true_keys;

pub(super) use self::hiding::hides_rows;

/// See the module.
#[derive(Debug)]
pub(super) struct ScreenedView {
    /// Schema and name, for EXPLAIN.
    name: String,
    /// The view's query, not analysed yet: that is done once, with what is asked of it.
    query: LogicalPlan,
    columns: Columns,
    keys: Constraints,
}

impl ScreenedView {
    /// The view `name` of `query`.
    ///
    /// # Errors
    /// What is wrong with the types of the query.
    pub(super) fn new(name: String, query: LogicalPlan, state: &SessionState) -> Result<Self> {
        // Only analysis settles the types.
        let analysed =
            state.analyzer().execute_and_check(query.clone(), state.config_options(), |_, _| {})?;
        let analysed = with_true_keys(analysed)?;
        let keys = keys(analysed.schema());
        Ok(Self { name, query, columns: Columns::of(&analysed), keys })
    }

    /// A column in terms of the query.
    fn column(&self, index: usize) -> Expr {
        Expr::Column(Column::from(self.query.schema().qualified_field(index)))
    }

    /// A harmless condition in terms of the query.
    fn below(&self, condition: Expr) -> Result<Expr> {
        condition
            .transform(|expr| {
                Ok(match expr {
                    Expr::Column(column) => match self.columns.position(&column.name) {
                        Some(index) => Transformed::yes(self.column(index)),
                        None => Transformed::no(Expr::Column(column)),
                    },
                    other => Transformed::no(other),
                })
            })
            .data()
    }
}

#[async_trait]
impl TableProvider for ScreenedView {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.schema())
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.keys)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut rows = LogicalPlanBuilder::from(self.query.clone());
        let conditions: Vec<Expr> =
            filters.iter().map(|filter| self.below(filter.clone())).collect::<Result<_>>()?;
        if let Some(condition) = conjunction(conditions) {
            rows = rows.filter(condition)?;
        }
        let columns: Vec<usize> = match projection {
            Some(projection) => projection.clone(),
            None => (0..self.columns.schema().fields().len()).collect(),
        };
        rows = rows.project(columns.into_iter().map(|index| self.column(index)))?;
        if let Some(limit) = limit {
            rows = rows.limit(0, Some(limit))?;
        }
        let rows = state.create_physical_plan(&rows.build()?).await?;
        Ok(Arc::new(ViewExec::new(&self.name, rows, filters, limit)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let supported = |filter: &&Expr| {
            if self.columns.are_kept_by(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(supported).collect())
    }
}

/// The keys of a query's rows, as those of a table: GROUP BY of one stands for all columns.
fn keys(schema: &DFSchema) -> Constraints {
    let columns = schema.fields().len();
    let keys = schema
        .functional_dependencies()
        .iter()
        .filter(|key| key.mode == Dependency::Single && key.target_indices.len() == columns)
        .map(|key| {
            let columns = key.source_indices.clone();
            if key.nullable { Constraint::Unique(columns) } else { Constraint::PrimaryKey(columns) }
        });
    Constraints::new_unverified(keys.collect())
}
