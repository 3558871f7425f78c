//! Random statements and the model of what they must leave behind.
//!
//! Owns: the operations of the kill test, each with its SQL and its effect on a [`Model`]. The operations of a seed and
//! a round are the same in the process that writes and in the one that judges, whatever the database holds.
//! Does not own: processes and killing (`tests/crash.rs`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn_storage::OpenOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::connection::Connection;

/// Ids below this are written again and again; above, each id is written once.
const SHARED_IDS: i64 = 200;

/// One statement of the workload. Ids counted from `first` are new.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Operation {
    /// One or many new rows.
    Insert { first: i64, rows: i64 },
    /// INSERT … ON CONFLICT DO UPDATE of every `step`th shared id.
    Upsert { step: i64, value: i64 },
    /// INSERT … ON CONFLICT DO NOTHING of every `step`th shared id.
    InsertMissing { step: i64, value: i64 },
    /// The shared rows again under new ids.
    InsertSelect { first: i64 },
    /// UPDATE of the ids with this remainder.
    Update { modulus: i64, remainder: i64, add: i64 },
    /// DELETE of the ids with this remainder.
    Delete { modulus: i64, remainder: i64 },
    /// DELETE by a subquery on the value.
    DeleteIn { modulus: i64, remainder: i64 },
    /// COPY of a CSV file.
    Copy { first: i64, rows: i64 },
    /// Two rows of one key: fails and changes nothing.
    Duplicate { first: i64 },
    /// NULL in a NOT NULL column after good rows: fails and changes nothing.
    Null { first: i64 },
    /// TRUNCATE.
    Truncate,
    /// CHECKPOINT.
    Checkpoint,
    /// CREATE TABLE IF NOT EXISTS … AS SELECT.
    CreateSide { modulus: i64 },
    /// DROP TABLE IF EXISTS.
    DropSide,
    /// CREATE OR REPLACE VIEW.
    View { above: i64 },
}

/// What the database must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Table `t`: id -> (v, s).
    pub t: BTreeMap<i64, (i64, Option<String>)>,
    /// Table `side`, when it exists: id -> v.
    pub side: Option<BTreeMap<i64, i64>>,
    /// View `big`, when it exists: rows with `v` above this.
    pub view: Option<i64>,
}

/// The statements that make an empty model's database.
pub const SETUP: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT)";

/// How the writer of a round opens the database: small limits in most rounds, so that checkpoints and spills happen.
#[must_use]
pub fn options(seed: u64, round: u64) -> OpenOptions {
    let mut rng = generator(seed, round, 1);
    let mut options = OpenOptions::default();
    if rng.random_bool(0.5) {
        options.wal_entry_bytes_max = 64 << 10;
    }
    if rng.random_bool(0.6) {
        options.checkpoint_wal_bytes = 1 << rng.random_range(15..21);
    }
    options
}

/// The endless operations of a round.
pub fn operations(seed: u64, round: u64) -> impl Iterator<Item = Operation> {
    let mut rng = generator(seed, round, 0);
    (0..).map(move |number: i64| {
        let first = (i64::try_from(round).unwrap() + 1) * 100_000_000 + number * 10_000;
        operation(&mut rng, first)
    })
}

fn generator(seed: u64, round: u64, stream: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(round * 2 + stream))
}

fn operation(rng: &mut StdRng, first: i64) -> Operation {
    let modulus = rng.random_range(2..8);
    let remainder = rng.random_range(0..modulus);
    match rng.random_range(0..100) {
        0..24 => Operation::Insert { first, rows: 1 },
        24..36 => Operation::Insert { first, rows: rng.random_range(2..300) },
        36..46 => Operation::Upsert { step: rng.random_range(1..20), value: rng.random_range(-99..99) },
        46..50 => Operation::InsertMissing { step: rng.random_range(1..20), value: rng.random_range(0..99) },
        50..54 => Operation::InsertSelect { first },
        54..64 => Operation::Update { modulus, remainder, add: rng.random_range(-9..9) },
        64..70 => Operation::Delete { modulus, remainder },
        70..73 => Operation::DeleteIn { modulus, remainder },
        73..80 => Operation::Copy { first, rows: rng.random_range(1..3000) },
        80..82 => Operation::Duplicate { first },
        82..84 => Operation::Null { first },
        84..85 => Operation::Truncate,
        85..93 => Operation::Checkpoint,
        93..96 => Operation::CreateSide { modulus },
        96..98 => Operation::DropSide,
        _ => Operation::View { above: rng.random_range(-50..50) },
    }
}

