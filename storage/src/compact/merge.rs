//! Writing the rows of several segments as few: in order of the table's sort columns, then by row id; ids and versions stay what
//! they are.
//!
//! Owns: reading the inputs side by side, leaving out rows that nobody can see any more, cutting the result at a size. Does not own:
//! which segments (`policy`), what is deleted meanwhile and how the result becomes part of the table (`publish`).
//! Durability: the segments are durable on return, and nothing names them. Memory: a stretch of each input's rows, and what a
//! segment writer holds.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::collect::Retained;
use crate::computing::Computing;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CommitVersion, ObjectId, ObjectIds};
use crate::jobs::Meter;
use crate::schema::TableDef;
use crate::segment::key::EncodedKeys;
use crate::segment::reader::AddressedBatches;
use crate::segment::writer::Addressing;
use crate::segment::{
    DeletionVector, KeyEncoder, SegmentMeta, SegmentReader, SegmentWriter, SegmentWriterOptions, sort_batches,
};
use crate::wal::codec::compacted;

/// Rows read at once.
const READ_ROWS: usize = if cfg!(test) { 50 } else { 8 * 1024 };
/// Rows handed to the segment writer at once.
const WRITE_ROWS: usize = if cfg!(test) { 64 } else { 16 * 1024 };
/// Column that travels behind `_version`: the version that deleted the row, 0 for none.
const DELETED_COLUMN: &str = "_deleted";

/// A segment to merge.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) reader: SegmentReader,
    /// What is deleted in it.
    pub(super) deletes: Option<Arc<DeletionVector>>,
}

/// What a merge needs besides its inputs.
pub(super) struct Setting<'a> {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) def: Arc<TableDef>,
    pub(super) ids: &'a ObjectIds,
    pub(super) retained: &'a Retained,
    /// Where rows are sorted and encoded.
    pub(super) computing: Computing,
    /// How segments are written.
    pub(super) options: SegmentWriterOptions,
    /// Size at which a segment ends.
    pub(super) segment_bytes: u64,
    /// Rows read so far.
    pub(super) rows_read: &'a AtomicU64,
    /// Whether to go on.
    pub(super) goes_on: &'a (dyn Fn() -> bool + Sync),
}

impl Setting<'_> {
    /// Asks whether to go on.
    ///
    /// # Errors
    /// `Cancelled` when not.
    fn check(&self) -> Result<()> {
        match (self.goes_on)() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Cancelled, "the compaction was stopped")),
        }
    }
}

/// A segment written.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) meta: Arc<SegmentMeta>,
    /// Its rows that are deleted, with the version, ascending: those that a retained version still sees.
    pub(super) deletes: Vec<(u32, CommitVersion)>,
}

/// Merges `inputs`; no segment when none of their rows is left.
///
/// # Errors
/// `Cancelled` when told to stop, `Corrupt` for a damaged input, the store's. What was written is removed as far as that works.
pub(super) async fn merge(setting: &Setting<'_>, inputs: Vec<Input>) -> Result<Vec<Output>> {
    // What is made of one segment alone is of its run; what is made of several is a run of its own.
    let run = match inputs.as_slice() {
        [one] => Some(one.reader.meta().run()),
        _ => None,
    };
    let mut outputs = Outputs { setting, run, open: None, deletes: Vec::new(), done: Vec::new() };
    match outputs.fill(inputs).await {
        Ok(()) => Ok(outputs.done),
        Err(error) => {
            if let Some(writer) = outputs.open.take() {
                writer.abort().await;
            }
            remove(&*setting.store, &outputs.done).await;
            Err(error)
        }
    }
}

/// Removes segments that nothing names, best effort.
pub(super) async fn remove(store: &dyn ObjectStore, outputs: &[Output]) {
    for output in outputs {
        for path in [output.meta.path(), output.meta.key_filter_path()] {
            let _ = store.delete(&object_store::path::Path::from(path)).await;
        }
    }
}

/// The segments being written.
struct Outputs<'a> {
    setting: &'a Setting<'a>,
    /// None: that of the first of them.
    run: Option<ObjectId>,
    open: Option<SegmentWriter>,
    /// Of the open one.
    deletes: Vec<(u32, CommitVersion)>,
    done: Vec<Output>,
}

