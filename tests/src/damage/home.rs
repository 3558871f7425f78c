//! The databases that are damaged, made through SQL, and what is asked of them.
//!
//! Two of them. `small` has everything but leaves: every type, keys, deletes in segments, in `.deletes` objects and in the log, an altered
//! table, a compacted one, index units, a view, users, kept jobs, a log of three files whose last one ends without a seal. `wide` has
//! one table of so many columns that its segment list stands in leaves. Of the last commits of `small` each has a stage: the directory as it
//! was behind it, so that a log that is cut there can be judged.
//!
//! Owns: the statements, the questions, copies of the directory, which file is what. Does not own: what is done to a file (`harm`).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_engine::{OpenOptions, Root};

use super::harm::{Frame, frames};
use crate::answer::SqlError;
use crate::connection::Connection;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `CAIRN`
    Identity,
    /// `lock`
    Lock,
    /// `wal/tip`
    Tip,
    /// The log file that was appended to last.
    OpenLog,
    /// A log file with a successor.
    SealedLog,
    /// The newest manifest.
    Manifest,
    /// A manifest before it.
    OlderManifest,
    /// The leaf of the newest manifest.
    Leaf,
    /// A leaf that only older manifests name.
    OlderLeaf,
    /// `history/<number>`
    History,
    /// `<id>.parquet`
    Segment,
    /// `<id>.keys`
    KeyFilter,
    /// `<segment>.<id>.deletes`
    Deletes,
    /// `<id>.hnsw`
    IndexUnit,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Identity => "identity",
            Self::Lock => "lock",
            Self::Tip => "tip",
            Self::OpenLog => "open log",
            Self::SealedLog => "sealed log",
            Self::Manifest => "manifest",
            Self::OlderManifest => "older manifest",
            Self::Leaf => "leaf",
            Self::OlderLeaf => "older leaf",
            Self::History => "history",
            Self::Segment => "segment",
            Self::KeyFilter => "key filter",
            Self::Deletes => "deletes",
            Self::IndexUnit => "index unit",
        })
    }
}

/// One file of a database.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Below the root.
    pub path: String,
    /// What it is for.
    pub kind: FileKind,
    /// What stands in it.
    pub bytes: Vec<u8>,
}

/// A database to be damaged.
#[derive(Debug)]
pub struct Home {
    /// Its name in reports.
    pub name: &'static str,
    /// The directory behind each of the last commits; the last one is the database that is damaged.
    pub stages: Vec<PathBuf>,
    /// Files of the last stage.
    pub files: Vec<Stored>,
    /// Frames of the log file that was appended to last; the commit of the i-th leads from stage i to the next.
    pub frames: Vec<Frame>,
    /// What everybody is asked.
    pub questions: Vec<String>,
    /// What only readers are asked: it stands in tables, and a writer answers it from memory.
    pub reader_questions: Vec<String>,
    /// Two questions about the same rows, which must have the same answer: by comparing every vector, and by the index.
    pub pairs: Vec<(usize, usize)>,
}

impl Home {
    /// The directory that is damaged.
    ///
    /// # Panics
    /// Never: there is a stage.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.stages.last().unwrap()
    }

    fn of(name: &'static str, stages: Vec<PathBuf>) -> Self {
        let files = files(stages.last().unwrap());
        let open = files.iter().find(|file| file.kind == FileKind::OpenLog).unwrap();
        let frames = frames(&open.bytes);
        Self {
            name,
            frames,
            files,
            stages,
            questions: Vec::new(),
            reader_questions: Vec::new(),
            pairs: Vec::new(),
        }
    }
}

/// Nothing happens in it by itself, so that it has the same files every time.
fn options() -> OpenOptions {
    OpenOptions {
        compacts: false,
        checkpoint_wal_bytes: u64::MAX,
        close_wal_bytes: u64::MAX,
        ..OpenOptions::default()
    }
}

fn opened(root: &Path, options: &OpenOptions) -> Connection {
    Connection::open(Root::Path(root.to_path_buf()), options.clone())
        .unwrap_or_else(|error: SqlError| panic!("the database to be damaged: {error}"))
}

