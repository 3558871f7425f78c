//! What sessions begin with: settings that the database keeps.
//!
//! Owns: SET and RESET … FOR DATABASE, and the table that their values are kept in: an ordinary one in a schema that no statement can
//! name, made with the first of them. Changing a row is deleting it and writing another. Does not own: which settings there are and
//! what they take (`config`), when a session takes them (`session`).
//!
//! A table that is damaged holds nobody up: sessions begin without its values and say so, and what is set next takes its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cairn_storage::id::{ColumnId, RowId, SchemaVersion, TableId};
use cairn_storage::schema::{ColumnDef, ColumnType, ROW_ID_COLUMN, TableDef};
use cairn_storage::version::{OWN_SCHEMA, TableState};
use cairn_storage::wal::CatalogEdit;
use cairn_storage::{ErrorKind, Snapshot, TableSnapshot, Transaction};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray, UInt64Array};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionState;
use datafusion::physical_plan::collect;

use crate::catalog::{INFORMATION_SCHEMA, unknown_schema};
use crate::config::Settings;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::provider::CairnTable;
use crate::system::is_system_schema;

/// The table.
const TABLE: &str = "settings";

/// What helps where it is damaged.
const GIVES_UP: &str = "RESET ALL FOR DATABASE gives up what was kept, as SET … FOR DATABASE does, too";

/// Values by the names of their settings.
pub(crate) type Defaults = BTreeMap<String, String>;

/// One row of the table.
struct Kept {
    row: RowId,
    name: String,
    value: String,
}

/// Runs one attempt of SET … FOR DATABASE, or without a value of RESET …; without a name of RESET ALL.
///
/// # Errors
/// 42501 for who may not; as [`Settings::for_database`]; 3F000 for a schema that is not there.
pub(crate) async fn run(
    context: &StatementContext,
    name: Option<&str>,
    value: Option<&str>,
) -> Result<Output> {
    context.rights.superuser("change the settings of the database")?;
    let wanted = match name {
        Some(name) => Some(Settings::for_database(name, value)?),
        None => None,
    };
    if let Some((name, Some(schema))) = &wanted
        && name == "search_path"
        && !is_schema(&context.snapshot, schema)
    {
        return Err(unknown_schema(&context.snapshot, &context.rights, schema));
    }
    let verb = if value.is_some() { "SET" } else { "RESET" };
    let found = find(&context.snapshot);
    let kept = match &found {
        Some(table) => read(table, &context.state).await,
        None => Ok(Vec::new()),
    };
    let (kept, lost) = match kept {
        Err(error) if is_damage(&error) => match name.is_none() || value.is_some() {
            // Nobody can say what of it is right: it is given up as a whole.
            true => (Vec::new(), found.map(|table| table.def().id)),
            false => return Err(error.map(|e| e.with_hint(GIVES_UP))),
        },
        kept => (kept?, None),
    };
    let is_meant = |row: &&Kept| wanted.as_ref().is_none_or(|(name, _)| *name == row.name);
    let gone: Vec<RowId> = kept.iter().filter(is_meant).map(|row| row.row).collect();
    let mut notes = Vec::new();
    if lost.is_some() {
        notes.push("what the database kept could not be read, and is given up".to_owned());
    } else if value.is_none() && gone.is_empty() {
        notes.push(match name {
            Some(name) => format!("{name} was not set for the database"),
            None => "nothing was set for the database".to_owned(),
        });
        return Ok(Output::Done { verb, notes });
    }
    let transaction = context.db.begin(&context.snapshot).await?;
    if let Some(table) = lost {
        transaction.edit(CatalogEdit::DropTable { table })?;
    }
    if !gone.is_empty() {
        transaction.delete(open(&transaction, false)?.id, &gone)?;
    }
    if let Some((name, Some(value))) = &wanted {
        let table = open(&transaction, lost.is_some())?;
        let text = |text: &str| -> ArrayRef { Arc::new(StringViewArray::from_iter_values([text])) };
        let batch = RecordBatch::try_new(table.arrow_schema(), vec![text(name), text(value)])?;
        let mut writer = transaction.writer(table.id)?;
        writer.write(batch).await?;
        writer.finish().await?;
        notes.push("sessions that begin from now on have it".to_owned());
    }
    context.commit(transaction).await.map_err(|error| match error.sqlstate() {
        // By somebody who set it for the first time too.
        "23505" => Error::new(ErrorKind::Conflict, "the setting was set by another commit meanwhile"),
        _ => error,
    })?;
    Ok(Output::Done { verb, notes })
}

