//! What is true of every manifest: numbered, checked before each write and after each read.
//!
//! Owns: the rules and their texts. Does not own: what follows from a broken one ([`Broken::before_write`]: a fault of Cairn's, nothing
//! is written; [`Broken::after_read`]: damage). Pure functions of metadata.
//!
//! | # | rule | checked by |
//! |---|---|---|
//! | 1 | numbers are dense from 1 | `check_manifest`, `check_successor` |
//! | 2 | a successor has the same database id and another commit id | `check_successor` |
//! | 3 | version, time, epoch, horizon, replay point, next table id and settled ids never go back | `check_successor` |
//! | 4 | horizon <= version | `check_manifest` |
//! | 5 | schema names are unique, and exist for every table and view | `check_manifest` |
//! | 6 | names of tables and views are unique in their schema | `check_manifest` |
//! | 7 | table ids are unique and below the next one | `check_manifest` |
//! | 8 | column ids are unique, from 1, below the next one; column names are unique | `check_manifest` |
//! | 9 | key and sort columns exist, once each, of a type with an order; key columns are NOT NULL | `check_manifest` |
//! | 10 | flushed <= version | `check_manifest` |
//! | 11 | a table's flushed, next row id, schema version and the numbers used up of one identity column never go back | `check_successor` |
//! | 12 | ids of segments and `.deletes` objects are unique in the table | `check_segments` |
//! | 13 | a segment has rows; its created and row id bounds fit each other and the rows | `check_segments` |
//! | 14 | row id ranges of segments with consecutive ids do not overlap | `check_segments` |
//! | 15 | `.deletes` objects stand with the segment they name, with no more rows than it | `check_segments` |
//! | 16 | segments: of the table, no newer schema version, created and deleted <= flushed, row ids < next | `check_table_segments` |
//! | 17 | a segment has a key filter exactly when its table has a key | `check_table_segments` |
//! | 18 | no object's epoch is above the manifest's, settled ids included; leaves are in order and not empty | `check_manifest` |

mod segments;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;

pub use segments::{check_segments, check_table_segments};

use super::model::{Manifest, SegmentList, TableRecord};
use crate::error::Error;
use crate::id::{ColumnId, ManifestNumber};
use crate::schema::{ROW_ID_FIELD, TableDef};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number in the table above.
    pub rule: u8,
    /// What breaks it, with names and values.
    pub detail: String,
}

impl Broken {
    /// The error when a manifest was about to be written.
    #[must_use]
    pub fn before_write(self) -> Error {
        Error::internal(format!("manifest not written, {self}"))
    }

    /// The error when `what` was read and breaks a rule although its checksums hold.
    #[must_use]
    pub fn after_read(self, what: &str) -> Error {
        Error::corrupt(what, self)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.rule, self.detail)
    }
}

/// Outcome of a check.
pub type Check = Result<(), Broken>;

/// Err with `rule` unless `holds`.
fn require(rule: u8, holds: bool, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Broken { rule, detail: detail() }) }
}

/// Rules of one manifest by itself; inline segment lists included.
///
/// # Errors
/// The first rule that does not hold.
pub fn check_manifest(manifest: &Manifest) -> Check {
    let m = manifest;
    require(1, m.number >= ManifestNumber(1), || format!("number {}", m.number))?;
    require(4, m.horizon <= m.version, || format!("horizon {} beyond version {}", m.horizon, m.version))?;
    require(18, m.settled.is_none_or(|id| id.epoch <= m.epoch), || {
        format!("ids are settled beyond epoch {}", m.epoch)
    })?;
    check_names(m)?;
    let mut ids = HashSet::new();
    for table in &m.tables {
        let name = || table.def.qualified_name();
        require(7, ids.insert(table.def.id), || format!("two tables have id {}", table.def.id))?;
        require(7, table.def.id < m.next_table_id, || {
            format!("table {} has id {}, the next is {}", name(), table.def.id, m.next_table_id)
        })?;
        check_columns(&table.def)?;
        check_keys(&table.def)?;
        require(10, table.flushed <= m.version, || {
            format!("table {} is flushed to {}, beyond version {}", name(), table.flushed, m.version)
        })?;
        check_list(m, table)?;
    }
    Ok(())
}