/// Makes `small` below `place`.
///
/// # Panics
/// When a statement fails, or the database is not what this file says.
#[must_use]
pub fn small(place: &Path) -> Home {
    let root = place.join("small");
    // Large changes leave the log early: they are written as segments and `.deletes` objects.
    let spilling = OpenOptions { wal_entry_bytes_max: 32 << 10, ..options() };
    let first = opened(&root, &OpenOptions { keeps_jobs: true, ..spilling.clone() });
    before_the_checkpoint(&first);
    let commit =
        first.rows("SELECT commit_id FROM system.versions ORDER BY version LIMIT 1").remove(0).remove(0);
    first.exec("CHECKPOINT");
    // Rows of jobs become one more commit here.
    first.close().unwrap();

    let second = opened(&root, &spilling);
    for statement in SEALED {
        second.exec(statement);
    }
    second.close().unwrap();

    let third = opened(&root, &options());
    let mut stages = vec![copied(&root, place, 0)];
    let row = kinds_row(41);
    let open = OPEN.iter().copied().chain([row.as_str()]);
    for (number, statement) in open.enumerate() {
        third.exec(statement);
        stages.push(copied(&root, place, number + 1));
    }
    third.abandon();

    let mut home = Home::of("small", stages);
    assert_eq!(home.frames.len(), OPEN.len() + 1, "one commit each");
    home.questions = questions_of_small();
    home.questions.push(format!("SHOW COMMIT '{commit}'"));
    home.reader_questions = vec!["SELECT id, kind, status, \"rows\" FROM system.jobs ORDER BY id".to_owned()];
    home.pairs = search_pairs(&home.questions);
    home
}

/// Statements before the last checkpoint.
fn before_the_checkpoint(db: &Connection) {
    db.exec(&format!("CREATE TABLE kinds (id INT PRIMARY KEY, {})", KINDS.join(", ")));
    db.exec("CREATE TABLE keyed (k TEXT PRIMARY KEY, v BIGINT NOT NULL)");
    db.exec("CREATE TABLE pair (a INT, b TEXT, v BIGINT, PRIMARY KEY (a, b))");
    db.exec("CREATE TABLE plain (a INT, b TEXT)");
    db.exec("CREATE TABLE many (n SMALLINT)");
    db.exec("CREATE TABLE loaded (a BIGINT)");
    for table in ["item", "other"] {
        db.exec(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, tenant INT, e VECTOR(4))"));
    }
    db.exec("CREATE VIEW seen AS SELECT id, c14 FROM kinds WHERE id > 3");
    for id in 1..=12 {
        db.exec(&kinds_row(id));
    }
    db.exec(
        "INSERT INTO keyed SELECT 'k' || (1000 + value), value * 3 FROM generate_series(1, 150) AS g(value)",
    );
    db.exec("INSERT INTO pair SELECT value % 6, 'b' || value, value FROM generate_series(1, 40) AS g(value)");
    db.exec("INSERT INTO plain SELECT value, 'p' || value FROM generate_series(1, 30) AS g(value)");
    db.exec("INSERT INTO many SELECT value % 100 FROM generate_series(1, 34000) AS g(value)");
    // The same number of rows and ids in both: their index units are alike in all but the vectors.
    db.exec(
        "INSERT INTO item SELECT value, value % 4, ARRAY[value, value % 7, value % 5, 1] \
         FROM generate_series(1, 48) AS g(value)",
    );
    db.exec(
        "INSERT INTO other SELECT value, value % 3, ARRAY[value % 11, 2, value, value % 6] \
         FROM generate_series(1, 48) AS g(value)",
    );
    db.exec("CHECKPOINT");
    db.exec("CREATE INDEX item_e ON item USING hnsw (e) WITH (metric = 'l2')");
    for id in 13..=24 {
        db.exec(&kinds_row(id));
    }
    db.exec("INSERT INTO keyed SELECT 'k' || (1000 + value), value * 3 FROM generate_series(151, 300) AS g(value)");
    db.exec(
        "INSERT INTO pair SELECT value % 6, 'b' || value, value FROM generate_series(41, 80) AS g(value)",
    );
    db.exec("ALTER TABLE plain ADD COLUMN c INT DEFAULT 7");
    db.exec("ALTER TABLE plain ALTER a TYPE BIGINT");
    db.exec("INSERT INTO plain SELECT value, 'p' || value, value FROM generate_series(31, 60) AS g(value)");
    db.exec("CREATE USER ada PASSWORD 'correct horse' SUPERUSER");
    db.exec("CREATE USER bob PASSWORD 'battery staple'");
    db.exec("CREATE ROLE readers");
    db.exec("GRANT readers TO bob");
    db.exec("GRANT SELECT ON item TO readers");
    db.exec("CHECKPOINT");
    db.exec("COMPACT TABLE keyed");
    db.exec("INSERT INTO keyed SELECT 'k' || (1000 + value), value * 3 FROM generate_series(301, 340) AS g(value)");
    db.exec("CHECKPOINT");
    db.exec("DELETE FROM keyed WHERE v % 9 = 0");
    db.exec("DELETE FROM kinds WHERE id % 7 = 0");
    db.exec("DELETE FROM plain WHERE a % 8 = 3");
    db.exec("DELETE FROM item WHERE id % 10 = 0");
    db.exec("UPDATE pair SET v = v + 1000 WHERE a = 2");
}

