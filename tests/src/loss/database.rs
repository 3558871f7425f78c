//! A database on a disk of this process, and what is known about it.
//!
//! Owns: opening it, running operations, and the ledger of what was acknowledged, at which version and under which id; comparing all of
//! that with what an opening finds. Does not own: what goes wrong (`SimFileSystem`, the tests), what is run (`model`).
//!
//! The rules. What was acknowledged is there, at its version. What failed is not there at all, unless the error was 40003: then it is
//! there wholly or not at all, and SHOW COMMIT says which. Versions are in the order of acknowledging. VERIFY finds nothing wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_engine::{OpenOptions, Root};
use cairn_storage::fs::{FileSystem, SimFileSystem};

use super::model::{Change, Column, Kind, Model, Operation, Table};
use crate::answer::SqlError;
use crate::connection::Connection;

/// SQLSTATE of a commit that may have been done or not.
pub const UNKNOWN: &str = "40003";
/// SQLSTATE of a transaction that others were faster than: here, a background build of an index.
const CONFLICT: &str = "40001";

/// How a database on `disk` is opened: limits small enough that scripts of a few statements reach them, nothing by itself.
#[must_use]
pub fn options(disk: &SimFileSystem) -> OpenOptions {
    OpenOptions {
        fs: Some(Arc::new(disk.clone()) as Arc<dyn FileSystem>),
        wal_entry_bytes_max: 4 << 10,
        checkpoint_wal_bytes: u64::MAX,
        close_wal_bytes: 8 << 10,
        compacts: false,
        compact_segment_bytes: 8 << 10,
        ..OpenOptions::default()
    }
}

/// Opens the database on `disk`.
///
/// # Errors
/// What the engine says.
pub fn open(disk: &SimFileSystem) -> Result<Connection, SqlError> {
    Connection::open_alone(Root::Path("disk".into()), options(disk))
}

/// How an operation ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// As the model has it.
    Acknowledged,
    /// A transaction that lost against upkeep: nothing has changed.
    Refused,
}

/// What whoever used the database knows about it.
#[derive(Clone, Debug)]
pub struct Ledger {
    seed: u64,
    ids: u64,
    model: Model,
    /// Ids of commits, and their versions.
    acknowledged: Vec<(String, u64)>,
    /// Ids of commits that have failed.
    failed: Vec<String>,
    /// A commit that may be there or not, and what the database holds if it is.
    doubtful: Option<(String, Model)>,
}

