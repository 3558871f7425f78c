//! ALTER TABLE: a new definition of a table, and no row written.
//!
//! Owns: what may become of a definition, and what stands on its columns. Does not own: how older rows are read under the new one
//! (storage). Several changes of one statement are made one after the other, and take effect together.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::id::{ColumnId, IndexId, UserId};
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_storage::segment::StatValue;
use cairn_storage::wal::CatalogEdit;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::collect;
use datafusion::sql::sqlparser::ast::{
    self, AlterColumnOperation, AlterTable, AlterTableOperation, DataType, DropBehavior, Expr, Ident,
    ObjectName, RenameTableNameKind, SqlOption,
};

use super::column::Column;
use super::drop::{RemovedUnits, on_them, standing_on};
use super::identity::widened;
use super::view::check_added_columns;
use super::{at, at_ident, column, invalid, name, table, taken};
use crate::catalog::SnapshotCatalog;
use crate::context::StatementContext;
use crate::dialect::types::column_type;
use crate::dml::{self, Target};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights;
use crate::statement::{name_of, object_position, schema_and_name};

const VERB: &str = "ALTER TABLE";

/// ALTER TABLE.
///
/// # Errors
/// 42P01 without IF EXISTS, 42501 when it is another's, 42703 and 42701 for columns missing and there already, 23502 for NULLs in a
/// column that shall have none, 2BP01 for what stands on a column or on the table's name, or would change with a new column; what is
/// wrong with a column or option.
pub(crate) async fn alter_table(
    context: &StatementContext,
    catalog: &SnapshotCatalog,
    alter: &AlterTable,
) -> Result<Output> {
    let position = object_position(&alter.name);
    refuse_unread(alter).map_err(|e| at(e, position))?;
    let target = match Target::owned(context, &alter.name) {
        Ok(target) => target,
        Err(error) if alter.if_exists && error.kind() == ErrorKind::NotFound => {
            return Ok(Output::Done { verb: VERB, notes: vec![format!("{}, skipped", error.message())] });
        }
        Err(error) => return Err(at(error, position)),
    };
    let mut altered = Altered {
        context,
        target: &target,
        def: TableDef::clone(&target.def),
        notes: Vec::new(),
        views: BTreeSet::new(),
    };
    for operation in &alter.operations {
        let done = Box::pin(altered.apply(operation)).await;
        done.map_err(|e| if e.position().is_some() { e } else { at(e, position) })?;
    }
    let Altered { mut def, notes, views, .. } = altered;
    if def == *target.def {
        return Ok(Output::Done { verb: VERB, notes });
    }
    if let Some(wider) = with_added(&target.def, &def) {
        let tables = (&target.def, Arc::new(wider));
        check_added_columns(context, catalog, tables, &views).await.map_err(|e| at(e, position))?;
    }
    def.schema_version = def.schema_version.next();
    let gone = |id: &IndexId| !def.indexes.iter().any(|index| index.id == *id);
    let gone: Vec<IndexId> = target.def.indexes.iter().map(|index| index.id).filter(gone).collect();
    let units = RemovedUnits::of_indexes(context, def.id, &gone);
    let transaction = context.db.begin(&context.snapshot).await?;
    if def.name != target.def.name {
        rights::renamed(context, &transaction, &def.schema, &target.def.name, &def.name).await?;
    }
    rights::forget(context, &transaction, &BTreeSet::new(), &views).await?;
    for (schema, name) in views {
        transaction.edit(CatalogEdit::DropView { schema, name })?;
    }
    transaction.edit(CatalogEdit::PutTable(Arc::new(def)))?;
    context.commit(transaction).await?;
    units.remove(context).await;
    Ok(Output::Done { verb: VERB, notes })
}

/// `before` with the columns that only `after` has; None: there are none.
fn with_added(before: &TableDef, after: &TableDef) -> Option<TableDef> {
    let is_new = |column: &&ColumnDef| before.columns.iter().all(|known| known.id != column.id);
    let added: Vec<&ColumnDef> = after.columns.iter().filter(is_new).collect();
    if added.is_empty() {
        return None;
    }
    let mut wider = before.clone();
    // The same statement has dropped that one.
    wider.columns.retain(|known| added.iter().all(|column| column.name != known.name));
    wider.columns.extend(added.into_iter().cloned());
    Some(wider)
}

