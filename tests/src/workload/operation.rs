//! One statement of a writer: its SQL, and what it does to the model.
//!
//! Owns: the kinds of statements and how often each is made. Does not own: which of them commit together (`unit`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use super::part::{Part, Plain, Row, Transfer};
use super::search::{self, Vector};
use super::unit::OPERATIONS_MAX;
use super::{IDS_PER_OPERATION, SHARED_IDS};

/// Most rows of one COPY: beyond `wal_entry_bytes_max` in the rounds where that is small.
const COPY_ROWS_MAX: i64 = 1_500;

const _: () = assert!(COPY_ROWS_MAX <= IDS_PER_OPERATION && SHARED_IDS <= IDS_PER_OPERATION);

/// See the module. Ids counted from `first` are new.
#[allow(missing_docs, reason = "the line of a variant tells its fields")]
#[derive(Clone, Debug)]
pub enum Operation {
    /// One or many new rows of `t`.
    Insert { first: i64, rows: i64 },
    /// INSERT … ON CONFLICT DO UPDATE of every `step`th shared id of `t`.
    Upsert { step: i64, value: i64 },
    /// INSERT … ON CONFLICT DO NOTHING of every `step`th shared id of `t`.
    InsertMissing { step: i64, value: i64 },
    /// The shared rows of `t` again under new ids.
    InsertSelect { first: i64 },
    /// UPDATE of the ids of `t` with this remainder.
    Update { modulus: i64, remainder: i64, add: i64 },
    /// DELETE of the ids of `t` with this remainder.
    Delete { modulus: i64, remainder: i64 },
    /// DELETE from `t` by a subquery on the value.
    DeleteIn { modulus: i64, remainder: i64 },
    /// COPY of a CSV file to `t`.
    Copy { first: i64, rows: i64 },
    /// Two rows of one key: fails and changes nothing.
    Duplicate { first: i64 },
    /// NULL in a NOT NULL column after good rows: fails and changes nothing.
    Null { first: i64 },
    /// TRUNCATE of `t`.
    Truncate,
    /// ALTER TABLE t ADD COLUMN IF NOT EXISTS, with a default.
    AddColumn { value: i64 },
    /// ALTER TABLE t DROP COLUMN IF EXISTS.
    DropColumn,
    /// CREATE TABLE IF NOT EXISTS … AS SELECT from `t`.
    CreateSide { modulus: i64 },
    /// DROP TABLE IF EXISTS.
    DropSide,
    /// CREATE OR REPLACE VIEW on `t`.
    View { above: i64 },
    /// MERGE of every `step`th id of its own into `keyed`: deletes, changes and inserts.
    Merge { step: i64, add: i64 },
    /// INSERT INTO keyed … ON CONFLICT DO UPDATE by the old and the new value.
    Sum { step: i64, add: i64 },
    /// DELETE of its own ids in `keyed` with this remainder.
    DeleteKeyed { modulus: i64, remainder: i64 },
    /// New rows of `item`, one in eleven without a vector.
    InsertItems { first: i64, rows: i64 },
    /// INSERT INTO item … ON CONFLICT DO UPDATE of the vectors of every `step`th shared id.
    MoveItems { step: i64, salt: i64 },
    /// DELETE of the ids of `item` with this remainder.
    DeleteItems { modulus: i64, remainder: i64 },
    /// CREATE INDEX IF NOT EXISTS on the vectors of `item`.
    CreateIndex,
    /// DROP INDEX IF EXISTS.
    DropIndex,
    /// REINDEX TABLE item.
    Reindex,
    /// A new amount of one account.
    Pay { account: i64, amount: i64 },
    /// A row that tells of two payments.
    Transfer { number: i64, payer: i64, payee: i64, amount: i64 },
}

/// Value and text of a row of `t`.
type Written = (i64, Option<String>);

