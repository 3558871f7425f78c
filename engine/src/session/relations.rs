//! What a client's browser of schemas shows: relations, their columns and keys, as of the next statement.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::FutureExt;

use super::{Session, show};
use crate::catalog::{CATALOG, INFORMATION_SCHEMA};
use crate::error::Result;
use crate::statement::Shape;
use crate::system;

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelationKind {
    /// Rows of its own.
    Table,
    /// A name for a query.
    View,
    /// A table about the database itself; read-only.
    System,
}

/// A table or view by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// Schema it stands in.
    pub schema: String,
    /// Name within the schema.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
}

impl Session {
    /// Name of the database in `database.schema.table`.
    #[must_use]
    pub fn catalog_name() -> &'static str {
        CATALOG
    }

    /// Finds out what the session may see now; names below and completions are of that.
    ///
    /// # Errors
    /// Storage errors; 28000 when the user is gone.
    pub async fn look(&self) -> Result<()> {
        self.rights(&self.snapshot()).await.map(|_| ())
    }

    /// Tables, views and system tables that may be seen, by schema and name.
    #[must_use]
    pub fn relations(&self) -> Vec<Relation> {
        let (snapshot, seen) = (self.snapshot(), self.seen());
        let catalog = snapshot.catalog();
        let relation = |schema: &str, name: &str, kind| Relation {
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind,
        };
        let mut relations = Vec::new();
        for schema in catalog.schemas() {
            let tables = catalog.tables(schema).filter(|t| seen.sees(t.owner, schema, &t.name));
            let tables = tables.map(|t| relation(schema, &t.name, RelationKind::Table));
            let views = catalog.views(schema).filter(|v| seen.sees(v.owner, schema, &v.name));
            let views = views.map(|v| relation(schema, &v.name, RelationKind::View));
            relations.extend(tables.chain(views));
        }
        let about = datafusion::catalog::information_schema::INFORMATION_SCHEMA_TABLES;
        let about = about.iter().map(|name| relation(INFORMATION_SCHEMA, name, RelationKind::System));
        relations.extend(about);
        relations.extend(system::names().map(|name| relation(system::SCHEMA, name, RelationKind::System)));
        relations.sort_unstable();
        relations
    }

    /// Columns of each of `relations`, in their order; a view is planned for it.
    ///
    /// # Errors
    /// 42P01 for one that is not there; what is wrong with a view.
    pub async fn relation_schemas(&self, relations: Vec<Relation>) -> Result<Vec<SchemaRef>> {
        self.take_defaults().await?;
        let limits = self.limits.of_statement(self.own_limits().await?, None, None);
        let (session, timeout) = (self.handle(), self.lock().settings.statement_timeout);
        // Columns of a view are found by planning it.
        let schemas = async move { session.relation_schemas_now(&relations).await }.boxed();
        limits.run_in_time(timeout, schemas).await
    }

    async fn relation_schemas_now(&self, relations: &[Relation]) -> Result<Vec<SchemaRef>> {
        let settings = self.lock().settings.clone();
        let (context, catalog) = self.context(&Shape::default(), &settings, None).await?;
        let mut schemas = Vec::with_capacity(relations.len());
        let mut failed = None;
        for Relation { schema, name, .. } in relations {
            let found = match context.snapshot.catalog().table(schema, name) {
                Some(def) => context.rights.see(def.owner, schema, name).map(|()| def.arrow_schema()),
                // What they look like is no secret, whoever may read them.
                None if schema == system::SCHEMA && system::exists(name) => {
                    Ok(system::schema_of(name).unwrap_or_else(|| Arc::new(Schema::empty())))
                }
                None => show::relation_schema(&context, &catalog, schema, name).await,
            };
            match found {
                Ok(schema) => schemas.push(schema),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop((context, catalog));
        self.lock().unpin();
        failed.map_or(Ok(schemas), Err)
    }

    /// The column of a table that gives new rows a number; None when there is no such table, or none of its columns does.
    #[must_use]
    pub fn identity_column(&self, schema: &str, table: &str) -> Option<String> {
        let snapshot = self.snapshot();
        let def = Arc::clone(snapshot.catalog().table(schema, table)?);
        if !self.seen().sees(def.owner, schema, table) {
            return None;
        }
        let (at, _) = def.numbered_by()?;
        Some(def.columns[at].name.clone())
    }

    /// Columns of a table's primary key in key order; None when there is no such table, empty when it has no key.
    #[must_use]
    pub fn primary_key(&self, schema: &str, table: &str) -> Option<Vec<String>> {
        let snapshot = self.snapshot();
        let def = Arc::clone(snapshot.catalog().table(schema, table)?);
        if !self.seen().sees(def.owner, schema, table) {
            return None;
        }
        Some(def.key_indices().into_iter().map(|i| def.columns[i].name.clone()).collect())
    }
}
