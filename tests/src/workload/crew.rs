//! Several connections at work on one database.
//!
//! Owns: the threads of the writers, of upkeep (CHECKPOINT, COMPACT, VACUUM) and of a reader, each with a session of its own, and running units again
//! that conflict with others. Does not own: what is written (`unit`), what it must leave behind (`model`).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cairn_engine::Session;
use rand::Rng;
use rand::rngs::StdRng;

use super::part::query;
use super::unit::Statement;
use super::{STREAM_KEEPER, STREAM_READER, WRITERS, generator, snapshot, units};
use crate::connection::Connection;

/// Statements are planned by recursion, as deep in a test build as the stack of `cairn` allows.
pub(super) const STACK_BYTES: usize = 8 << 20;
/// SQLSTATE of what others were faster with.
const CONFLICT: &str = "40001";
/// Runs of a unit that conflicts with others. Each waits longer, 100 ms at most.
const ATTEMPTS_MAX: u64 = 500;

/// What is told of the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A unit has ended.
    Ended {
        /// Whose.
        writer: u64,
        /// Its number in the round.
        number: u64,
        /// Newest version of the database after it.
        version: u64,
    },
    /// Something is not as it must be: everybody stops.
    Wrong(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { writer, number, version } => write!(f, "ack {writer} {number} {version}"),
            Self::Wrong(what) => write!(f, "wrong {}", what.replace('\n', "\\n")),
        }
    }
}

impl Said {
    /// Reads a line; None: it is about something else.
    ///
    /// # Errors
    /// When it has not the numbers it must have.
    pub fn read(line: &str) -> Result<Option<Self>, String> {
        if let Some(what) = line.strip_prefix("wrong ") {
            return Ok(Some(Self::Wrong(what.to_owned())));
        }
        let Some(numbers) = line.strip_prefix("ack ") else { return Ok(None) };
        let numbers: Result<Vec<u64>, _> = numbers.split(' ').map(str::parse::<u64>).collect();
        match numbers.as_deref() {
            Ok([writer, number, version]) => {
                Ok(Some(Self::Ended { writer: *writer, number: *number, version: *version }))
            }
            _ => Err(format!("a line of a writer: {line}")),
        }
    }
}

/// See the module.
pub struct Crew<'a> {
    /// The database, open for writing.
    pub connection: &'a Connection,
    /// Its directory, beside which files to COPY are made.
    pub root: &'a Path,
    /// Of the units.
    pub seed: u64,
    /// Of the units.
    pub round: u64,
}

impl Crew<'_> {
    /// Works until `stop` is set, or something is wrong, which sets it. Every unit that was begun has ended then. `hear` is called from all threads.
    ///
    /// # Errors
    /// When there is no thread for somebody.
    pub fn work(&self, stop: &AtomicBool, hear: &(dyn Fn(Said) + Sync)) -> std::io::Result<()> {
        std::thread::scope(|scope| {
            let mut begun = Ok(());
            for who in 0..WRITERS + 2 {
                let work = move || {
                    // Nobody else would stop.
                    let worked = catch_unwind(AssertUnwindSafe(|| self.work_as(who, stop, hear)));
                    if let Err(what) = worked.unwrap_or_else(|_| Err(format!("a panic of {who}"))) {
                        stop.store(true, Ordering::SeqCst);
                        hear(Said::Wrong(what));
                    }
                };
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
                if let Err(error) = thread {
                    stop.store(true, Ordering::SeqCst);
                    begun = Err(error);
                }
            }
            begun
        })
    }

    /// The writers first, then who keeps the database in order, then the reader.
    fn work_as(&self, who: u64, stop: &AtomicBool, hear: &(dyn Fn(Said) + Sync)) -> Result<(), String> {
        let session = self.connection.session();
        let worked = match who {
            WRITERS => self.keep(&session, stop),
            writer if writer < WRITERS => self.write(&session, writer, stop, hear),
            _ => self.read(&session, stop),
        };
        self.connection.end_session(session);
        worked
    }

    fn write(
        &self,
        session: &Session,
        writer: u64,
        stop: &AtomicBool,
        hear: &(dyn Fn(Said) + Sync),
    ) -> Result<(), String> {
        for (number, unit) in (0..).zip(units(self.seed, self.round, writer)) {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            for operation in &unit.operations {
                operation.prepare(writer, self.root).map_err(|error| format!("a file to COPY: {error}"))?;
            }
            run(self.connection, session, &unit.statements(writer, self.root), writer)
                .map_err(|what| format!("writer {writer}, unit {number}: {what}"))?;
            hear(Said::Ended { writer, number, version: self.connection.version() });
        }
        Ok(())
    }

    fn keep(&self, session: &Session, stop: &AtomicBool) -> Result<(), String> {
        let mut rng = generator(self.seed, self.round, STREAM_KEEPER);
        while !stop.load(Ordering::SeqCst) {
            let sql = match rng.random_range(0..10) {
                0..6 => "CHECKPOINT",
                6..9 => "COMPACT",
                _ => "VACUUM",
            };
            match self.connection.run_in(session, sql) {
                Ok(_) => {}
                Err(error) if error.sqlstate == CONFLICT => {}
                Err(error) => return Err(format!("{sql}: {error}")),
            }
            pause(&mut rng, 5..80);
        }
        Ok(())
    }

    fn read(&self, session: &Session, stop: &AtomicBool) -> Result<(), String> {
        let mut rng = generator(self.seed, self.round, STREAM_READER);
        while !stop.load(Ordering::SeqCst) {
            snapshot::look(self.connection, session, &mut rng)
                .map_err(|what| format!("a reader in the process of the writers: {what}"))?;
            pause(&mut rng, 20..120);
        }
        Ok(())
    }
}

/// Runs statements until they have not conflicted with others; `pace`: so as not to be in step with them.
///
/// # Errors
/// A statement that did not do what it must.
pub(super) fn run(
    connection: &Connection,
    session: &Session,
    statements: &[Statement],
    pace: u64,
) -> Result<(), String> {
    for attempt in 0..ATTEMPTS_MAX {
        if attempt_at(connection, session, statements)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis((attempt * (pace + 1)).min(100)));
    }
    Err(format!("{statements:?} have conflicted with others {ATTEMPTS_MAX} times"))
}

/// Whether there was no conflict; where there was, nothing has changed.
fn attempt_at(connection: &Connection, session: &Session, statements: &[Statement]) -> Result<bool, String> {
    for (sql, fails_with) in statements {
        match (connection.run_in(session, sql), fails_with) {
            (Ok(_), None) => {}
            (Err(error), Some(sqlstate)) if error.sqlstate == *sqlstate => {}
            (Err(error), _) if error.sqlstate == CONFLICT => {
                if session.in_transaction() {
                    query(connection, session, "ROLLBACK")?;
                }
                return Ok(false);
            }
            (Ok(_), Some(sqlstate)) => return Err(format!("{sql}: it did not fail with {sqlstate}")),
            (Err(error), _) => return Err(format!("{sql}: {error}")),
        }
    }
    Ok(true)
}

fn pause(rng: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(milliseconds)));
}
