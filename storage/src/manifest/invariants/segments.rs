//! Rules 12 to 17: the segments of one table.

use std::collections::HashSet;

use super::{Check, require};
use crate::manifest::model::{SegmentEntry, TableRecord};
use crate::segment::{Created, RowIds, SegmentMeta};

/// Rules of a table's segments among themselves.
///
/// # Errors
/// The first rule that does not hold.
pub fn check_segments(segments: &[SegmentEntry]) -> Check {
    let mut ids = HashSet::new();
    for entry in segments {
        let segment = &entry.segment;
        require(12, ids.insert(segment.id), || format!("object {} twice", segment.id))?;
        check_bounds(segment)?;
        let mut deleted = 0u64;
        for deletes in &entry.deletes {
            require(12, ids.insert(deletes.id), || format!("object {} twice", deletes.id))?;
            let named = deletes.segment == segment.id && deletes.table == segment.table;
            require(15, named, || {
                format!("deletes {} of segment {} stand with {}", deletes.id, deletes.segment, segment.id)
            })?;
            deleted = deleted.saturating_add(deletes.rows);
        }
        require(15, deleted <= segment.rows, || {
            format!("{deleted} deleted of {} rows in segment {}", segment.rows, segment.id)
        })?;
    }
    check_ranges(segments)
}

fn check_bounds(s: &SegmentMeta) -> Check {
    require(13, s.rows > 0, || format!("segment {} has no rows", s.id))?;
    let created = match s.created {
        Created::Constant(v) => s.min_created == v && s.max_created == v,
        Created::Column => s.min_created <= s.max_created,
    };
    require(13, created, || {
        format!("segment {}: created {:?} within {}..={}", s.id, s.created, s.min_created, s.max_created)
    })?;
    let span = s.max_row_id.0.checked_sub(s.min_row_id.0);
    let row_ids = match s.row_ids {
        RowIds::Base(base) => base == s.min_row_id && span == Some(s.rows - 1),
        RowIds::Column => span.is_some_and(|span| span >= s.rows - 1),
    };
    require(13, row_ids, || {
        format!(
            "segment {}: {} row ids {:?} within {}..={}",
            s.id, s.rows, s.row_ids, s.min_row_id, s.max_row_id
        )
    })
}

fn check_ranges(segments: &[SegmentEntry]) -> Check {
    let mut ranges: Vec<&SegmentMeta> = segments
        .iter()
        .map(|entry| entry.segment.as_ref())
        .filter(|segment| matches!(segment.row_ids, RowIds::Base(_)))
        .collect();
    ranges.sort_by_key(|segment| segment.min_row_id);
    for pair in ranges.windows(2) {
        require(14, pair[0].max_row_id < pair[1].min_row_id, || {
            format!("row ids of segments {} and {} overlap at {}", pair[0].id, pair[1].id, pair[1].min_row_id)
        })?;
    }
    Ok(())
}

/// Rules between a table's record and its segments.
///
/// # Errors
/// The first rule that does not hold.
pub fn check_table_segments(table: &TableRecord, segments: &[SegmentEntry]) -> Check {
    let name = || table.def.qualified_name();
    let keyed = !table.def.primary_key.is_empty();
    for entry in segments {
        let s = &entry.segment;
        require(16, s.table == table.def.id && s.schema_version <= table.def.schema_version, || {
            format!("segment {} of table id {}, schema {} in {}", s.id, s.table, s.schema_version, name())
        })?;
        let late = entry.deletes.iter().filter_map(|d| d.version).find(|v| *v > table.flushed);
        require(16, s.max_created <= table.flushed && late.is_none(), || {
            let version = late.unwrap_or(s.max_created);
            format!("segment {} of {} knows version {version}, flushed is {}", s.id, name(), table.flushed)
        })?;
        require(16, s.max_row_id < table.next_row_id, || {
            format!(
                "segment {} of {} has row id {}, next is {}",
                s.id,
                name(),
                s.max_row_id,
                table.next_row_id
            )
        })?;
        require(17, s.key_filter_bytes.is_some() == keyed, || {
            format!("segment {} of {}: key filter {:?}", s.id, name(), s.key_filter_bytes)
        })?;
    }
    Ok(())
}
