//! How the columns of files become the columns of the table.
//!
//! Owns: the match by name or position, defaults for columns no file has, numbers where an identity column has no value. Does not own: casts
//! (`dml::assign_batch`). As in PostgreSQL, a column that is GENERATED ALWAYS AS IDENTITY takes the values it is given, too: so what was copied
//! out can be copied in.

use std::sync::Arc;

use cairn_storage::schema::TableDef;
use cairn_storage::{ErrorKind, TableWriter};
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::Ident;

use super::vectors::BadRow;
use crate::context::StatementContext;
use crate::dml::{Target, assign_batch, assign_column, default_expr, null_violation, physical_expr};
use crate::error::{Error, Result};

/// The table's side of a COPY FROM.
pub(super) struct TableColumns {
    pub(super) def: Arc<TableDef>,
    pub(super) schema: SchemaRef,
    /// Columns the statement loads, in its order.
    pub(super) loaded: Vec<usize>,
    /// Default of every column.
    defaults: Vec<Arc<dyn PhysicalExpr>>,
    /// The time zone that times without one are of; None: UTC.
    pub(super) zone: Option<Arc<str>>,
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
        Self::over(ctx, &target.def, loaded)
    }

    /// The columns `loaded` of a table, which the statement itself may create.
    ///
    /// # Errors
    /// A default that cannot be planned.
    pub(super) fn over(ctx: &StatementContext, def: &Arc<TableDef>, loaded: Vec<usize>) -> Result<Self> {
        let empty = DFSchema::empty();
        let defaults = def
            .columns
            .iter()
            .map(|c| physical_expr(&ctx.state, default_expr(ctx, c)?, &empty))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { schema: def.arrow_schema(), def: Arc::clone(def), loaded, defaults, zone: ctx.zone() })
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

    /// `rows` rows of the table, for `writer`, from file columns and the table columns they fill.
    ///
    /// # Errors
    /// A value that does not fit, NULL where none may be, or too few numbers for the rows.
    pub(super) fn batch(
        &self,
        writer: &mut TableWriter,
        filled: &[usize],
        arrays: &[ArrayRef],
        rows: usize,
    ) -> Result<RecordBatch> {
        let empty = no_columns(rows)?;
        let mut columns = (0..self.def.columns.len())
            .map(|index| match filled.iter().position(|f| *f == index) {
                Some(position) => Ok(Arc::clone(&arrays[position])),
                None => Ok(self.defaults[index].evaluate(&empty)?.into_array(rows)?),
            })
            .collect::<Result<Vec<_>>>()?;
        if let Some((at, _)) = self.def.numbered_by() {
            columns[at] = assign_column(&self.def.columns[at], &columns[at], self.zone.as_ref())?;
            columns = writer.numbered(columns)?;
        }
        assign_batch(&self.def, &self.schema, &columns, rows, None, self.zone.as_ref())
    }
}

impl TableColumns {
    /// Those of the loaded columns that have a default: a row that lacks one gets it.
    pub(super) fn with_default(&self) -> Vec<usize> {
        self.loaded.iter().copied().filter(|i| self.def.columns[*i].default.is_some()).collect()
    }

    /// `array` of column `index` with the default where nothing is `present`.
    ///
    /// # Errors
    /// The default fails, or does not fit the column.
    pub(super) fn fill_missing(
        &self,
        index: usize,
        array: &ArrayRef,
        present: &BooleanArray,
    ) -> Result<ArrayRef> {
        let empty = no_columns(array.len())?;
        let default = self.defaults[index].evaluate(&empty)?.into_array(array.len())?;
        let default = assign_column(&self.def.columns[index], &default, self.zone.as_ref())?;
        // What was read may say another zone yet.
        let default = cast(&default, array.data_type()).map_err(cairn_storage::Error::from)?;
        Ok(zip(present, array, &default).map_err(cairn_storage::Error::from)?)
    }

    /// Whether a file may have NULL for column `index`: it is that, or the next number.
    pub(super) fn takes_null(&self, index: usize) -> bool {
        self.def.columns[index].nullable || self.def.numbered_by().is_some_and(|(at, _)| at == index)
    }

    /// Whether a NULL may stand among `arrays` where none may be.
    pub(super) fn may_have_forbidden_nulls(&self, filled: &[usize], arrays: &[ArrayRef]) -> bool {
        filled.iter().zip(arrays).any(|(i, a)| !self.takes_null(*i) && a.null_count() > 0)
    }

    /// The first of `filled` that is NULL in `row` and must not be.
    pub(super) fn forbidden_null(&self, filled: &[usize], arrays: &[ArrayRef], row: usize) -> Option<usize> {
        let null = |(index, array): &(&usize, &ArrayRef)| !self.takes_null(**index) && array.is_null(row);
        filled.iter().zip(arrays).find(null).map(|(index, _)| *index)
    }

    /// No vector of column `index`, at `place` in a file.
    pub(super) fn vector_error(&self, place: &str, index: usize, bad: &BadRow) -> Error {
        let message = format!("{place}: column \"{}\": {}", self.def.columns[index].name, bad.why);
        Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(bad.sqlstate))
    }

    /// NULL in column `index`, which allows none, at `place` in a file.
    pub(super) fn null_error(&self, place: &str, index: usize) -> Error {
        let error = null_violation(&self.def, &self.def.columns[index]);
        let message = format!("{place}: {}", error.message());
        Error::new(error.kind(), message).map(|e| e.with_sqlstate(error.sqlstate()))
    }
}

/// `rows` rows of nothing, which constants are evaluated over.
fn no_columns(rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(cairn_storage::Error::from)?)
}

fn mismatch(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate("42601"))
}
