//! What a writer does as one: a statement, or a transaction of several.
//!
//! Owns: which operations come together and how they end. Does not own: what they do (`operation`).

use std::path::Path;

use rand::Rng;
use rand::rngs::StdRng;

use super::operation::Operation;
use super::part::Part;
use super::{ACCOUNTS, IDS_PER_OPERATION, IDS_PER_UNIT};

/// Most operations of a transaction.
pub(super) const OPERATIONS_MAX: i64 = 4;

const _: () = assert!(OPERATIONS_MAX * IDS_PER_OPERATION <= IDS_PER_UNIT);

/// A statement, and the SQLSTATE of one that must fail.
pub(super) type Statement = (String, Option<&'static str>);

/// How a unit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is one statement outside of a transaction.
    Alone,
    /// BEGIN … COMMIT
    Commit,
    /// BEGIN … ROLLBACK
    Rollback,
}

/// What is there wholly or not at all.
#[derive(Clone, Debug)]
pub struct Unit {
    /// What it does, in order.
    pub operations: Vec<Operation>,
    /// How it ends.
    pub end: End,
}

impl Unit {
    /// One statement.
    pub(super) fn alone(operation: Operation) -> Self {
        Self { operations: vec![operation], end: End::Alone }
    }

    /// A random one; ids counted from `first` are new.
    pub(super) fn random(rng: &mut StdRng, first: i64) -> Self {
        match rng.random_range(0..100) {
            0..66 => Self::alone(Operation::random(rng, first)),
            66..86 => Self::transfer(rng, first),
            _ => Self::transaction(rng, first),
        }
    }

    /// Money from one account to another, now and then with something else before it.
    fn transfer(rng: &mut StdRng, first: i64) -> Self {
        let (payer, payee) = (rng.random_range(0..ACCOUNTS), rng.random_range(0..ACCOUNTS));
        let amount = rng.random_range(1..50);
        let mut operations = vec![
            Operation::Pay { account: payer, amount: -amount },
            Operation::Pay { account: payee, amount },
            Operation::Transfer { number: first, payer, payee, amount },
        ];
        if rng.random_bool(0.3) {
            operations.insert(0, within_transaction(rng, first, &[]));
        }
        Self { operations, end: end(rng) }
    }

    fn transaction(rng: &mut StdRng, first: i64) -> Self {
        let mut operations: Vec<Operation> = Vec::new();
        for at in 0..rng.random_range(2..=OPERATIONS_MAX) {
            let operation = within_transaction(rng, first + at * IDS_PER_OPERATION, &operations);
            operations.push(operation);
        }
        Self { operations, end: end(rng) }
    }

    /// Its statements.
    pub(super) fn statements(&self, writer: u64, root: &Path) -> Vec<Statement> {
        let operations =
            self.operations.iter().map(|operation| (operation.sql(writer, root), operation.fails_with()));
        let begin = (self.end != End::Alone).then(|| ("BEGIN".to_owned(), None));
        let end = match self.end {
            End::Alone => None,
            End::Commit => Some(("COMMIT".to_owned(), None)),
            End::Rollback => Some(("ROLLBACK".to_owned(), None)),
        };
        begin.into_iter().chain(operations).chain(end).collect()
    }

    /// Does to `part` what the statements do to the database.
    pub(super) fn apply(&self, part: &mut Part) {
        part.units += 1;
        if self.end == End::Rollback {
            return;
        }
        for operation in &self.operations {
            operation.apply(part);
        }
    }
}

fn end(rng: &mut StdRng) -> End {
    if rng.random_bool(0.85) { End::Commit } else { End::Rollback }
}

/// An operation that may be one of a transaction's, beside `others`.
fn within_transaction(rng: &mut StdRng, first: i64, others: &[Operation]) -> Operation {
    loop {
        let operation = Operation::random(rng, first);
        // Of a column that was dropped and added, only rows tell whether it was; there may be none.
        let second = operation.is_about_column() && others.iter().any(Operation::is_about_column);
        if !operation.is_alone() && !second {
            return operation;
        }
    }
}
