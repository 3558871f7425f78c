//! A scan as bytes, for another process on the same database.
//!
//! Owns: what of a [`SegmentScanExec`] goes into the bytes, and making it again of them: the definition and version read, the
//! segments with the rows hidden in each, pieces, rows in memory, the columns put out, order and limits. Does not own: the frame
//! around them ([`frame`]), the plan above the scan (whoever hands it on).
//!
//! What the planner has pushed into the inner source goes along where the answer depends on it. Predicates do not: they save
//! reading, and the filters they come from stay above the scan. A source that computes, or that has promised to filter, is refused; a
//! scan planned for it ([`Portable`]) has none.
//!
//! Sections: the [`Head`], the positions hidden in each segment that hides some (portable Roaring bitmaps), the rows in memory
//! of each partition (row bodies of the log; without columns: empty). Segments are read by their metas in the bytes, whatever the
//! snapshot of the process that reads them is, and no `.deletes` object is. The bytes may be anybody's: they give a scan or an error.

mod frame;
mod head;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::id::DatabaseId;
use cairn_storage::schema::ColumnType;
use cairn_storage::wal::codec::{decode_rows, encode_rows};
use cairn_storage::{Database, ErrorKind, SegmentView, TableSnapshot};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use roaring::RoaringBitmap;

use super::columns;
use super::exec::{Scan, SegmentScanExec};
use super::files::{Files, SourceOptions};
use super::hot::MemoryRows;
use super::pseudo::{self, Layout};
use crate::error::{Error, Result};
use frame::damaged;
use head::{Head, OrderColumn, OutputColumn, Segment, Source};

/// In a session's configuration: its scans are to be encoded.
#[derive(Debug)]
pub(crate) struct Portable;

impl Portable {
    /// From now on plans made with `config` are for other processes. Operators make no filters for scans while they run: those would
    /// be lost on the way.
    pub(crate) fn ask(config: &mut SessionConfig) {
        config.set_extension(Arc::new(Self));
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.enable_dynamic_filter_pushdown = false;
        optimizer.enable_topk_dynamic_filter_pushdown = false;
        optimizer.enable_join_dynamic_filter_pushdown = false;
        optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    }

    /// Whether scans of the session are.
    pub(super) fn is_asked(session: &dyn Session) -> bool {
        session.config().get_extension::<Self>().is_some()
    }
}

/// The bytes of `plan` when it is a scan of `database`; None: it is something else.
///
/// # Errors
/// `Unsupported` when its source computes or filters.
pub(crate) fn encode(plan: &Arc<dyn ExecutionPlan>, database: DatabaseId) -> Result<Option<Vec<u8>>> {
    let Some(exec) = plan.downcast_ref::<SegmentScanExec>() else { return Ok(None) };
    let (scan, shares) = (exec.scan(), exec.memory().shares());
    let segments = scan
        .segments
        .iter()
        .map(|segment| Segment { meta: Arc::clone(&segment.meta), hides: hidden(segment).is_some() });
    let rows = |share: &Vec<RecordBatch>| share.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
    let head = Head {
        database,
        table: Arc::clone(scan.table.def()),
        version: scan.table.version(),
        segments: segments.collect(),
        segments_total: scan.segments_total,
        pieces: scan.pieces.clone(),
        keys: scan.keys,
        unsearched: scan.unsearched.clone(),
        output: output(&exec.schema())?,
        shares: shares.iter().map(rows).collect(),
        source: source(exec)?,
        limit: exec.limit(),
    };
    // What can't be read back is not to leave the process.
    head.check()?;
    let head = serde_json::to_vec(&head)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("a scan can't be encoded: {e}")))?;
    let mut sections = vec![head];
    for positions in scan.segments.iter().filter_map(hidden) {
        let mut section = Vec::with_capacity(positions.serialized_size());
        positions
            .serialize_into(&mut section)
            .map_err(|e| cairn_storage::Error::io("encoding the hidden rows of a scan", e))?;
        sections.push(section);
    }
    for share in shares {
        let mut section = Vec::new();
        if !exec.schema().fields().is_empty() {
            encode_rows(&mut section, share)?;
        }
        sections.push(section);
    }
    Ok(Some(frame::write(&sections)))
}

