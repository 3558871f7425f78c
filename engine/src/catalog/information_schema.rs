//! `information_schema`: DataFusion's tables, with `views` holding views only and `columns` calling vectors VECTOR(n) and telling identity
//! columns.
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
use datafusion::functions::string::expr_fn::{concat, replace};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit, when};

use super::SnapshotCatalog;
use crate::ddl::identity_kind;

/// Between the parts of a column's full name; stands in no name.
const SEPARATOR: &str = "\u{1}";

/// The schema over one statement's names.
#[derive(Debug)]
pub(super) struct InformationSchema {
    tables: InformationSchemaProvider,
    catalog: SnapshotCatalog,
}

impl InformationSchema {
    /// Tables about `catalog`; functions in FROM are those of `state`.
    pub(super) fn new(catalog: SnapshotCatalog, state: Option<&SessionState>) -> Self {
        let provider = InformationSchemaProvider::new(Arc::new(catalog.clone()));
        let tables = match state {
            Some(state) => provider.with_table_functions(state.table_functions().clone()),
            None => provider,
        };
        Self { tables, catalog }
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(table) = self.tables.table(name).await? else { return Ok(None) };
        let scan = |table| LogicalPlanBuilder::scan(name, provider_as_source(table), None);
        let view = match name {
            // Only views have a definition.
            "views" => scan(table)?.filter(col("definition").is_not_null())?,
            "columns" => columns(scan(table)?, &self.catalog)?,
            _ => return Ok(Some(table)),
        };
        Ok(Some(Arc::new(ViewTable::new(view.build()?, None))))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.table_exist(name)
    }
}

/// `columns`, whose types are Arrow's, with those of vectors as SQL has them, and with the columns that number the rows of their tables.
fn columns(
    columns: LogicalPlanBuilder,
    catalog: &SnapshotCatalog,
) -> Result<LogicalPlanBuilder, DataFusionError> {
    let all = columns.schema().columns();
    let name = ["table_schema", "table_name", "column_name"];
    let parts = name.iter().filter_map(|part| all.iter().find(|column| column.name == *part));
    let parts: Vec<Expr> = parts.cloned().map(Expr::Column).collect();
    let [schema, table, column] = <[Expr; 3]>::try_from(parts)
        .map_err(|_| DataFusionError::Internal("information_schema.columns names no columns".to_owned()))?;
    let full_name = concat(vec![schema, lit(SEPARATOR), table, lit(SEPARATOR), column]);
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
    let mut shown = shown.collect::<Result<Vec<Expr>, DataFusionError>>()?;
    let of_kind = |kind: &str| {
        let names: Vec<Expr> = identities(catalog, kind).into_iter().map(lit).collect();
        if names.is_empty() { lit(false) } else { full_name.clone().in_list(names, false) }
    };
    let (always, by_default) = (of_kind("ALWAYS"), of_kind("BY DEFAULT"));
    let is_identity = always.clone().or(by_default.clone());
    shown.push(when(is_identity, lit("YES")).otherwise(lit("NO"))?.alias("is_identity"));
    let kind = when(always, lit("ALWAYS")).when(by_default, lit("BY DEFAULT")).end()?;
    shown.push(kind.alias("identity_generation"));
    columns.project(shown)
}

/// Full names of the columns that number the rows of their tables in this way.
fn identities(catalog: &SnapshotCatalog, kind: &str) -> Vec<String> {
    let catalog = catalog.snapshot().catalog();
    let tables = catalog.schemas().flat_map(|schema| catalog.tables(schema));
    let identities = tables.filter_map(|table| {
        let (at, _) = table.numbered_by().filter(|(_, identity)| identity_kind(identity) == kind)?;
        Some([table.schema.as_str(), &table.name, &table.columns[at].name].join(SEPARATOR))
    });
    identities.collect()
}