/// Commits of the log file between: a `.deletes` object and a segment that the log alone names, an index unit, hot rows.
const SEALED: [&str; 5] = [
    "DELETE FROM many WHERE n <> 5",
    "INSERT INTO loaded SELECT value % 7 FROM generate_series(1, 9000) AS g(value)",
    "CREATE INDEX other_e ON other USING hnsw (e) WITH (metric = 'l2')",
    "UPDATE keyed SET v = v + 1 WHERE k < 'k1010'",
    "DELETE FROM pair WHERE a = 5",
];

/// Commits of the last log file, each one frame; a row of every type comes behind them.
const OPEN: [&str; 6] = [
    "DELETE FROM keyed WHERE k IN ('k1007', 'k1011')",
    "UPDATE item SET tenant = 9 WHERE id = 3",
    "CREATE VIEW late AS SELECT id FROM item WHERE tenant = 9",
    "ALTER TABLE plain ADD COLUMN d TEXT",
    "INSERT INTO keyed VALUES ('k1400', 1), ('k1020', 2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    "DELETE FROM kinds WHERE id = 2",
];

/// Columns of every type.
const KINDS: [&str; 26] = [
    "c1 BOOLEAN",
    "c2 TINYINT",
    "c3 SMALLINT",
    "c4 INTEGER",
    "c5 BIGINT",
    "c6 TINYINT UNSIGNED",
    "c7 SMALLINT UNSIGNED",
    "c8 INTEGER UNSIGNED",
    "c9 BIGINT UNSIGNED",
    "c10 REAL",
    "c11 DOUBLE PRECISION",
    "c12 DECIMAL(12,2)",
    "c13 DECIMAL(38,10)",
    "c14 TEXT",
    "c15 BYTEA",
    "c16 JSON",
    "c17 DATE",
    "c18 TIME",
    "c19 TIMESTAMP",
    "c20 TIMESTAMP(9)",
    "c21 TIMESTAMPTZ",
    "c22 TIMESTAMPTZ(9)",
    "c23 VECTOR(3)",
    "c24 TEXT[]",
    "c25 BIGINT[]",
    "c26 STRUCT(name TEXT, age INT)",
];

/// Inserts a row of `kinds`; every fifth has nothing but its key.
fn kinds_row(id: u64) -> String {
    if id % 5 == 4 {
        return format!("INSERT INTO kinds (id) VALUES ({id})");
    }
    let second = id % 60;
    let values = [
        id.is_multiple_of(2).to_string(),
        format!("-{}", id % 100),
        format!("{}", id * 10),
        format!("{}", id * 1000),
        format!("{}", id * 1_000_000_007),
        format!("{id}"),
        format!("{}", id * 10),
        format!("{}", id * 1000),
        format!("{}", u64::MAX - id),
        format!("{id}.5"),
        format!("{id}.25"),
        format!("'{id}.75'"),
        format!("'{id}.0000000001'"),
        format!("'text {id}'"),
        format!("X'{id:02x}ff'"),
        format!("'{{\"a\": [{id}]}}'"),
        format!("'2024-02-{:02}'", 1 + id % 28),
        format!("'23:59:{second:02}.999999'"),
        format!("'2024-02-29 12:34:{second:02}.123456'"),
        format!("'2024-01-01 00:00:{second:02}.123456789'"),
        format!("'2024-02-29 12:34:{second:02}.123456+02:00'"),
        format!("'2024-01-01 00:00:{second:02}.000000001Z'"),
        format!("'[{id},1,0.5]'"),
        format!("ARRAY['a', 't{id}']"),
        format!("ARRAY[1, {id}]"),
        format!("named_struct('name', 'Ada', 'age', {id})"),
    ];
    format!("INSERT INTO kinds VALUES ({id}, {})", values.join(", "))
}

