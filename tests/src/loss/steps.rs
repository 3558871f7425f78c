//! What a database writes, step by step, by name.
//!
//! Owns: the names of steps, the script that makes each of them, and the machines before and after each that are kept. Does not own: what
//! an opening must find then (`database`). The names stand in `docs/formats/durable-steps.md`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cairn_storage::fs::{RecordedStep, SimFileSystem, Step};

use super::database::{self, Ledger};
use super::model::{Change, Operation, TABLES};

/// A moment at which the machine dies.
#[derive(Clone, Debug)]
pub struct Point<Machine> {
    /// The step.
    pub name: String,
    /// Which of the script's operations it belongs to.
    pub place: String,
    /// Nothing of the step is done.
    pub before: Machine,
    /// The step is done, and nothing behind it.
    pub after: Machine,
    /// What is known to whoever used the database.
    pub ledger: Arc<Ledger>,
}

/// The last few points of each name.
#[derive(Clone, Debug)]
pub struct Points<Machine> {
    each: usize,
    by_name: BTreeMap<String, VecDeque<Point<Machine>>>,
}

impl<Machine> Points<Machine> {
    /// Keeps `each` points of a name.
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { each: each.max(1), by_name: BTreeMap::new() }
    }

    /// Adds a point; the oldest of its name goes when there are too many.
    pub fn add(&mut self, point: Point<Machine>) {
        let points = self.by_name.entry(point.name.clone()).or_default();
        points.push_back(point);
        if points.len() > self.each {
            points.pop_front();
        }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The newest point of a name.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&Point<Machine>> {
        self.by_name.get(name)?.back()
    }

    /// All points.
    #[must_use]
    pub fn all(&self) -> Vec<&Point<Machine>> {
        self.by_name.values().flatten().collect()
    }
}

/// What a path is.
#[must_use]
pub fn object(path: &str) -> &'static str {
    match path {
        "CAIRN" => "identity",
        "lock" => "lock",
        "boundary" => "boundary",
        "writer" => "writer",
        "wal/tip" => "tip",
        _ if path.starts_with("wal/") => "log",
        _ if path.starts_with("manifest/leaf/") => "manifest leaf",
        _ if path.starts_with("manifest/") => "manifest",
        _ if path.starts_with("history/") => "history",
        _ if path.starts_with("probe/") => "probe",
        _ => match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("parquet") => "segment",
            Some("keys") => "key filter",
            Some("deletes") => "deletes",
            Some("hnsw") => "index unit",
            _ => "unknown object",
        },
    }
}

fn directory(path: &str) -> &'static str {
    match (path, path.matches('/').count()) {
        ("", _) => "root",
        ("wal", _) => "wal",
        ("manifest", _) => "manifest",
        ("manifest/leaf", _) => "manifest leaf",
        ("history", _) => "history",
        ("table", _) => "tables",
        (path, 1) if path.starts_with("table/") => "table",
        (path, 2) if path.starts_with("table/") && path.ends_with("/index") => "index",
        _ => "unknown directory",
    }
}

fn is_temporary(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(".tmp-"))
}

/// Names of files that have had a temporary one before.
#[derive(Clone, Debug, Default)]
struct FileNames(BTreeMap<u64, String>);

impl FileNames {
    fn learn(&mut self, steps: &[RecordedStep]) {
        for step in steps {
            if let (Step::Rename | Step::HardLink, Some(file)) = (step.step, step.file) {
                self.0.insert(file, step.path.clone());
            }
        }
    }

    fn name(&self, step: &RecordedStep) -> String {
        let lasting = step.file.and_then(|file| self.0.get(&file));
        let temporary = is_temporary(&step.path);
        let file = || match object(lasting.unwrap_or(&step.path)) {
            // Its zeros are written before it counts.
            "log" if temporary => "new log",
            object => object,
        };
        match step.step {
            Step::CreateDir => format!("create directory {}", directory(&step.path)),
            Step::SyncDir => format!("sync directory {}", directory(&step.path)),
            Step::Remove if temporary && lasting.is_none() => "remove leftover".into(),
            Step::Remove if temporary => "remove temporary".into(),
            Step::Create => format!("create {}", file()),
            Step::Write => format!("write {}", file()),
            Step::Truncate => format!("truncate {}", file()),
            Step::Sync => format!("sync {}", file()),
            Step::Rename => format!("rename {}", file()),
            Step::HardLink => format!("link {}", file()),
            Step::Remove => format!("remove {}", file()),
        }
    }
}