impl Outputs<'_> {
    async fn fill(&mut self, inputs: Vec<Input>) -> Result<()> {
        let order = Order::of(&self.setting.def)?;
        let mut sources = Vec::with_capacity(inputs.len());
        for input in inputs {
            sources.push(Source::open(self.setting, &order, input).await?);
        }
        let mut chunk = Chunk::default();
        while let Some(least) = least(&sources) {
            // Rows of one input up to where another comes first.
            let bound = sources.iter().enumerate().filter(|(i, s)| *i != least && s.is_open());
            let bound = bound.map(|(_, s)| s).min_by(|a, b| a.head().cmp(&b.head()));
            let taken = sources[least].count_before(bound, WRITE_ROWS - chunk.rows.len());
            chunk.take(&mut sources[least], taken);
            if chunk.rows.len() == WRITE_ROWS {
                let batch = chunk.batch()?;
                tell_memory(&sources, &batch);
                self.write(batch).await?;
                chunk.clear(&mut sources);
            }
            if sources[least].is_read() {
                sources[least].read(self.setting, &order).await?;
            }
        }
        if !chunk.rows.is_empty() {
            let batch = chunk.batch()?;
            tell_memory(&sources, &batch);
            self.write(batch).await?;
        }
        self.end().await
    }

    /// Writes rows with their ids, versions and deletes. Encoding is done where a thread may be busy.
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let setting = self.setting;
        setting.check()?;
        let width = batch.num_columns() - 1;
        let deleted = numbers(&batch, width)?.clone();
        let rows = batch.project(&(0..width).collect::<Vec<usize>>())?;
        let mut writer = match self.open.take() {
            Some(writer) => writer,
            None => {
                let (store, def) = (Arc::clone(&setting.store), Arc::clone(&setting.def));
                let options = setting.options.clone();
                SegmentWriter::new(store, def, setting.ids.next(), Addressing::Columns, options)?
            }
        };
        let first = writer.rows();
        let gone = (first..).zip(deleted.values().iter()).filter(|(_, version)| **version > 0);
        self.deletes.extend(gone.map(|(position, version)| (position as u32, CommitVersion(*version))));
        let encoded = setting.computing.run(move || {
            writer.write(&rows)?;
            Ok(writer)
        });
        let writer = encoded.await?;
        let writer = self.open.insert(writer);
        writer.flush().await?;
        if writer.bytes() >= setting.segment_bytes {
            self.end().await?;
        }
        Ok(())
    }

    /// Completes the open segment.
    async fn end(&mut self) -> Result<()> {
        if let Some(mut writer) = self.open.take() {
            let closed = self.setting.computing.run(move || {
                writer.close()?;
                Ok(writer)
            });
            let mut meta = closed.await?.finish().await?;
            let run = self.run.or_else(|| self.done.first().map(|first| first.meta.id));
            meta.run = run.filter(|run| *run != meta.id);
            self.done.push(Output { meta: Arc::new(meta), deletes: std::mem::take(&mut self.deletes) });
        }
        Ok(())
    }
}

/// Tells the job what the rows take that were read and are not written yet.
fn tell_memory(sources: &[Source], written: &RecordBatch) {
    let Some(meter) = Meter::current() else { return };
    let mut bytes = written.get_array_memory_size();
    for source in sources {
        bytes += source.now.as_ref().map_or(0, |now| now.batch.get_array_memory_size());
        if let Rows::Sorted(batches) = &source.rows {
            bytes += batches.as_slice().iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        }
    }
    meter.holds(bytes as u64);
}

/// By what rows are ordered; none: by row id alone.
struct Order(Option<(KeyEncoder, Vec<usize>)>);

impl Order {
    fn of(def: &TableDef) -> Result<Self> {
        Ok(Self(KeyEncoder::for_sort(def)?.map(|encoder| (encoder, def.sort_indices()))))
    }

    fn keys(&self, batch: &RecordBatch) -> Result<Option<EncodedKeys>> {
        self.0.as_ref().map(|(encoder, indices)| encoder.encode_batch(batch, indices)).transpose()
    }
}

