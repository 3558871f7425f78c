//! `information_schema`: DataFusion's tables, with `views` holding views only.
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
use datafusion::logical_expr::{LogicalPlanBuilder, col};

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
        if name != "views" {
            return Ok(Some(table));
        }
        // Only views have a definition.
        let views = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?
            .filter(col("definition").is_not_null())?
            .build()?;
        Ok(Some(Arc::new(ViewTable::new(views, None))))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}
