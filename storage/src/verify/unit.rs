//! Checks of one index unit: its bytes, its graph, and whether its rows are those of its segments.

use std::collections::HashMap;

use cairn_vector::unit::Unit;
use xxhash_rust::xxh3::xxh3_128;

use super::Finding;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::index::UnitMeta;
use crate::version::TableState;

/// Appends the finding about one unit. Its rows are safe whatever it says: they are in segments.
pub(super) async fn check(
    database: &Database,
    table: &TableState,
    unit: &UnitMeta,
    findings: &mut Vec<Finding>,
) {
    let mut finding =
        Finding::new(unit.path(), "checksums, graph and rows", checked(database, table, unit).await);
    if finding.is_bad() {
        "searches compare its rows exactly meanwhile; REINDEX builds it again".clone_into(&mut finding.hint);
    }
    findings.push(finding);
}

async fn checked(database: &Database, table: &TableState, meta: &UnitMeta) -> Result<String> {
    let path = meta.path();
    let bytes = database.shared.bytes_in_place(&path).await?;
    if bytes.len() as u64 != meta.bytes {
        return Err(Error::corrupt(&path, format!("{} bytes instead of {}", bytes.len(), meta.bytes)));
    }
    let found = format!("{:032x}", xxh3_128(&bytes));
    if found != meta.xxh3 {
        return Err(Error::corrupt(&path, format!("its xxh3 is {found}, not {}", meta.xxh3)));
    }
    let unit = Unit::open(bytes).map_err(|e| Error::corrupt(&path, e))?;
    if let Some(problem) = unit.verify().first() {
        return Err(Error::corrupt(&path, format!("{} at byte {}", problem.problem, problem.offset)));
    }
    let stored: HashMap<_, _> = table.segments.iter().map(|s| (s.meta.id, s.meta.rows)).collect();
    let (mut rows, mut gone) = (0, false);
    for segment in &meta.segments {
        match stored.get(&segment.id) {
            Some(stored) => rows += segment.range(*stored).len() as u64,
            None => gone = true,
        }
    }
    if !gone && unit.len() as u64 > rows {
        return Err(Error::corrupt(&path, format!("{} rows of segments that hold {rows}", unit.len())));
    }
    Ok(format!("{} rows of {} segments, {} bytes", unit.len(), meta.segments.len(), meta.bytes))
}