/// Rules between a manifest and the one before it; `previous` is None for the first.
///
/// # Errors
/// The first rule that does not hold.
pub fn check_successor(previous: Option<&Manifest>, next: &Manifest) -> Check {
    let Some(previous) = previous else {
        return require(1, next.number == ManifestNumber(1), || {
            format!("the first has number {}", next.number)
        });
    };
    let (p, n) = (previous, next);
    require(1, p.number.0.checked_add(1) == Some(n.number.0), || {
        format!("{} follows {}", n.number, p.number)
    })?;
    require(2, p.database_id == n.database_id, || {
        format!("database {} follows {}", n.database_id, p.database_id)
    })?;
    require(2, p.commit_id != n.commit_id, || format!("commit id {} again", n.commit_id))?;
    let back =
        |what: &str, old: u64, new: u64| require(3, new >= old, || format!("{what} {new} after {old}"));
    back("version", p.version.0, n.version.0)?;
    back("epoch", p.epoch.0, n.epoch.0)?;
    back("horizon", p.horizon.0, n.horizon.0)?;
    back("replay point", p.replay_from.0, n.replay_from.0)?;
    back("next table id", p.next_table_id.0, n.next_table_id.0)?;
    require(3, n.time_us >= p.time_us, || format!("time {} after {}", n.time_us, p.time_us))?;
    require(3, n.settled >= p.settled, || "fewer ids are settled".to_owned())?;
    let before: HashMap<_, _> = p.tables.iter().map(|t| (t.def.id, t)).collect();
    for table in &n.tables {
        let Some(old) = before.get(&table.def.id) else { continue };
        let back = |what: &str, old: u64, new: u64| {
            require(11, new >= old, || {
                format!("table {}: {what} {new} after {old}", table.def.qualified_name())
            })
        };
        back("flushed", old.flushed.0, table.flushed.0)?;
        back("next row id", old.next_row_id.0, table.next_row_id.0)?;
        let (was, is) = (old.def.schema_version.0, table.def.schema_version.0);
        back("schema version", u64::from(was), u64::from(is))?;
        check_numbers(old, table)?;
    }
    Ok(())
}

/// An identity column's numbers are used up for ever. Its bounds may become wider; a column that was dropped numbers nothing.
fn check_numbers(old: &TableRecord, new: &TableRecord) -> Check {
    let (Some(was), Some(is)) = (old.def.identity, new.def.identity) else { return Ok(()) };
    if was.column != is.column || (was.increment > 0) != (is.increment > 0) {
        return Ok(());
    }
    require(11, is.later(old.numbered, new.numbered) == new.numbered, || {
        let number = |used: Option<i64>| used.map_or_else(|| "none".to_owned(), |used| used.to_string());
        let (old, used) = (number(old.numbered), number(new.numbered));
        format!("table {}: numbers are used up to {used} after {old}", new.def.qualified_name())
    })
}

fn check_names(m: &Manifest) -> Check {
    let mut schemas = HashSet::new();
    for schema in &m.catalog.schemas {
        require(5, schemas.insert(schema.as_str()), || format!("schema {schema} twice"))?;
    }
    let live = m.tables.iter().filter(|t| t.dropped_at.is_none());
    let tables = live.map(|t| (t.def.schema.as_str(), t.def.name.as_str()));
    let views = m.catalog.views.iter().map(|v| (v.schema.as_str(), v.name.as_str()));
    let mut names = HashSet::new();
    for (schema, name) in tables.chain(views) {
        require(5, schemas.contains(schema), || format!("{schema}.{name} is in no schema"))?;
        require(6, names.insert((schema, name)), || format!("{schema}.{name} twice"))?;
    }
    Ok(())
}

fn check_columns(def: &TableDef) -> Check {
    let mut ids = HashSet::new();
    let mut names = HashSet::new();
    for column in &def.columns {
        let inside = ColumnId(1) <= column.id && column.id < def.next_column_id && column.id < ROW_ID_FIELD;
        require(8, inside && ids.insert(column.id), || {
            format!("column {}.{} has id {}", def.qualified_name(), column.name, column.id)
        })?;
        require(8, names.insert(column.name.as_str()), || {
            format!("column {}.{} twice", def.qualified_name(), column.name)
        })?;
    }
    Ok(())
}

fn check_keys(def: &TableDef) -> Check {
    for (what, columns) in [("primary key", &def.primary_key), ("sort", &def.sort)] {
        let mut seen = HashSet::new();
        for id in columns {
            let column = def.columns.iter().find(|c| c.id == *id);
            let fits = column.is_some_and(|c| c.column_type.is_key() && (what == "sort" || !c.nullable));
            require(9, fits && seen.insert(*id), || {
                format!("{what} of table {} names column {id}", def.qualified_name())
            })?;
        }
    }
    Ok(())
}

fn check_list(m: &Manifest, table: &TableRecord) -> Check {
    let name = || table.def.qualified_name();
    match &table.segments {
        SegmentList::Inline(segments) => {
            check_segments(segments)?;
            check_table_segments(table, segments)?;
            let objects = segments
                .iter()
                .flat_map(|e| std::iter::once(e.segment.id).chain(e.deletes.iter().map(|d| d.id)));
            for id in objects {
                require(18, id.epoch <= m.epoch, || {
                    format!("object {id} of table {} beyond epoch {}", name(), m.epoch)
                })?;
            }
        }
        SegmentList::Leaves(leaves) => {
            for leaf in leaves {
                require(18, leaf.segments > 0 && leaf.rows > 0, || format!("leaf {} is empty", leaf.id))?;
                require(18, leaf.id.epoch <= m.epoch, || {
                    format!("leaf {} of table {} beyond epoch {}", leaf.id, name(), m.epoch)
                })?;
            }
            for pair in leaves.windows(2) {
                require(18, pair[0].first < pair[1].first, || {
                    format!("leaf {} of table {} is out of order", pair[1].id, name())
                })?;
            }
        }
    }
    Ok(())
}
