//! How the columns of files become the columns of the table.
//!
//! Owns: the match by name or position, defaults for columns no file has. Does not own: casts (`dml::assign_batch`).

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::TableDef;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::Ident;

use crate::context::StatementContext;
use crate::dml::{Target, assign_batch, default_expr, physical_expr};
use crate::error::{Error, Result};

/// The table's side of a COPY FROM.
pub(super) struct TableColumns {
    pub(super) def: Arc<TableDef>,
    pub(super) schema: SchemaRef,
    /// Columns the statement loads, in its order.
    pub(super) loaded: Vec<usize>,
    /// Default of every column.
    defaults: Vec<Arc<dyn PhysicalExpr>>,
}

impl TableColumns {
    /// The columns `names` of the table, all when it is empty.
    ///
    /// # Errors
    /// An unknown or repeated name; a default that cannot be planned.
    pub(super) fn new(ctx: &StatementContext, target: &Target, names: &[Ident]) -> Result<Self> {
        let loaded = if names.is_empty() {
            (0..target.def.columns.len()).collect()
        } else {
            target.columns(names.iter())?
        };
        let empty = DFSchema::empty();
        let defaults = target
            .def
            .columns
            .iter()
            .map(|c| physical_expr(ctx, default_expr(ctx, c)?, &empty))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { schema: target.def.arrow_schema(), def: Arc::clone(&target.def), loaded, defaults })
    }

    /// For each column of a file the table's column it fills, by name; every name must be one that is loaded.
    ///
    /// # Errors
    /// A column the table or the statement does not have; a name that comes twice.
    pub(super) fn by_name<'a>(&self, file: &str, names: impl Iterator<Item = &'a str>) -> Result<Vec<usize>> {
        let mut filled = Vec::new();
        let mut unknown = Vec::new();
        for name in names {
            let found = self.find(name);
            match found {
                Some(index) if filled.contains(&index) => {
                    return Err(mismatch(format!("{file}: column \"{name}\" occurs twice")));
                }
                Some(index) => filled.push(index),
                None => unknown.push(format!("\"{name}\"")),
            }
        }
        if unknown.is_empty() {
            return Ok(filled);
        }
        let known: Vec<&str> = self.loaded.iter().map(|i| self.def.columns[*i].name.as_str()).collect();
        Err(mismatch(format!(
            "{file}: table \"{}\" has no column {}",
            self.def.qualified_name(),
            unknown.join(", ")
        ))
        .map(|e| e.with_sqlstate("42703").with_hint(format!("columns to load are {}", known.join(", ")))))
    }

    fn find(&self, name: &str) -> Option<usize> {
        let at = |test: &dyn Fn(&str) -> bool| {
            self.loaded.iter().copied().find(|i| test(&self.def.columns[*i].name))
        };
        at(&|column| column == name).or_else(|| at(&|column| column.eq_ignore_ascii_case(name)))
    }

    /// `rows` rows of the table from file columns and the table columns they fill.
    ///
    /// # Errors
    /// A value that does not fit, or NULL where none may be.
    pub(super) fn batch(&self, filled: &[usize], arrays: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
            .map_err(cairn_storage::Error::from)?;
        let columns = (0..self.def.columns.len())
            .map(|index| match filled.iter().position(|f| *f == index) {
                Some(position) => Ok(Arc::clone(&arrays[position])),
                None => Ok(self.defaults[index].evaluate(&empty)?.into_array(rows)?),
            })
            .collect::<Result<Vec<_>>>()?;
        assign_batch(&self.def, &self.schema, &columns, rows, None)
    }
}

fn mismatch(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42601"))
}
