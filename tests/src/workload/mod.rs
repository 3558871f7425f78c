//! Random statements of several connections, and the model of what they must leave behind.
//!
//! * [`Operation`], [`Unit`]: a statement with its SQL and its effect on the model; what commits as one.
//! * `part`, [`Model`]: what one writer's rows must be, and the whole database; comparing and tidying up.
//! * [`Crew`]: writers, upkeep and a reader at work on one database, each in a session and thread of its own.
//! * [`Watcher`]: a read-only follower that looks at the same database all the time.
//! * `snapshot`, `search`: what holds in every snapshot, and for every vector search.
//!
//! Each writer has tables of its own, and keys of its own in tables that all of them write, so that what it must find does not depend
//! on the others. The units of a seed, a round and a writer are the same in the process that writes and in the one that
//! judges, whatever the database holds. Does not own: processes and killing (`tests/crash.rs`), measuring (`bin/soak.rs`).

mod crew;
mod model;
mod operation;
mod part;
mod search;
mod snapshot;
mod unit;
mod watcher;

pub use crew::{Crew, Said};
pub use model::Model;
pub use operation::Operation;
pub use search::Recall;
pub use unit::{End, Unit};
pub use watcher::Watcher;

use std::time::Duration;

use cairn_storage::OpenOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::connection::Connection;

/// Connections that write.
pub const WRITERS: u64 = 3;

/// Accounts that all writers move money between.
const ACCOUNTS: i64 = 40;
/// What each account has in the beginning.
const CREDIT: i64 = 1_000;
/// Ids of `t`, `keyed` and `item` below this are written again and again; above, each id is written once.
const SHARED_IDS: i64 = 120;
/// Ids that one operation may use up.
const IDS_PER_OPERATION: i64 = 2_000;
/// Ids that one unit may use up.
const IDS_PER_UNIT: i64 = 10_000;
/// Ids that one round may use up.
const IDS_PER_ROUND: i64 = 1_000_000_000_000;

/// Makes the tables in an empty database.
///
/// # Panics
/// When that fails.
pub fn set_up(connection: &Connection) {
    connection
        .exec("CREATE TABLE account (id BIGINT PRIMARY KEY, base BIGINT NOT NULL, amount BIGINT NOT NULL)");
    let accounts: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {CREDIT}, {CREDIT})")).collect();
    connection.exec(&format!("INSERT INTO account VALUES {}", accounts.join(", ")));
    connection.exec(
        "CREATE TABLE transfer (writer BIGINT, n BIGINT, payer BIGINT NOT NULL, payee BIGINT NOT NULL,
         amount BIGINT NOT NULL, PRIMARY KEY (writer, n))",
    );
    connection
        .exec("CREATE TABLE keyed (writer BIGINT, id BIGINT, v BIGINT NOT NULL, PRIMARY KEY (writer, id))");
    for writer in 0..WRITERS {
        connection
            .exec(&format!("CREATE TABLE t{writer} (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT)"));
        let dimensions = search::DIMENSIONS;
        connection
            .exec(&format!("CREATE TABLE item{writer} (id BIGINT PRIMARY KEY, e VECTOR({dimensions}))"));
    }
}

/// How the writers of a round open the database: small limits in most rounds, so that checkpoints, spills and compactions happen.
#[must_use]
pub fn options(seed: u64, round: u64) -> OpenOptions {
    let mut rng = generator(seed, round, STREAM_OPTIONS);
    let mut options = OpenOptions::default();
    if rng.random_bool(0.5) {
        options.wal_entry_bytes_max = 24 << 10;
    }
    if rng.random_bool(0.6) {
        options.checkpoint_wal_bytes = 1 << rng.random_range(14..20);
    }
    if rng.random_bool(0.7) {
        options.compact_delay = Duration::from_millis(rng.random_range(1..60));
    }
    options.keeps_jobs = rng.random_bool(0.3);
    options
}

/// The endless units of a writer in a round.
///
/// # Panics
/// When a round is beyond all numbers.
pub fn units(seed: u64, round: u64, writer: u64) -> impl Iterator<Item = Unit> {
    let mut rng = generator(seed, round, writer);
    let first = (i64::try_from(round).unwrap() + 1) * IDS_PER_ROUND;
    (0..).map(move |number: i64| Unit::random(&mut rng, first + number * IDS_PER_UNIT))
}

/// Streams of one seed and round; those below are the writers'.
const STREAM_OPTIONS: u64 = 100;
const STREAM_KEEPER: u64 = 101;
const STREAM_READER: u64 = 102;
const STREAMS: u64 = 128;

const _: () = assert!(WRITERS <= STREAM_OPTIONS && STREAM_READER < STREAMS);

fn generator(seed: u64, round: u64, stream: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(round * STREAMS + stream))
}
