//! Appends rows of one statement to one table.
//!
//! Owns: row checks (schema, NOT NULL, JSON text), asking for numbers of an identity column, and the decision, while rows stream in, between memory (they go into
//! the WAL entry) and segments (written at once, named by the entry). Does not own: keys (`check`), row ids.
//! Rows keep their order within one writer; writers of one transaction may run in parallel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{FieldRef, Float32Type, SchemaRef};
use cairn_vector::Floats;

use super::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::held::HeldMemory;
use crate::schema::{ColumnDef, ColumnType, TableDef};
use crate::segment::sort::sort_batches;
use crate::segment::writer::Addressing;
use crate::segment::{
    EncodedKey, KeyEncoder, SegmentMeta, SegmentWriter, SegmentWriterOptions, segment_bytes,
};
use crate::wal::codec::compacted;

/// A spilled segment ends at about this size.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Rows of a table with a sort order that do not arrive in it are sorted in runs of about this much memory.
const SORT_RUN_BYTES: usize = 256 << 20;

/// See the module.
#[derive(Debug)]
pub struct TableWriter {
    shared: Arc<Shared>,
    def: Arc<TableDef>,
    /// Of its rows.
    schema: SchemaRef,
    kept: Vec<RecordBatch>,
    kept_held: HeldMemory,
    rows: u64,
    /// How far the identity column's numbers have come in rows that were [numbered](Self::numbered) here.
    numbered: Option<i64>,
    spill: Option<Spill>,
}

impl TableWriter {
    /// `schema` is that of `def`.
    pub(crate) fn new(shared: Arc<Shared>, def: Arc<TableDef>, schema: SchemaRef) -> Self {
        let (kept, kept_held) = (Vec::new(), HeldMemory::default());
        Self { shared, def, schema, kept, kept_held, rows: 0, numbered: None, spill: None }
    }

    /// Columns of new rows, in the table's order, with the next numbers in place of NULLs of its identity column, which has its own type
    /// already. Those numbers are given once by this process, whether the rows are written or not.
    ///
    /// # Errors
    /// `ResourceExhausted` (2200H) when there are not so many numbers; `Internal` when the column is not there.
    pub fn numbered(&mut self, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let Some((at, identity)) = self.def.numbered_by() else { return Ok(columns) };
        let Some(values) = columns.get_mut(at) else {
            return Err(Error::internal(format!(
                "rows of {} have no column {at} to number them in",
                self.def.qualified_name()
            )));
        };
        self.numbered = identity.later(self.numbered, identity.used_by(values)?);
        if values.null_count() > 0 {
            let first = self.shared.take_numbers(&self.def, self.numbered, values.null_count())?;
            *values = identity.filled(values, first)?;
        }
        Ok(columns)
    }

    /// Appends rows; columns in the table's order and types.
    ///
    /// # Errors
    /// `ConstraintViolation` 23502 for NULL in a NOT NULL column; `InvalidInput` 22032 for text that is not JSON;
    /// `Internal` when the columns are not the table's; storage errors while spilling.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = checked(&self.def, &self.schema, &batch)?;
        self.rows += batch.num_rows() as u64;
        if let Some(spill) = &mut self.spill {
            // Boxed: few writes spill, and all are moved with what they may do.
            return Box::pin(spill.write(&self.shared, batch)).await;
        }
        // Rows taken out of a page may hold all of its text.
        let batch = compacted(&batch)?;
        let bytes = self.kept_held.add(&batch);
        let limit = self.shared.database.options().wal_entry_bytes_max * 3 / 4;
        self.kept.push(batch);
        if self.shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > limit {
            let kept = std::mem::take(&mut self.kept_held);
            self.shared.bytes.fetch_sub(kept.bytes(), Ordering::Relaxed);
            let mut spill = Spill::new(Arc::clone(&self.def))?;
            for batch in std::mem::take(&mut self.kept) {
                Box::pin(spill.write(&self.shared, batch)).await?;
            }
            self.spill = Some(spill);
        }
        Ok(())
    }

    /// Hands the rows over to the transaction; returns how many.
    ///
    /// # Errors
    /// Storage errors from the last segment; `ConstraintViolation` for keys that repeat.
    pub async fn finish(mut self) -> Result<u64> {
        let segments = match self.spill.take() {
            Some(spill) => Box::pin(spill.finish(&self.shared)).await?,
            None => Vec::new(),
        };
        let mut set = self.shared.set();
        let table = set.tables.entry(self.def.id).or_default();
        table.batches.append(&mut self.kept);
        table.segments.extend(segments);
        Ok(self.rows)
    }
}

