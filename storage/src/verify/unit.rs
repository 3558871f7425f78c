//! Checks of one index unit: its bytes, its graph, and whether its rows are those of its segments. DEEP compares each of them (`vectors`).

use std::collections::HashMap;

use cairn_vector::unit::Unit;
use object_store::path::Path;
use xxhash_rust::xxh3::xxh3_128;

use super::segment::Subject;
use super::vectors::Trouble;
use super::{Depth, Finding, absent, counted, vectors};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{UnitMeta, not_opened};
use crate::object::read_object;
use crate::version::TableState;

/// The finding about one unit, and whether it is to be built again. Its rows are safe whatever it says: they are in segments.
pub(super) async fn check(subject: &Subject<'_>, unit: &UnitMeta) -> (Finding, bool) {
    let Subject { database, table, .. } = *subject;
    let mut result = checked(subject, unit).await;
    if result.is_err() && !still_named(database, table, unit) {
        // A build that ended meanwhile has put another in its place, and removed it.
        result = Ok("replaced while it was checked".to_owned());
    }
    // A store that could not answer says nothing of the unit, and that of a newer Cairn is as it was written.
    let lost = matches!(result.as_ref().map_err(Error::kind), Err(ErrorKind::NotFound | ErrorKind::Corrupt));
    let mut finding = Finding::new(unit.path(), "checksums, graph and rows", result);
    if lost {
        "no row is lost: searches compare its rows exactly until it is built again, which has begun where the database may be written; else REINDEX"
            .clone_into(&mut finding.hint);
    } else if finding.is_bad() {
        "searches compare its rows exactly as long as it cannot be read; VERIFY again, then REINDEX"
            .clone_into(&mut finding.hint);
    }
    (finding, lost)
}

fn still_named(database: &Database, table: &TableState, unit: &UnitMeta) -> bool {
    let newest = database.snapshot();
    newest.state().tables.get(&table.def.id).is_some_and(|table| table.names_unit(unit.id))
}

async fn checked(subject: &Subject<'_>, meta: &UnitMeta) -> Result<String> {
    let Subject { database, table, .. } = *subject;
    let path = meta.path();
    let bytes = match &database.shared.files {
        Some(_) => database.shared.bytes_in_place(&path, None).await,
        None => read_object(&*database.shared.past_cache(), &Path::from(path.as_str()), None)
            .await
            .map_err(Error::from),
    };
    let bytes = bytes.map_err(|error| absent(error, meta.bytes))?;
    if bytes.len() as u64 != meta.bytes {
        let (found, wanted) = (bytes.len() as u64, meta.bytes);
        let why = format!("{found} bytes instead of {wanted}: they differ at offset {}", found.min(wanted));
        return Err(Error::corrupt(&path, why));
    }
    let found = format!("{:032x}", xxh3_128(&bytes));
    // First what tells the place.
    let unit = Unit::open(bytes).map_err(|e| not_opened(&path, e))?;
    if let Some(problem) = unit.verify().first() {
        return Err(Error::corrupt(&path, format!("{} at offset {}", problem.problem, problem.offset)));
    }
    if found != meta.xxh3 {
        return Err(Error::corrupt(
            &path,
            format!("its xxh3 is {found}, not {}: it is another unit", meta.xxh3),
        ));
    }
    if unit.len() as u64 != meta.rows {
        return Err(Error::corrupt(&path, format!("it has {} rows, not {}", unit.len(), meta.rows)));
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
    let mut compared = "";
    if subject.depth == Depth::Deep {
        compared = match vectors::compare(subject, meta, &unit).await {
            Ok(()) => ", each with its vector",
            Err(Trouble::Unit(error)) => return Err(error),
            Err(Trouble::Segment) => ", not compared: a segment cannot be read",
        };
    }
    let (rows, segments) = (unit.len() as u64, meta.segments.len() as u64);
    Ok(format!(
        "{} of {}{compared}, {} bytes",
        counted(rows, "row"),
        counted(segments, "segment"),
        meta.bytes
    ))
}
