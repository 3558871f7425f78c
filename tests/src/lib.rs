//! What the tests that cross a crate boundary share.
//!
//! * [`scratch`](scratch()): a directory in memory for databases that are soon gone.
//! * [`connection`]: a database opened in this process, asked in SQL through `Session::execute`.
//! * [`answer`]: the answer of a statement as text, the same for every mode.
//! * [`plan`]: a plan of one process, run in another.
//! * [`child`]: the second process: a read-only follower, a process of writers that gets killed, one that runs plans, or a server.
//! * [`served`]: a database behind a server of this process, asked over Flight SQL.
//! * [`bucket`]: a bucket on S3's protocol, on this machine.
//! * [`http`]: a client of HTTP/1.1 that shows everything about an answer.
//! * [`workload`]: random statements of several connections and the model of what they must leave behind, for a process that gets
//!   killed and for one that runs for hours (`bin/soak.rs`).
//! * [`damage`]: small databases with one file changed, and what may come of opening them.
//! * [`loss`]: a database on a disk that loses what was not synced, and every step it takes, by name.
//! * [`random`]: random statements and queries, and what says whether their answers are right.
//! * [`fuzz`]: readers of bytes that nobody vouches for, and what must hold whatever they read.
//! * [`tpch`]: TPC-H data, queries and known answers.
//!
//! The tests themselves: `tests/slt.rs` (scripts of `slt/`), `tests/tpch.rs`, `tests/crash.rs`, `tests/damage.rs`, `tests/loss.rs`, `tests/files.rs`,
//! `tests/random.rs`, `tests/fuzz.rs`, `tests/flight.rs`, `tests/http.rs`. Those of the shell use it, too: `sql-shell/tests/bucket.rs`.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

pub mod answer;
pub mod bucket;
pub mod child;
pub mod connection;
pub mod damage;
pub mod environment;
pub mod fuzz;
pub mod http;
pub mod loss;
pub mod plan;
pub mod random;
mod scratch;
pub mod served;
pub mod tpch;
pub mod workload;

pub use answer::{Answer, Kind, SqlError};
pub use bucket::Bucket;
pub use child::{Follower, PlanRunner, ServerProcess, Writers};
pub use connection::Connection;
pub use environment::without_settings;
pub use scratch::scratch;
pub use served::Served;