/// The batch with the table's own schema, its rows checked.
fn checked(def: &TableDef, own: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    // The very one: then no type has to be made to compare with.
    let is_own = Arc::ptr_eq(batch.schema_ref(), own);
    if batch.num_columns() != def.columns.len() {
        return Err(Error::internal(format!(
            "{} columns were written to {}, which has {}",
            batch.num_columns(),
            def.qualified_name(),
            def.columns.len()
        )));
    }
    for (column, array) in def.columns.iter().zip(batch.columns()) {
        if !is_own && array.data_type() != &column.column_type.arrow() {
            return Err(Error::internal(format!(
                "column {} of {} was written as {}, not {}",
                column.name,
                def.qualified_name(),
                array.data_type(),
                column.column_type.arrow()
            )));
        }
        if !column.nullable && array.null_count() > 0 {
            return Err(Error::new(
                ErrorKind::ConstraintViolation,
                format!(
                    "NULL in column {} of table {}, which is NOT NULL",
                    column.name,
                    def.qualified_name()
                ),
            )
            .with_sqlstate("23502"));
        }
        match column.column_type {
            ColumnType::Json => check_json(def, &column.name, array)?,
            ColumnType::Vector(_) => check_vectors(def, column, array)?,
            _ => {}
        }
    }
    let schema = batch.schema_ref();
    let named = |(field, column): (&FieldRef, &ColumnDef)| {
        *field.name() == column.name && field.is_nullable() == column.nullable && field.metadata().is_empty()
    };
    if is_own || (schema.metadata().is_empty() && schema.fields().iter().zip(&def.columns).all(named)) {
        return Ok(batch.clone());
    }
    Ok(RecordBatch::try_new(Arc::clone(own), batch.columns().to_vec())?)
}

/// Components are finite, and every vector has a distance under the metrics of the column's indexes.
fn check_vectors(def: &TableDef, column: &ColumnDef, array: &dyn Array) -> Result<()> {
    let wrong = |row: usize, why: String| {
        Error::new(
            ErrorKind::InvalidInput,
            format!(
                "invalid vector in column {} of table {}, row {}: {why}",
                column.name,
                def.qualified_name(),
                row + 1
            ),
        )
        .with_sqlstate("22000")
    };
    let metrics = def.metrics_of(column.id);
    let list = array.as_fixed_size_list();
    let dim = list.value_length().unsigned_abs() as usize;
    let components = list.values().as_primitive::<Float32Type>();
    for row in (0..list.len()).filter(|row| list.is_valid(*row)) {
        if components.null_count() > 0 && components.slice(row * dim, dim).null_count() > 0 {
            return Err(wrong(row, "a component is NULL".to_owned()));
        }
        let vector = Floats::from(&components.values()[row * dim..(row + 1) * dim]);
        let checked = cairn_vector::metric::check(vector);
        let checked =
            metrics.iter().fold(checked, |checked, metric| checked.and_then(|()| metric.check(vector)));
        checked.map_err(|why| wrong(row, why.to_string()))?;
    }
    Ok(())
}