impl Operation {
    pub(super) fn random(rng: &mut StdRng, first: i64) -> Self {
        let modulus = rng.random_range(2..8);
        let remainder = rng.random_range(0..modulus);
        match rng.random_range(0..100) {
            0..14 => Self::Insert { first, rows: 1 },
            14..24 => Self::Insert { first, rows: rng.random_range(2..80) },
            24..30 => Self::Upsert { step: rng.random_range(1..20), value: rng.random_range(-99..99) },
            30..33 => Self::InsertMissing { step: rng.random_range(1..20), value: rng.random_range(0..99) },
            33..36 => Self::InsertSelect { first },
            36..43 => Self::Update { modulus, remainder, add: rng.random_range(-9..9) },
            43..48 => Self::Delete { modulus, remainder },
            48..50 => Self::DeleteIn { modulus, remainder },
            50..54 => Self::Copy { first, rows: rng.random_range(1..COPY_ROWS_MAX) },
            54..55 => Self::Duplicate { first },
            55..56 => Self::Null { first },
            56..57 => Self::Truncate,
            57..60 => Self::AddColumn { value: rng.random_range(-99..99) },
            60..62 => Self::DropColumn,
            62..64 => Self::CreateSide { modulus },
            64..65 => Self::DropSide,
            65..67 => Self::View { above: rng.random_range(-50..50) },
            67..72 => Self::Merge { step: rng.random_range(1..9), add: rng.random_range(0..9) },
            72..75 => Self::Sum { step: rng.random_range(1..9), add: rng.random_range(-9..9) },
            75..77 => Self::DeleteKeyed { modulus, remainder },
            77..85 => Self::InsertItems { first, rows: rng.random_range(1..100) },
            85..89 => Self::MoveItems { step: rng.random_range(1..9), salt: rng.random_range(1..1_000) },
            89..93 => Self::DeleteItems { modulus, remainder },
            93..97 => Self::CreateIndex,
            97..98 => Self::DropIndex,
            _ => Self::Reindex,
        }
    }

