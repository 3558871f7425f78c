//! The tables that users, roles and grants are kept in: ordinary ones, in a schema that no statement can name.
//!
//! Owns: their definitions and rows. They are made with the first user or role; before that there are no accounts. Changing
//! a row is deleting it and writing another.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_storage::id::{ColumnId, RowId, SchemaVersion, TableId, UserId};
use cairn_storage::schema::{ColumnDef, ColumnType, ROW_ID_COLUMN, TableDef};
use cairn_storage::version::OWN_SCHEMA;
use cairn_storage::wal::CatalogEdit;
use cairn_storage::{ErrorKind, Snapshot, TableSnapshot, Transaction};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringViewArray, UInt64Array,
};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionState;
use datafusion::physical_plan::collect;

use super::accounts::{Account, Accounts, Grant, Membership, Scope};
use super::{Right, UserLimit, UserLimits};
use crate::error::{Error, Result};
use crate::provider::CairnTable;

/// The tables, in the order of [`Own`].
pub(super) const NAMES: [&str; 4] = ["users", "members", "grants", "limits"];

/// The tables at one version; None for those that were not made yet.
pub(super) type Found = [Option<TableSnapshot>; NAMES.len()];

/// One of the tables.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own {
    Users,
    Members,
    Grants,
    /// A database of an older version has none before its accounts are changed.
    Limits,
}

/// Columns of a table as (name, type, nullable), and how many of the first ones are its key.
fn layout(table: Own) -> (Vec<(&'static str, ColumnType, bool)>, usize) {
    let (text, number) = (ColumnType::Text, ColumnType::UInt64);
    match table {
        Own::Users => {
            let superuser = ("superuser", ColumnType::Boolean, false);
            let (name, password) = (("name", text.clone(), false), ("password", text, true));
            (vec![name, ("id", number, false), superuser, password], 1)
        }
        Own::Members => (vec![("role", number.clone(), false), ("member", number, false)], 2),
        // No schema: on the database. No object: on the schema.
        Own::Grants => {
            let (schema, object) = (("schema", text.clone(), false), ("object", text.clone(), false));
            (vec![("grantee", number, false), schema, object, ("right", text, false)], 4)
        }
        Own::Limits => {
            (vec![("user", number.clone(), false), ("name", text, false), ("value", number, false)], 2)
        }
    }
}

/// A table at a version; None when none of them was made yet.
pub(super) fn find(snapshot: &Snapshot, name: &str) -> Option<TableSnapshot> {
    snapshot.table(snapshot.catalog().own_table(name)?.id)
}

/// The tables as one transaction changes them.
pub(super) struct OwnTables<'a> {
    transaction: &'a Transaction,
    defs: [Arc<TableDef>; NAMES.len()],
}

impl<'a> OwnTables<'a> {
    /// The tables, made by this very transaction when there are none.
    pub(super) fn open(transaction: &'a Transaction) -> Result<Self> {
        let catalog = transaction.snapshot().catalog();
        if !catalog.has_own_schema() {
            transaction.edit(CatalogEdit::CreateSchema { name: OWN_SCHEMA.to_owned() })?;
        }
        let open = |table: Own| match catalog.own_table(NAMES[table as usize]) {
            Some(def) => Ok(Arc::clone(def)),
            None => {
                let def = Arc::new(definition(table, transaction.next_table_id()));
                transaction.edit(CatalogEdit::PutTable(Arc::clone(&def)))?;
                Ok::<_, Error>(def)
            }
        };
        let defs = [open(Own::Users)?, open(Own::Members)?, open(Own::Grants)?, open(Own::Limits)?];
        Ok(Self { transaction, defs })
    }

    /// Makes the transaction conflict with any other that changes the catalog meanwhile: it depends on names there.
    pub(super) fn depend_on_names(&self) -> Result<()> {
        let grants = Arc::clone(&self.defs[Own::Grants as usize]);
        Ok(self.transaction.edit(CatalogEdit::PutTable(grants))?)
    }

