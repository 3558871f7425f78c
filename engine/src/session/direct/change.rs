//! UPDATE and DELETE by full primary key: the row is looked up as SELECT by key does it, and what becomes of it goes into a write
//! set as that of a planned change does.
//!
//! Owns: recognising them. SET takes plain values, and a column of whole numbers plus or minus one; what does not convert, or would
//! break a rule of the table, is planned, which then says what is wrong.

use std::sync::Arc;

use cairn_storage::schema::{ColumnType, TableDef};
use cairn_storage::segment::EncodedKey;
use cairn_storage::{Snapshot, TableSnapshot};
use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use datafusion::arrow::datatypes::{Int16Type, Int32Type, Int64Type};
use datafusion::common::ParamValues;
use datafusion::sql::sqlparser::ast::{
    self, Assignment, AssignmentTarget, BinaryOperator, Expr, FromTable, ObjectName, TableFactor,
};

use super::key::{equalities, key_of};
use crate::config::Settings;
use crate::context::commit;
use crate::dml::{column_ident, ident_text, needs_zone, set_value, split_name, whole_number};
use crate::error::Result;
use crate::output::Output;
use crate::rights::{Right, Rights};
use crate::session::Session;

/// `UPDATE t SET column = value, … WHERE column = value AND …`, `DELETE FROM t WHERE column = value AND …`
#[derive(Debug)]
pub(in crate::session) struct KeyChange {
    table: ObjectName,
    equal: Vec<(String, Expr)>,
    /// None: the row is deleted.
    set: Option<Vec<(String, NewValue)>>,
}

#[derive(Debug)]
enum NewValue {
    Plain(Expr),
    /// That of `column` and `by` more, or less.
    Moved {
        column: String,
        by: Expr,
        less: bool,
    },
}

struct Resolved {
    table: TableSnapshot,
    key: EncodedKey,
}

impl KeyChange {
    pub(super) fn recognise(change: &ast::Statement) -> Option<Self> {
        // Whatever else the change says shows in its text.
        let (relation, selection, set, plain) = match change {
            ast::Statement::Update(update) => {
                let set = update.assignments.iter().map(assigned).collect::<Option<Vec<_>>>()?;
                let is_twice = |at: usize| set[..at].iter().any(|(other, _)| *other == set[at].0);
                // The planner's to refuse.
                if (0..set.len()).any(is_twice) {
                    return None;
                }
                let written: Vec<String> = update.assignments.iter().map(ToString::to_string).collect();
                let plain = format!("UPDATE {} SET {}", update.table, written.join(", "));
                (&update.table, update.selection.as_ref()?, Some(set), plain)
            }
            ast::Statement::Delete(delete) => {
                let FromTable::WithFromKeyword(from) = &delete.from else { return None };
                let [from] = from.as_slice() else { return None };
                (from, delete.selection.as_ref()?, None, format!("DELETE FROM {from}"))
            }
            _ => return None,
        };
        let TableFactor::Table { name, args: None, .. } = &relation.relation else { return None };
        let mut equal = Vec::new();
        equalities(selection, &mut equal)?;
        let is_plain = relation.to_string() == name.to_string()
            && change.to_string() == format!("{plain} WHERE {selection}");
        is_plain.then(|| Self { table: name.clone(), equal, set })
    }