/// The row written under a new id.
fn row(id: i64) -> (i64, Option<String>) {
    (id % 97, (id % 5 != 0).then(|| format!("row {id}")))
}

fn values(rows: impl Iterator<Item = (i64, (i64, Option<String>))>) -> String {
    let mut text = String::new();
    for (id, (v, s)) in rows {
        let s = s.map_or("NULL".into(), |s| format!("'{s}'"));
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}({id}, {v}, {s})");
    }
    text
}

fn new_rows(first: i64, rows: i64) -> impl Iterator<Item = (i64, (i64, Option<String>))> {
    (first..first + rows).map(|id| (id, row(id)))
}

fn shared_rows(step: i64, value: i64) -> impl Iterator<Item = (i64, (i64, Option<String>))> {
    (0..SHARED_IDS)
        .filter(move |id| id % step == 0)
        .map(move |id| (id, (value, Some(format!("shared {value}")))))
}

impl Operation {
    /// Makes the files the statement reads, beside the database.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn prepare(&self, root: &Path) -> std::io::Result<()> {
        let Self::Copy { first, rows } = self else { return Ok(()) };
        let mut text = String::from("id,v,s\n");
        for (id, (v, s)) in new_rows(*first, *rows) {
            let _ = writeln!(text, "{id},{v},{}", s.unwrap_or_default());
        }
        std::fs::write(copy_file(root), text)
    }

    /// The statement.
    #[must_use]
    pub fn sql(&self, root: &Path) -> String {
        match self {
            Self::Insert { first, rows } => {
                format!("INSERT INTO t VALUES {}", values(new_rows(*first, *rows)))
            }
            Self::Upsert { step, value } => format!(
                "INSERT INTO t VALUES {} ON CONFLICT (id) DO UPDATE SET v = excluded.v, s = excluded.s",
                values(shared_rows(*step, *value))
            ),
            Self::InsertMissing { step, value } => {
                format!("INSERT INTO t VALUES {} ON CONFLICT DO NOTHING", values(shared_rows(*step, *value)))
            }
            Self::InsertSelect { first } => {
                format!("INSERT INTO t SELECT id + {first}, v, s FROM t WHERE id < {SHARED_IDS}")
            }
            Self::Update { modulus, remainder, add } => {
                format!("UPDATE t SET v = v + {add}, s = 'changed' WHERE id % {modulus} = {remainder}")
            }
            Self::Delete { modulus, remainder } => {
                format!("DELETE FROM t WHERE id % {modulus} = {remainder}")
            }
            Self::DeleteIn { modulus, remainder } => {
                format!("DELETE FROM t WHERE id IN (SELECT id FROM t WHERE v % {modulus} = {remainder})")
            }
            Self::Copy { .. } => {
                format!("COPY t FROM '{}' WITH (format 'csv', header true)", copy_file(root).display())
            }
            Self::Duplicate { first } => {
                format!("INSERT INTO t VALUES {}, ({first}, 0, 'again')", values(new_rows(*first, 3)))
            }
            Self::Null { first } => {
                format!(
                    "INSERT INTO t VALUES {}, ({}, NULL, 'no value')",
                    values(new_rows(*first, 3)),
                    first + 3
                )
            }
            Self::Truncate => "TRUNCATE t".into(),
            Self::Checkpoint => "CHECKPOINT".into(),
            Self::CreateSide { modulus } => {
                format!("CREATE TABLE IF NOT EXISTS side AS SELECT id, v FROM t WHERE id % {modulus} = 0")
            }
            Self::DropSide => "DROP TABLE IF EXISTS side".into(),
            Self::View { above } => {
                format!("CREATE OR REPLACE VIEW big AS SELECT id FROM t WHERE v > {above}")
            }
        }
    }

    /// The SQLSTATE of a statement that must fail.
    #[must_use]
    pub fn fails_with(&self) -> Option<&'static str> {
        match self {
            Self::Duplicate { .. } => Some("23505"),
            Self::Null { .. } => Some("23502"),
            _ => None,
        }
    }

    /// Does to `model` what the statement does to the database.
    pub fn apply(&self, model: &mut Model) {
        let t = &mut model.t;
        match self {
            Self::Insert { first, rows } | Self::Copy { first, rows } => t.extend(new_rows(*first, *rows)),
            Self::Upsert { step, value } => t.extend(shared_rows(*step, *value)),
            Self::InsertMissing { step, value } => {
                for (id, row) in shared_rows(*step, *value) {
                    t.entry(id).or_insert(row);
                }
            }
            Self::InsertSelect { first } => {
                let again: Vec<_> =
                    t.range(..SHARED_IDS).map(|(id, row)| (id + first, row.clone())).collect();
                t.extend(again);
            }
            Self::Update { modulus, remainder, add } => {
                for (_, (v, s)) in t.iter_mut().filter(|(id, _)| *id % modulus == *remainder) {
                    *v += add;
                    *s = Some("changed".into());
                }
            }
            Self::Delete { modulus, remainder } => t.retain(|id, _| id % modulus != *remainder),
            Self::DeleteIn { modulus, remainder } => t.retain(|_, (v, _)| *v % modulus != *remainder),
            Self::Duplicate { .. } | Self::Null { .. } | Self::Checkpoint => {}
            Self::Truncate => t.clear(),
            Self::CreateSide { modulus } => {
                let rows =
                    || t.iter().filter(|(id, _)| *id % modulus == 0).map(|(id, (v, _))| (*id, *v)).collect();
                model.side.get_or_insert_with(rows);
            }
            Self::DropSide => model.side = None,
            Self::View { above } => model.view = Some(*above),
        }
    }
}