    pub(super) fn delete(&self, table: Own, rows: &[RowId]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        Ok(self.transaction.delete(self.defs[table as usize].id, rows)?)
    }

    pub(super) async fn add_account(&self, account: &Account) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            text([account.name.as_str()]),
            numbers([account.id.0]),
            Arc::new(BooleanArray::from(vec![account.superuser])),
            Arc::new(StringViewArray::from_iter([account.password.as_deref()])),
        ];
        self.write(Own::Users, columns).await?;
        let limits: Vec<(UserLimit, u64)> = account.limits.given().collect();
        let columns = vec![
            numbers(limits.iter().map(|_| account.id.0)),
            text(limits.iter().map(|(limit, _)| limit.name())),
            numbers(limits.iter().map(|(_, value)| *value)),
        ];
        self.write(Own::Limits, columns).await
    }

    /// Takes the rows of accounts away, with those of their limits.
    pub(super) fn delete_accounts(&self, accounts: &[&Account]) -> Result<()> {
        self.delete(Own::Users, &accounts.iter().map(|account| account.row).collect::<Vec<_>>())?;
        let limits: Vec<RowId> =
            accounts.iter().flat_map(|account| account.limit_rows.iter().copied()).collect();
        self.delete(Own::Limits, &limits)
    }

    pub(super) async fn add_memberships(&self, added: &[(UserId, UserId)]) -> Result<()> {
        let columns =
            vec![numbers(added.iter().map(|(role, _)| role.0)), numbers(added.iter().map(|(_, m)| m.0))];
        self.write(Own::Members, columns).await
    }

    pub(super) async fn add_grants(&self, added: &[(UserId, &Scope, Right)]) -> Result<()> {
        let place = |on: &Scope| match on {
            Scope::Database => (String::new(), String::new()),
            Scope::Schema(schema) => (schema.clone(), String::new()),
            Scope::Table(schema, name) => (schema.clone(), name.clone()),
        };
        let columns = vec![
            numbers(added.iter().map(|(grantee, _, _)| grantee.0)),
            text(added.iter().map(|(_, on, _)| place(on).0)),
            text(added.iter().map(|(_, on, _)| place(on).1)),
            text(added.iter().map(|(_, _, right)| right.word())),
        ];
        self.write(Own::Grants, columns).await
    }

    async fn write(&self, table: Own, columns: Vec<ArrayRef>) -> Result<()> {
        let def = &self.defs[table as usize];
        let batch = RecordBatch::try_new(def.arrow_schema(), columns)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut writer = self.transaction.writer(def.id)?;
        writer.write(batch).await?;
        writer.finish().await?;
        Ok(())
    }
}

fn definition(table: Own, id: TableId) -> TableDef {
    let (columns, key) = layout(table);
    let columns: Vec<ColumnDef> = (1..)
        .zip(columns)
        .map(|(id, (name, column_type, nullable))| ColumnDef {
            id: ColumnId(id),
            name: name.to_owned(),
            column_type,
            nullable,
            default: None,
            initial: None,
        })
        .collect();
    TableDef {
        id,
        schema: OWN_SCHEMA.to_owned(),
        name: NAMES[table as usize].to_owned(),
        schema_version: SchemaVersion(1),
        primary_key: columns.iter().take(key).map(|column| column.id).collect(),
        sort: Vec::new(),
        next_column_id: columns.last().map_or(ColumnId(1), |column| column.id.next()),
        columns,
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
    }
}

