//! BEGIN, COMMIT, ROLLBACK and savepoints, as the parser gives them.

use datafusion::sql::sqlparser::ast::{
    self, TransactionAccessMode, TransactionIsolationLevel, TransactionMode,
};

use super::{Statement, TransactionStatement};
use crate::error::{Error, Result};

/// The statement; None: it is none of these.
///
/// # Errors
/// `Unsupported` (0A000) for what a transaction here is not: serializable, chained, with statements of its own.
pub(super) fn transaction(parsed: &ast::Statement) -> Option<Result<Statement>> {
    let statement = match parsed {
        ast::Statement::StartTransaction {
            modes, modifier, statements, exception, has_end_keyword, ..
        } => {
            if modifier.is_some() || !statements.is_empty() || exception.is_some() || *has_end_keyword {
                return Some(Err(Error::not_supported_yet("this form of BEGIN")));
            }
            begin(modes)
        }
        ast::Statement::Commit { chain: true, .. } | ast::Statement::Rollback { chain: true, .. } => {
            Err(Error::not_supported_yet("AND CHAIN"))
        }
        ast::Statement::Commit { modifier: Some(_), .. } => {
            Err(Error::not_supported_yet("this form of COMMIT"))
        }
        ast::Statement::Commit { .. } => Ok(TransactionStatement::Commit),
        ast::Statement::Rollback { savepoint: Some(name), .. } => {
            Ok(TransactionStatement::RollbackTo(name.clone()))
        }
        ast::Statement::Rollback { .. } => Ok(TransactionStatement::Rollback),
        ast::Statement::Savepoint { name } => Ok(TransactionStatement::Savepoint(name.clone())),
        ast::Statement::ReleaseSavepoint { name } => Ok(TransactionStatement::Release(name.clone())),
        _ => return None,
    };
    Some(statement.map(Statement::Transaction))
}

fn begin(modes: &[TransactionMode]) -> Result<TransactionStatement> {
    let mut read_only = false;
    for mode in modes {
        match mode {
            TransactionMode::AccessMode(mode) => read_only = *mode == TransactionAccessMode::ReadOnly,
            // Each of these promises less than a snapshot does.
            TransactionMode::IsolationLevel(
                TransactionIsolationLevel::ReadUncommitted
                | TransactionIsolationLevel::ReadCommitted
                | TransactionIsolationLevel::RepeatableRead
                | TransactionIsolationLevel::Snapshot,
            ) => {}
            TransactionMode::IsolationLevel(TransactionIsolationLevel::Serializable) => {
                return Err(Error::not_supported_yet("ISOLATION LEVEL SERIALIZABLE").map(|e| {
                    e.with_hint(
                        "transactions have snapshot isolation: leave the level out, or write REPEATABLE READ",
                    )
                }));
            }
        }
    }
    Ok(TransactionStatement::Begin { read_only })
}