fn questions_of_small() -> Vec<String> {
    let mut questions: Vec<String> = [
        "SELECT * FROM kinds ORDER BY id",
        "SELECT id, _row_id, _version FROM kinds ORDER BY id",
        "SELECT count(*), min(c5), max(c5), sum(c4) FROM kinds",
        "SELECT count(*) FROM kinds WHERE c14 IS NULL",
        "SELECT id, c14 FROM kinds WHERE id BETWEEN 10 AND 20 ORDER BY id",
        "SELECT * FROM keyed ORDER BY k",
        "SELECT k, v FROM keyed WHERE k BETWEEN 'k1100' AND 'k1120' ORDER BY k",
        "SELECT * FROM pair ORDER BY a, b",
        "SELECT * FROM plain ORDER BY 1, 2",
        "SELECT count(*) FROM plain WHERE c = 7",
        "SELECT n, count(*) FROM many GROUP BY n ORDER BY n",
        "SELECT count(*), sum(a) FROM loaded",
        "SELECT * FROM item ORDER BY id",
        "SELECT count(*) FROM other WHERE tenant = 1",
        "SELECT * FROM seen ORDER BY id",
        "SELECT \"schema\", name, kind, table_id, columns, primary_key, \"rows\", deleted_rows, segments, schema_version \
         FROM system.tables ORDER BY 1, 2",
        "SELECT * FROM system.columns ORDER BY 1, 2, 3",
        "SELECT * FROM system.segments ORDER BY 1, 2, 3",
        "SELECT table_name, index_name, column_name, metric, \"rows\" FROM system.indexes ORDER BY 1, 2",
        "SELECT version, commit_id, rows_added, rows_deleted FROM system.versions ORDER BY 1",
        "SELECT * FROM system.users ORDER BY 1",
        "SELECT * FROM system.roles ORDER BY 1",
        "SELECT * FROM system.grants ORDER BY 1, 2, 3, 4, 5",
    ]
    .map(str::to_owned)
    .to_vec();
    // Rows of each segment, hot rows, deleted ones, and one that never was.
    for id in [3, 7, 20, 41, 77] {
        questions.push(format!("SELECT * FROM kinds WHERE id = {id}"));
    }
    for key in ["k1003", "k1005", "k1007", "k1160", "k1310", "k1400", "k0"] {
        questions.push(format!("SELECT v FROM keyed WHERE k = '{key}'"));
    }
    for (a, b) in [(3, "b3"), (1, "b43"), (5, "b5"), (2, "b2")] {
        questions.push(format!("SELECT v FROM pair WHERE a = {a} AND b = '{b}'"));
    }
    for table in ["item", "other"] {
        for mode in SEARCH_MODES {
            questions.push(format!(
                "SELECT id, _distance FROM vector_search('{table}', 'e', '[5.31,2.17,1.43,0.71]', k => 10, mode => '{mode}') \
                 ORDER BY _distance, id"
            ));
        }
    }
    questions
}

const SEARCH_MODES: [&str; 3] = ["exact", "auto", "ann"];

/// Each search beside the exact one of its table.
fn search_pairs(questions: &[String]) -> Vec<(usize, usize)> {
    let searches = questions.iter().enumerate().filter(|(_, sql)| sql.contains("vector_search("));
    let places: Vec<usize> = searches.map(|(place, _)| place).collect();
    let tables = places.chunks(SEARCH_MODES.len());
    tables.flat_map(|of_table| of_table[1..].iter().map(|other| (of_table[0], *other))).collect()
}