/// What stands in the tables.
///
/// # Errors
/// Storage errors; `Corrupt` for a row that no statement writes.
pub(super) async fn read(tables: &Found, state: &SessionState) -> Result<Accounts> {
    let mut limits: HashMap<UserId, (UserLimits, Vec<RowId>)> = HashMap::new();
    for rows in batches(tables, Own::Limits, state).await? {
        let (users, names, values) = (rows.numbers(0)?, rows.texts(1)?, rows.numbers(2)?);
        for (i, row) in rows.ids()?.values().iter().enumerate() {
            let limit = UserLimit::of_name(names.value(i)).ok_or_else(|| damaged(Own::Limits))?;
            let of = limits.entry(UserId(users.value(i))).or_default();
            of.0.set(limit, values.value(i));
            of.1.push(RowId(*row));
        }
    }
    let mut accounts = Vec::new();
    for rows in batches(tables, Own::Users, state).await? {
        let (names, passwords) = (rows.texts(0)?, rows.texts(3)?);
        let (ids, superuser) = (rows.numbers(1)?, rows.column(2)?.as_boolean_opt());
        let superuser = superuser.ok_or_else(|| damaged(Own::Users))?;
        for (i, row) in rows.ids()?.values().iter().enumerate() {
            let id = UserId(ids.value(i));
            let (limits, limit_rows) = limits.remove(&id).unwrap_or_default();
            accounts.push(Account {
                row: RowId(*row),
                id,
                name: names.value(i).to_owned(),
                superuser: superuser.value(i),
                password: passwords.is_valid(i).then(|| passwords.value(i).to_owned()),
                limits,
                limit_rows,
            });
        }
    }
    let mut memberships = Vec::new();
    for rows in batches(tables, Own::Members, state).await? {
        let (roles, members) = (rows.numbers(0)?, rows.numbers(1)?);
        for (i, row) in rows.ids()?.values().iter().enumerate() {
            let (role, member) = (UserId(roles.value(i)), UserId(members.value(i)));
            memberships.push(Membership { row: RowId(*row), role, member });
        }
    }
    let mut grants = Vec::new();
    for rows in batches(tables, Own::Grants, state).await? {
        let (grantees, rights) = (rows.numbers(0)?, rows.texts(3)?);
        let (schemas, objects) = (rows.texts(1)?, rows.texts(2)?);
        for (i, row) in rows.ids()?.values().iter().enumerate() {
            let on = match (schemas.value(i), objects.value(i)) {
                ("", _) => Scope::Database,
                (schema, "") => Scope::Schema(schema.to_owned()),
                (schema, object) => Scope::Table(schema.to_owned(), object.to_owned()),
            };
            let right = Right::of_word(rights.value(i)).ok_or_else(|| damaged(Own::Grants))?;
            grants.push(Grant { row: RowId(*row), grantee: UserId(grantees.value(i)), on, right });
        }
    }
    Ok(Accounts::new(accounts, memberships, grants))
}

/// Rows of a table with their ids.
struct Rows(Own, RecordBatch);

impl Rows {
    fn column(&self, index: usize) -> Result<&ArrayRef> {
        self.1.columns().get(index).ok_or_else(|| damaged(self.0))
    }

    fn texts(&self, index: usize) -> Result<&StringViewArray> {
        self.column(index)?.as_string_view_opt().ok_or_else(|| damaged(self.0))
    }

    fn numbers(&self, index: usize) -> Result<&UInt64Array> {
        self.column(index)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| damaged(self.0))
    }

    fn ids(&self) -> Result<&UInt64Array> {
        let column = self.1.column_by_name(ROW_ID_COLUMN).ok_or_else(|| damaged(self.0))?;
        column.as_primitive_opt::<UInt64Type>().ok_or_else(|| damaged(self.0))
    }
}

async fn batches(tables: &Found, table: Own, state: &SessionState) -> Result<Vec<Rows>> {
    let Some(snapshot) = &tables[table as usize] else { return Ok(Vec::new()) };
    let provider = CairnTable::with_pseudo_columns(snapshot.clone());
    let plan = provider.scan(state, None, &[], None).await?;
    let batches = collect(plan, state.task_ctx()).await?;
    Ok(batches.into_iter().map(|batch| Rows(table, batch)).collect())
}

fn damaged(table: Own) -> Error {
    let what = format!("table {OWN_SCHEMA}.{}", NAMES[table as usize]);
    Error::new(ErrorKind::Corrupt, format!("{what} is damaged: a row is not of its form"))
        .map(|e| e.with_hint("run VERIFY, and restore the database from a backup"))
}

fn text<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(values))
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}
