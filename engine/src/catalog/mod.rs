//! Names of one statement, resolved against its snapshot.
//!
//! Owns: DataFusion's catalog traits over a pinned [`Snapshot`]: tables, views (planned from their text when looked up),
//! `system` and its alias `sys`, `information_schema`, files named in FROM. Does not own: changing the catalog (`ddl`), the rows (`provider`).
//! A catalog never sees a newer version than its snapshot, so a plan stays valid while the next statement runs.

mod information_schema;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use cairn_storage::schema::ViewDef;
use cairn_storage::{ErrorKind, Snapshot};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::sql::sqlparser::ast::{self, ObjectName};

use self::information_schema::InformationSchema;
use crate::error::{Error, Result, closest};
use crate::provider::CairnTable;
use crate::search;
use crate::statement::{
    Shape, inspect, keep_pseudo_columns_out, object_position, schema_and_name, select_values,
};
use crate::system::{self, SystemSource};

/// Name of the database in `database.schema.table`.
pub(crate) const CATALOG: &str = "cairn";
/// Name of DataFusion's schema about schemas.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// The names one statement (or one view in it) sees.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotCatalog(Arc<Names>);

#[derive(Debug)]
struct Names {
    snapshot: Snapshot,
    system: Arc<SystemSource>,
    search_path: String,
    /// Whether tables show `_row_id` and `_version`.
    pseudo_columns: bool,
    /// How many views deep.
    depth: usize,
    /// A view as it would be, in place of what the snapshot has under its name.
    instead: Option<Arc<ViewDef>>,
    /// Files named in FROM, opened before planning.
    files: OnceLock<HashMap<String, Arc<dyn TableProvider>>>,
    /// The state that holds this catalog; needed to plan views.
    state: OnceLock<Weak<SessionState>>,
}

impl SnapshotCatalog {
    /// Names at `snapshot` for a statement of `shape`.
    pub(crate) fn new(
        snapshot: Snapshot,
        system: Arc<SystemSource>,
        search_path: &str,
        shape: &Shape,
    ) -> Self {
        Self::at_depth(snapshot, system, search_path, shape, (0, None))
    }

    /// The same names with `view` in place of what is under its name.
    pub(crate) fn with_view(&self, view: Arc<ViewDef>) -> Self {
        let names = &self.0;
        let (snapshot, system) = (names.snapshot.clone(), Arc::clone(&names.system));
        Self::at_depth(snapshot, system, &names.search_path, &Shape::default(), (names.depth, Some(view)))
    }

    fn at_depth(
        snapshot: Snapshot,
        system: Arc<SystemSource>,
        search_path: &str,
        shape: &Shape,
        (depth, instead): (usize, Option<Arc<ViewDef>>),
    ) -> Self {
        Self(Arc::new(Names {
            snapshot,
            system,
            search_path: search_path.to_owned(),
            pseudo_columns: shape.pseudo_columns,
            depth,
            instead,
            files: OnceLock::new(),
            state: OnceLock::new(),
        }))
    }

    /// Ties the catalog to the state that holds it, opens the files named, and checks that every other name exists.
    ///
    /// # Errors
    /// `NotFound` (42P01) with the place and a near name; what is wrong with a file.
    pub(crate) async fn bind(&self, state: &Arc<SessionState>, shape: &Shape) -> Result<()> {
        // Only the first binding counts; a catalog belongs to one state.
        let _ = self.0.state.set(Arc::downgrade(state));
        let mut files = HashMap::new();
        for path in &shape.files {
            if !files.contains_key(path) {
                let file = crate::files::provider(state, path).await?;
                let file = file.ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("'{path}' is not a file that can be queried"))
                        .map(|e| {
                            e.with_sqlstate("58P01").with_hint(
                                "the name should end in .parquet, .csv, .tsv, .ndjson, .json or .arrow",
                            )
                        })
                })?;
                files.insert(path.clone(), file);
            }
        }
        let _ = self.0.files.set(files);
        shape.relations.iter().try_for_each(|name| self.check_relation(name))
    }

    /// Snapshot the names are of.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.0.snapshot
    }

    /// That a relation exists.
    ///
    /// # Errors
    /// `NotFound` (42P01, 3F000) with the place and a near name.
    pub(crate) fn check_relation(&self, name: &ObjectName) -> Result<()> {
        let (schema, table) = schema_and_name(name, &self.0.search_path)?;
        let at = |error: Error| match object_position(name) {
            Some(position) => error.at(position),
            None => error,
        };
        if schema == INFORMATION_SCHEMA {
            return Ok(());
        }
        if system::is_system_schema(&schema) {
            return if system::exists(&table) {
                Ok(())
            } else {
                Err(at(missing(&schema, &table, system::names())))
            };
        }
        let catalog = self.0.snapshot.catalog();
        if !catalog.has_schema(&schema) {
            return Err(at(missing_schema(&self.0.snapshot, &schema)));
        }
        if catalog.table(&schema, &table).is_some() || catalog.view(&schema, &table).is_some() {
            return Ok(());
        }
        let names = catalog
            .tables(&schema)
            .map(|t| t.name.as_str())
            .chain(catalog.views(&schema).map(|v| v.name.as_str()));
        let error = missing(&schema, &table, names);
        // The same name in another schema is the likelier meaning than a typo.
        let elsewhere = catalog.schemas().find(|s| {
            *s != schema && (catalog.table(s, &table).is_some() || catalog.view(s, &table).is_some())
        });
        Err(at(match elsewhere {
            Some(other) => error.map(|e| e.with_hint(format!("did you mean {other}.{table}?"))),
            None => error,
        }))
    }

    async fn lookup(&self, schema: &str, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let names = &self.0;
        if let Some(file) = names.files.get().and_then(|files| files.get(name)) {
            return Ok(Some(Arc::clone(file)));
        }
        if system::is_system_schema(schema) {
            return system::provider(name, &names.system).transpose();
        }
        if let Some(table) = names.snapshot.table_named(schema, name) {
            let provider = if names.pseudo_columns {
                CairnTable::with_pseudo_columns(table)
            } else {
                CairnTable::new(table)
            };
            return Ok(Some(Arc::new(provider)));
        }
        let instead = names.instead.as_ref().filter(|v| v.schema == schema && v.name == name);
        let Some(view) = instead.or_else(|| names.snapshot.catalog().view(schema, name)).cloned() else {
            return Ok(None);
        };
        let state = names.state.get().and_then(Weak::upgrade).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("view {schema}.{name} was looked up outside of a statement"),
            )
        })?;
        view::provider(&state, self, &view).await.map(Some)
    }

    fn object_names(&self, schema: &str) -> Vec<String> {
        if system::is_system_schema(schema) {
            return system::names().map(str::to_owned).collect();
        }
        let catalog = self.0.snapshot.catalog();
        let tables = catalog.tables(schema).map(|t| t.name.clone());
        let mut names: Vec<String> = tables.chain(catalog.views(schema).map(|v| v.name.clone())).collect();
        names.sort_unstable();
        names
    }

    fn has_object(&self, schema: &str, name: &str) -> bool {
        if self.0.files.get().is_some_and(|files| files.contains_key(name)) {
            return true;
        }
        if system::is_system_schema(schema) {
            return system::exists(name);
        }
        let catalog = self.0.snapshot.catalog();
        catalog.table(schema, name).is_some() || catalog.view(schema, name).is_some()
    }
}

