//! What the whole database must hold.
//!
//! Owns: the parts of all writers and the accounts; deciding for each writer whether the unit that was in flight is there, wholly or
//! not at all; keeping the tables small. Does not own: what a unit does (`unit`, `operation`), how a part is compared (`part`).

use std::collections::BTreeMap;
use std::path::Path;

use cairn_engine::Session;
use rand::rngs::StdRng;

use super::crew;
use super::operation::Operation;
use super::part::{Names, Part, query};
use super::search::{self, Recall};
use super::unit::Unit;
use super::{ACCOUNTS, CREDIT, WRITERS};
use crate::connection::Connection;

/// Rows of `t` beyond which it is thinned, to keep rounds short.
const ROWS_MAX: usize = 2_000;
/// Rows of `item` likewise.
const ITEMS_MAX: usize = 600;
/// Rows of `transfer` of all writers beyond which they are settled and forgotten.
const TRANSFERS_MAX: usize = 300;

/// See the module.
#[derive(Clone, Debug)]
pub struct Model {
    parts: Vec<Part>,
    /// What each account had before the transfers that are there.
    base: BTreeMap<i64, i64>,
}

impl Model {
    /// What [`set_up`](super::set_up) makes; `version` is the newest one after it.
    #[must_use]
    pub fn new(version: u64) -> Self {
        let part = Part { published: BTreeMap::from([(0, version)]), ..Part::default() };
        let parts = (0..WRITERS).map(|_| part.clone()).collect();
        Self { parts, base: (0..ACCOUNTS).map(|id| (id, CREDIT)).collect() }
    }

    /// A unit of a writer has ended; `version` was the newest one then.
    ///
    /// # Panics
    /// When there is no such writer.
    pub fn ended(&mut self, writer: u64, unit: &Unit, version: u64) {
        let part = &mut self.parts[usize::try_from(writer).unwrap()];
        unit.apply(part);
        part.published.insert(part.units, version);
    }

    /// Compares the database with the model; `in_flight` has the unit that each writer had begun, or nothing. Returns how many of those are there,
    /// which the model has from then on.
    ///
    /// # Errors
    /// How the database differs; what a query fails with.
    pub fn judge(&mut self, connection: &Connection, in_flight: &[Unit]) -> Result<u64, String> {
        let found = Found::read(connection)?;
        let mut done = 0;
        for (writer, (part, found)) in self.parts.iter_mut().zip(&found.parts).enumerate() {
            let without = part.fits(found);
            let with = in_flight.get(writer).map(|unit| {
                let mut with = part.clone();
                unit.apply(&mut with);
                (with, unit)
            });
            match (without, with) {
                (Ok(()), _) => {}
                (Err(without), None) => {
                    return Err(format!("writer {writer}, nothing in flight:\n{without}"));
                }
                (Err(without), Some((with, unit))) => {
                    if let Err(difference) = with.fits(found) {
                        return Err(format!(
                            "writer {writer}, in flight {unit:?}: the database has neither all before it:\n{without}nor that \
                             and the unit:\n{difference}"
                        ));
                    }
                    *part = with;
                    done += 1;
                }
            }
            part.adopt(found);
        }
        let amounts = self.amounts();
        if amounts != found.amounts {
            return Err(format!("the accounts have {:?}, want {amounts:?}", found.amounts));
        }
        Ok(done)
    }

    fn amounts(&self) -> BTreeMap<i64, i64> {
        let paid = |id: i64| self.parts.iter().filter_map(|part| part.paid.get(&id)).sum::<i64>();
        self.base.iter().map(|(id, base)| (*id, base + paid(*id))).collect()
    }

    /// Searches the vectors of every writer.
    ///
    /// # Errors
    /// How an answer is wrong.
    pub fn search(&self, connection: &Connection, rng: &mut StdRng) -> Result<Recall, String> {
        let session = connection.session();
        let mut recall = Recall::default();
        let mut searched = Ok(());
        for (writer, part) in (0..WRITERS).zip(&self.parts) {
            let items = part.items.iter().map(|(id, row)| (*id, row.values)).collect();
            match search::check(&items, writer, rng, |sql| query(connection, &session, sql)) {
                Ok(found) => recall += found,
                Err(what) => searched = Err(what),
            }
        }
        connection.end_session(session);
        searched.map(|()| recall)
    }

    /// Makes large tables smaller while nobody else writes; then the database is as the next round finds it.
    ///
    /// # Errors
    /// What a statement fails with.
    pub fn tidy(&mut self, connection: &Connection, root: &Path) -> Result<(), String> {
        let session = connection.session();
        let tidied = self.tidy_in(connection, &session, root);
        connection.end_session(session);
        tidied?;
        let version = connection.version();
        for part in &mut self.parts {
            part.published = BTreeMap::from([(part.units, version)]);
        }
        Ok(())
    }