/// Operations that together take every step a small database takes.
#[must_use]
pub fn script() -> Vec<Operation> {
    let one = Operation::Change;
    let insert = |table, first, rows| Change::Insert { table, first, rows };
    let mut script: Vec<Operation> = TABLES.into_iter().map(|table| one(Change::Create { table })).collect();
    script.extend([
        one(insert("k", 1000, 4)),
        one(insert("p", 2000, 4)),
        one(insert("v", 3000, 60)),
        // Writes a checkpoint and a unit.
        one(Change::CreateIndex),
        // Too large for the log: a segment, and its key filter.
        one(Change::InsertMany { table: "k", first: 4000 }),
        one(Change::Upsert { step: 3, value: 7 }),
        one(Change::Update { table: "k", modulus: 2, remainder: 0, add: 1 }),
        Operation::Checkpoint,
        one(Change::AddColumn { table: "k", name: "x1".into(), default: 5 }),
        Operation::Transaction {
            changes: vec![
                insert("p", 2100, 3),
                Change::Update { table: "k", modulus: 5, remainder: 1, add: 2 },
                Change::Delete { table: "v", modulus: 7, remainder: 3 },
            ],
            commits: true,
        },
        Operation::Transaction { changes: vec![insert("p", 2200, 3)], commits: false },
        one(Change::Delete { table: "k", modulus: 3, remainder: 0 }),
        Operation::Checkpoint,
        one(insert("k", 1100, 4)),
        Operation::Checkpoint,
        Operation::Compact,
        one(insert("k", 1200, 4)),
        // Removes what was replaced.
        Operation::Checkpoint,
        one(Change::RenameColumn { table: "k", from: "x1".into(), to: "x2".into() }),
        one(Change::InsertMany { table: "p", first: 5000 }),
        one(Change::Truncate { table: "p" }),
        one(Change::CreateSide { modulus: 2 }),
        Operation::Checkpoint,
        one(Change::DropSide),
        Operation::Reopen,
        one(Change::DropColumn { table: "k", name: "x2".into() }),
        one(insert("v", 3100, 10)),
        Operation::Compact,
        one(Change::DropIndex),
        Operation::Checkpoint,
        Operation::Reopen,
        one(insert("k", 1300, 2)),
    ]);
    script
}

/// Runs the script on an empty disk, and an opening after a crash in the middle of it; the last `each` points of every step. What stands
/// at the end is compared, too.
///
/// # Errors
/// What fails, though nothing goes wrong.
pub fn on_disk(seed: u64, each: usize) -> Result<Points<SimFileSystem>, String> {
    let disk = SimFileSystem::new(seed);
    disk.record();
    let mut points = Points::new(each);
    let mut names = FileNames::default();
    let mut ledger = Ledger::new(seed);
    let failed = |place: &str, error: &dyn std::fmt::Display| format!("{place}: {error}");
    let mut connection = database::open(&disk).map_err(|error| failed("opening", &error))?;
    keep(&mut points, &mut names, &disk, "opening", &Arc::new(ledger.clone()));
    for (at, operation) in script().iter().enumerate() {
        let place = format!("operation {at}, {operation:?}");
        let during = Arc::new(ledger.during(operation));
        if matches!(operation, Operation::Reopen) {
            connection.close().map_err(|error| failed(&place, &error))?;
            connection = database::open(&disk).map_err(|error| failed(&place, &error))?;
        } else {
            // Also a transaction that lost against a build of the index in the background has taken its steps.
            ledger.run(&connection, operation).map_err(|error| failed(&place, &error))?;
        }
        keep(&mut points, &mut names, &disk, &place, &during);
    }
    ledger.settle(&connection)?;
    connection.close().map_err(|error| failed("closing", &error))?;
    keep(&mut points, &mut names, &disk, "closing", &Arc::new(ledger));

    // What an opening does after a crash, which may come in the middle of it, too.
    let crash = points.last("rename segment").cloned().ok_or("the script writes no segment")?;
    let disk = crash.before.restart(seed);
    disk.record();
    database::open(&disk).map_err(|error| failed("opening after a crash", &error))?.abandon();
    let (mut recovering, mut names) = (Points::new(each), FileNames::default());
    keep(&mut recovering, &mut names, &disk, "opening after a crash", &crash.ledger);
    // Of the steps that both take, those of the script are kept.
    let known: Vec<String> = points.names().map(str::to_owned).collect();
    for point in recovering.all() {
        if !known.contains(&point.name) {
            points.add(point.clone());
        }
    }
    Ok(points)
}

fn keep(
    points: &mut Points<SimFileSystem>,
    names: &mut FileNames,
    disk: &SimFileSystem,
    place: &str,
    ledger: &Arc<Ledger>,
) {
    let steps = disk.recorded();
    names.learn(&steps);
    for (at, step) in steps.iter().enumerate() {
        // As the next step found it, or as it is now.
        let after = steps.get(at + 1).map_or_else(|| disk.restart(step.number), |next| next.before.clone());
        points.add(Point {
            name: names.name(step),
            place: place.to_owned(),
            before: step.before.clone(),
            after,
            ledger: Arc::clone(ledger),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_names() {
        for (path, name) in [
            ("wal/00000000000000000007", "log"),
            ("wal/tip", "tip"),
            ("table/7/0001-02.parquet", "segment"),
            ("table/7/0001-02.0001-03.deletes", "deletes"),
            ("table/7/index/0001-02.hnsw", "index unit"),
            ("manifest/00000000000000000001", "manifest"),
            ("table/7/else", "unknown object"),
        ] {
            assert_eq!(object(path), name, "{path}");
        }
        for (path, name) in
            [("", "root"), ("table", "tables"), ("table/7", "table"), ("table/7/index", "index")]
        {
            assert_eq!(directory(path), name, "{path}");
        }
        assert!(is_temporary("table/7/.tmp-3") && !is_temporary("table/.tmp-7/3"));
    }
}