impl Ledger {
    /// That of an empty database.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (acknowledged, failed) = (Vec::new(), Vec::new());
        Self { seed, ids: 0, model: Model::default(), acknowledged, failed, doubtful: None }
    }

    /// What the database must hold.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Commits so far.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.acknowledged.len()
    }

    /// The ledger of whoever has heard nothing of `operation` yet when the machine dies.
    #[must_use]
    pub fn during(&self, operation: &Operation) -> Self {
        let mut ledger = self.clone();
        if operation.commits() {
            let (id, mut after) = (ledger.next_id(), self.model.clone());
            operation.apply(&mut after);
            ledger.doubtful = Some((id, after));
        }
        ledger
    }

    fn next_id(&mut self) -> String {
        self.ids += 1;
        format!("{:08x}-5eed-4000-8000-{:012x}", self.ids, self.seed)
    }

    /// Runs an operation, but for [`Operation::Reopen`], and notes what came of it.
    ///
    /// # Errors
    /// That of the statement that failed; a note of what must not be is [`SqlError::of_test`].
    pub fn run(&mut self, connection: &Connection, operation: &Operation) -> Result<Done, SqlError> {
        let statements = operation.statements();
        if !operation.commits() {
            let done = statements.iter().try_for_each(|sql| connection.run(sql).map(drop));
            end_transaction(connection);
            return done.map(|()| Done::Acknowledged);
        }
        let id = self.next_id();
        let mut after = self.model.clone();
        operation.apply(&mut after);
        connection.run(&format!("SET commit_id = '{id}'"))?;
        for (at, sql) in statements.iter().enumerate() {
            let Err(error) = connection.run(sql) else { continue };
            let last = at + 1 == statements.len();
            end_transaction(connection);
            // What comes behind the commit has commits of its own, with other ids.
            let goes_on = operation.goes_on_after_its_commit();
            if last && (error.sqlstate == UNKNOWN || goes_on) {
                if !goes_on && !error.message.contains(&id) {
                    return Err(wrong(format!("{sql}: no id of the commit in: {error}")));
                }
                self.doubtful = Some((id, after));
                return Err(error);
            }
            if error.sqlstate == UNKNOWN {
                return Err(wrong(format!("{sql} commits nothing, and answers: {error}")));
            }
            self.failed.push(id);
            if last && statements.len() > 1 && error.sqlstate == CONFLICT && self.model.tables["v"].indexed {
                return Ok(Done::Refused);
            }
            return Err(error);
        }
        self.acknowledge(connection, id, after)?;
        Ok(Done::Acknowledged)
    }

    fn acknowledge(&mut self, connection: &Connection, id: String, after: Model) -> Result<(), SqlError> {
        match version_of(connection, &id) {
            Ok(Some(version)) => {
                let before = self.acknowledged.last().map_or(0, |(_, version)| *version);
                if version <= before || version > connection.version() {
                    return Err(wrong(format!("commit {id} has version {version}, behind {before}")));
                }
                self.acknowledged.push((id, version));
            }
            // Nothing was changed, so there is no commit; a disk that has died since can't even tell that.
            Ok(None) | Err(_) if after == self.model => {}
            Err(error) => return Err(error),
            Ok(None) => {
                return Err(wrong(format!("commit {id} was acknowledged, and SHOW COMMIT does not know it")));
            }
        }
        self.model = after;
        Ok(())
    }

    /// That reads answer what was acknowledged, whatever has failed since.
    ///
    /// # Errors
    /// What contradicts it.
    pub fn compare(&self, connection: &Connection) -> Result<(), String> {
        match difference(&self.model, &read(connection)?) {
            Some(difference) => Err(difference),
            None => Ok(()),
        }
    }

    /// Looks at a database that was opened again, and takes over what became of the commit that was in doubt.
    ///
    /// # Errors
    /// What contradicts the ledger.
    pub fn settle(&mut self, connection: &Connection) -> Result<(), String> {
        verify(connection)?;
        for (id, version) in &self.acknowledged {
            let found = version_of(connection, id).map_err(|error| error.to_string())?;
            if found != Some(*version) {
                return Err(format!("commit {id} was acknowledged as {version} and is at {found:?}"));
            }
        }
        for id in &self.failed {
            if let Some(version) = version_of(connection, id).map_err(|error| error.to_string())? {
                return Err(format!("commit {id} has failed and is at {version}"));
            }
        }
        let found = read(connection)?;
        if let Some((id, after)) = self.doubtful.take() {
            let version = version_of(connection, &id).map_err(|error| error.to_string())?;
            let last = self.acknowledged.last().map_or(0, |(_, version)| *version);
            match version {
                Some(version) if version <= last => {
                    return Err(format!(
                        "commit {id}, in doubt, has version {version}, which is not behind {last}"
                    ));
                }
                Some(version) => {
                    self.acknowledged.push((id, version));
                    self.model = after;
                }
                None => self.failed.push(id),
            }
        }
        match difference(&self.model, &found) {
            Some(difference) => Err(difference),
            None => Ok(()),
        }
    }
}

fn wrong(what: String) -> SqlError {
    SqlError::of_test(what)
}

impl Operation {
    /// Whether it makes a commit that can be given an id.
    fn commits(&self) -> bool {
        matches!(self, Self::Change(_) | Self::Transaction { commits: true, .. })
    }

    /// Whether something may fail that comes behind its commit.
    fn goes_on_after_its_commit(&self) -> bool {
        matches!(self, Self::Change(Change::CreateIndex))
    }

    fn statements(&self) -> Vec<String> {
        match self {
            Self::Change(change) => vec![change.sql()],
            Self::Transaction { changes, commits } => {
                let end = if *commits { "COMMIT" } else { "ROLLBACK" };
                let inside = changes.iter().map(Change::sql);
                ["BEGIN".to_owned()].into_iter().chain(inside).chain([end.to_owned()]).collect()
            }
            Self::Checkpoint => vec!["CHECKPOINT".into()],
            Self::Compact => vec!["COMPACT".into()],
            Self::Reopen => Vec::new(),
        }
    }
}

/// Of a transaction that a failed statement has left open.
fn end_transaction(connection: &Connection) {
    if connection.in_transaction() {
        // It writes nothing: whether it works does not matter.
        let _ = connection.run("ROLLBACK");
    }
}

/// The version of the commit of that id.
fn version_of(connection: &Connection, id: &str) -> Result<Option<u64>, SqlError> {
    let rows = connection.run(&format!("SHOW COMMIT '{id}'"))?.rows();
    let row = rows.first().ok_or_else(|| wrong(format!("SHOW COMMIT '{id}' has no row")))?;
    match row[3].as_str() {
        "committed" => row[1].parse().map(Some).map_err(|_| wrong(format!("{} is no version", row[1]))),
        _ => Ok(None),
    }
}

