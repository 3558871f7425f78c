//! Where the database under test is.
//!
//! Owns: a database with some sessions, in memory, in a directory or in an object store of this process, and opening it
//! again. Nothing happens in it by itself: checkpoints and compactions come as statements. Does not own: what is run.

use std::fmt;
use std::sync::Arc;

use cairn_engine::{OpenOptions, Root, Session, SyncMode};
use cairn_storage::object::StoreUrl;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::memory::InMemory;
use tempfile::TempDir;

use crate::answer::{Answer, SqlError};
use crate::connection::Connection;
use crate::scratch::scratch;

/// Kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory: it cannot be opened again.
    Memory,
    /// In a directory.
    Directory,
    /// In an object store that is in memory.
    Objects,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "in memory",
            Self::Directory => "in a directory",
            Self::Objects => "in an object store",
        })
    }
}

/// A database that is open.
pub struct Placed {
    place: Place,
    sessions: Vec<Session>,
    count: usize,
    connection: Option<Connection>,
    store: Arc<dyn ObjectStore>,
    home: TempDir,
}

impl Placed {
    /// An empty database with `count` sessions.
    ///
    /// # Errors
    /// What the engine says.
    pub fn new(place: Place, count: usize) -> Result<Self, SqlError> {
        let home = scratch().map_err(SqlError::of_test)?;
        let mut placed = Self {
            place,
            sessions: Vec::new(),
            count,
            connection: None,
            store: Arc::new(InMemory::new()),
            home,
        };
        placed.open(false)?;
        Ok(placed)
    }

    fn open(&mut self, take_over: bool) -> Result<(), SqlError> {
        let mut options = OpenOptions {
            // What a crash of the machine loses is for other tests.
            sync: SyncMode::Off,
            checkpoint_wal_bytes: u64::MAX,
            checkpoint_wal_objects: u64::MAX,
            compacts: false,
            take_over,
            ..OpenOptions::default()
        };
        let connection = match self.place {
            Place::Memory => Connection::open(Root::Memory, options)?,
            Place::Directory => Connection::open_dir(&self.home.path().join("db"), &options)?,
            Place::Objects => {
                options.store = Some(Arc::clone(&self.store));
                let url = StoreUrl::parse("s3://random/db").map_err(SqlError::of_test)?;
                Connection::open(Root::Store(url), options)?
            }
        };
        let engine = Arc::clone(connection.engine());
        self.sessions =
            connection.block_on(async { (0..self.count).map(|_| engine.session()).collect::<Vec<_>>() });
        drop(engine);
        self.connection = Some(connection);
        Ok(())
    }

    /// Runs a statement in one of the sessions.
    ///
    /// # Errors
    /// What the engine says.
    ///
    /// # Panics
    /// When there is no such session, or the database did not open again.
    pub fn run(&self, session: usize, sql: &str) -> Result<Answer, SqlError> {
        self.connection.as_ref().unwrap().run_in(&self.sessions[session], sql)
    }

    /// Closes and opens it, or drops it without a word and opens it (`abandon`). In memory nothing happens, but that
    /// transactions end: the sessions are new ones.
    ///
    /// # Errors
    /// What the engine says.
    ///
    /// # Panics
    /// When an opening before has failed.
    pub fn reopen(&mut self, abandon: bool) -> Result<(), SqlError> {
        let connection = self.connection.take().unwrap();
        let sessions = std::mem::take(&mut self.sessions);
        connection.block_on(async move { drop(sessions) });
        if self.place == Place::Memory {
            let engine = Arc::clone(connection.engine());
            self.sessions =
                connection.block_on(async { (0..self.count).map(|_| engine.session()).collect::<Vec<_>>() });
            self.connection = Some(connection);
            return Ok(());
        }
        if abandon {
            connection.abandon();
        } else {
            connection.close()?;
        }
        self.open(abandon)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // Before their engine, and on its runtime: they may have transactions to take back.
        let sessions = std::mem::take(&mut self.sessions);
        if let Some(connection) = &self.connection {
            connection.block_on(async move { drop(sessions) });
        }
    }
}
