//! `information_schema`: DataFusion's tables, with `views` holding views only and `columns` calling vectors VECTOR(n).
//!
//! Served from here instead of by the planner (`config` switches that off), whose `views` lists base tables as well.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::functions::string::expr_fn::replace;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit, when};

use super::SnapshotCatalog;

/// The schema over one statement's names.
#[derive(Debug)]
pub(super) struct InformationSchema(InformationSchemaProvider);

impl InformationSchema {
    /// Tables about `catalog`; functions in FROM are those of `state`.
    pub(super) fn new(catalog: SnapshotCatalog, state: Option<&SessionState>) -> Self {
        let provider = InformationSchemaProvider::new(Arc::new(catalog));
        Self(match state {
            Some(state) => provider.with_table_functions(state.table_functions().clone()),
            None => provider,
        })
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(table) = self.0.table(name).await? else { return Ok(None) };
        let scan = |table| LogicalPlanBuilder::scan(name, provider_as_source(table), None);
        let view = match name {
            // Only views have a definition.
            "views" => scan(table)?.filter(col("definition").is_not_null())?,
            "columns" => named_vectors(scan(table)?)?,
            _ => return Ok(Some(table)),
        };
        Ok(Some(Arc::new(ViewTable::new(view.build()?, None))))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}

/// `columns`, whose types are Arrow's, with those of vectors as SQL has them.
fn named_vectors(columns: LogicalPlanBuilder) -> Result<LogicalPlanBuilder, DataFusionError> {
    let all = columns.schema().columns();
    let shown = all.into_iter().map(|column| -> Result<Expr, DataFusionError> {
        if column.name != "data_type" {
            return Ok(Expr::Column(column));
        }
        let arrow = Expr::Column(column);
        let opened = replace(arrow.clone(), lit("FixedSizeList("), lit("VECTOR("));
        let vector = replace(opened, lit(" x Float32)"), lit(")"));
        let is_vector = arrow.clone().like(lit("FixedSizeList(% x Float32)"));
        Ok(when(is_vector, vector).otherwise(arrow)?.alias("data_type"))
    });
    let shown = shown.collect::<Result<Vec<Expr>, DataFusionError>>()?;
    columns.project(shown)
}