/// Where the rows of an input come from.
enum Rows {
    Segment(Box<AddressedBatches>),
    /// One that does not stand in the table's order: sorted, in memory.
    Sorted(std::vec::IntoIter<RecordBatch>),
}

/// One input as it is read.
struct Source {
    rows: Rows,
    deletes: Option<Arc<DeletionVector>>,
    /// Rows read of the segment.
    position: u64,
    /// Rows that are being merged, those that go left out; None: the input has ended.
    now: Option<Loaded>,
    /// Where `now` stands among the batches of the chunk.
    slot: Option<usize>,
}

struct Loaded {
    batch: RecordBatch,
    keys: Option<EncodedKeys>,
    row_ids: UInt64Array,
    /// The next row.
    at: usize,
}

impl Loaded {
    /// What row `row` is ordered by.
    fn place(&self, row: usize) -> Place<'_> {
        Place(self.keys.as_ref().map_or(&[][..], |keys| keys.get(row)), self.row_ids.value(row))
    }
}

/// Key and row id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a>(&'a [u8], u64);

impl Source {
    async fn open(setting: &Setting<'_>, order: &Order, input: Input) -> Result<Self> {
        let Input { reader, deletes } = input;
        let rows = Rows::Segment(Box::new(reader.addressed(READ_ROWS)));
        let mut source = Self { rows, deletes, position: 0, now: None, slot: None };
        if order.0.is_some() && !reader.meta().sorted {
            source.sort(setting).await?;
        }
        source.read(setting, order).await?;
        Ok(source)
    }

    /// Reads all of it and puts it in order.
    async fn sort(&mut self, setting: &Setting<'_>) -> Result<()> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next(setting).await? {
            batches.push(batch);
        }
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(()) };
        let def = Arc::clone(&setting.def);
        let sorted = setting.computing.run(move || {
            let all = concat_batches(&schema, &batches)?;
            sort_batches(&def, vec![all])
        });
        self.rows = Rows::Sorted(sorted.await?.batches.into_iter());
        Ok(())
    }

    /// Makes the next rows the ones that are merged.
    async fn read(&mut self, setting: &Setting<'_>, order: &Order) -> Result<()> {
        self.slot = None;
        self.now = match self.next(setting).await? {
            None => None,
            Some(batch) => {
                let row_ids = numbers(&batch, batch.num_columns() - 3)?.clone();
                Some(Loaded { keys: order.keys(&batch)?, batch, row_ids, at: 0 })
            }
        };
        Ok(())
    }

    /// The next rows that stay; None: there are no more.
    async fn next(&mut self, setting: &Setting<'_>) -> Result<Option<RecordBatch>> {
        let batches = match &mut self.rows {
            Rows::Sorted(batches) => return Ok(batches.find(|batch| batch.num_rows() > 0)),
            Rows::Segment(batches) => batches,
        };
        while let Some(batch) = batches.next().await? {
            setting.check()?;
            let first = self.position;
            self.position += batch.num_rows() as u64;
            setting.rows_read.fetch_add(batch.num_rows() as u64, AtomicOrdering::Relaxed);
            let left = left_of(batch, first, self.deletes.as_deref(), setting.retained)?;
            if left.num_rows() > 0 {
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    fn is_open(&self) -> bool {
        self.now.is_some()
    }

    /// Whether the rows that were read are all taken.
    fn is_read(&self) -> bool {
        self.now.as_ref().is_some_and(|now| now.at == now.batch.num_rows())
    }

    /// Where its next row belongs; an input that has ended is asked for none.
    fn head(&self) -> Place<'_> {
        self.now.as_ref().map_or(Place(&[], u64::MAX), |now| now.place(now.at))
    }

    /// How many of its rows come before all of `bound`, one at least and `most` at most.
    fn count_before(&self, bound: Option<&Self>, most: usize) -> usize {
        let Some(now) = &self.now else { return 0 };
        let end = now.batch.num_rows().min(now.at + most);
        let Some(bound) = bound.map(Self::head) else { return end - now.at };
        // Inputs beside each other are passed on whole.
        if now.place(end - 1).cmp(&bound) == Ordering::Less {
            return end - now.at;
        }
        let later = (now.at + 1..end).find(|row| now.place(*row) >= bound);
        later.unwrap_or(end) - now.at
    }
}

/// The source whose next row comes first; None: all have ended.
fn least(sources: &[Source]) -> Option<usize> {
    let open = sources.iter().enumerate().filter(|(_, source)| source.is_open());
    open.min_by(|(_, a), (_, b)| a.head().cmp(&b.head())).map(|(i, _)| i)
}

/// Rows to be written together.
#[derive(Default)]
struct Chunk {
    batches: Vec<RecordBatch>,
    /// Batch and row of each.
    rows: Vec<(usize, usize)>,
}

impl Chunk {
    fn take(&mut self, source: &mut Source, count: usize) {
        let Some(now) = &mut source.now else { return };
        let slot = *source.slot.get_or_insert_with(|| {
            self.batches.push(now.batch.clone());
            self.batches.len() - 1
        });
        self.rows.extend((now.at..now.at + count).map(|row| (slot, row)));
        now.at += count;
    }

    fn batch(&self) -> Result<RecordBatch> {
        if let ([batch], Some((_, first))) = (self.batches.as_slice(), self.rows.first()) {
            return Ok(batch.slice(*first, self.rows.len()));
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        Ok(interleave_record_batch(&batches, &self.rows)?)
    }

    fn clear(&mut self, sources: &mut [Source]) {
        self.batches.clear();
        self.rows.clear();
        for source in sources {
            source.slot = None;
        }
    }
}

/// The rows of `batch`, positions `first` and on of their segment, that a retained version sees, with the versions that deleted them.
fn left_of(
    batch: RecordBatch,
    first: u64,
    deletes: Option<&DeletionVector>,
    retained: &Retained,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let versions = numbers(&batch, batch.num_columns() - 1)?;
    let mut deleted = vec![0; rows];
    let mut gone = 0;
    let mut kept = vec![true; rows];
    if let Some(deletes) = deletes {
        // A segment has fewer than 2^32 rows.
        for position in deletes.positions().range(first as u32..(first + rows as u64) as u32) {
            let row = (u64::from(position) - first) as usize;
            let Some(version) = deletes.version_of(position) else { continue };
            if retained.sees(CommitVersion(versions.value(row)), version) {
                deleted[row] = version.0;
            } else {
                kept[row] = false;
                gone += 1;
            }
        }
    }
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(deleted)) as ArrayRef);
    let batch = RecordBatch::try_new(with_deleted(batch.schema_ref()), columns)?;
    if gone == 0 {
        return Ok(batch);
    }
    let left = filter_record_batch(&batch, &BooleanArray::from(kept))?;
    // Texts of rows that are left out would be held for as long as those beside them: a chunk may be made of very many batches.
    if 2 * gone > rows { compacted(&left) } else { Ok(left) }
}

