//! What one writer's rows must be, and reading what they are.
//!
//! Owns: the rows with the unit that wrote each, their comparison with what was found, and the rules for row ids and versions: a
//! row that nobody wrote keeps both, whatever was checkpointed, merged, altered or recovered since; the rows of a unit are of one
//! version, which lies between what was published before the unit and after it. Does not own: what a statement does (`operation`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::{Debug, Write as _};

use cairn_engine::Session;

use super::search::{self, Vector};
use crate::answer::Answer;
use crate::connection::Connection;

/// Most lines of a difference.
const LINES_MAX: usize = 12;

/// Number and version that the database gave a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// `_row_id`
    pub(super) row_id: u64,
    /// `_version`
    pub(super) version: u64,
}

/// A row of a table.
#[derive(Clone, Debug)]
pub(super) struct Row<V> {
    /// Its columns but the key.
    pub(super) values: V,
    /// Number of the unit that wrote it; of a row that was read, 0.
    pub(super) written: u64,
    /// Since it was found in the database for the first time.
    pub(super) seen: Option<Seen>,
}

impl<V> Row<V> {
    pub(super) fn new(values: V, written: u64) -> Self {
        Self { values, written, seen: None }
    }
}

/// Columns of `t`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) v: i64,
    pub(super) s: Option<String>,
    pub(super) extra: Option<i64>,
}

/// Columns of `transfer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) payer: i64,
    pub(super) payee: i64,
    pub(super) amount: i64,
}

/// Rows by their key.
pub(super) type Table<V> = BTreeMap<i64, Row<V>>;

/// Everything that one writer writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) t: Table<Plain>,
    /// Default of column `extra` of `t`, when there is one; of a part that was read, 0.
    pub(super) extra: Option<i64>,
    pub(super) side: Option<Table<i64>>,
    /// View `big`, when there is one: rows of `t` with `v` above this.
    pub(super) view: Option<i64>,
    /// Of the writer's own in the table that all write.
    pub(super) keyed: Table<i64>,
    pub(super) items: Table<Option<Vector>>,
    /// Whether the vectors have an index.
    pub(super) index: bool,
    /// Of the writer's own in the table that all write.
    pub(super) transfers: Table<Transfer>,
    /// What its transfers did to accounts.
    pub(super) paid: BTreeMap<i64, i64>,
    /// Units so far.
    pub(super) units: u64,
    /// Versions that were published after units of this round, and before the first of them.
    pub(super) published: BTreeMap<u64, u64>,
}

/// Which tables, columns and indexes there are.
pub(super) struct Names {
    relations: BTreeSet<String>,
    /// Tables that have column `extra`.
    extra: BTreeSet<String>,
    /// Tables that have an index.
    indexed: BTreeSet<String>,
}

impl Names {
    pub(super) fn read(connection: &Connection, session: &Session) -> Result<Self, String> {
        let first = |sql: &str| -> Result<BTreeSet<String>, String> {
            let rows = query(connection, session, sql)?;
            Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
        };
        Ok(Self {
            relations: first(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
            )?,
            extra: first(
                "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'extra'",
            )?,
            indexed: first("SELECT table_name FROM system.indexes")?,
        })
    }
}

/// Rows of one query.
pub(super) fn query(
    connection: &Connection,
    session: &Session,
    sql: &str,
) -> Result<Vec<Vec<String>>, String> {
    connection.run_in(session, sql).map(Answer::rows).map_err(|error| format!("{sql}: {error}"))
}

impl Part {
    /// What the database has of the writer.
    ///
    /// # Errors
    /// What a query fails with; what no part can hold: a key twice, a row id twice, a count that is not that of the rows.
    pub(super) fn read(connection: &Connection, writer: u64, names: &Names) -> Result<Self, String> {
        let session = connection.session();
        let part = Self::read_in(connection, &session, writer, names);
        connection.end_session(session);
        part
    }

