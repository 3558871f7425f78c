//! Names of one statement, resolved against its snapshot.
//!
//! Owns: DataFusion's catalog traits over a pinned [`Snapshot`]: tables, views (planned from their text when looked up),
//! `system` and its alias `sys`, `information_schema`, files named in FROM. Does not own: changing the catalog (`ddl`), the rows (`provider`).
//! A catalog never sees a newer version than its snapshot, so a plan stays valid while the next statement runs.
//! Looking a table or view up asks for the right to read it; what a view names is looked up with the rights of its owner,
//! and rows that it hides stay behind a screen (`screen`).

mod information_schema;
mod screen;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use cairn_storage::schema::{TableDef, ViewDef};
use cairn_storage::{ErrorKind, Snapshot};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::sql::sqlparser::ast::{self, ObjectName};

use self::information_schema::InformationSchema;
use crate::error::{Error, Result, closest};
use crate::provider::CairnTable;
use crate::rights::{Right, Rights};
use crate::scan::pseudo::with_pseudo_columns;
use crate::search;
use crate::statement::{
    Shape, call_session_words, compare_exactly, inspect, keep_pseudo_columns_out, object_position,
    query_lists, schema_and_name, select_values, series_in_zone, settle_nested,
};
use crate::system::{self, SystemSource};

/// Name of the database in `database.schema.table`.
pub(crate) const CATALOG: &str = "cairn";
/// Name of DataFusion's schema about schemas.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// The names one statement (or one view in it) sees.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotCatalog(Arc<Names>);

#[derive(Clone, Debug)]
struct Names {
    snapshot: Snapshot,
    system: Arc<SystemSource>,
    search_path: String,
    /// What may be read.
    rights: Rights,
    /// What shows in lists, where nothing is read but columns.
    listed: Option<Rights>,
    /// Whether tables show `_row_id` and `_version`.
    pseudo_columns: bool,
    /// How many views deep.
    depth: usize,
    instead: Instead,
    /// Whether views are read; otherwise their columns are asked for, and no subquery of theirs is run.
    runs: bool,
    /// Files named in FROM, opened before planning.
    files: OnceLock<HashMap<String, Arc<dyn TableProvider>>>,
    /// Objects that functions in FROM name, by function and text; opened before planning, which cannot wait for them.
    calls: OnceLock<HashMap<(String, String), Arc<dyn TableProvider>>>,
    /// The state that holds this catalog; needed to plan views.
    state: OnceLock<Weak<SessionState>>,
}

/// What would be, in place of what the snapshot has under its name.
#[derive(Clone, Debug, Default)]
struct Instead {
    view: Option<Arc<ViewDef>>,
    /// Of which only the columns are asked for.
    table: Option<Arc<TableDef>>,
}

impl SnapshotCatalog {
    /// Names at `snapshot` for a statement of `shape`.
    pub(crate) fn new(
        snapshot: Snapshot,
        system: Arc<SystemSource>,
        search_path: &str,
        shape: &Shape,
        rights: Rights,
    ) -> Self {
        Self::at_depth(snapshot, system, search_path, shape, rights, (0, Instead::default()), true)
    }

    /// The same names, of which only the columns are asked for.
    pub(crate) fn described(&self) -> Self {
        Self(Arc::new(Names { runs: false, ..Names::clone(&self.0) }))
    }

    /// The same names with `view` in place of what is under its name.
    pub(crate) fn with_view(&self, view: Arc<ViewDef>) -> Self {
        let names = &self.0;
        let (snapshot, system) = (names.snapshot.clone(), Arc::clone(&names.system));
        let (shape, rights) = (Shape::default(), names.rights.clone());
        Self::at_depth(
            snapshot,
            system,
            &names.search_path,
            &shape,
            rights,
            (names.depth, Instead { view: Some(view), ..names.instead.clone() }),
            names.runs,
        )
    }

    /// The same names with a table of other columns in place of what is under its name, to plan with and not to read.
    pub(crate) fn with_table(&self, table: Arc<TableDef>) -> Self {
        let names = &self.0;
        let (snapshot, system) = (names.snapshot.clone(), Arc::clone(&names.system));
        let (shape, rights) = (Shape::default(), names.rights.clone());
        let instead = Instead { table: Some(table), ..names.instead.clone() };
        Self::at_depth(snapshot, system, &names.search_path, &shape, rights, (names.depth, instead), false)
    }

    /// The names that show in lists; each of them can be looked up, for its columns.
    fn listing(&self) -> Self {
        let names = &self.0;
        let (snapshot, system) = (names.snapshot.clone(), Arc::clone(&names.system));
        Self(Arc::new(Names {
            snapshot,
            system,
            search_path: names.search_path.clone(),
            rights: Rights::All,
            listed: Some(names.rights.clone()),
            pseudo_columns: false,
            depth: names.depth,
            instead: Instead::default(),
            runs: false,
            files: OnceLock::new(),
            calls: OnceLock::new(),
            state: names.state.clone(),
        }))
    }