fn copy_file(root: &Path) -> PathBuf {
    root.with_extension("csv")
}

impl Model {
    /// Reads the whole database; panics on anything a model can't hold: a key twice, a row id twice.
    ///
    /// # Panics
    /// See above, or when a query fails.
    #[must_use]
    pub fn read(connection: &Connection) -> Self {
        let mut model = Self::default();
        let mut row_ids = std::collections::HashSet::new();
        for row in connection.rows("SELECT id, v, s, _row_id FROM t") {
            let s = (row[2] != "NULL").then(|| row[2].clone());
            let before = model.t.insert(row[0].parse().unwrap(), (row[1].parse().unwrap(), s));
            assert!(before.is_none(), "key {} is there twice", row[0]);
            assert!(row_ids.insert(row[3].clone()), "row id {} is there twice", row[3]);
        }
        let counted = connection.rows("SELECT count(*) FROM t");
        assert_eq!(counted[0][0], model.t.len().to_string(), "count(*) is not the number of rows");
        let tables =
            connection.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'");
        if tables.iter().any(|row| row[0] == "side") {
            let rows = connection.rows("SELECT id, v FROM side");
            let side: BTreeMap<_, _> =
                rows.iter().map(|r| (r[0].parse().unwrap(), r[1].parse().unwrap())).collect();
            assert_eq!(side.len(), rows.len(), "a row of side is there twice");
            model.side = Some(side);
        }
        if tables.iter().any(|row| row[0] == "big") {
            let mut ids: Vec<i64> =
                connection.rows("SELECT id FROM big").iter().map(|r| r[0].parse().unwrap()).collect();
            ids.sort_unstable();
            // Which bound the view was made with is found by trying: any that gives these rows is as good.
            model.view = (-51..51).find(|above| model.view_ids(*above) == ids);
            assert!(model.view.is_some(), "view big shows rows that no definition of it gives");
        }
        model
    }

    /// Ids in the view made with `above`.
    #[must_use]
    pub fn view_ids(&self, above: i64) -> Vec<i64> {
        self.t.iter().filter(|(_, (v, _))| *v > above).map(|(id, _)| *id).collect()
    }

    /// Whether `found` is this state. A view is compared by its rows.
    #[must_use]
    pub fn is(&self, found: &Self) -> bool {
        self.t == found.t
            && self.side == found.side
            && self.view.map(|a| self.view_ids(a)) == found.view.map(|a| found.view_ids(a))
    }

    /// How `found` differs, in a few lines.
    #[must_use]
    pub fn difference(&self, found: &Self) -> String {
        let mut text = String::new();
        let mut say = |line: String| {
            if text.lines().count() < 12 {
                let _ = writeln!(text, "  {line}");
            }
        };
        for (id, row) in &self.t {
            match found.t.get(id) {
                None => say(format!("t lost {id} {row:?}")),
                Some(other) if other != row => say(format!("t has {id} {other:?} for {row:?}")),
                Some(_) => {}
            }
        }
        for (id, row) in found.t.iter().filter(|(id, _)| !self.t.contains_key(id)) {
            say(format!("t has {id} {row:?}, never acknowledged or deleted"));
        }
        let rows = |side: &Option<BTreeMap<i64, i64>>| side.as_ref().map(BTreeMap::len);
        say(format!("side: {:?} rows, want {:?}", rows(&found.side), rows(&self.side)));
        say(format!("view: {:?}, want {:?}", found.view, self.view));
        text
    }
}
