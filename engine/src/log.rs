//! Telling somebody of each statement when it has ended: for audit and for slow statements.
//!
//! Owns: what is told: never a literal of the statement's text, no value of a row. Does not own: where it is written.

use std::time::{Duration, SystemTime};

use crate::statement::StatementKind;

/// A statement that has ended.
#[derive(Clone, Debug)]
pub struct StatementRecord {
    /// When it began.
    pub begun: SystemTime,
    /// Until its last row was taken.
    pub took: Duration,
    /// Who ran it; empty when nobody said.
    pub user: String,
    /// Where it came from; empty when from this process.
    pub client: String,
    /// What sort of statement.
    pub kind: StatementKind,
    /// Its text with `?` for literals; empty when it was none.
    pub fingerprint: String,
    /// Tables it names, as written.
    pub tables: Vec<String>,
    /// Rows it answered with, or changed.
    pub rows: u64,
    /// SQLSTATE of its error; None: it ended well.
    pub error: Option<&'static str>,
}

/// Hears of statements.
pub trait StatementLog: std::fmt::Debug + Send + Sync {
    /// Statements that took less, and ended well or not, are not told; zero: all are.
    fn least(&self) -> Duration;
    /// A statement has ended. Called where it ran: to be quick.
    fn ended(&self, record: &StatementRecord);
}
