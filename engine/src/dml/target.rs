//! The table a change names, and its columns by name.
//!
//! Owns: resolving names as written against the snapshot, with their errors. Does not own: SELECT's name resolution.

use std::sync::Arc;

use cairn_storage::schema::{ColumnDef, TableDef};
use cairn_storage::{ErrorKind, TableSnapshot};
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::rights::Right;

/// The table a statement changes, at the statement's snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its rows.
    pub(crate) table: TableSnapshot,
    /// Its definition.
    pub(crate) def: Arc<TableDef>,
    /// The time zone its new values are read in; None: UTC.
    pub(crate) zone: Option<Arc<str>>,
}

impl Target {
    /// Finds the table that `name` means, for what `right` lets do with it.
    ///
    /// # Errors
    /// No such table, or something that cannot be written; 42501 without the right.
    pub(crate) fn resolve(ctx: &StatementContext, name: &ObjectName, right: Right) -> Result<Self> {
        let target = Self::find(ctx, name)?;
        ctx.rights.table(right, &target.def)?;
        Ok(target)
    }

    /// Finds the table that `name` means, to change its definition.
    ///
    /// # Errors
    /// As [`Self::resolve`]; 42501 when it is somebody else's.
    pub(crate) fn owned(ctx: &StatementContext, name: &ObjectName) -> Result<Self> {
        let target = Self::find(ctx, name)?;
        let def = &target.def;
        ctx.rights.own(def.owner, &def.schema, &def.name)?;
        Ok(target)
    }

    fn find(ctx: &StatementContext, name: &ObjectName) -> Result<Self> {
        let (schema, table) = split_name(name, &ctx.search_path)?;
        if let Some(table) = ctx.snapshot.table_named(&schema, &table) {
            return Ok(Self { def: Arc::clone(table.def()), table, zone: ctx.zone() });
        }
        if matches!(schema.as_str(), "system" | "sys" | "information_schema" | "pg_catalog") {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("{schema}.{table} cannot be changed"),
            )
            .map(|e| e.with_hint("system tables show state; they are read-only")));
        }
        if ctx.snapshot.catalog().view(&schema, &table).is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("\"{table}\" is a view and cannot be changed"),
            )
            .map(|e| e.with_sqlstate("42809").with_hint("change the tables behind it")));
        }
        Err(Error::new(ErrorKind::NotFound, format!("table \"{schema}.{table}\" does not exist"))
            .map(|e| e.with_sqlstate("42P01")))
    }

    /// Position of the column called `name`.
    ///
    /// # Errors
    /// No such column.
    pub(crate) fn column(&self, name: &str) -> Result<usize> {
        self.def.columns.iter().position(|c| c.name == name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("column \"{name}\" of table \"{}\" does not exist", self.def.qualified_name()),
            )
            .map(|e| e.with_sqlstate("42703").with_hint(format!("its columns are {}", self.column_list())))
        })
    }

    /// The column at `index`, which [`Self::column`] gave.
    pub(crate) fn column_def(&self, index: usize) -> &ColumnDef {
        &self.def.columns[index]
    }

    /// Positions of columns as written, each named once.
    ///
    /// # Errors
    /// An unknown or repeated name.
    pub(crate) fn columns<'a>(&self, names: impl Iterator<Item = &'a Ident>) -> Result<Vec<usize>> {
        let mut indices = Vec::new();
        for name in names {
            let name = ident_text(name);
            let index = self.column(&name)?;
            if indices.contains(&index) {
                return Err(syntax(format!("column \"{name}\" specified more than once"))
                    .map(|e| e.with_sqlstate("42701")));
            }
            indices.push(index);
        }
        Ok(indices)
    }

    /// The qualifier that expressions of the statement see the table under.
    pub(crate) fn qualifier(&self, alias: Option<&Ident>) -> TableReference {
        match alias {
            Some(alias) => TableReference::bare(ident_text(alias)),
            None => TableReference::bare(self.def.name.clone()),
        }
    }

    /// Its schema and name, unless expressions of the statement know it by an alias alone.
    pub(crate) fn named_by(&self, alias: Option<&Ident>) -> Vec<(String, String)> {
        let named = alias.is_none().then(|| (self.def.schema.clone(), self.def.name.clone()));
        named.into_iter().collect()
    }

    fn column_list(&self) -> String {
        self.def.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Schema and table of a name as written.
///
/// # Errors
/// A name of more than three parts, or of something else than identifiers.
pub(crate) fn split_name(name: &ObjectName, search_path: &str) -> Result<(String, String)> {
    let parts = name.0.iter().map(part_text).collect::<Result<Vec<_>>>()?;
    match parts.as_slice() {
        [table] => Ok((search_path.to_owned(), table.clone())),
        [schema, table] | [_, schema, table] => Ok((schema.clone(), table.clone())),
        _ => Err(syntax(format!("\"{name}\" is not a table name"))),
    }
}

/// The last identifier of a column name as written (`c`, `t.c`).
///
/// # Errors
/// An empty name or a function in it.
pub(crate) fn column_ident(name: &ObjectName) -> Result<&Ident> {
    name.0
        .last()
        .and_then(ObjectNamePart::as_ident)
        .ok_or_else(|| syntax(format!("\"{name}\" is not a column name")))
}

fn part_text(part: &ObjectNamePart) -> Result<String> {
    part.as_ident().map(ident_text).ok_or_else(|| syntax(format!("\"{part}\" is not an identifier")))
}

/// An identifier's text: as written when quoted, else in lower case.
pub(crate) fn ident_text(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// An error in the form of the statement.
pub(crate) fn syntax(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42601"))
}