    fn read_in(
        connection: &Connection,
        session: &Session,
        writer: u64,
        names: &Names,
    ) -> Result<Self, String> {
        let query = |sql: &str| query(connection, session, sql);
        let name = format!("t{writer}");
        let extra = names.extra.contains(&name);
        let column = if extra { "extra" } else { "CAST(NULL AS BIGINT)" };
        let sql = format!("SELECT id, v, s, {column}, _row_id, _version FROM {name}");
        let t = table(&sql, query(&sql)?, |row| {
            Ok(Plain { v: number(&row[0])?, s: text(&row[1]), extra: optional(&row[2])? })
        })?;
        let counted = query(&format!("SELECT count(*) FROM {name}"))?;
        if counted != [[t.len().to_string()]] {
            return Err(format!("count(*) of {name} is {counted:?}, but it has {} rows", t.len()));
        }
        let side = if names.relations.contains(&format!("side{writer}")) {
            // It has no key, but the ids it was made of had.
            let sql = format!("SELECT id, v, _row_id, _version FROM side{writer}");
            Some(table(&sql, query(&sql)?, |row| number(&row[0]))?)
        } else {
            None
        };
        let view = if names.relations.contains(&format!("big{writer}")) {
            let rows = query(&format!("SELECT above, n, total FROM big{writer}"))?;
            Some(view_of(&rows, &t)?)
        } else {
            None
        };
        let sql = format!("SELECT id, v, _row_id, _version FROM keyed WHERE writer = {writer}");
        let keyed = table(&sql, query(&sql)?, |row| number(&row[0]))?;
        let name = format!("item{writer}");
        let sql = format!("SELECT id, e::TEXT, _row_id, _version FROM {name}");
        let items = table(&sql, query(&sql)?, |row| text(&row[0]).map(|e| search::read(&e)).transpose())?;
        let sql = format!(
            "SELECT n, payer, payee, amount, _row_id, _version FROM transfer WHERE writer = {writer}"
        );
        let transfers = table(&sql, query(&sql)?, |row| {
            Ok(Transfer { payer: number(&row[0])?, payee: number(&row[1])?, amount: number(&row[2])? })
        })?;
        Ok(Self {
            t,
            extra: extra.then_some(0),
            side,
            view,
            keyed,
            items,
            index: names.indexed.contains(&name),
            transfers,
            ..Self::default()
        })
    }

    /// Whether this is what was found: values, row ids and versions.
    ///
    /// # Errors
    /// How it differs, in some lines.
    pub(super) fn fits(&self, found: &Self) -> Result<(), String> {
        let mut said = Difference::default();
        said.compare("t", &self.t, &found.t);
        said.expect("column extra", self.extra.is_some(), found.extra.is_some());
        said.expect("table side", self.side.is_some(), found.side.is_some());
        if let (Some(side), Some(found)) = (&self.side, &found.side) {
            said.compare("side", side, found);
        }
        said.expect("view", self.view, found.view);
        said.compare("keyed", &self.keyed, &found.keyed);
        said.compare("item", &self.items, &found.items);
        said.expect("index", self.index, found.index);
        said.compare("transfer", &self.transfers, &found.transfers);
        if said.lines > 0 {
            return Err(said.text);
        }
        self.times_fit(found, &mut said);
        if said.lines > 0 { Err(said.text) } else { Ok(()) }
    }

    /// Row ids and versions. The values are the same.
    fn times_fit(&self, found: &Self, said: &mut Difference) {
        let mut versions = BTreeMap::new();
        said.follow("t", &self.t, &found.t, &mut versions);
        if let (Some(side), Some(found)) = (&self.side, &found.side) {
            said.follow("side", side, found, &mut versions);
        }
        said.follow("keyed", &self.keyed, &found.keyed, &mut versions);
        said.follow("item", &self.items, &found.items, &mut versions);
        said.follow("transfer", &self.transfers, &found.transfers, &mut versions);
        for (unit, version) in versions {
            let after = self.published.range(..unit).next_back().map_or(0, |(_, version)| *version);
            let until = self.published.get(&unit).copied().unwrap_or(u64::MAX);
            if version <= after || version > until {
                said.line(&format!(
                    "unit {unit} is version {version}, but was committed after {after}, until {until}"
                ));
            }
        }
    }

    /// Takes over the row ids and versions of what [fits](Self::fits).
    pub(super) fn adopt(&mut self, found: &Self) {
        fn adopt<V>(table: &mut Table<V>, found: &Table<V>) {
            for (id, row) in table {
                row.seen = found.get(id).and_then(|row| row.seen);
            }
        }
        adopt(&mut self.t, &found.t);
        if let (Some(side), Some(found)) = (&mut self.side, &found.side) {
            adopt(side, found);
        }
        adopt(&mut self.keyed, &found.keyed);
        adopt(&mut self.items, &found.items);
        adopt(&mut self.transfers, &found.transfers);
    }