/// That VERIFY finds nothing wrong.
fn verify(connection: &Connection) -> Result<(), String> {
    let findings = connection.run("VERIFY").map_err(|error| format!("VERIFY: {error}"))?.rows();
    if findings.is_empty() {
        return Err("VERIFY checked nothing".into());
    }
    // What a crash cuts off may leave objects that nothing names.
    let is_fine = |finding: &[String]| {
        finding[2] == "ok" || (finding[2] == "warning" && finding[1] == "unreferenced objects")
    };
    match findings.iter().find(|finding| !is_fine(finding)) {
        Some(finding) => Err(format!("VERIFY finds {finding:?}")),
        None => Ok(()),
    }
}

/// Everything the database holds, each table in SQL.
fn read(connection: &Connection) -> Result<Model, String> {
    let snapshot = connection.engine().database().snapshot();
    let mut tables = BTreeMap::new();
    for definition in snapshot.catalog().tables("public") {
        let columns = definition.columns.iter().skip(1).map(|column| {
            let kind = match column.name.as_str() {
                "e" => Kind::Vector,
                "b" => Kind::Text,
                _ => Kind::Number,
            };
            let default = column.default.clone().unwrap_or_else(|| "NULL".into());
            Column { name: column.name.clone(), kind, default }
        });
        let mut table = Table {
            columns: columns.collect(),
            indexed: !definition.indexes.is_empty(),
            rows: BTreeMap::new(),
        };
        let sql = format!("SELECT {} FROM {}", table.select_list(), definition.name);
        let rows = connection.run(&sql).map_err(|error| format!("{sql}: {error}"))?.rows();
        for mut cells in rows {
            let id = cells.remove(0).parse::<i64>().map_err(|_| format!("{sql}: an id is no number"))?;
            for (cell, column) in cells.iter_mut().zip(&table.columns) {
                if column.kind == Kind::Vector {
                    *cell = whole(cell);
                }
            }
            if table.rows.insert(id, cells).is_some() {
                return Err(format!("{} has id {id} twice", definition.name));
            }
        }
        tables.insert(definition.name.clone(), table);
    }
    Ok(Model { tables })
}

/// A vector as the model writes it.
fn whole(text: &str) -> String {
    let numbers = text.trim_matches(['[', ']']).split(',').map(|part| part.trim().trim_end_matches(".0"));
    format!("[{}]", numbers.collect::<Vec<_>>().join(","))
}

/// The first difference in words.
fn difference(expected: &Model, found: &Model) -> Option<String> {
    if expected == found {
        return None;
    }
    let names = |model: &Model| model.tables.keys().cloned().collect::<Vec<_>>();
    if names(expected) != names(found) {
        return Some(format!("tables {:?}, expected {:?}", names(found), names(expected)));
    }
    for (name, table) in &expected.tables {
        let other = &found.tables[name];
        if (&table.columns, table.indexed) != (&other.columns, other.indexed) {
            return Some(format!(
                "{name} has {:?}, indexed: {}; expected {:?}, {}",
                other.columns, other.indexed, table.columns, table.indexed
            ));
        }
        let mut ids = table.rows.keys().chain(other.rows.keys());
        if let Some(id) = ids.find(|id| table.rows.get(*id) != other.rows.get(*id)) {
            return Some(format!(
                "{name} has {} rows, expected {}; row {id} is {:?}, expected {:?}",
                other.rows.len(),
                table.rows.len(),
                other.rows.get(id),
                table.rows.get(id)
            ));
        }
    }
    Some("they differ".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_seen() {
        let disk = SimFileSystem::new(1);
        let connection = open(&disk).unwrap();
        let mut ledger = Ledger::new(1);
        let insert = |first| Operation::Change(Change::Insert { table: "k", first, rows: 3 });
        for operation in [Operation::Change(Change::Create { table: "k" }), insert(1000)] {
            assert_eq!(ledger.run(&connection, &operation).unwrap(), Done::Acknowledged);
        }
        let (earlier, mut known) = (disk.restart(1), ledger.clone());
        let mut during = ledger.during(&insert(2000));
        ledger.run(&connection, &insert(2000)).unwrap();
        ledger.compare(&connection).unwrap();
        assert!(known.compare(&connection).is_err(), "rows that nobody was told of");
        connection.exec("DELETE FROM k WHERE id = 1001");
        assert!(ledger.compare(&connection).is_err(), "a row that is gone");
        connection.abandon();

        let connection = open(&earlier).unwrap();
        known.settle(&connection).unwrap();
        during.settle(&connection).unwrap();
        let lost = ledger.settle(&connection).unwrap_err();
        assert!(lost.contains("was acknowledged as"), "{lost}");
        connection.abandon();
    }
}