    /// Whether it stands in no transaction: it is refused there, or done after it.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::CreateIndex | Self::DropIndex | Self::Reindex)
    }

    pub(super) fn is_about_column(&self) -> bool {
        matches!(self, Self::AddColumn { .. } | Self::DropColumn)
    }

    /// Makes the files the statement reads, beside the database.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn prepare(&self, writer: u64, root: &Path) -> std::io::Result<()> {
        let Self::Copy { first, rows } = self else { return Ok(()) };
        let mut text = String::from("id,v,s\n");
        for (id, (v, s)) in new_rows(*first, *rows) {
            let _ = writeln!(text, "{id},{v},{}", s.unwrap_or_default());
        }
        std::fs::write(copy_file(writer, *first, root), text)
    }

    /// The statement of that writer.
    #[must_use]
    pub fn sql(&self, writer: u64, root: &Path) -> String {
        let insert = format!("INSERT INTO t{writer} (id, v, s)");
        match self {
            Self::Insert { first, rows } => format!("{insert} VALUES {}", values(new_rows(*first, *rows))),
            Self::Upsert { step, value } => format!(
                "{insert} VALUES {} ON CONFLICT (id) DO UPDATE SET v = excluded.v, s = excluded.s",
                values(shared_rows(*step, *value))
            ),
            Self::InsertMissing { step, value } => {
                format!("{insert} VALUES {} ON CONFLICT DO NOTHING", values(shared_rows(*step, *value)))
            }
            Self::InsertSelect { first } => {
                format!("{insert} SELECT id + {first}, v, s FROM t{writer} WHERE id < {SHARED_IDS}")
            }
            Self::Update { modulus, remainder, add } => {
                format!(
                    "UPDATE t{writer} SET v = v + {add}, s = 'changed' WHERE id % {modulus} = {remainder}"
                )
            }
            Self::Delete { modulus, remainder } => {
                format!("DELETE FROM t{writer} WHERE id % {modulus} = {remainder}")
            }
            Self::DeleteIn { modulus, remainder } => format!(
                "DELETE FROM t{writer} WHERE id IN (SELECT id FROM t{writer} WHERE v % {modulus} = {remainder})"
            ),
            Self::Copy { first, .. } => {
                let file = copy_file(writer, *first, root);
                format!(
                    "COPY t{writer} (id, v, s) FROM '{}' WITH (format 'csv', header true)",
                    file.display()
                )
            }
            Self::Duplicate { first } => {
                format!("{insert} VALUES {}, ({first}, 0, 'again')", values(new_rows(*first, 3)))
            }
            Self::Null { first } => {
                format!("{insert} VALUES {}, ({}, NULL, 'no value')", values(new_rows(*first, 3)), first + 3)
            }
            Self::Truncate => format!("TRUNCATE t{writer}"),
            Self::AddColumn { value } => {
                format!("ALTER TABLE t{writer} ADD COLUMN IF NOT EXISTS extra BIGINT DEFAULT {value}")
            }
            Self::DropColumn => format!("ALTER TABLE t{writer} DROP COLUMN IF EXISTS extra"),
            Self::CreateSide { modulus } => format!(
                "CREATE TABLE IF NOT EXISTS side{writer} AS SELECT id, v FROM t{writer} WHERE id % {modulus} = 0"
            ),
            Self::DropSide => format!("DROP TABLE IF EXISTS side{writer}"),
            // One row whatever the table holds, so that the definition can be seen.
            Self::View { above } => format!(
                "CREATE OR REPLACE VIEW big{writer} AS SELECT {above} AS above, count(v) AS n, coalesce(sum(v), 0) AS total \
                 FROM t{writer} WHERE v > {above}"
            ),
            Self::Merge { step, add } => format!(
                "MERGE INTO keyed AS k USING (VALUES {}) AS s(writer, id, d) ON k.writer = s.writer AND k.id = s.id \
                 WHEN MATCHED AND s.d = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = k.v + s.d \
                 WHEN NOT MATCHED THEN INSERT (writer, id, v) VALUES (s.writer, s.id, s.d)",
                keyed_rows(writer, *step, |id| merged(id, *add))
            ),
            Self::Sum { step, add } => format!(
                "INSERT INTO keyed VALUES {} ON CONFLICT (writer, id) DO UPDATE SET v = keyed.v + excluded.v",
                keyed_rows(writer, *step, |_| *add)
            ),
            Self::DeleteKeyed { modulus, remainder } => {
                format!("DELETE FROM keyed WHERE writer = {writer} AND id % {modulus} = {remainder}")
            }
            Self::InsertItems { first, rows } => {
                format!("INSERT INTO item{writer} VALUES {}", item_values(new_items(*first, *rows)))
            }
            Self::MoveItems { step, salt } => format!(
                "INSERT INTO item{writer} VALUES {} ON CONFLICT (id) DO UPDATE SET e = excluded.e",
                item_values(moved_items(*step, *salt))
            ),
            Self::DeleteItems { modulus, remainder } => {
                format!("DELETE FROM item{writer} WHERE id % {modulus} = {remainder}")
            }
            Self::CreateIndex => format!(
                "CREATE INDEX IF NOT EXISTS item{writer}_e ON item{writer} USING hnsw (e) WITH (metric = 'l2')"
            ),
            Self::DropIndex => format!("DROP INDEX IF EXISTS item{writer}_e"),
            Self::Reindex => format!("REINDEX TABLE item{writer}"),
            Self::Pay { account, amount } => {
                format!("UPDATE account SET amount = amount + {amount} WHERE id = {account}")
            }
            Self::Transfer { number, payer, payee, amount } => {
                format!("INSERT INTO transfer VALUES ({writer}, {number}, {payer}, {payee}, {amount})")
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

    /// Does to `part` what the statement does to the database.
    pub(super) fn apply(&self, part: &mut Part) {
        let unit = part.units;
        match self {
            Self::Merge { step, add } => {
                for id in stepped(*step) {
                    let d = merged(id, *add);
                    match part.keyed.get(&id).map(|row| row.values) {
                        Some(_) if d == 0 => {
                            part.keyed.remove(&id);
                        }
                        before => {
                            part.keyed.insert(id, Row::new(before.unwrap_or(0) + d, unit));
                        }
                    }
                }
            }
            Self::Sum { step, add } => {
                for id in stepped(*step) {
                    let before = part.keyed.get(&id).map_or(0, |row| row.values);
                    part.keyed.insert(id, Row::new(before + add, unit));
                }
            }
            Self::DeleteKeyed { modulus, remainder } => {
                part.keyed.retain(|id, _| id % modulus != *remainder);
            }
            Self::InsertItems { first, rows } => {
                part.items.extend(new_items(*first, *rows).map(|(id, e)| (id, Row::new(e, unit))));
            }
            Self::MoveItems { step, salt } => {
                part.items.extend(moved_items(*step, *salt).map(|(id, e)| (id, Row::new(e, unit))));
            }
            Self::DeleteItems { modulus, remainder } => {
                part.items.retain(|id, _| id % modulus != *remainder);
            }
            Self::CreateIndex => part.index = true,
            Self::DropIndex => part.index = false,
            Self::Reindex | Self::Duplicate { .. } | Self::Null { .. } => {}
            Self::Pay { account, amount } => *part.paid.entry(*account).or_default() += amount,
            Self::Transfer { number, payer, payee, amount } => {
                let transfer = Transfer { payer: *payer, payee: *payee, amount: *amount };
                part.transfers.insert(*number, Row::new(transfer, unit));
            }
            _ => self.apply_to_t(part, unit),
        }
    }

    /// Those of `t` and what is made of it.
    fn apply_to_t(&self, part: &mut Part, unit: u64) {
        let extra = part.extra;
        let new = |(v, s): Written, extra| Row::new(Plain { v, s, extra }, unit);
        let t = &mut part.t;
        match self {
            Self::Insert { first, rows } | Self::Copy { first, rows } => {
                t.extend(new_rows(*first, *rows).map(|(id, row)| (id, new(row, extra))));
            }
            Self::Upsert { step, value } => {
                for (id, row) in shared_rows(*step, *value) {
                    let extra = t.get(&id).map_or(extra, |before| before.values.extra);
                    t.insert(id, new(row, extra));
                }
            }
            Self::InsertMissing { step, value } => {
                for (id, row) in shared_rows(*step, *value) {
                    t.entry(id).or_insert_with(|| new(row, extra));
                }
            }
            Self::InsertSelect { first } => {
                let again: Vec<_> = t
                    .range(..SHARED_IDS)
                    .map(|(id, row)| (id + first, new((row.values.v, row.values.s.clone()), extra)))
                    .collect();
                t.extend(again);
            }
            Self::Update { modulus, remainder, add } => {
                for (_, row) in t.iter_mut().filter(|(id, _)| *id % modulus == *remainder) {
                    *row = new((row.values.v + add, Some("changed".into())), row.values.extra);
                }
            }
            Self::Delete { modulus, remainder } => t.retain(|id, _| id % modulus != *remainder),
            Self::DeleteIn { modulus, remainder } => {
                t.retain(|_, row| row.values.v % modulus != *remainder);
            }
            Self::Truncate => t.clear(),
            // Neither writes a row: their numbers and versions stay.
            Self::AddColumn { value } => {
                if part.extra.is_none() {
                    part.extra = Some(*value);
                    t.values_mut().for_each(|row| row.values.extra = Some(*value));
                }
            }
            Self::DropColumn => {
                part.extra = None;
                t.values_mut().for_each(|row| row.values.extra = None);
            }
            Self::CreateSide { modulus } => {
                let rows = t.iter().filter(|(id, _)| *id % modulus == 0);
                let rows = || rows.map(|(id, row)| (*id, Row::new(row.values.v, unit))).collect();
                part.side.get_or_insert_with(rows);
            }
            Self::DropSide => part.side = None,
            Self::View { above } => part.view = Some(*above),
            other => unreachable!("{other:?} is not about t"),
        }
    }
}

/// The file of a COPY whose ids are counted from `first`. A transaction may have several, all made before it begins.
fn copy_file(writer: u64, first: i64, root: &Path) -> PathBuf {
    let place = first / IDS_PER_OPERATION % OPERATIONS_MAX;
    root.with_extension(format!("{writer}.{place}.csv"))
}

/// The row of `t` written under a new id.
fn row(id: i64) -> Written {
    (id % 97, (id % 5 != 0).then(|| format!("row {id}")))
}

fn values(rows: impl Iterator<Item = (i64, Written)>) -> String {
    let text = |s: Option<String>| s.map_or("NULL".into(), |s| format!("'{s}'"));
    rows.map(|(id, (v, s))| format!("({id}, {v}, {})", text(s))).collect::<Vec<_>>().join(", ")
}

fn new_rows(first: i64, rows: i64) -> impl Iterator<Item = (i64, Written)> {
    (first..first + rows).map(|id| (id, row(id)))
}

fn shared_rows(step: i64, value: i64) -> impl Iterator<Item = (i64, Written)> {
    stepped(step).map(move |id| (id, (value, Some(format!("shared {value}")))))
}

/// Every `step`th shared id.
fn stepped(step: i64) -> impl Iterator<Item = i64> {
    (0..SHARED_IDS).filter(move |id| id % step == 0)
}

/// What a MERGE brings for an id; 0 deletes a row that is there.
fn merged(id: i64, add: i64) -> i64 {
    (id + add) % 4
}

fn keyed_rows(writer: u64, step: i64, value: impl Fn(i64) -> i64) -> String {
    stepped(step).map(|id| format!("({writer}, {id}, {})", value(id))).collect::<Vec<_>>().join(", ")
}

fn new_items(first: i64, rows: i64) -> impl Iterator<Item = (i64, Option<Vector>)> {
    (first..first + rows).map(|id| (id, (id % 11 != 0).then(|| search::vector(id, 0))))
}

fn moved_items(step: i64, salt: i64) -> impl Iterator<Item = (i64, Option<Vector>)> {
    stepped(step).map(move |id| (id, Some(search::vector(id, salt))))
}

fn item_values(rows: impl Iterator<Item = (i64, Option<Vector>)>) -> String {
    let text = |e: Option<Vector>| e.map_or("NULL".into(), |e| format!("'{}'", search::text(&e)));
    rows.map(|(id, e)| format!("({id}, {})", text(e))).collect::<Vec<_>>().join(", ")
}
