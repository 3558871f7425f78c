//! VERIFY: every checksum, the manifest chain, row-id and key uniqueness, statistics against the data.
//!
//! Owns: what is checked and how a finding reads. Changes nothing. Damage is a finding, never an error: the check goes on
//! with the next object.

mod chain;
mod orphans;
mod segment;
mod unit;

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
        let (status, detail) = match result {
            Ok(detail) => (FindingStatus::Ok, detail),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (FindingStatus::Missing, error.message().to_owned())
            }
            Err(error) if says_nothing(&error) => (FindingStatus::Unknown, error.message().to_owned()),
            Err(error) => (FindingStatus::Damaged, error.message().to_owned()),
        };
        let hint = match status {
            FindingStatus::Ok | FindingStatus::Warning => "",
            FindingStatus::Missing | FindingStatus::Damaged => {
                "keep a copy of the database, then restore this object from a backup"
            }
            FindingStatus::Unknown => "it could not be read; VERIFY again",
        };
        Self { object: object.into(), check: check.to_owned(), status, detail, hint: hint.to_owned() }
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
}

/// Runs the checks.
///
/// # Errors
/// `NotFound` when the table of the scope is not there.
pub(crate) async fn run(database: &Database, scope: VerifyScope) -> Result<Findings> {
    let snapshot = database.snapshot();
    let mut findings = Findings::default();
    match scope {
        VerifyScope::Table(id) => {
            let table =
                snapshot.state().tables.get(&id).ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, format!("there is no table with id {id}"))
                })?;
            self::table(database, &snapshot, table, &mut findings).await;
        }
        VerifyScope::Database => {
            findings.rows.push(log(database).await);
            let chain = chain::check(database, &snapshot, &mut findings.rows).await;
            for table in snapshot.state().tables.values() {
                self::table(database, &snapshot, table, &mut findings).await;
            }
            orphans::find(database, &snapshot, chain, &mut findings.rows).await?;
        }
    }
    Ok(findings)
}

/// The log's files: each frame's checksum, dense versions, every entry decodes.
async fn log(database: &Database) -> Finding {
    let result = database.check_log().await;
    Finding::new("wal", "frames and versions", result)
}

/// The error of an object that something names, with the size it has there when it is missing.
fn absent(error: impl Into<Error>, bytes: u64) -> Error {
    let error = error.into();
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::new(ErrorKind::NotFound, format!("it is not there; {bytes} bytes were written"))
}

async fn table(database: &Database, snapshot: &Snapshot, table: &TableState, findings: &mut Findings) {
    let Findings { rows: findings, lost_units } = findings;
    let mut seen = segment::Seen::new(table);
    for segment in table.segments.iter() {
        segment::check(database, table, segment, snapshot.version(), &mut seen, findings).await;
    }
    for unit in table.units.iter() {
        let (finding, lost) = unit::check(database, table, unit).await;
        if lost {
            lost_units.push(unit.id);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_not_called_damaged() {
        let found = |kind| Finding::new("x", "object hash", Err(Error::new(kind, "why")));
        for (kind, status) in [
            (ErrorKind::NotFound, FindingStatus::Missing),
            (ErrorKind::Corrupt, FindingStatus::Damaged),
            (ErrorKind::Unsupported, FindingStatus::Damaged),
            (ErrorKind::Unavailable, FindingStatus::Unknown),
            (ErrorKind::PermissionDenied, FindingStatus::Unknown),
        ] {
            let finding = found(kind);
            assert_eq!((finding.status, finding.is_bad()), (status, true), "{kind:?}");
            assert_eq!(finding.hint.contains("backup"), status != FindingStatus::Unknown, "{kind:?}");
        }
        assert!(!Finding::new("x", "object hash", Ok(counted(1, "row"))).is_bad());
    }

    #[test]
    fn one_is_one() {
        assert_eq!([counted(0, "row"), counted(1, "row"), counted(2, "row")], ["0 rows", "1 row", "2 rows"]);
    }
}
