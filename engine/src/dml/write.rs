//! Rows on their way into the write set.
//!
//! Owns: the transaction shared by a change's tasks and what each kind of change does with a batch. Does not own:
//! spilling, keys and durability (storage). A worker belongs to one task; several fill one transaction at a time.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_storage::id::{RowId, TableId};
use cairn_storage::schema::{ColumnDef, ColumnType, TableDef};
use cairn_storage::{Database, ErrorKind, Snapshot, TableWriter, Transaction};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringViewArray, UInt32Array, UInt64Array,
    new_null_array,
};
use datafusion::arrow::compute::{cast, filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use tokio::task::JoinSet;

use super::assign::{arrow, assign_batch, assign_column, row_text};
use super::conflict::Resolver;
use super::identity::check_given;
use super::merge::{self, Step};
use super::node::Operation;
use super::target::Target;
use crate::context::{Progress, StatementContext};
use crate::error::{Error, Result};
use crate::session::carried;

/// The write set of one statement, begun before its first row comes, so that EXPLAIN begins none.
#[derive(Clone, Debug)]
pub(crate) struct SharedTransaction(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Arc<Database>,
    snapshot: Snapshot,
    transaction: Mutex<Option<Transaction>>,
}

impl SharedTransaction {
    pub(crate) fn new(ctx: &StatementContext) -> Self {
        let shared =
            Shared { db: Arc::clone(&ctx.db), snapshot: ctx.snapshot.clone(), transaction: Mutex::new(None) };
        Self(Arc::new(shared))
    }

    /// Whether both are the same write set.
    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Begins it when it has not begun; nothing can be written before.
    ///
    /// # Errors
    /// The database is read-only, or another process writes to it; `Conflict` when a fresh snapshot may succeed.
    pub(crate) async fn open(&self) -> Result<()> {
        if self.lock().is_some() {
            return Ok(());
        }
        let begun = self.0.db.begin(&self.0.snapshot).await?;
        // One that was begun meanwhile may have been written to.
        self.lock().get_or_insert(begun);
        Ok(())
    }

    /// A writer of its own for one task.
    pub(crate) fn writer(&self, table: TableId) -> Result<TableWriter> {
        self.with(|t| Ok(t.writer(table)?))
    }

    /// Deletes rows.
    pub(crate) fn delete(&self, table: TableId, rows: &[RowId]) -> Result<()> {
        self.with(|t| Ok(t.delete(table, rows)?))
    }

    /// Each row that is written takes the place of one that is deleted, under the same key.
    pub(crate) fn keeps_keys(&self, table: TableId) -> Result<()> {
        self.with(|t| Ok(t.keeps_keys(table)?))
    }

    /// Takes the write set out, to commit it.
    pub(crate) fn take(&self) -> Result<Transaction> {
        self.lock().take().ok_or_else(|| Error::new(ErrorKind::Internal, "the statement's write set is gone"))
    }

    fn with<T>(&self, act: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
        match self.lock().as_ref() {
            Some(transaction) => act(transaction),
            None => Err(Error::new(ErrorKind::Internal, "the statement's write set did not begin")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Transaction>> {
        self.0.transaction.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything the tasks of one change share.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) target: Target,
    pub(crate) operation: Operation,
    pub(crate) transaction: SharedTransaction,
    /// Columns of the affected rows, when those are wanted.
    pub(crate) collected: Option<SchemaRef>,
    pub(crate) progress: Arc<Progress>,
}

impl Work {
    /// Whether the order of the input decides the order of rows.
    pub(crate) fn ordered(&self) -> bool {
        matches!(self.operation, Operation::Insert { ordered: true, .. })
    }

    /// Whether one task must see every row.
    pub(crate) fn one_task(&self) -> bool {
        self.collected.is_some()
            || match &self.operation {
                Operation::Insert { on_conflict, ordered } => *ordered || on_conflict.is_some(),
                Operation::Update { joined, .. } | Operation::Delete { joined } => *joined,
                Operation::Merge { .. } => true,
            }
    }

    /// A task's worker; `numbered` when it is the only one and its input has the order of the statement.
    pub(crate) fn worker(self: &Arc<Self>, numbered: bool) -> Result<Worker> {
        let resolver = match &self.operation {
            Operation::Insert { on_conflict: Some(action), .. } => {
                Some(Resolver::new(Arc::clone(action), self.target.clone())?)
            }
            _ => None,
        };
        Ok(Worker {
            schema: self.target.def.arrow_schema(),
            work: Arc::clone(self),
            writer: None,
            resolver,
            seen: HashSet::new(),
            written: Written::default(),
            given: numbered.then_some(0),
        })
    }
}

/// What a task has done.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Affected rows.
    pub(crate) rows: u64,
    /// The rows themselves when they are wanted.
    pub(crate) batches: Vec<RecordBatch>,
}

/// One task's part of a change.
pub(crate) struct Worker {
    work: Arc<Work>,
    schema: SchemaRef,
    writer: Option<TableWriter>,
    resolver: Option<Resolver>,
    /// Row ids already changed, when a join may repeat them.
    seen: HashSet<u64>,
    written: Written,
    /// Rows given so far, while this task sees them all in their order.
    given: Option<u64>,
}

impl Worker {
    pub(crate) async fn apply(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let work = Arc::clone(&self.work);
        match &work.operation {
            Operation::Insert { .. } => {
                let columns = self.numbered(batch.columns().to_vec())?;
                let batch = self.assign(&columns, batch.num_rows())?;
                if self.resolver.is_some() {
                    self.resolve(batch).await
                } else {
                    self.append(batch, &[]).await
                }
            }
            Operation::Update { joined, keeps_keys } => {
                let columns = work.target.def.columns.len();
                let ids = row_ids(&batch, columns)?;
                let mut used = columns + 1;
                if *joined {
                    let first = used;
                    used += work.target.def.primary_key.len();
                    self.meet("UPDATE … FROM", &ids, &batch.columns()[first..used])?;
                }
                let new = self.assign(batch.columns(), batch.num_rows())?;
                work.transaction.delete(work.target.def.id, &ids)?;
                if *keeps_keys {
                    work.transaction.keeps_keys(work.target.def.id)?;
                }
                self.append(new, &batch.columns()[used..]).await
            }
            Operation::Delete { joined } => {
                let columns = work.target.def.columns.len();
                let (position, own) = if work.collected.is_some() { (columns, columns + 2) } else { (0, 1) };
                let batch = match *joined {
                    true if batch.num_columns() > own => {
                        let keys = work.target.def.key_indices();
                        let keys: Vec<ArrayRef> =
                            keys.into_iter().map(|i| Arc::clone(batch.column(i))).collect();
                        self.meet("DELETE … USING … RETURNING", &row_ids(&batch, position)?, &keys)?;
                        batch
                    }
                    // It is gone, however often it is named.
                    true => self.first_of_each(&batch, position)?,
                    false => batch,
                };
                let ids = row_ids(&batch, position)?;
                work.transaction.delete(work.target.def.id, &ids)?;
                self.count(&batch.columns()[..own], &batch.columns()[own..], batch.num_rows())
            }
            Operation::Merge { steps, returned } => self.merge(&batch, steps, *returned).await,
        }
    }

    /// Does with each row what the clause of its number says.
    async fn merge(&mut self, batch: &RecordBatch, steps: &[Step], returned: Option<usize>) -> Result<()> {
        let lost = || Error::new(ErrorKind::Internal, "the plan of MERGE lost the numbers of its clauses");
        let numbers = batch.column(merge::STEP).as_primitive_opt::<Int64Type>().ok_or_else(lost)?;
        for (step, number) in steps.iter().zip(0_i64..) {
            let of_step = numbers.iter().zip(0_u32..).filter(|(found, _)| *found == Some(number));
            let rows: Vec<u32> = of_step.map(|(_, row)| row).collect();
            if rows.is_empty() {
                continue;
            }
            let rows = take_record_batch(batch, &UInt32Array::from(rows)).map_err(arrow)?;
            self.step(&rows, step, returned).await?;
        }
        Ok(())
    }

    async fn step(&mut self, rows: &RecordBatch, step: &Step, returned: Option<usize>) -> Result<()> {
        let table = Arc::clone(&self.work.target.def);
        let old = &rows.columns()[merge::OLD..merge::OLD + table.columns.len()];
        if let Step::Update(_) | Step::Delete = step {
            let ids = row_ids(rows, merge::ROW_ID)?;
            let keys: Vec<ArrayRef> = table.key_indices().into_iter().map(|i| Arc::clone(&old[i])).collect();
            self.meet("MERGE", &ids, &keys)?;
            self.work.transaction.delete(table.id, &ids)?;
        }
        let (action, new): (&str, Option<Vec<ArrayRef>>) = match step {
            Step::Nothing => return Ok(()),
            Step::Delete => ("DELETE", None),
            Step::Update(set) => {
                let mut new = old.to_vec();
                for (column, place) in set {
                    new[*column] = Arc::clone(rows.column(*place));
                }
                ("UPDATE", Some(new))
            }
            Step::Insert(places) => {
                let given = places.iter().map(|place| Arc::clone(rows.column(*place))).collect();
                ("INSERT", Some(self.numbered(given)?))
            }
        };
        let zone = self.work.target.zone.as_ref();
        let new = match new {
            Some(new) => Some(assign_batch(&table, &self.schema, &new, rows.num_rows(), None, zone)?),
            None => None,
        };
        match returned {
            Some(version) => {
                let mut own = new.as_ref().map_or(old, RecordBatch::columns).to_vec();
                own.extend(match &new {
                    // The commit gives them.
                    Some(_) => [(); 2].map(|()| new_null_array(&DataType::UInt64, rows.num_rows())),
                    None => [merge::ROW_ID, version].map(|place| Arc::clone(rows.column(place))),
                });
                let actions = std::iter::repeat_n(action, rows.num_rows());
                own.push(Arc::new(StringViewArray::from_iter_values(actions)));
                self.count(&own, &rows.columns()[version + 1..], rows.num_rows())?;
            }
            None => self.count(&[], &[], rows.num_rows())?,
        }
        match new {
            Some(new) => self.write(new).await,
            None => Ok(()),
        }
    }

    /// Rows with these ids, whose keys are `keys`, are changed, each for the first time.
    fn meet(&mut self, verb: &str, ids: &[RowId], keys: &[ArrayRef]) -> Result<()> {
        match ids.iter().position(|id| !self.seen.insert(id.0)) {
            Some(row) => Err(self.second_time(verb, ids[row], keys, row)),
            None => Ok(()),
        }
    }

    fn second_time(&self, verb: &str, id: RowId, keys: &[ArrayRef], row: usize) -> Error {
        let table = &self.work.target.def;
        let named = match keys {
            [] => format!("_row_id = {}", id.0),
            keys => {
                let names = table.key_indices().into_iter().map(|i| table.columns[i].name.as_str());
                row_text(names.zip(keys), row)
            }
        };
        Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{verb} meets the row with {named} of table \"{}\" more than once",
                table.qualified_name()
            ),
        )
        .map(|e| {
            e.with_sqlstate("21000").with_hint(
                "join it with one row at most: add conditions, or GROUP BY or DISTINCT in a subquery",
            )
        })
    }

    pub(crate) async fn finish(mut self) -> Result<Written> {
        if let Some(writer) = self.writer.take() {
            writer.finish().await?;
        }
        Ok(self.written)
    }

    /// Columns of new rows with the next numbers where the table numbers its rows and none is given. Before they are looked for by their key.
    fn numbered(&mut self, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let table = Arc::clone(&self.work.target.def);
        let Some((at, _)) = table.numbered_by() else { return Ok(columns) };
        let zone = self.work.target.zone.as_ref();
        columns[at] = assign_column(&table.columns[at], &columns[at], zone)?;
        check_given(&table, columns[at].as_ref())?;
        Ok(self.writer()?.numbered(columns)?)
    }

    fn assign(&mut self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let first_row = self.given;
        self.given = first_row.map(|given| given + rows as u64);
        let (def, zone) = (&self.work.target.def, self.work.target.zone.as_ref());
        assign_batch(def, &self.schema, columns, rows, first_row, zone)
    }

    fn writer(&mut self) -> Result<&mut TableWriter> {
        match &mut self.writer {
            Some(writer) => Ok(writer),
            slot => Ok(slot.insert(self.work.transaction.writer(self.work.target.def.id)?)),
        }
    }

    /// Writes rows, each of which was joined with what `sources` have of it.
    async fn append(&mut self, batch: RecordBatch, sources: &[ArrayRef]) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.count(batch.columns(), sources, batch.num_rows())?;
        self.write(batch).await
    }

    /// Writes rows that are counted.
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        Ok(self.writer()?.write(batch).await?)
    }

    async fn resolve(&mut self, batch: RecordBatch) -> Result<()> {
        let Some(resolver) = &mut self.resolver else { return self.append(batch, &[]).await };
        let resolved = resolver.resolve(&batch).await?;
        if !resolved.replaced.is_empty() {
            self.work.transaction.delete(self.work.target.def.id, &resolved.replaced)?;
        }
        for batch in resolved.rows {
            self.append(batch, &[]).await?;
        }
        Ok(())
    }

    fn count(&mut self, own: &[ArrayRef], sources: &[ArrayRef], rows: usize) -> Result<()> {
        self.written.rows += rows as u64;
        self.work.progress.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if let Some(schema) = &self.work.collected {
            let mut columns = own.to_vec();
            for (array, field) in sources.iter().zip(schema.fields().iter().skip(own.len())) {
                // The optimizer may have settled on another type than the one RETURNING was planned with.
                columns.push(match array.data_type() == field.data_type() {
                    true => Arc::clone(array),
                    false => cast(array, field.data_type()).map_err(arrow)?,
                });
            }
            // Names and nullability as the node declares them.
            let batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(arrow)?;
            self.written.batches.push(batch);
        }
        Ok(())
    }

    /// The rows of `batch` whose row id, at `position`, comes for the first time.
    fn first_of_each(&mut self, batch: &RecordBatch, position: usize) -> Result<RecordBatch> {
        let ids = row_ids(batch, position)?;
        let fresh: BooleanArray = ids.iter().map(|id| Some(self.seen.insert(id.0))).collect();
        filter_record_batch(batch, &fresh).map_err(arrow)
    }
}

