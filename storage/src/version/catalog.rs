//! Names: schemas, tables and views at one version.
//!
//! Owns: look-up by name and what each [`CatalogEdit`] does. A value: edits make a new one that shares the rest.
//! What stands in [`OWN_SCHEMA`] has no name to users: of all look-ups only [`Catalog::own_table`] finds it.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::manifest::CatalogRecord;
use crate::schema::{TableDef, ViewDef};
use crate::wal::CatalogEdit;

/// Schema every database has, and the default of a session.
pub const DEFAULT_SCHEMA: &str = "public";
/// Schema of the tables that Cairn keeps for itself, made when the first of them is needed.
pub const OWN_SCHEMA: &str = "cairn";

type Name = (String, String);

/// Names of one version.
#[derive(Clone, Debug)]
pub struct Catalog {
    schemas: OrdSet<String>,
    tables: OrdMap<Name, Arc<TableDef>>,
    views: OrdMap<Name, Arc<ViewDef>>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { schemas: OrdSet::unit(DEFAULT_SCHEMA.to_owned()), tables: OrdMap::new(), views: OrdMap::new() }
    }
}

fn name(schema: &str, name: &str) -> Name {
    (schema.to_owned(), name.to_owned())
}

fn within<'a, T>(map: &'a OrdMap<Name, T>, schema: &str) -> impl Iterator<Item = &'a T> {
    let schema = schema.to_owned();
    map.range((schema.clone(), String::new())..).take_while(move |((s, _), _)| *s == schema).map(|(_, v)| v)
}

impl Catalog {
    /// The catalog a manifest describes.
    #[must_use]
    pub fn from_record(record: &CatalogRecord, tables: impl Iterator<Item = Arc<TableDef>>) -> Self {
        Self {
            schemas: record.schemas.iter().cloned().collect(),
            tables: tables.map(|t| (name(&t.schema, &t.name), t)).collect(),
            views: record.views.iter().map(|v| (name(&v.schema, &v.name), Arc::clone(v))).collect(),
        }
    }

    /// What a manifest says of it; tables stand in records of their own.
    #[must_use]
    pub fn to_record(&self) -> CatalogRecord {
        CatalogRecord {
            schemas: self.schemas.iter().cloned().collect(),
            views: self.views.values().cloned().collect(),
        }
    }

    /// Schema names, sorted.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(String::as_str).filter(|schema| *schema != OWN_SCHEMA)
    }

    /// Whether there is such a schema.
    #[must_use]
    pub fn has_schema(&self, schema: &str) -> bool {
        schema != OWN_SCHEMA && self.schemas.contains(schema)
    }

    /// A table by name.
    #[must_use]
    pub fn table(&self, schema: &str, table: &str) -> Option<&Arc<TableDef>> {
        if schema == OWN_SCHEMA { None } else { self.tables.get(&name(schema, table)) }
    }

    /// A table that Cairn keeps for itself.
    #[must_use]
    pub fn own_table(&self, table: &str) -> Option<&Arc<TableDef>> {
        self.tables.get(&name(OWN_SCHEMA, table))
    }

    /// Whether there is a schema for such tables.
    #[must_use]
    pub fn has_own_schema(&self) -> bool {
        self.schemas.contains(OWN_SCHEMA)
    }

    /// Tables of a schema, by name.
    pub fn tables(&self, schema: &str) -> impl Iterator<Item = &Arc<TableDef>> {
        within(&self.tables, schema).filter(|table| table.schema != OWN_SCHEMA)
    }

    /// A view by name.
    #[must_use]
    pub fn view(&self, schema: &str, view: &str) -> Option<&Arc<ViewDef>> {
        self.views.get(&name(schema, view))
    }

    /// Views of a schema, by name.
    pub fn views(&self, schema: &str) -> impl Iterator<Item = &Arc<ViewDef>> {
        within(&self.views, schema)
    }

    /// Applies one edit; the same edit again changes nothing.
    pub(crate) fn apply(&mut self, edit: &CatalogEdit) {
        match edit {
            CatalogEdit::CreateSchema { name } => {
                self.schemas.insert(name.clone());
            }
            CatalogEdit::DropSchema { name } => {
                self.schemas.remove(name);
            }
            CatalogEdit::PutTable(def) => {
                self.remove_table(|t| t.id == def.id);
                self.tables.insert(name(&def.schema, &def.name), Arc::clone(def));
            }
            CatalogEdit::DropTable { table } => self.remove_table(|t| t.id == *table),
            CatalogEdit::PutView(view) => {
                self.views.insert(name(&view.schema, &view.name), Arc::clone(view));
            }
            CatalogEdit::DropView { schema, name: view } => {
                self.views.remove(&name(schema, view));
            }
            CatalogEdit::PutUnit(_) | CatalogEdit::DropUnits { .. } | CatalogEdit::SwapSegments(_) => {}
        }
    }

    fn remove_table(&mut self, which: impl Fn(&TableDef) -> bool) {
        let found = self.tables.iter().find(|(_, t)| which(t)).map(|(k, _)| k.clone());
        if let Some(key) = found {
            self.tables.remove(&key);
        }
    }
}
