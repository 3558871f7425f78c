//! Scripts on a disk that fails.
//!
//! Owns: when the power goes, a call fails or the disk is full, and what the database may do then. Does not own: what it must hold
//! (`database`), what is run (`model`). A seed says everything but how far a background build of an index comes meanwhile.

use cairn_storage::fs::{Fault, SimFileSystem};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::{self, Done, Ledger, UNKNOWN};
use super::model::{Change, Generator, Operation};
use crate::answer::SqlError;
use crate::connection::Connection;

/// Openings of one database in a script.
const LIVES: u64 = 2;
/// Operations between two openings, at most.
const OPERATIONS: usize = 16;
/// Failed operations after which a life ends.
const REFUSALS_MAX: usize = 4;

/// SQLSTATE of what a test itself finds wrong.
const OF_TEST: &str = "TEST0";

/// Figures of one script.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Commits that were acknowledged, all there.
    pub acknowledged: usize,
    /// Operations that failed.
    pub failed: usize,
}

/// What fails.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Call,
    Disk,
}

struct Script {
    seed: u64,
    disk: SimFileSystem,
    generator: Generator,
    ledger: Ledger,
    failed: usize,
}

impl Script {
    fn new(seed: u64) -> Self {
        let generator = Generator::new(StdRng::seed_from_u64(seed));
        Self { seed, disk: SimFileSystem::new(seed), generator, ledger: Ledger::new(seed), failed: 0 }
    }

    fn tally(&self) -> Tally {
        Tally { acknowledged: self.ledger.commits(), failed: self.failed }
    }

    fn open(&mut self) -> Result<Connection, String> {
        let connection = database::open(&self.disk).map_err(|error| format!("it does not open: {error}"))?;
        self.ledger.settle(&connection)?;
        Ok(connection)
    }

    /// Half of all processes close the database, whatever has happened; the others just end.
    fn end(&mut self, connection: Connection) {
        if self.generator.random().random_bool(0.5) {
            // Everything acknowledged is durable without it.
            let _ = connection.close();
        } else {
            connection.abandon();
        }
    }

    /// The next operation; closing and opening is for those who can open.
    fn operation(&mut self) -> Operation {
        match self.generator.operation(self.ledger.model()) {
            Operation::Reopen => Operation::Checkpoint,
            operation => operation,
        }
    }