fn row_ids(batch: &RecordBatch, position: usize) -> Result<Vec<RowId>> {
    batch
        .columns()
        .get(position)
        .and_then(|c| c.as_any().downcast_ref::<UInt64Array>())
        .filter(|ids| ids.null_count() == 0)
        .map(|ids| ids.values().iter().copied().map(RowId).collect())
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the plan of the change lost its row ids"))
}

/// Writes every row of `plan`, one writer per partition; returns how many.
pub(crate) async fn insert_all(
    ctx: &StatementContext,
    transaction: &Transaction,
    table: TableId,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<u64> {
    let columns = column_defs(&plan.schema())?;
    let mut tasks = JoinSet::new();
    let partitions = plan.output_partitioning().partition_count();
    for partition in 0..partitions {
        let mut stream = plan.execute(partition, ctx.state.task_ctx())?;
        let mut writer = transaction.writer(table)?;
        let (columns, progress) = (Arc::clone(&columns), Arc::clone(&ctx.progress));
        let zone = ctx.zone();
        tasks.spawn(carried(async move {
            let schema = columns.arrow_schema();
            let mut given = (partitions == 1).then_some(0);
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                let rows = batch.num_rows();
                let batch = assign_batch(&columns, &schema, batch.columns(), rows, given, zone.as_ref())?;
                given = given.map(|given| given + rows as u64);
                progress.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                writer.write(batch).await?;
            }
            Ok::<u64, Error>(writer.finish().await?)
        }));
    }
    let mut rows = 0;
    while let Some(done) = tasks.join_next().await {
        rows +=
            done.map_err(|e| Error::new(ErrorKind::Internal, format!("a writing task ended early: {e}")))??;
    }
    Ok(rows)
}

/// The columns a table made from a query has, all nullable.
fn column_defs(schema: &SchemaRef) -> Result<Arc<TableDef>> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column_type = ColumnType::from_arrow(field.data_type()).ok_or_else(|| {
                Error::not_supported_yet(format!(
                    "a column of type {} (\"{}\")",
                    field.data_type(),
                    field.name()
                ))
            })?;
            Ok(ColumnDef {
                id: cairn_storage::id::ColumnId(0),
                name: field.name().clone(),
                column_type,
                nullable: true,
                default: None,
                initial: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(TableDef {
        id: TableId(0),
        schema: String::new(),
        name: String::new(),
        schema_version: cairn_storage::id::SchemaVersion(0),
        columns,
        primary_key: Vec::new(),
        sort: Vec::new(),
        next_column_id: cairn_storage::id::ColumnId(0),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: None,
    }))
}