fn check_json(def: &TableDef, column: &str, array: &dyn Array) -> Result<()> {
    for text in array.as_string_view().iter().flatten() {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            let shown: String = text.chars().take(40).collect();
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("invalid JSON in column {column} of table {}: {error}", def.qualified_name()),
            )
            .with_sqlstate("22032")
            .with_detail(format!("the text begins with: {shown}")));
        }
    }
    Ok(())
}

/// Segments written ahead of the WAL entry that will name them.
#[derive(Debug)]
struct Spill {
    def: Arc<TableDef>,
    /// None: the table has no order, rows stay as they come.
    order: Option<KeyEncoder>,
    open: Option<SegmentWriter>,
    /// Sort key of the last row in `open`.
    last: Option<EncodedKey>,
    /// Rows that did not come in order.
    unsorted: Vec<RecordBatch>,
    unsorted_held: HeldMemory,
    done: Vec<SegmentMeta>,
}

impl Spill {
    fn new(def: Arc<TableDef>) -> Result<Self> {
        let order = KeyEncoder::for_sort(&def)?;
        Ok(Self {
            def,
            order,
            open: None,
            last: None,
            unsorted: Vec::new(),
            unsorted_held: HeldMemory::default(),
            done: Vec::new(),
        })
    }

    async fn write(&mut self, shared: &Shared, batch: RecordBatch) -> Result<()> {
        if !self.follows(&batch)? {
            self.unsorted_held.add(&batch);
            self.unsorted.push(batch);
            if self.unsorted_held.bytes() >= SORT_RUN_BYTES {
                self.sort_run(shared).await?;
            }
            return Ok(());
        }
        self.encode(shared, &batch).await
    }

    /// Whether the batch is in order and continues the open segment; remembers its last key.
    fn follows(&mut self, batch: &RecordBatch) -> Result<bool> {
        let Some(encoder) = &self.order else { return Ok(true) };
        if !self.unsorted.is_empty() {
            return Ok(false);
        }
        let keys = encoder.encode_batch(batch, &self.def.sort_indices())?;
        let follows = self.last.as_ref().is_none_or(|last| last.as_bytes() <= keys.get(0))
            && keys.first_unsorted().is_none();
        if follows {
            self.last = Some(keys.to_owned(keys.len() - 1));
        }
        Ok(follows)
    }

    async fn encode(&mut self, shared: &Shared, batch: &RecordBatch) -> Result<()> {
        let (layout, remote) = (self.def.layout, shared.database.shared.remote);
        let segment = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(SegmentWriter::new(
                Arc::clone(&shared.database.shared.store),
                Arc::clone(&self.def),
                shared.object_id()?,
                Addressing::Load,
                SegmentWriterOptions::of_table(layout, remote),
            )?),
        };
        segment.write(batch)?;
        segment.flush().await?;
        if segment.bytes() >= segment_bytes(layout, remote, SEGMENT_BYTES) {
            self.end_segment(shared).await?;
        }
        Ok(())
    }

    async fn end_segment(&mut self, shared: &Shared) -> Result<()> {
        if let Some(segment) = self.open.take() {
            let meta = segment.finish().await?;
            shared.staged.add([meta.clone()]);
            self.done.push(meta);
        }
        Ok(())
    }

    /// Writes the rows that came out of order as sorted segments of their own.
    async fn sort_run(&mut self, shared: &Shared) -> Result<()> {
        if self.unsorted.is_empty() {
            return Ok(());
        }
        self.end_segment(shared).await?;
        self.unsorted_held = HeldMemory::default();
        let sorted = sort_batches(&self.def, std::mem::take(&mut self.unsorted))?;
        for batch in &sorted.batches {
            self.encode(shared, batch).await?;
        }
        self.end_segment(shared).await?;
        self.last = None;
        Ok(())
    }

    async fn finish(mut self, shared: &Shared) -> Result<Vec<SegmentMeta>> {
        self.sort_run(shared).await?;
        self.end_segment(shared).await?;
        Ok(self.done)
    }
}