    /// Lives until the power goes.
    fn lose(&mut self, life: u64) -> Result<(), String> {
        let steps = self.generator.random().random_range(1..260);
        let while_opening = life > 0 && self.generator.random().random_bool(0.15);
        if while_opening {
            self.disk.crash_at_step(self.disk.steps() + steps % 12 + 1);
            if let Ok(connection) = database::open(&self.disk) {
                connection.abandon();
            }
            self.disk = self.disk.crash(self.seed * 10 + life + 5);
        }
        let mut connection = Some(self.open()?);
        self.disk.crash_at_step(self.disk.steps() + steps);
        for _ in 0..OPERATIONS {
            let operation = self.generator.operation(self.ledger.model());
            let Some(open) = connection.take() else { break };
            let done = match operation {
                Operation::Reopen => open.close().and_then(|()| database::open(&self.disk)).map(|again| {
                    connection = Some(again);
                }),
                operation => {
                    let done = self.ledger.run(&open, &operation).map(|_| ());
                    connection = Some(open);
                    done
                }
            };
            match done {
                Ok(()) => {}
                Err(error) if error.sqlstate != OF_TEST && self.disk.is_dead() => {
                    self.failed += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        if let Some(connection) = connection {
            self.end(connection);
        }
        self.disk = self.disk.crash(self.seed * 10 + life);
        Ok(())
    }

    /// Lives with something that fails.
    fn suffer(&mut self, life: u64, trouble: Trouble) -> Result<(), String> {
        let connection = self.open()?;
        // An opening syncs what the one before may have failed to sync; nobody else may.
        let retried = self.disk.retried_syncs();
        self.arm(trouble);
        let mut refusals = 0;
        for _ in 0..OPERATIONS {
            let operation = self.operation();
            let Err(error) = self.ledger.run(&connection, &operation) else { continue };
            self.failed += 1;
            refusals += 1;
            judge(&error)?;
            let indexing = matches!(operation, Operation::Change(Change::CreateIndex));
            if !indexing {
                self.ledger.compare(&connection).map_err(|what| format!("reads after {error}: {what}"))?;
                if error.sqlstate == UNKNOWN {
                    self.stays_shut(&connection)?;
                }
            }
            // Of a CREATE INDEX that went wrong behind its commit only an opening tells.
            if error.sqlstate == UNKNOWN || indexing || refusals == REFUSALS_MAX {
                break;
            }
        }
        self.end(connection);
        if self.disk.retried_syncs() != retried {
            return Err("a file was synced again after a sync of it had failed".into());
        }
        self.disk.clear_faults();
        let seed = self.seed * 10 + life;
        self.disk = match self.generator.random().random_bool(0.5) {
            true => self.disk.crash(seed),
            false => self.disk.restart(seed),
        };
        Ok(())
    }

    fn arm(&mut self, trouble: Trouble) {
        let random = self.generator.random();
        match trouble {
            Trouble::Call => {
                let n = random.random_range(1..120);
                self.disk.inject(match random.random_range(0..8) {
                    0 | 1 => Fault::Sync(n / 4 + 1),
                    2 => Fault::SyncDir(n / 8 + 1),
                    3 => Fault::Write(n / 2 + 1),
                    4 => Fault::Rename(n / 12 + 1),
                    5 => Fault::Create(n / 12 + 1),
                    _ => Fault::Step(n),
                });
            }
            Trouble::Disk if random.random_bool(0.5) => {
                self.disk.fill_at_step(self.disk.steps() + random.random_range(1..150));
            }
            Trouble::Disk => self.disk.limit_free_bytes(random.random_range(0..3_000_000)),
        }
    }

    /// That nothing is accepted any more: whoever went on could build on what is not there.
    fn stays_shut(&mut self, connection: &Connection) -> Result<(), String> {
        let Some(table) =
            ["k", "p"].into_iter().find(|table| self.ledger.model().tables.contains_key(*table))
        else {
            return Ok(());
        };
        let doubtful = self.ledger.clone();
        let insert = Operation::Change(Change::Insert { table, first: 990_000, rows: 1 });
        match self.ledger.run(connection, &insert) {
            Err(error) if error.sqlstate != UNKNOWN && error.sqlstate != OF_TEST => {}
            Err(error) => return Err(format!("after an unknown outcome, an INSERT answers {error}")),
            Ok(done) => return Err(format!("after an unknown outcome, an INSERT was {done:?}")),
        }
        if let Err(what) = doubtful.compare(connection) {
            return Err(format!("reads after an unknown outcome: {what}"));
        }
        Ok(())
    }
}

/// That the error is one that a disk may cause: neither a fault of Cairn's nor damage.
fn judge(error: &SqlError) -> Result<(), String> {
    if error.sqlstate == OF_TEST || error.sqlstate.starts_with("XX") {
        return Err(format!("a disk that fails is no reason for {error}"));
    }
    Ok(())
}

fn failure(seed: u64) -> impl Fn(String) -> String {
    move |what| format!("seed {seed}: {what}")
}

/// The power goes at a random step, again and again.
///
/// # Errors
/// What was lost, or is there though it failed.
pub fn power_loss(seed: u64) -> Result<Tally, String> {
    let mut script = Script::new(seed);
    for life in 0..LIVES {
        script.lose(life).map_err(failure(seed))?;
    }
    let connection = script.open().map_err(failure(seed))?;
    connection.abandon();
    Ok(script.tally())
}

/// A call fails: a write, half of it done perhaps, a sync, a rename. The statement fails, or nobody knows; what was acknowledged stays.
///
/// # Errors
/// As above; a sync that is tried again; a commit that is accepted after one in doubt.
pub fn failed_call(seed: u64) -> Result<Tally, String> {
    endure(seed, Trouble::Call)
}

/// The disk is full from some step on, or after some bytes, until somebody makes room.
///
/// # Errors
/// As above; a database that does not go on then.
pub fn full_disk(seed: u64) -> Result<Tally, String> {
    endure(seed, Trouble::Disk)
}

fn endure(seed: u64, trouble: Trouble) -> Result<Tally, String> {
    let mut script = Script::new(seed);
    for life in 0..LIVES {
        script.suffer(life, trouble).map_err(failure(seed))?;
    }
    let connection = script.open().map_err(failure(seed))?;
    for _ in 0..3 {
        let operation = script.operation();
        match script.ledger.run(&connection, &operation) {
            Ok(Done::Acknowledged | Done::Refused) => {}
            Err(error) => return Err(failure(seed)(format!("it does not go on: {error}"))),
        }
    }
    script.ledger.compare(&connection).map_err(failure(seed))?;
    connection.abandon();
    Ok(script.tally())
}