    /// How many rows it changed; None: plan it.
    ///
    /// # Errors
    /// What storage says of the row; `Conflict` when a fresh snapshot may succeed. Nothing has changed then.
    pub(super) async fn run(
        &self,
        session: &Session,
        settings: &Settings,
        params: Option<&ParamValues>,
    ) -> Result<Option<Output>> {
        let (db, block) = (session.engine.database(), session.block());
        // What it has may be gone by now.
        if db.follows() {
            return Ok(None);
        }
        let snapshot = block.as_ref().map_or_else(|| db.snapshot(), |block| block.snapshot());
        let rights = session.rights(&snapshot).await?;
        let Some(Resolved { table, key }) = self.resolve(&snapshot, &rights, settings, params) else {
            return Ok(None);
        };
        let def = Arc::clone(table.def());
        let columns: Vec<usize> = match self.set {
            Some(_) => (0..def.columns.len()).collect(),
            None => Vec::new(),
        };
        let found = table.lookup_for(std::slice::from_ref(&key), &columns).await?;
        let ids: Vec<_> = found.into_iter().flatten().collect();
        let mut new = None;
        if let (Some(set), false) = (&self.set, ids.is_empty()) {
            let old = table.rows(&ids, &columns, false).await?;
            let Some(changed) = changed(&def, &old, set, params) else { return Ok(None) };
            new = Some(changed);
        } else if let Some(set) = &self.set {
            // What is wrong with a value is wrong where there is no row, too.
            let old = RecordBatch::new_empty(def.arrow_schema());
            if set.iter().any(|(column, value)| new_value(&def, &old, column, value, params).is_none()) {
                return Ok(None);
            }
        }
        let transaction = db.begin(&snapshot).await?;
        if !ids.is_empty() {
            transaction.delete(def.id, &ids)?;
        }
        if let Some(new) = new {
            if !self.sets_key(&def) {
                transaction.keeps_keys(def.id)?;
            }
            let mut writer = transaction.writer(def.id)?;
            writer.write(new).await?;
            writer.finish().await?;
        }
        commit(block.as_deref(), &settings.info, settings.given.as_ref(), transaction).await?;
        let verb = if self.set.is_some() { "UPDATE" } else { "DELETE" };
        Ok(Some(Output::Affected { verb, rows: ids.len() as u64, notes: Vec::new() }))
    }

    /// Whether a column of the primary key is assigned.
    fn sets_key(&self, def: &TableDef) -> bool {
        let key = def.key_indices();
        let is_set = |name: &str| self.set.iter().flatten().any(|(column, _)| column == name);
        key.into_iter().any(|column| is_set(&def.columns[column].name))
    }

    fn resolve(
        &self,
        snapshot: &Snapshot,
        rights: &Rights,
        settings: &Settings,
        params: Option<&ParamValues>,
    ) -> Option<Resolved> {
        let (schema, name) = split_name(&self.table, &settings.search_path).ok()?;
        let table = snapshot.table_named(&schema, &name)?;
        let right = if self.set.is_some() { Right::Update } else { Right::Delete };
        if !rights.may(right, table.def()) || !rights.may(Right::Select, table.def()) {
            return None;
        }
        if self.set.is_some() && needs_zone(table.def(), settings) {
            return None;
        }
        let key = key_of(&table, &self.equal, params)?;
        Some(Resolved { table, key })
    }
}

/// The column that an assignment is for, and its value.
fn assigned(assignment: &Assignment) -> Option<(String, NewValue)> {
    let AssignmentTarget::ColumnName(name) = &assignment.target else { return None };
    let [_] = name.0.as_slice() else { return None };
    let value = match &assignment.value {
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } => {
            let Expr::Identifier(column) = left.as_ref() else { return None };
            let less = matches!(op, BinaryOperator::Minus);
            NewValue::Moved { column: ident_text(column), by: right.as_ref().clone(), less }
        }
        value => NewValue::Plain(value.clone()),
    };
    Some((ident_text(column_ident(name).ok()?), value))
}

/// The row `old` as SET makes it; None: plan it.
fn changed(
    def: &TableDef,
    old: &RecordBatch,
    set: &[(String, NewValue)],
    params: Option<&ParamValues>,
) -> Option<RecordBatch> {
    if old.num_rows() != 1 {
        return None;
    }
    let mut columns: Vec<Option<ArrayRef>> = vec![None; def.columns.len()];
    for (name, value) in set {
        let (at, array) = new_value(def, old, name, value, params)?;
        columns[at] = Some(array);
    }
    let columns = columns.into_iter().zip(old.columns());
    let columns = columns.map(|(new, old)| new.unwrap_or_else(|| Arc::clone(old))).collect();
    // Refuses NULLs where none may be; the planned path then names the column.
    RecordBatch::try_new(def.arrow_schema(), columns).ok()
}

