//! A small database in memory, for targets that need tables: a few rows in a segment, in memory and deleted, an index, a view.
//!
//! Made once in a process, and never changed by what is read.

use std::sync::Arc;
use std::time::Duration;

use cairn_engine::{Engine, EngineOptions, Identity, OpenOptions, Output, Root, Session, SessionLimits};
use futures::TryStreamExt;
use tokio::runtime::{Builder, Runtime};

/// Longest time of one statement: a hang is a finding, too.
const TIMEOUT: Duration = Duration::from_secs(20);
const MEMORY_BYTES: usize = 256 << 20;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE item (id BIGINT PRIMARY KEY, name TEXT, price DECIMAL(10, 2) DEFAULT 1, day DATE, seen TIMESTAMP, \
     tags TEXT[], doc JSON, point STRUCT(x DOUBLE, label TEXT), v VECTOR(3))",
    "CREATE TABLE sale (item BIGINT, n INT NOT NULL, amount DOUBLE PRECISION, paid BOOLEAN, sold TIMESTAMPTZ)",
    "CREATE TABLE \"Odd Name\" (\"a b\" INT, \"Select\" TEXT, PRIMARY KEY (\"a b\"))",
    "CREATE VIEW dear AS SELECT id, name, price FROM item WHERE price > 2",
    "INSERT INTO item (id, name, price, day, doc, v) VALUES (1, 'apple', 0.5, DATE '2024-01-01', '{\"a\":[1,2]}', '[1,0,0]'), \
     (2, 'pear', 2.25, NULL, NULL, '[0,1,0]'), (3, NULL, 10, DATE '2024-02-29', '[]', '[0,0,1]'), (4, 'fig', 3, NULL, NULL, NULL)",
    "INSERT INTO sale VALUES (1, 2, 1.5, true, NULL), (2, 1, NULL, false, '2024-01-01 00:00:00+00'), (NULL, 7, 'NaN', NULL, NULL)",
    "CREATE INDEX item_v ON item USING hnsw (v) WITH (metric = 'l2')",
    "CHECKPOINT",
    "DELETE FROM item WHERE id = 4",
    "INSERT INTO item (id, name, v) VALUES (5, 'hot', '[1,1,1]')",
];

/// See the module.
pub(super) struct Sample {
    runtime: Runtime,
    engine: Arc<Engine>,
}

impl Sample {
    /// A new one. Everything runs on the thread that asks.
    pub(super) fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let storage =
            OpenOptions { compacts: false, checkpoint_wal_bytes: u64::MAX, ..OpenOptions::default() };
        let options = EngineOptions {
            storage,
            memory_limit: Some(MEMORY_BYTES),
            partitions: Some(2),
            ..EngineOptions::default()
        };
        let engine = runtime.block_on(Engine::open(Root::Memory, options)).expect("a database in memory");
        let sample = Self { runtime, engine };
        for sql in STATEMENTS {
            sample.execute(sql);
        }
        sample
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A new session that touches no file and no bucket; for a future of [`block_on`](Self::block_on), in which it lives and ends.
    pub(super) fn session(&self) -> Session {
        let limits = SessionLimits { statement_timeout: Some(TIMEOUT), ..SessionLimits::default() };
        self.engine.session_as(Identity::owner(), limits)
    }

    /// Runs a future to its end.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    fn execute(&self, sql: &str) {
        self.block_on(async {
            let session = self.session();
            let output = session.execute(sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            if let Output::Rows(rows) = output {
                let _rows: Vec<_> =
                    rows.stream.try_collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
        });
    }
}
