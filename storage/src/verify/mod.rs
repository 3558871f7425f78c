//! VERIFY: every checksum, the manifest chain, row-id and key uniqueness, statistics against the data. DEEP: also whether objects agree.
//!
//! Owns: what is checked and how a finding reads. Changes nothing. Damage is a finding, never an error: the check goes on
//! with the next object.
//!
//! Both read every object that the newest manifest and the log behind it name, all of it. DEEP also reads what only some cases need (ids of
//! commits, `wal/tip`, a bucket's `boundary` and `writer`), replays the log, decodes what is in memory anew from the objects, compares index
//! units with the vectors of their rows, and looks at bytes that nobody reads. Neither reads the log below the newest manifest's replay point,
//! objects that nothing names, or caches. Of journals (`durability = 'local'`) both read the one on this machine.

mod chain;
mod hint;
mod history;
mod identity;
mod journal;
mod log;
mod orphans;
mod segment;
mod statistics;
#[cfg(test)]
mod tests;
mod unit;
mod vectors;

use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, RowId, TableId};
use crate::version::{Snapshot, TableState};

/// What to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyScope {
    /// Everything, orphans included.
    Database,
    /// One table's segments.
    Table(TableId),
}

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every object by itself.
    Plain,
    /// And with the others.
    Deep,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingStatus {
    /// Checked and right.
    Ok,
    /// Harmless, but worth knowing.
    Warning,
    /// An object is not there.
    Missing,
    /// An object is not what was written.
    Damaged,
    /// It could not be read, so nobody knows.
    Unknown,
}

impl FindingStatus {
    /// As shown by VERIFY.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Path of the object below the root, or the table's name.
    pub object: String,
    /// What was checked.
    pub check: String,
    /// The result.
    pub status: FindingStatus,
    /// In words.
    pub detail: String,
    /// The next step; empty when there is nothing to do.
    pub hint: String,
}

impl Finding {
    /// Whether something is missing or damaged, or may be.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        !matches!(self.status, FindingStatus::Ok | FindingStatus::Warning)
    }

    fn new(object: impl Into<String>, check: &str, result: Result<String>) -> Self {
        let object = object.into();
        let check = check.to_owned();
        let error = match result {
            Ok(detail) => {
                return Self { object, check, status: FindingStatus::Ok, detail, hint: String::new() };
            }
            Err(error) => error,
        };
        let status = match error.kind() {
            ErrorKind::NotFound => FindingStatus::Missing,
            // Written by a newer Cairn.
            ErrorKind::Unsupported => FindingStatus::Unknown,
            _ if says_nothing(&error) => FindingStatus::Unknown,
            _ => FindingStatus::Damaged,
        };
        let hint = match (error.kind(), error.hint()) {
            (ErrorKind::Unsupported, Some(hint)) => hint.to_owned(),
            _ => hint::next_step(&object, status).to_owned(),
        };
        Self { object, check, status, detail: described(&error), hint }
    }
}

/// What an error says, with what is at stake.
fn described(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}; {detail}", error.message()),
        None => error.message().to_owned(),
    }
}

/// Whether the error is about reaching an object, and tells nothing of its bytes.
fn says_nothing(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::PermissionDenied
            | ErrorKind::ResourceExhausted
            | ErrorKind::Cancelled
    )
}

/// `1 row`, `2 rows`.
fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// What the checks found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// In the order of the checks.
    pub(crate) rows: Vec<Finding>,
    /// Index units that cannot be used.
    pub(crate) lost_units: Vec<ObjectId>,
    /// Bytes of log, segments and what belongs to them, and rows of segments.
    bytes_read: u64,
    rows_read: u64,
}

impl Findings {
    fn push(&mut self, finding: Finding) {
        self.rows.push(finding);
    }

    /// Counts what was read.
    fn read(&mut self, bytes: u64, rows: u64) {
        self.bytes_read += bytes;
        self.rows_read += rows;
    }
}

/// Runs the checks.
///
/// # Errors
/// `NotFound` when the table of the scope is not there.
pub(crate) async fn run(database: &Database, scope: VerifyScope, depth: Depth) -> Result<Findings> {
    let snapshot = database.snapshot();
    let mut findings = Findings::default();
    match scope {
        VerifyScope::Table(id) => {
            let table =
                snapshot.state().tables.get(&id).ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("there is no table with id {id}"))
                })?;
            self::table(database, depth, &snapshot, table, &mut findings).await;
        }
        VerifyScope::Database => {
            identity::check(database, depth, &mut findings).await;
            log::check(database, depth, &mut findings).await;
            journal::check(database, &mut findings).await;
            let chain = chain::check(database, depth, &snapshot, &mut findings).await;
            if depth == Depth::Deep {
                history::check(database, &chain, &mut findings).await;
            }
            for table in snapshot.state().tables.values() {
                self::table(database, depth, &snapshot, table, &mut findings).await;
            }
            orphans::find(database, &snapshot, chain, &mut findings).await?;
        }
    }
    let detail = format!("{} bytes, {}", findings.bytes_read, counted(findings.rows_read, "row"));
    findings.push(Finding::new("total", "read", Ok(detail)));
    Ok(findings)
}

/// The error of an object that something names, with the size it has there when it is missing.
fn absent(error: impl Into<Error>, bytes: u64) -> Error {
    let error = error.into();
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::new(ErrorKind::NotFound, format!("it is not there; {bytes} bytes were written"))
}

async fn table(
    database: &Database,
    depth: Depth,
    snapshot: &Snapshot,
    table: &TableState,
    findings: &mut Findings,
) {
    let subject = segment::Subject { database, depth, table, at: snapshot.version() };
    let mut seen = segment::Seen::new(table);
    for segment in table.segments.iter() {
        segment::check(&subject, segment, &mut seen, findings).await;
    }
    for unit in table.units.iter() {
        let (finding, lost) = unit::check(&subject, unit).await;
        if lost {
            findings.lost_units.push(unit.id);
        }
        findings.read(unit.bytes, 0);
        findings.push(finding);
    }
    let name = table.def.qualified_name();
    if table.dropped_at.is_some() {
        return;
    }
    let complete = seen.is_complete();
    let rows = seen.finish(table, snapshot.version());
    let mut finding = Finding::new(name.clone(), "row ids, keys and row count", rows);
    if !complete && finding.status == FindingStatus::Ok {
        finding.status = FindingStatus::Unknown;
        finding.detail.push_str(" in what could be read");
        "see what is said of its segments".clone_into(&mut finding.hint);
    }
    findings.push(finding);
    let hot = table
        .memtable
        .chunks()
        .flat_map(|c| c.row_ids().values().iter())
        .find(|id| RowId(**id) >= table.next_row_id);
    if let Some(id) = hot {
        findings.push(Finding::new(
            name,
            "memtable",
            Err(Error::internal(format!("row id {id} is not below the next one, {}", table.next_row_id))),
        ));
    }
}