/// The position of the column called `name`, and what it gets.
fn new_value(
    def: &TableDef,
    old: &RecordBatch,
    name: &str,
    value: &NewValue,
    params: Option<&ParamValues>,
) -> Option<(usize, ArrayRef)> {
    let position = |name: &str| def.columns.iter().position(|column| column.name == name);
    let at = position(name)?;
    let column = &def.columns[at];
    // The planner's to refuse.
    if def.identity.is_some_and(|identity| identity.always && identity.column == column.id) {
        return None;
    }
    let array = match value {
        NewValue::Plain(value) => set_value(column, value, params)?,
        NewValue::Moved { column: from, by, less } => {
            let from = position(from)?;
            if def.columns[from].column_type != column.column_type {
                return None;
            }
            let by = whole_number(by, params)?;
            let by = if *less { by.checked_neg()? } else { by };
            let old = old.column(from);
            match column.column_type {
                ColumnType::Int16 => moved::<Int16Type>(old, by)?,
                ColumnType::Int32 => moved::<Int32Type>(old, by)?,
                ColumnType::Int64 => moved::<Int64Type>(old, by)?,
                _ => return None,
            }
        }
    };
    Some((at, array))
}

/// The numbers of `old`, each with `by` added; None: one is too large for their type.
fn moved<T: ArrowPrimitiveType>(old: &ArrayRef, by: i64) -> Option<ArrayRef>
where
    T::Native: Into<i64> + TryFrom<i64>,
{
    let mut moved = Vec::with_capacity(old.len());
    for number in old.as_primitive_opt::<T>()? {
        moved.push(match number {
            Some(number) => {
                let number: i64 = number.into();
                Some(<T::Native as TryFrom<i64>>::try_from(number.checked_add(by)?).ok()?)
            }
            None => None,
        });
    }
    Some(Arc::new(moved.into_iter().collect::<PrimitiveArray<T>>()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::statement::{Statement, parse};

    #[test]
    fn only_plain_changes_by_equality_are_taken() {
        let is_taken = |sql: &str| {
            let Statement::Dml(change) = parse(sql).unwrap() else { panic!("{sql} is no change") };
            KeyChange::recognise(&change).is_some()
        };
        for sql in [
            "UPDATE t SET a = $1, \"B\" = 'x' WHERE id = $2 AND k = 7",
            "UPDATE s.t SET n = n + 1, m = n - $1 WHERE id = 1",
            "DELETE FROM t WHERE id = ?",
        ] {
            assert!(is_taken(sql), "{sql}");
        }
        for sql in [
            "UPDATE t SET a = 1",
            "UPDATE t SET a = 1 WHERE id > 1",
            "UPDATE t SET a = 1 WHERE id = 1 OR id = 2",
            "UPDATE t SET a = 1, a = 2 WHERE id = 1",
            "UPDATE t SET (a, b) = (1, 2) WHERE id = 1",
            "UPDATE t SET a = b * 2 + 1 WHERE id = 1",
            "UPDATE t AS x SET a = 1 WHERE id = 1",
            "UPDATE t SET a = u.a FROM u WHERE id = 1",
            "UPDATE t SET a = 1 WHERE id = 1 RETURNING a",
            "DELETE FROM t",
            "DELETE FROM t USING u WHERE id = 1",
            "DELETE FROM t WHERE id = 1 RETURNING id",
            "WITH u AS (SELECT 1) DELETE FROM t WHERE id = 1",
            "INSERT INTO t VALUES (1)",
        ] {
            assert!(!is_taken(sql), "{sql}");
        }
    }
}