    fn tidy_in(&mut self, connection: &Connection, session: &Session, root: &Path) -> Result<(), String> {
        for (writer, part) in (0..WRITERS).zip(&mut self.parts) {
            // Each step takes every other row of those the step before has left: one modulus would thin rows only once.
            let mut modulus = 2;
            while part.t.len() > ROWS_MAX || part.items.len() > ITEMS_MAX {
                let remainder = modulus / 2;
                let mut thin = Vec::new();
                if part.t.len() > ROWS_MAX {
                    thin.push(Operation::Delete { modulus, remainder });
                }
                if part.items.len() > ITEMS_MAX {
                    thin.push(Operation::DeleteItems { modulus, remainder });
                }
                for unit in thin.into_iter().map(Unit::alone) {
                    crew::run(connection, session, &unit.statements(writer, root), writer)?;
                    unit.apply(part);
                }
                modulus *= 2;
            }
        }
        if self.parts.iter().map(|part| part.transfers.len()).sum::<usize>() > TRANSFERS_MAX {
            let statements = ["BEGIN", "UPDATE account SET base = amount", "DELETE FROM transfer", "COMMIT"];
            crew::run(connection, session, &statements.map(|sql| (sql.to_owned(), None)), 0)?;
            self.base = self.amounts();
            for part in &mut self.parts {
                part.transfers.clear();
                part.paid.clear();
            }
        }
        Ok(())
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.parts.iter().map(Part::rows).sum()
    }
}

/// What the database has.
struct Found {
    parts: Vec<Part>,
    /// Of the accounts, by number.
    amounts: BTreeMap<i64, i64>,
}

impl Found {
    fn read(connection: &Connection) -> Result<Self, String> {
        let session = connection.session();
        let shared = Names::read(connection, &session)
            .and_then(|names| Ok((names, query(connection, &session, "SELECT id, amount FROM account")?)));
        connection.end_session(session);
        let (names, accounts) = shared?;
        let mut amounts = BTreeMap::new();
        for row in &accounts {
            let number = |text: &String| text.parse::<i64>().map_err(|error| format!("{text}: {error}"));
            if amounts.insert(number(&row[0])?, number(&row[1])?).is_some() {
                return Err(format!("account {} is there twice", row[0]));
            }
        }
        // Planning takes most of the time, so at the same time.
        let parts = std::thread::scope(|scope| {
            let names = &names;
            let reading: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || Part::read(connection, writer, names)))
                .collect();
            let read = reading.into_iter().map(|part| part.join().unwrap_or_else(|_| Err("a panic".into())));
            read.collect::<Result<Vec<_>, String>>()
        })?;
        Ok(Self { parts, amounts })
    }
}

#[cfg(test)]
mod tests {
    use cairn_engine::{OpenOptions, Root};

    use super::*;
    use crate::workload::{End, set_up, units};

    #[test]
    fn what_differs_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("db");
        let connection = Connection::open(Root::Memory, OpenOptions::default()).unwrap();
        set_up(&connection);
        let session = connection.session();
        let mut model = Model::new(connection.version());
        let run = |unit: &Unit| {
            for operation in &unit.operations {
                operation.prepare(0, &root).unwrap();
            }
            crew::run(&connection, &session, &unit.statements(0, &root), 0).unwrap();
        };
        for unit in units(1, 0, 0).take(12) {
            run(&unit);
            model.ended(0, &unit, connection.version());
        }
        assert_eq!(model.judge(&connection, &[]), Ok(0));

        let transfers = |unit: &Unit| {
            let transfers = |operation: &Operation| matches!(operation, Operation::Transfer { .. });
            unit.end == End::Commit && unit.operations.iter().any(transfers)
        };
        let unit = units(1, 1, 0).find(transfers).unwrap();
        assert_eq!(model.judge(&connection, std::slice::from_ref(&unit)), Ok(0));
        run(&unit);
        assert!(model.judge(&connection, &[]).is_err(), "a unit that nobody knows of");
        assert_eq!(model.judge(&connection, std::slice::from_ref(&unit)), Ok(1));
        assert_eq!(model.judge(&connection, &[]), Ok(0));

        let mut differs = |sql: &str, how: &str| {
            connection.exec(sql);
            let said = model.judge(&connection, &[]).unwrap_err();
            assert!(said.contains(how), "{sql}: {said}");
        };
        differs("INSERT INTO transfer VALUES (1, 5, 0, 1, 3)", "transfer has 5");
        connection.exec("DELETE FROM transfer WHERE writer = 1");
        differs("UPDATE account SET amount = amount + 1 WHERE id = 3", "the accounts have");
        connection.exec("UPDATE account SET amount = amount - 1 WHERE id = 3");
        differs("UPDATE transfer SET amount = amount WHERE writer = 0", "nobody wrote");
        connection.end_session(session);
    }
}