/// Whether names can be looked for in a schema of that name.
pub(crate) fn is_schema(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.catalog().has_schema(name) || is_system_schema(name) || name == INFORMATION_SCHEMA
}

/// The values read last.
#[derive(Debug, Default)]
pub(crate) struct DefaultsCache(Mutex<Option<(Weak<TableState>, Arc<Defaults>)>>);

impl DefaultsCache {
    /// The values at `snapshot`.
    ///
    /// # Errors
    /// Storage errors; `Corrupt` for a row that no statement writes.
    pub(crate) async fn at(&self, snapshot: &Snapshot, state: &SessionState) -> Result<Arc<Defaults>> {
        let Some(table) = find(snapshot) else { return Ok(Arc::default()) };
        if let Some((known, defaults)) = self.lock().as_ref()
            && std::ptr::eq(known.as_ptr(), Arc::as_ptr(table.state()))
        {
            return Ok(Arc::clone(defaults));
        }
        let kept = read(&table, state).await?;
        let defaults: Arc<Defaults> = Arc::new(kept.into_iter().map(|row| (row.name, row.value)).collect());
        *self.lock() = Some((Arc::downgrade(table.state()), Arc::clone(&defaults)));
        Ok(defaults)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Weak<TableState>, Arc<Defaults>)>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table at a version; None before anything was set.
fn find(snapshot: &Snapshot) -> Option<TableSnapshot> {
    snapshot.table(snapshot.catalog().own_table(TABLE)?.id)
}

/// The table, made by this very transaction when there is none, or when it is to be `another`.
fn open(transaction: &Transaction, another: bool) -> Result<Arc<TableDef>> {
    let catalog = transaction.snapshot().catalog();
    if let (Some(table), false) = (catalog.own_table(TABLE), another) {
        return Ok(Arc::clone(table));
    }
    if !catalog.has_own_schema() {
        transaction.edit(CatalogEdit::CreateSchema { name: OWN_SCHEMA.to_owned() })?;
    }
    let table = Arc::new(definition(transaction.next_table_id()));
    transaction.edit(CatalogEdit::PutTable(Arc::clone(&table)))?;
    Ok(table)
}

fn definition(id: TableId) -> TableDef {
    let column = |id: u32, name: &str| ColumnDef {
        id: ColumnId(id),
        name: name.to_owned(),
        column_type: ColumnType::Text,
        nullable: false,
        default: None,
        initial: None,
    };
    TableDef {
        id,
        schema: OWN_SCHEMA.to_owned(),
        name: TABLE.to_owned(),
        schema_version: SchemaVersion(1),
        primary_key: vec![ColumnId(1)],
        sort: Vec::new(),
        next_column_id: ColumnId(3),
        columns: vec![column(1, "name"), column(2, "value")],
        layout: Default::default(),
        indexes: Vec::new(),
        owner: None,
        identity: None,
    }
}

async fn read(table: &TableSnapshot, state: &SessionState) -> Result<Vec<Kept>> {
    let provider = CairnTable::with_pseudo_columns(table.clone());
    let plan = provider.scan(state, None, &[], None).await?;
    let mut kept = Vec::new();
    for batch in collect(plan, state.task_ctx()).await? {
        let (names, values) = (texts(&batch, "name")?, texts(&batch, "value")?);
        for (i, row) in row_ids(&batch)?.values().iter().enumerate() {
            let (name, value) = (names.value(i).to_owned(), values.value(i).to_owned());
            kept.push(Kept { row: RowId(*row), name, value });
        }
    }
    Ok(kept)
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringViewArray> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_view_opt());
    column.filter(|column| column.null_count() == 0).ok_or_else(damaged)
}

fn row_ids(batch: &RecordBatch) -> Result<&UInt64Array> {
    let column = batch.column_by_name(ROW_ID_COLUMN).ok_or_else(damaged)?;
    column.as_primitive_opt::<UInt64Type>().ok_or_else(damaged)
}

fn damaged() -> Error {
    let message = format!("table {OWN_SCHEMA}.{TABLE} is damaged: a row is not of its form");
    Error::new(ErrorKind::Corrupt, message).map(|e| e.with_hint(GIVES_UP))
}

/// Whether `error` says that what the database keeps cannot be read, now or later.
pub(crate) fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt
}

/// What is told where a session begins without what the database keeps, because of `error`.
pub(crate) fn notice(error: &Error) -> String {
    format!(
        "the settings of the database cannot be read, sessions begin without them: {}; {GIVES_UP}",
        error.message()
    )
}