fn hidden(segment: &SegmentView) -> Option<&RoaringBitmap> {
    segment.deleted.as_deref().filter(|positions| !positions.is_empty())
}

fn output(schema: &SchemaRef) -> Result<Vec<OutputColumn>> {
    let columns = schema.fields().iter().map(|field| {
        let of_table = |t: &ColumnType| t.arrow() == *field.data_type() && field.metadata().is_empty();
        let column_type = ColumnType::from_arrow(field.data_type()).filter(of_table)?;
        Some(OutputColumn { name: field.name().clone(), column_type, nullable: field.is_nullable() })
    });
    columns.collect::<Option<_>>().ok_or_else(does_more)
}

/// What reads the segments of the scan.
fn source(exec: &SegmentScanExec) -> Result<Option<Source>> {
    if exec.inner().is_none() {
        return Ok(None);
    }
    let config = exec.file_config().ok_or_else(does_more)?;
    let user = exec.scan().table.def().arrow_schema();
    let file_source = config.file_source();
    let promises = |parquet: &ParquetSource| parquet.table_parquet_options().global.pushdown_filters;
    let filters = file_source.filter().is_some() && columns::parquet(file_source).is_none_or(promises);
    let columns: Option<Vec<usize>> = file_source
        .projection()
        .and_then(|p| p.iter().map(|column| pseudo::surface_index(&user, &column.expr)).collect());
    let (Some(columns), Some(order), false) = (columns, order(config), filters) else {
        return Err(does_more());
    };
    Ok(Some(Source {
        columns,
        order,
        ordered: exec.properties().output_ordering().is_some(),
        preserve_order: config.preserve_order,
        limit: config.limit,
    }))
}

/// What the files are sorted by; None: it is no order by columns.
fn order(config: &FileScanConfig) -> Option<Vec<OrderColumn>> {
    match config.output_ordering.as_slice() {
        [] => Some(Vec::new()),
        [ordering] => ordering
            .iter()
            .map(|sort| {
                let column = sort.expr.downcast_ref::<Column>()?.index();
                let SortOptions { descending, nulls_first } = sort.options;
                Some(OrderColumn { column, descending, nulls_first })
            })
            .collect(),
        [_, _, ..] => None,
    }
}

fn does_more() -> Error {
    let message =
        "the scan does more than its bytes can say: it computes values, filters rows or has several orders";
    Error::new(ErrorKind::Unsupported, message)
        .map(|e| e.with_hint("take plans for other processes from Session::physical_plan"))
}

/// The scan of the bytes, reading through `database`, with the Parquet options of `session`.
///
/// # Errors
/// `Corrupt` for bytes that are no scan or have changed, `Unsupported` for those of another version of Cairn, `InvalidInput` for
/// those of another database.
pub(crate) fn decode(
    bytes: &[u8],
    database: &Database,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mut sections = frame::read(bytes)?.into_iter();
    let head = sections.next().ok_or_else(|| damaged("it has no sections"))?;
    let head: Head = serde_json::from_slice(&head).map_err(|e| damaged(format_args!("JSON: {e}")))?;
    if head.database != database.id() {
        let message = format!("the scan is one of database {}, this is {}", head.database, database.id());
        return Err(Error::new(ErrorKind::InvalidInput, message)
            .map(|e| e.with_hint("open the database that the plan was made on")));
    }
    head.check()?;
    let table = table(&head, database)?;
    let segments = head.segments.iter().map(|segment| view(segment, &mut sections));
    let segments = segments.collect::<Result<Vec<_>>>()?;
    let schema = head.schema();
    let shares = head.shares.iter().map(|rows| share(&schema, *rows, &mut sections));
    let memory = MemoryRows::of_shares(&schema, shares.collect::<Result<_>>()?);
    if sections.next().is_some() {
        return Err(damaged("it has more sections than it names"));
    }
    built(head, table, segments, memory, session)
}

/// The table that the bytes define.
fn table(head: &Head, database: &Database) -> Result<TableSnapshot> {
    let snapshot = database.snapshot();
    // What is kept of opened segments is known by the definition's number.
    if let Some(known) = snapshot.table(head.table.id)
        && known.def().schema_version == head.table.schema_version
        && known.def().columns != head.table.columns
    {
        return Err(damaged("its columns are not those of the table"));
    }
    Ok(snapshot.detached(Arc::clone(&head.table), head.version))
}