    fn at_depth(
        snapshot: Snapshot,
        system: Arc<SystemSource>,
        search_path: &str,
        shape: &Shape,
        rights: Rights,
        (depth, instead): (usize, Instead),
        runs: bool,
    ) -> Self {
        Self(Arc::new(Names {
            snapshot,
            system,
            search_path: search_path.to_owned(),
            rights,
            listed: None,
            pseudo_columns: shape.pseudo_columns,
            depth,
            instead,
            runs,
            files: OnceLock::new(),
            calls: OnceLock::new(),
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
        let mut calls = HashMap::new();
        for call in &shape.calls {
            if !calls.contains_key(call)
                && let Some(objects) = crate::files::opened(state, &call.0, &call.1).await?
            {
                calls.insert(call.clone(), objects);
            }
        }
        let _ = self.0.calls.set(calls);
        shape.relations.iter().try_for_each(|name| self.check_relation(name))
    }

    /// The objects of a call in FROM of the statement.
    pub(crate) fn opened(&self, function: &str, text: &str) -> Option<Arc<dyn TableProvider>> {
        let call = (function.to_owned(), text.to_owned());
        self.0.calls.get()?.get(&call).cloned()
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
            return Err(at(unknown_schema(&self.0.snapshot, self.listed(), &schema)));
        }
        if catalog.table(&schema, &table).is_some() || catalog.view(&schema, &table).is_some() {
            return Ok(());
        }
        let names = self.object_names(&schema);
        let error = missing(&schema, &table, names.iter().map(String::as_str));
        // The same name in another schema is the likelier meaning than a typo.
        let elsewhere = catalog.schemas().find(|s| *s != schema && self.shows(s, &table));
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
            if system::is_of_everything(name) {
                names.rights.superuser(&format!("read {schema}.{name}"))?;
            }
            return system::provider(name, &names.system).transpose();
        }
        let table = names.instead.table.as_ref().filter(|t| t.schema == schema && t.name == name);
        if let Some(table) = table {
            let columns = table.arrow_schema();
            let shown = if names.pseudo_columns { with_pseudo_columns(&columns) } else { columns };
            return Ok(Some(Arc::new(EmptyTable::new(shown))));
        }
        if let Some(table) = names.snapshot.table_named(schema, name) {
            names.rights.table(Right::Select, table.def())?;
            let provider = if names.pseudo_columns {
                CairnTable::with_pseudo_columns(table)
            } else {
                CairnTable::new(table)
            };
            return Ok(Some(Arc::new(provider)));
        }
        let instead = names.instead.view.as_ref().filter(|v| v.schema == schema && v.name == name);
        let Some(view) = instead.or_else(|| names.snapshot.catalog().view(schema, name)).cloned() else {
            return Ok(None);
        };
        names.rights.view(&view)?;
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
        let (catalog, listed) = (self.0.snapshot.catalog(), self.listed());
        let tables = catalog.tables(schema).filter(|t| listed.sees(t.owner, schema, &t.name));
        let views = catalog.views(schema).filter(|v| listed.sees(v.owner, schema, &v.name));
        let mut names: Vec<String> =
            tables.map(|t| t.name.clone()).chain(views.map(|v| v.name.clone())).collect();
        names.sort_unstable();
        names
    }

    /// What shows in lists.
    fn listed(&self) -> &Rights {
        self.0.listed.as_ref().unwrap_or(&self.0.rights)
    }

    /// Whether there is a table or view of that name that shows in lists.
    fn shows(&self, schema: &str, name: &str) -> bool {
        let catalog = self.0.snapshot.catalog();
        let owner = match (catalog.table(schema, name), catalog.view(schema, name)) {
            (Some(table), _) => table.owner,
            (None, Some(view)) => view.owner,
            (None, None) => return false,
        };
        self.listed().sees(owner, schema, name)
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
    rights: Rights,
) -> Result<datafusion::logical_expr::LogicalPlan> {
    select_values(&mut query)?;
    let mut statement = ast::Statement::Query(query);
    let shape = inspect(&statement);
    compare_exactly(&mut statement, parent.snapshot(), search_path);
    if shape.session_words {
        call_session_words(&mut statement);
    }
    if shape.lists {
        query_lists(&mut statement)?;
    }
    if shape.nested {
        settle_nested(&mut statement);
    }
    if shape.pseudo_columns {
        keep_pseudo_columns_out(&mut statement, parent.snapshot(), search_path)?;
    }
    series_in_zone(&mut statement, state);
    let names = &parent.0;
    let catalog = SnapshotCatalog::at_depth(
        names.snapshot.clone(),
        Arc::clone(&names.system),
        search_path,
        &shape,
        rights.clone(),
        (names.depth + 1, names.instead.clone()),
        names.runs,
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
        pseudo_columns: shape.pseudo_columns,
        rights,
        described: !names.runs,
    };
    if names.runs {
        search::bind_subqueries(&state, &scope, None, &mut statement).await?;
    }
    search::plan(&state, scope, statement).await
}

/// The error for a schema that isn't there; of those that are, it names only what shows.
pub(crate) fn unknown_schema(snapshot: &Snapshot, seen: &Rights, schema: &str) -> Error {
    let names = snapshot.catalog().schemas().filter(|name| seen.sees_schema(snapshot, name));
    let hint = closest(schema, names.chain([system::SCHEMA, INFORMATION_SCHEMA]))
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
        let (snapshot, listed) = (&self.0.snapshot, self.listed());
        let schemas = snapshot.catalog().schemas().filter(|schema| listed.sees_schema(snapshot, schema));
        let mut names: Vec<String> = schemas.map(str::to_owned).collect();
        names.push(system::SCHEMA.to_owned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == INFORMATION_SCHEMA {
            let state = self.0.state.get().and_then(Weak::upgrade);
            return Some(Arc::new(InformationSchema::new(self.listing(), state.as_deref())));
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
        match self.catalog.lookup(&self.name, name).await {
            Ok(table) => Ok(table),
            // A list goes on without the columns of a view over files that this session may not read.
            Err(e) if self.catalog.0.listed.is_some() && e.kind() == ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.has_object(&self.name, name)
    }
}