fn with_deleted(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(DELETED_COLUMN, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

/// A column of numbers.
fn numbers(batch: &RecordBatch, column: usize) -> Result<&UInt64Array> {
    let found = batch.columns().get(column).and_then(|array| array.as_primitive_opt::<UInt64Type>());
    found.ok_or_else(|| Error::internal("a merge lost a column of its rows"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::StringViewArray;

    use super::*;

    #[test]
    fn texts_of_rows_that_are_left_out_are_let_go() {
        let texts = StringViewArray::from_iter_values((0..100).map(|i| format!("{i:0>1000}")));
        let count: ArrayRef = Arc::new(UInt64Array::from_iter_values(1..=100));
        let fields =
            [("v", DataType::Utf8View), ("_row_id", DataType::UInt64), ("_version", DataType::UInt64)];
        let fields: Vec<Field> = fields.into_iter().map(|(name, of)| Field::new(name, of, false)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(texts), Arc::clone(&count), count];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let deletes = DeletionVector::from_pairs((0..99).map(|position| (position, CommitVersion(2))));
        let retained = Retained { horizon: CommitVersion(2), ..Retained::default() };
        let left = left_of(batch, 0, Some(&deletes), &retained).unwrap();
        assert_eq!(left.num_rows(), 1);
        let texts = left.column(0).as_string_view();
        assert_eq!(texts.value(0), format!("{:0>1000}", 99));
        assert!(texts.data_buffers().iter().map(arrow::buffer::Buffer::len).sum::<usize>() < 10_000);
    }
}