/// Prepares a query of its own search path below `parent` and plans it: views, and nothing else.
pub(crate) async fn plan_below(
    state: &SessionState,
    parent: &SnapshotCatalog,
    mut query: Box<ast::Query>,
    search_path: &str,
) -> Result<datafusion::logical_expr::LogicalPlan> {
    select_values(&mut query)?;
    let mut statement = ast::Statement::Query(query);
    let shape = inspect(&statement);
    if shape.pseudo_columns {
        keep_pseudo_columns_out(&mut statement, parent.snapshot(), search_path)?;
    }
    let names = &parent.0;
    let catalog = SnapshotCatalog::at_depth(
        names.snapshot.clone(),
        Arc::clone(&names.system),
        search_path,
        &shape,
        (names.depth + 1, names.instead.clone()),
    );
    let mut state = state.clone();
    state.config_mut().options_mut().catalog.default_schema = search_path.to_owned();
    state.register_catalog_list(Arc::new(catalog.clone()));
    let state = Arc::new(state);
    catalog.bind(&state, &shape).await?;
    let scope = search::Scope {
        searches: Arc::clone(names.system.engine.searches()),
        snapshot: names.snapshot.clone(),
        search_path: search_path.to_owned(),
    };
    search::plan(&state, scope, statement).await
}

/// The error for a schema that isn't there.
pub(crate) fn missing_schema(snapshot: &Snapshot, schema: &str) -> Error {
    let catalog = snapshot.catalog();
    let names = catalog.schemas().chain([system::SCHEMA, INFORMATION_SCHEMA]);
    let hint = closest(schema, names)
        .map_or_else(|| "SHOW SCHEMAS lists them".to_owned(), |near| format!("did you mean {near}?"));
    Error::new(ErrorKind::NotFound, format!("schema {schema} does not exist"))
        .map(|e| e.with_sqlstate("3F000").with_hint(hint))
}

/// The error for a table or view that isn't there.
pub(crate) fn missing<'a>(schema: &str, table: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let hint = closest(table, names)
        .map_or_else(|| "SHOW TABLES lists them".to_owned(), |near| format!("did you mean {near}?"));
    Error::new(ErrorKind::NotFound, format!("table {schema}.{table} does not exist"))
        .map(|e| e.with_sqlstate("42P01").with_hint(hint))
}

impl CatalogProviderList for SnapshotCatalog {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for SnapshotCatalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.snapshot.catalog().schemas().map(str::to_owned).collect();
        names.push(system::SCHEMA.to_owned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == INFORMATION_SCHEMA {
            let state = self.0.state.get().and_then(Weak::upgrade);
            return Some(Arc::new(InformationSchema::new(self.clone(), state.as_deref())));
        }
        // With files in FROM every schema answers: their bare name is looked up in the session's, which may be gone.
        let known = system::is_system_schema(name)
            || self.0.snapshot.catalog().has_schema(name)
            || self.0.files.get().is_some_and(|f| !f.is_empty());
        known.then(|| {
            Arc::new(SnapshotSchema { catalog: self.clone(), name: name.to_owned() })
                as Arc<dyn SchemaProvider>
        })
    }
}

/// One schema of the snapshot.
#[derive(Debug)]
struct SnapshotSchema {
    catalog: SnapshotCatalog,
    name: String,
}

#[async_trait]
impl SchemaProvider for SnapshotSchema {
    fn table_names(&self) -> Vec<String> {
        self.catalog.object_names(&self.name)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.catalog.lookup(&self.name, name).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.has_object(&self.name, name)
    }
}
