//! Bytes and texts that nobody vouches for, given to whatever reads them.
//!
//! Owns: the targets: what each gives its input to, what must hold then, its first inputs ([`Target::seeds`]). cargo-fuzz (`fuzz/`) and the
//! replay of its corpora in `cargo test` (`tests/fuzz.rs`) both call [`replay`]. Does not own: where inputs come from ([`corpus`],
//! [`mutation`]), how much memory a target took (`tests/fuzz.rs`).
//!
//! A target panics when something is wrong: the reader panicked, said that it is at fault itself, gave something that it does not read
//! back as the same, or something outside of its input. An error is a right answer.
//!
//! Nearly all bytes on disk stand under checksums, behind which random changes would never get. So each input is read as it is, and once
//! more with the checksums it should have (`sealed`): those are computed here from `docs/formats`, not by the code under test.

pub mod corpus;
pub mod mutation;

mod config;
mod deletes;
mod flight;
mod http;
mod journal;
mod keys;
mod log;
mod manifest;
mod sample;
mod scan;
mod sealed;
mod sql;
mod text;
mod unit;

use cairn_storage::id::DatabaseId;
use cairn_storage::{Error, ErrorKind};
use uuid::Uuid;

/// Database of all seeds.
const DATABASE: DatabaseId = DatabaseId(Uuid::from_u128(7));

/// A name and bytes.
pub type Seed = (&'static str, Vec<u8>);

/// Most memory that a target may hold at a time, beyond what it keeps from one input to the next.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes, whatever the input.
    pub bytes: usize,
    /// And as many for each byte of the input.
    pub per_byte: usize,
}

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder of inputs.
    pub name: &'static str,
    /// The most memory it may take; None: it is not limited by what is read.
    pub memory: Option<Memory>,
    /// Changed inputs that `cargo test` makes of each input. Planning a statement takes a hundred times as long as refusing a block.
    pub rounds: usize,
    run: fn(&[u8]),
    seal: fn(&[u8]) -> Option<Vec<u8>>,
    seeds: fn() -> Vec<Seed>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "wal",
        memory: Some(Memory { bytes: 2 << 20, per_byte: 256 }),
        rounds: 150,
        run: log::run,
        seal: sealed::log,
        seeds: log::seeds,
    },
    Target {
        name: "journal",
        memory: Some(Memory { bytes: 2 << 20, per_byte: 256 }),
        rounds: 100,
        run: journal::run,
        seal: sealed::journal,
        seeds: journal::seeds,
    },
    Target {
        name: "manifest",
        memory: Some(Memory { bytes: 1 << 20, per_byte: 256 }),
        rounds: 150,
        run: manifest::run,
        seal: sealed::object,
        seeds: manifest::seeds,
    },
    Target {
        name: "deletes",
        // A bitmap of Roaring says in two bytes that there are 65,536 more containers to come.
        memory: Some(Memory { bytes: 4 << 20, per_byte: 256 }),
        rounds: 200,
        run: deletes::run,
        seal: sealed::deletes,
        seeds: deletes::seeds,
    },
    Target {
        name: "keys",
        memory: Some(Memory { bytes: 64 << 10, per_byte: 16 }),
        rounds: 300,
        run: keys::run,
        seal: sealed::last_checksum,
        seeds: keys::seeds,
    },
    Target {
        name: "unit",
        memory: Some(Memory { bytes: 4 << 20, per_byte: 64 }),
        rounds: 150,
        run: unit::run,
        seal: sealed::unit,
        seeds: unit::seeds,
    },
    Target {
        name: "config",
        memory: Some(Memory { bytes: 1 << 20, per_byte: 4096 }),
        rounds: 100,
        run: config::run,
        seal: sealed::nothing,
        seeds: config::seeds,
    },
    Target { name: "sql", memory: None, rounds: 4, run: sql::run, seal: sealed::nothing, seeds: sql::seeds },
    Target { name: "scan", memory: None, rounds: 60, run: scan::run, seal: scan::seal, seeds: scan::seeds },
    Target {
        name: "flight",
        memory: Some(Memory { bytes: 1 << 20, per_byte: 1024 }),
        rounds: 200,
        run: flight::run,
        seal: sealed::nothing,
        seeds: flight::seeds,
    },
    Target {
        name: "http",
        memory: Some(Memory { bytes: 1 << 20, per_byte: 4096 }),
        rounds: 200,
        run: http::run,
        seal: sealed::nothing,
        seeds: http::seeds,
    },
    Target {
        name: "text",
        memory: Some(Memory { bytes: 1 << 20, per_byte: 256 }),
        rounds: 200,
        run: text::run,
        seal: sealed::nothing,
        seeds: text::seeds,
    },
];

impl Target {
    /// Reads `bytes` as they are, and with the checksums they should have.
    ///
    /// # Panics
    /// When something is wrong.
    pub fn replay(&self, bytes: &[u8]) {
        (self.run)(bytes);
        if let Some(sealed) = (self.seal)(bytes).filter(|sealed| sealed != bytes) {
            (self.run)(&sealed);
        }
    }

    /// Its first inputs, the same on every machine.
    #[must_use]
    pub fn seeds(&self) -> Vec<Seed> {
        (self.seeds)()
    }
}

/// Gives `bytes` to the target of that name.
///
/// # Panics
/// When something is wrong, and when there is no such target.
pub fn replay(target: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|known| known.name == target);
    target.expect("a target that there is").replay(bytes);
}

/// An error says that the input is wrong, not that the program is.
#[track_caller]
fn is_answer(error: &Error) {
    assert!(error.kind() != ErrorKind::Internal, "a fault of the reader's own: {error:?}");
}

/// As [`is_answer`], of an error of the engine's.
#[track_caller]
fn is_statement_error(error: &cairn_engine::Error) {
    assert!(!error.message().contains("by a fault of the program"), "it panicked: {error:?}");
}

/// Eight bytes as a number.
fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}
