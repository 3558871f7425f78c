//! What can still be read of one segment, and the table that takes it.
//!
//! A row is salvaged when all of its columns can be read and nothing is known to have deleted it. Does not own: which stretches of a file are whole
//! (`segment::reader::salvage`), making it part of the database (`publish`).

use std::ops::Range;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;

use super::LOST_AND_FOUND;
use crate::error::{Error, Result};
use crate::id::{ColumnId, CommitVersion, ObjectId, RowId, SchemaVersion, TableId};
use crate::schema::{ColumnDef, TableDef};
use crate::segment::reader::{Readable, is_damage};
use crate::segment::{RowIds, SegmentMeta, SegmentWriter};
use crate::version::{SegmentState, TableSnapshot};

/// Longest name of a table.
const NAME_BYTES_MAX: usize = 128;

/// What of a segment can be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Rows that can be read and are not known to be deleted.
    pub(super) rows: u64,
    /// Stretches of positions that can't be read.
    pub(super) lost: Vec<Range<u32>>,
    /// Rows of them that are not known to be deleted.
    pub(super) lost_rows: u64,
    /// Why the first of them can't be.
    pub(super) why: Option<Error>,
}

/// Reads all of a segment; what is readable and not deleted goes to `writer`, whose table is one of [`lost_table`].
///
/// # Errors
/// The store's, when it does not answer; those of writing.
pub(super) async fn scan(
    table: &TableSnapshot,
    segment: &SegmentState,
    mut writer: Option<(&mut SegmentWriter, &TableDef)>,
) -> Result<Found> {
    let mut found = Found::default();
    let meta = &segment.meta;
    let reader = match table.open_segment(meta).await {
        Ok(reader) => reader,
        Err(error) if is_damage(&error) => {
            // A segment has fewer than 2^32 rows.
            found.add_lost(table, segment, 0..meta.rows as u32, error);
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    let mut stretches = reader.salvage();
    while let Some(stretch) = stretches.next().await? {
        match stretch {
            Readable::Lost(range, error) => found.add_lost(table, segment, range, error),
            Readable::Rows(mut position, batches) => {
                for batch in batches {
                    let kept = visible(table, segment, position, &batch);
                    position += batch.num_rows() as u32;
                    found.rows += kept.true_count() as u64;
                    if let Some((writer, def)) = &mut writer
                        && kept.true_count() > 0
                    {
                        let width = def.columns.len();
                        let rows = filter_record_batch(&batch, &kept)?;
                        let rows =
                            RecordBatch::try_new(def.arrow_schema(), rows.columns()[..width].to_vec())?;
                        writer.write(&rows)?;
                        writer.flush().await?;
                    }
                }
            }
        }
    }
    Ok(found)
}

impl Found {
    fn add_lost(&mut self, table: &TableSnapshot, segment: &SegmentState, range: Range<u32>, error: Error) {
        let meta = &segment.meta;
        let at = table.version();
        let cold = segment.deletes.as_ref().map_or(0, |deletes| {
            let deleted = deletes.deleted_at(at);
            range.clone().filter(|position| deleted.contains(*position)).count() as u64
        });
        let hot = match meta.row_ids {
            RowIds::Base(base) if !range.is_empty() => {
                let first = RowId(base.0 + u64::from(range.start));
                let last = RowId(base.0 + u64::from(range.end) - 1);
                table.state().hot_deletes.range(first..=last).count() as u64
            }
            RowIds::Base(_) | RowIds::Column => 0,
        };
        self.lost_rows += (range.len() as u64).saturating_sub(cold + hot);
        self.why.get_or_insert(error);
        match self.lost.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => self.lost.push(range),
        }
    }

    /// Which rows are gone, in words: how many, their row ids, the versions that wrote them.
    pub(super) fn describe_lost(&self, meta: &SegmentMeta) -> String {
        const SHOWN: usize = 8;
        if self.lost.is_empty() {
            return "no row is lost".to_owned();
        }
        let ids: Vec<String> = match meta.row_ids {
            RowIds::Base(base) => self
                .lost
                .iter()
                .take(SHOWN)
                .map(|range| {
                    format!("{} to {}", base.0 + u64::from(range.start), base.0 + u64::from(range.end) - 1)
                })
                .collect(),
            RowIds::Column => vec![format!("among {} to {}", meta.min_row_id, meta.max_row_id)],
        };
        let more = match (meta.row_ids, self.lost.len()) {
            (RowIds::Base(_), ranges) if ranges > SHOWN => format!(" and {} ranges more", ranges - SHOWN),
            _ => String::new(),
        };
        let versions = match (meta.min_created, meta.max_created) {
            (CommitVersion(first), CommitVersion(last)) if first == last => format!("version {first}"),
            (first, last) => format!("versions {first} to {last}"),
        };
        format!(
            "{} rows of {} are lost: row ids {}{more}, written by {versions}",
            self.lost_rows,
            meta.rows,
            ids.join(", ")
        )
    }
}

/// Which rows of a batch, the first of which stands at `position`, nothing is known to have deleted.
fn visible(
    table: &TableSnapshot,
    segment: &SegmentState,
    position: u32,
    batch: &RecordBatch,
) -> BooleanArray {
    let deleted = segment.deletes.as_ref().map(|deletes| deletes.deleted_at(table.version()));
    let hot = &table.state().hot_deletes;
    // The last column is `_row_id`.
    let ids = batch.column(batch.num_columns() - 1).as_primitive::<UInt64Type>();
    (position..)
        .zip(ids.values())
        .map(|(position, id)| {
            let gone = deleted.as_ref().is_some_and(|deleted| deleted.contains(position))
                || hot.contains(RowId(*id));
            Some(!gone)
        })
        .collect()
}

/// Name of the table for what is left of a segment: schema, table and the segment's id, cut in front where that is too long.
pub(super) fn table_name(def: &TableDef, segment: ObjectId) -> String {
    let id = format!("_{:08x}_{:08x}", segment.epoch.0, segment.sequence);
    let mut name = format!("{}_{}", def.schema, def.name);
    while name.len() + id.len() > NAME_BYTES_MAX {
        name.pop();
    }
    name + &id
}

/// A table for what is left of a segment of `def`: the same columns, of which each may be NULL, without key, order, defaults and indexes. It is
/// of whoever the table is of.
pub(super) fn lost_table(def: &TableDef, id: TableId, name: String) -> TableDef {
    let column =
        |column: &ColumnDef| ColumnDef { nullable: true, default: None, initial: None, ..column.clone() };
    let columns: Vec<ColumnDef> = def.columns.iter().map(column).collect();
    TableDef {
        id,
        schema: LOST_AND_FOUND.to_owned(),
        name,
        schema_version: SchemaVersion(1),
        next_column_id: columns.iter().map(|c| c.id.next()).max().unwrap_or(ColumnId(1)),
        columns,
        primary_key: Vec::new(),
        sort: Vec::new(),
        layout: Default::default(),
        indexes: Vec::new(),
        identity: None,
        owner: def.owner,
    }
}