fn view(segment: &Segment, sections: &mut impl Iterator<Item = Bytes>) -> Result<SegmentView> {
    let meta = Arc::clone(&segment.meta);
    if !segment.hides {
        return Ok(SegmentView { live_rows: meta.rows, meta, deleted: None });
    }
    let section = sections.next().ok_or_else(|| damaged("hidden rows are missing"))?;
    let mut rest: &[u8] = &section;
    let positions =
        RoaringBitmap::deserialize_from(&mut rest).map_err(|e| damaged(format_args!("hidden rows: {e}")))?;
    let within = positions.max().is_some_and(|last| u64::from(last) < meta.rows);
    if !within || !rest.is_empty() {
        return Err(damaged(format_args!("hidden rows that {} has not", meta.path())));
    }
    Ok(SegmentView { live_rows: meta.rows - positions.len(), meta, deleted: Some(Arc::new(positions)) })
}

fn share(
    schema: &SchemaRef,
    rows: u64,
    sections: &mut impl Iterator<Item = Bytes>,
) -> Result<Vec<RecordBatch>> {
    let section = sections.next().ok_or_else(|| damaged("rows in memory are missing"))?;
    if !schema.fields().is_empty() {
        return decode_rows(schema, rows, &section)
            .map_err(|e| damaged(format_args!("rows in memory: {}", e.message())));
    }
    let rows = usize::try_from(rows).map_err(|_| damaged("more rows than there is memory"))?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    match section.is_empty() {
        true => Ok(vec![RecordBatch::try_new_with_options(Arc::clone(schema), Vec::new(), &options)?]),
        false => Err(damaged("values of no column")),
    }
}

/// The scan of a checked head.
fn built(
    head: Head,
    table: TableSnapshot,
    segments: Vec<SegmentView>,
    memory: MemoryRows,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let user = table.def().arrow_schema();
    let mut scan = Scan {
        table,
        segments,
        segments_total: head.segments_total,
        pieces: head.pieces,
        files: None,
        keys: head.keys,
        unsearched: head.unsearched,
        portable: true,
    };
    let Some(source) = head.source else {
        return limited(Arc::new(SegmentScanExec::new(scan, memory, None)), head.limit);
    };
    let names = head.output.iter().map(|column| column.name.as_str());
    let layout = Layout::new(&user, &source.columns).named(names);
    let options = SourceOptions::new(session, false, source.limit);
    let files = Files::new(&scan.table, &scan.segments, &layout, &user)?;
    let inner = files.source(&scan.table, &layout, &scan.pieces, options)?;
    if inner.schema().fields() != memory.schema().fields() {
        return Err(damaged("columns of other types than the table's"));
    }
    scan.files = Some(files);
    let exec = SegmentScanExec::new(scan, memory, Some(inner));
    let over_table: Vec<_> = source.order.iter().map(|by| sorted_by(by, &user)).collect();
    let exec = match over_table.is_empty() {
        true => Some(exec),
        false => exec.ordered_by(over_table),
    };
    let plan = exec.map(|exec| Arc::new(exec) as Arc<dyn ExecutionPlan>);
    let plan = match source.preserve_order {
        true => plan.and_then(|plan| plan.with_preserve_order(true)),
        false => plan,
    };
    match plan {
        Some(plan) if !source.ordered || plan.properties().output_ordering().is_some() => {
            limited(plan, head.limit)
        }
        Some(_) | None => Err(damaged("its segments are not in the order it has")),
    }
}

fn sorted_by(by: &OrderColumn, user: &SchemaRef) -> (usize, PhysicalSortExpr) {
    let expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new(user.field(by.column).name(), by.column));
    let options = SortOptions { descending: by.descending, nulls_first: by.nulls_first };
    (by.column, PhysicalSortExpr { expr, options })
}

fn limited(plan: Arc<dyn ExecutionPlan>, limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
    match limit {
        Some(_) => plan.with_fetch(limit).ok_or_else(|| damaged("a limit that it can't have")),
        None => Ok(plan),
    }
}