/// A definition while it is changed.
struct Altered<'a> {
    context: &'a StatementContext,
    target: &'a Target,
    def: TableDef,
    notes: Vec<String>,
    /// To be dropped: schema and name.
    views: BTreeSet<(String, String)>,
}

impl Altered<'_> {
    async fn apply(&mut self, operation: &AlterTableOperation) -> Result<()> {
        match operation {
            AlterTableOperation::AddColumn { column_def, if_not_exists, column_position: None, .. } => {
                self.add(column_def, *if_not_exists).await
            }
            AlterTableOperation::DropColumn { column_names, if_exists, drop_behavior, .. } => {
                let cascade = matches!(drop_behavior, Some(DropBehavior::Cascade));
                column_names.iter().try_for_each(|ident| self.drop_column(ident, *if_exists, cascade))
            }
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                self.rename_column(old_column_name, new_column_name)
            }
            AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) } => self.rename(to),
            AlterTableOperation::AlterColumn { column_name, op } => self.column(column_name, op).await,
            AlterTableOperation::SetOptionsParens { options } => self.set(options),
            other => Err(Error::not_supported_yet(format!("ALTER TABLE … {}", words(&other.to_string())))),
        }
    }

    async fn column(&mut self, ident: &Ident, operation: &AlterColumnOperation) -> Result<()> {
        match operation {
            AlterColumnOperation::SetNotNull => self.set_not_null(ident).await,
            AlterColumnOperation::DropNotNull => self.drop_not_null(ident),
            AlterColumnOperation::SetDefault { value } => self.set_default(ident, value).await,
            AlterColumnOperation::DropDefault => {
                let index = self.index(ident)?;
                self.def.columns[index].default = None;
                Ok(())
            }
            AlterColumnOperation::SetDataType { data_type, using, .. } => {
                self.set_type(ident, data_type, using.as_ref())
            }
            AlterColumnOperation::AddGenerated { .. } => {
                Err(at_ident(Error::not_supported_yet("GENERATED … AS IDENTITY"), ident))
            }
        }
    }

    async fn add(&mut self, written: &ast::ColumnDef, if_not_exists: bool) -> Result<()> {
        let name = name_of(&written.name);
        if self.def.columns.iter().any(|column| column.name == name) {
            let message = format!("column {name} of {} already exists", self.def.qualified_name());
            if if_not_exists {
                self.notes.push(format!("{message}, skipped"));
                return Ok(());
            }
            return Err(already(message, "42701", &written.name));
        }
        column::check_count(self.def.columns.len() + 1)?;
        let Column { def: mut column, is_key, identity } =
            column::column(self.context, self.def.columns.len(), written).await?;
        if identity.is_some() {
            let error = Error::not_supported_yet("an IDENTITY column in ALTER TABLE … ADD COLUMN");
            let hint = "create a table with it, and INSERT INTO it the rows of this one";
            return Err(at_ident(error.map(|e| e.with_hint(hint)), &written.name));
        }
        if is_key {
            let error = Error::not_supported_yet("PRIMARY KEY in ALTER TABLE");
            return Err(at_ident(error, &written.name));
        }
        column.id = self.def.next_column_id;
        column.initial = initial(self.context, &column).await.map_err(|e| at_unplaced(e, &written.name))?;
        if !column.nullable && column.initial.is_none() && self.target.table.row_count().await? > 0 {
            let message = format!(
                "column {name} would be NULL in the rows of {}, and is NOT NULL",
                self.def.qualified_name()
            );
            let error = Error::new(ErrorKind::ConstraintViolation, message)
                .map(|e| e.with_sqlstate("23502").with_hint("give it a DEFAULT, which those rows get"));
            return Err(at_ident(error, &written.name));
        }
        self.def.next_column_id = column.id.next();
        self.def.columns.push(column);
        Ok(())
    }

    fn drop_column(&mut self, ident: &Ident, if_exists: bool, cascade: bool) -> Result<()> {
        let index = match self.index(ident) {
            Ok(index) => index,
            Err(error) if if_exists => {
                self.notes.push(format!("{}, skipped", error.message()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let column = self.def.columns[index].clone();
        if let Some(place) = self.place_in_order(column.id) {
            let message =
                format!("column {} is in the {place} of {}", column.name, self.def.qualified_name());
            return Err(at_ident(invalid("2BP01", message), ident));
        }
        if self.def.columns.len() == 1 {
            let message = format!("{} has no other column; a table needs one", self.def.qualified_name());
            return Err(
                at_ident(invalid("42601", message), ident).map(|e| e.with_hint("DROP TABLE drops it wholly"))
            );
        }
        self.drop_views(&column.name, cascade).map_err(|e| at_ident(e, ident))?;
        for index in self.def.indexes.iter().filter(|index| index.column == column.id) {
            self.notes.push(format!("index {}.{} is dropped too", self.def.schema, index.name));
        }
        self.def.indexes.retain(|index| index.column != column.id);
        self.def.columns.remove(index);
        self.def.identity = self.def.identity.filter(|identity| identity.column != column.id);
        Ok(())
    }

    /// Views that may read a column: dropped with CASCADE, with those that stand on them, an error without.
    fn drop_views(&mut self, column: &str, cascade: bool) -> Result<()> {
        let found = standing_on(self.context, &self.target.def, Some(column));
        let found: Vec<_> =
            found.into_iter().filter(|(_, s, n)| !self.views.contains(&(s.clone(), n.clone()))).collect();
        if found.is_empty() {
            return Ok(());
        }
        if !cascade {
            return Err(self.stand(&found, "CASCADE drops them too"));
        }
        self.views.extend(on_them(self.context, found, &mut self.notes)?);
        Ok(())
    }

    fn rename_column(&mut self, from: &Ident, to: &Ident) -> Result<()> {
        let index = self.index(from)?;
        let new = name::new_object(to)?;
        if self.def.columns[index].name == new {
            return Ok(());
        }
        if self.def.columns.iter().any(|column| column.name == new) {
            let message = format!("column {new} of {} already exists", self.def.qualified_name());
            return Err(already(message, "42701", to));
        }
        let found = standing_on(self.context, &self.target.def, Some(&self.def.columns[index].name));
        if !found.is_empty() {
            return Err(at_ident(
                self.stand(&found, "drop them, and create them again with the new name"),
                from,
            ));
        }
        self.def.columns[index].name = new;
        Ok(())
    }

    fn rename(&mut self, to: &ObjectName) -> Result<()> {
        let (schema, new) = schema_and_name(to, &self.def.schema)?;
        let placed = |error: Error| at(error, object_position(to));
        if schema != self.def.schema {
            return Err(placed(Error::not_supported_yet("ALTER TABLE … RENAME TO another schema")));
        }
        if let Some(ident) = to.0.last().and_then(|part| part.as_ident()) {
            name::new_object(ident)?;
        }
        if new == self.def.name {
            return Ok(());
        }
        self.context.rights.create_in(&schema).map_err(placed)?;
        if let Some(message) = taken(self.context, &schema, &new) {
            let error = Error::new(ErrorKind::AlreadyExists, message).map(|e| e.with_sqlstate("42P07"));
            return Err(placed(error));
        }
        let found = standing_on(self.context, &self.target.def, None);
        if !found.is_empty() {
            return Err(placed(self.stand(&found, "drop them, and create them again over the new name")));
        }
        self.def.name = new;
        Ok(())
    }

    fn set_type(&mut self, ident: &Ident, data_type: &DataType, using: Option<&Expr>) -> Result<()> {
        if using.is_some() {
            return Err(at_ident(Error::not_supported_yet("USING in ALTER COLUMN … TYPE"), ident));
        }
        let index = self.index(ident)?;
        let wider = column_type(data_type).map_err(|e| at_unplaced(e, ident))?;
        let column = &self.def.columns[index];
        if column.column_type == wider {
            return Ok(());
        }
        if let Some(place) = self.place_in_order(column.id) {
            let what =
                format!("another type for column {}, which is in the {place} of its table", column.name);
            return Err(at_ident(Error::not_supported_yet(what), ident));
        }
        if !wider.widens(&column.column_type) {
            let what = format!("changing column {} from {} to {wider}", column.name, column.column_type);
            let hint = "a type can become a wider one: INTEGER to BIGINT, REAL to DOUBLE, DECIMAL(9,2) to DECIMAL(12,3); else add a column, \
                        UPDATE it, and drop this one";
            return Err(at_ident(Error::not_supported_yet(what).map(|e| e.with_hint(hint)), ident));
        }
        let lost = || Error::new(ErrorKind::Internal, "a value that its wider type does not hold");
        let held = |value| wider.widened(&column.column_type, value).ok_or_else(lost);
        let initial = column.initial.as_ref().map(held).transpose()?;
        if let Some(identity) = &mut self.def.identity
            && identity.column == column.id
        {
            *identity = widened(*identity, &column.column_type, &wider);
        }
        let column = &mut self.def.columns[index];
        (column.column_type, column.initial) = (wider, initial);
        Ok(())
    }

    /// That a column does not number the rows, since it would be `what`.
    fn check_no_identity(&self, index: usize, what: &str, ident: &Ident) -> Result<()> {
        let column = &self.def.columns[index];
        if self.def.identity.is_some_and(|identity| identity.column == column.id) {
            let message = format!("column {} is an IDENTITY, which cannot be {what}", column.name);
            return Err(at_ident(invalid("42601", message), ident));
        }
        Ok(())
    }

    async fn set_default(&mut self, ident: &Ident, value: &Expr) -> Result<()> {
        let index = self.index(ident)?;
        self.check_no_identity(index, "DEFAULT", ident)?;
        let column = &self.def.columns[index];
        let text = column::check_default(self.context, &column.name, &column.column_type, value).await;
        self.def.columns[index].default = Some(text.map_err(|e| at_unplaced(e, ident))?);
        Ok(())
    }

    /// The rows are looked at as the statement sees them; storage refuses the commit when others came meanwhile.
    async fn set_not_null(&mut self, ident: &Ident) -> Result<()> {
        let index = self.index(ident)?;
        let column = &self.def.columns[index];
        if !column.nullable {
            return Ok(());
        }
        let table = &self.target.table;
        let there = self.target.def.columns.iter().position(|known| known.id == column.id);
        let has_null = match there {
            Some(there) => table.has_null(there).await?,
            None => column.initial.is_none() && table.row_count().await? > 0,
        };
        if has_null {
            let message = format!("column {} of {} has NULLs", column.name, self.def.qualified_name());
            let error = Error::new(ErrorKind::ConstraintViolation, message)
                .map(|e| e.with_sqlstate("23502").with_hint("UPDATE the rows where it IS NULL first"));
            return Err(at_ident(error, ident));
        }
        self.def.columns[index].nullable = false;
        Ok(())
    }

    fn drop_not_null(&mut self, ident: &Ident) -> Result<()> {
        let index = self.index(ident)?;
        if self.def.primary_key.contains(&self.def.columns[index].id) {
            let message = format!("column {} is in the primary key and cannot be NULL", name_of(ident));
            return Err(at_ident(invalid("42P16", message), ident));
        }
        self.check_no_identity(index, "NULL", ident)?;
        self.def.columns[index].nullable = true;
        Ok(())
    }

    fn set(&mut self, options: &[SqlOption]) -> Result<()> {
        let table::TableOptions { sort, layout } = table::TableOptions::read(options, &self.def.columns)?;
        if let Some(sort) = sort {
            self.def.sort = sort;
        }
        self.def.layout = layout.unwrap_or(self.def.layout);
        Ok(())
    }

    /// Where rows are ordered by a column; None: nowhere.
    fn place_in_order(&self, column: ColumnId) -> Option<&'static str> {
        if self.def.primary_key.contains(&column) {
            return Some("primary key");
        }
        self.def.sort.contains(&column).then_some("sort order")
    }

    fn index(&self, ident: &Ident) -> Result<usize> {
        let name = name_of(ident);
        let found = self.def.columns.iter().position(|column| column.name == name);
        found.ok_or_else(|| at_ident(column::no_column(&name, &self.def.columns, VERB), ident))
    }

    fn stand(&self, views: &[(Option<UserId>, String, String)], hint: &'static str) -> Error {
        let names = self.context.rights.names(views);
        invalid("2BP01", format!("views stand on it: {names}")).map(|e| e.with_hint(hint))
    }
}

fn already(message: String, sqlstate: &'static str, ident: &Ident) -> Error {
    at_ident(Error::new(ErrorKind::AlreadyExists, message).map(|e| e.with_sqlstate(sqlstate)), ident)
}

fn at_unplaced(error: Error, ident: &Ident) -> Error {
    if error.position().is_some() { error } else { at_ident(error, ident) }
}

/// The first words of a clause.
fn words(clause: &str) -> String {
    clause.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A column's default as it is now, which the rows that are there get.
///
/// # Errors
/// The default's; 0A000 for a type whose values a definition does not hold, and for NaN.
async fn initial(context: &StatementContext, column: &ColumnDef) -> Result<Option<StatValue>> {
    if column.default.is_none() {
        return Ok(None);
    }
    let value = dml::default_expr(context, column)?.alias(&column.name);
    let plan = LogicalPlanBuilder::empty(true).project([value])?.build()?;
    let plan = context.state.create_physical_plan(&plan).await?;
    let batches = collect(plan, context.state.task_ctx()).await?;
    let batch = batches.iter().find(|batch| batch.num_rows() == 1);
    let batch = batch.ok_or_else(|| Error::new(ErrorKind::Internal, "a default that is not one value"))?;
    let array = dml::assign_column(column, batch.column(0), context.zone().as_ref())?;
    stored(column, &array)
}

fn stored(column: &ColumnDef, array: &ArrayRef) -> Result<Option<StatValue>> {
    let value = ScalarValue::try_from_array(array, 0)?;
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(match value {
        ScalarValue::Boolean(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::Int8(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::Int16(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::Int32(Some(value)) | ScalarValue::Date32(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::UInt8(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::UInt16(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::UInt32(Some(value)) => StatValue::Int(value.into()),
        ScalarValue::UInt64(Some(value)) => StatValue::UInt(value),
        ScalarValue::Int64(Some(value))
        | ScalarValue::Time64Microsecond(Some(value))
        | ScalarValue::TimestampMicrosecond(Some(value), _)
        | ScalarValue::TimestampNanosecond(Some(value), _) => StatValue::Int(value),
        ScalarValue::Float32(Some(value)) if !value.is_nan() => StatValue::Float(value.into()),
        ScalarValue::Float64(Some(value)) if !value.is_nan() => StatValue::Float(value),
        ScalarValue::Decimal128(Some(value), _, _) => StatValue::Decimal(value),
        ScalarValue::Utf8View(Some(text)) => {
            if column.column_type == ColumnType::Json
                && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text)
            {
                let message = format!("the default of column {} is not JSON: {error}", column.name);
                return Err(invalid("22032", message));
            }
            StatValue::Text(text)
        }
        ScalarValue::BinaryView(Some(bytes)) => StatValue::Bytes(bytes),
        _ => {
            let what =
                format!("this DEFAULT of the added column {} of type {}", column.name, column.column_type);
            let hint = "add the column without a default, then SET DEFAULT and UPDATE the rows";
            return Err(Error::not_supported_yet(what).map(|e| e.with_hint(hint)));
        }
    }))
}

/// Refuses every part of the statement that would otherwise be dropped without a word.
fn refuse_unread(alter: &AlterTable) -> Result<()> {
    let unread = [
        (alter.only, "ALTER TABLE ONLY"),
        (alter.location.is_some(), "SET LOCATION"),
        (alter.on_cluster.is_some(), "ON CLUSTER"),
        (alter.table_type.is_some(), "this kind of table"),
    ];
    match unread.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(Error::not_supported_yet(*what)),
        None => Ok(()),
    }
}