/// Columns of `wide`.
const WIDE_COLUMNS: usize = 128;
/// Checkpoints of it; the segment list leaves the manifest behind the fourth.
const WIDE_ROUNDS: usize = 6;

/// Makes `wide` below `place`.
///
/// # Panics
/// When a statement fails, or the manifest has no leaf.
#[must_use]
pub fn wide(place: &Path) -> Home {
    let root = place.join("wide");
    let db = opened(&root, &options());
    let names = (0..WIDE_COLUMNS).map(|column| format!("t{column} TEXT"));
    db.exec(&format!("CREATE TABLE wide (id BIGINT PRIMARY KEY, {})", names.collect::<Vec<_>>().join(", ")));
    // The bounds of such texts are six times as long in a manifest, which brings the list out of it with few segments.
    let values = vec!["repeat(chr(1), 40)"; WIDE_COLUMNS].join(", ");
    for round in 0..WIDE_ROUNDS {
        let (first, last) = (2 * round + 1, 2 * round + 2);
        db.exec(&format!(
            "INSERT INTO wide SELECT value, {values} FROM generate_series({first}, {last}) AS g(value)"
        ));
        db.exec("CHECKPOINT");
    }
    db.close().unwrap();
    let mut home = Home::of("wide", vec![root]);
    let leaves = [FileKind::Leaf, FileKind::OlderLeaf];
    assert!(
        leaves.iter().all(|kind| home.files.iter().any(|file| file.kind == *kind)),
        "the newest manifests have no leaves"
    );
    home.questions = ["SELECT count(*) FROM wide", "SELECT id, t0, t127 FROM wide ORDER BY id"]
        .map(str::to_owned)
        .to_vec();
    home.questions.push("SELECT t5 FROM wide WHERE id = 3".to_owned());
    home
}

/// A copy of the directory as it is now.
fn copied(root: &Path, place: &Path, stage: usize) -> PathBuf {
    let copy = place.join(format!("stage-{stage}"));
    for path in paths(root) {
        let to = copy.join(&path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root.join(&path), to).unwrap();
    }
    copy
}

/// Paths of all files below a directory, sorted.
///
/// # Panics
/// When it can't be read.
#[must_use]
pub fn paths(root: &Path) -> Vec<String> {
    fn walk(folder: &Path, below: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), &format!("{path}/"), found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(root, "", &mut found);
    found.sort();
    found
}

fn files(root: &Path) -> Vec<Stored> {
    let paths = paths(root);
    let last = |folder: &str| {
        let within = |path: &&String| path.strip_prefix(folder).is_some_and(numbered);
        paths.iter().rfind(within).cloned().unwrap_or_default()
    };
    let (log, manifest) = (last("wal/"), last("manifest/"));
    // A list of some segments is one leaf.
    let leaf = paths.iter().rfind(|path| path.starts_with("manifest/leaf/")).cloned().unwrap_or_default();
    let kind = |path: &str| match path {
        "CAIRN" => FileKind::Identity,
        "lock" => FileKind::Lock,
        "wal/tip" => FileKind::Tip,
        _ if path == log => FileKind::OpenLog,
        _ if path.starts_with("wal/") => FileKind::SealedLog,
        _ if path == manifest => FileKind::Manifest,
        _ if path == leaf => FileKind::Leaf,
        _ if path.starts_with("manifest/leaf/") => FileKind::OlderLeaf,
        _ if path.starts_with("manifest/") => FileKind::OlderManifest,
        _ if path.starts_with("history/") => FileKind::History,
        _ if path.ends_with(".parquet") => FileKind::Segment,
        _ if path.ends_with(".keys") => FileKind::KeyFilter,
        _ if path.ends_with(".deletes") => FileKind::Deletes,
        _ if path.ends_with(".hnsw") => FileKind::IndexUnit,
        _ => panic!("a file of an unknown kind: {path}"),
    };
    paths
        .iter()
        .map(|path| Stored {
            path: path.clone(),
            kind: kind(path),
            bytes: fs::read(root.join(path)).unwrap(),
        })
        .collect()
}

fn numbered(name: &str) -> bool {
    name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())
}