    /// Rows of all tables.
    pub(super) fn rows(&self) -> usize {
        let side = self.side.as_ref().map_or(0, Table::len);
        self.t.len() + side + self.keyed.len() + self.items.len() + self.transfers.len()
    }
}

/// How a part differs from what was found.
#[derive(Default)]
struct Difference {
    text: String,
    lines: usize,
}

impl Difference {
    fn line(&mut self, line: &str) {
        self.lines += 1;
        if self.lines <= LINES_MAX {
            let _ = writeln!(self.text, "  {line}");
        }
    }

    fn expect<T: PartialEq + Debug>(&mut self, what: &str, wanted: T, found: T) {
        if wanted != found {
            self.line(&format!("{what}: {found:?}, want {wanted:?}"));
        }
    }

    fn compare<V: PartialEq + Debug>(&mut self, name: &str, wanted: &Table<V>, found: &Table<V>) {
        for (id, row) in wanted {
            match found.get(id) {
                None => self.line(&format!("{name} has no {id}, want {:?}", row.values)),
                Some(found) if found.values != row.values => {
                    self.line(&format!("{name} has {id} as {:?}, want {:?}", found.values, row.values));
                }
                Some(_) => {}
            }
        }
        for (id, row) in found.iter().filter(|(id, _)| !wanted.contains_key(id)) {
            self.line(&format!("{name} has {id} {:?}, never acknowledged or deleted", row.values));
        }
    }

    /// `versions`: those of units whose rows are seen for the first time.
    fn follow<V>(
        &mut self,
        name: &str,
        wanted: &Table<V>,
        found: &Table<V>,
        versions: &mut BTreeMap<u64, u64>,
    ) {
        for (id, row) in wanted {
            let Some(now) = found.get(id).and_then(|row| row.seen) else { continue };
            match row.seen {
                Some(before) if before != now => {
                    self.line(&format!("nobody wrote {id} of {name}, which is {now:?} and was {before:?}"));
                }
                Some(_) => {}
                None => {
                    let version = *versions.entry(row.written).or_insert(now.version);
                    if version != now.version {
                        let unit = row.written;
                        self.line(&format!(
                            "unit {unit} wrote versions {version} and, {id} of {name}, {now:?}"
                        ));
                    }
                }
            }
        }
    }
}

/// The rows of a query: the key, columns, row id and version.
fn table<V>(
    sql: &str,
    rows: Vec<Vec<String>>,
    values: impl Fn(&[String]) -> Result<V, String>,
) -> Result<Table<V>, String> {
    let mut table = Table::new();
    let mut row_ids = HashSet::new();
    for row in rows {
        let [key, columns @ .., row_id, version] = row.as_slice() else {
            return Err(format!("{sql}: a row {row:?}"));
        };
        let seen = Seen { row_id: unsigned(row_id)?, version: unsigned(version)? };
        if !row_ids.insert(seen.row_id) {
            return Err(format!("{sql}: row id {row_id} is there twice"));
        }
        let row = Row { values: values(columns)?, written: 0, seen: Some(seen) };
        if table.insert(number(key)?, row).is_some() {
            return Err(format!("{sql}: key {key} is there twice"));
        }
    }
    Ok(table)
}

/// The bound of a view, whose one row must be that of the rows of `t`.
fn view_of(rows: &[Vec<String>], t: &Table<Plain>) -> Result<i64, String> {
    let [row] = rows else { return Err(format!("the view has rows {rows:?}")) };
    let above = number(&row[0])?;
    let values = || t.values().map(|row| row.values.v).filter(|v| *v > above);
    let (n, total) = (values().count(), values().sum::<i64>());
    if row[1..] != [n.to_string(), total.to_string()] {
        return Err(format!("the view has {row:?}, but there are {n} rows above, of {total}"));
    }
    Ok(above)
}

fn number(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| format!("{text}: {error}"))
}

fn unsigned(text: &str) -> Result<u64, String> {
    text.parse::<u64>().map_err(|error| format!("{text}: {error}"))
}

fn text(text: &str) -> Option<String> {
    (text != "NULL").then(|| text.to_owned())
}

fn optional(text: &str) -> Result<Option<i64>, String> {
    if text == "NULL" { Ok(None) } else { number(text).map(Some) }
}
