//! BEGIN, COMMIT, ROLLBACK and savepoints of a session.
//!
//! Snapshot isolation: every statement of a transaction reads the database as it was at BEGIN, with the transaction's own
//! changes. A statement that fails changes nothing and leaves the transaction open. COMMIT fails with 40001 when another
//! commit changed the same rows or keys since BEGIN. A session that ends rolls its transaction back.

use std::sync::Arc;

use cairn_storage::transaction::TransactionBlock;
use cairn_storage::{ErrorKind, Snapshot};

use super::task::Awaited;
use super::{Session, done, upkeep};
use crate::config::Settings;
use crate::context::commit_options;
use crate::dml::ident_text;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::rights::Accounts;
use crate::statement::TransactionStatement;

impl Session {
    /// Whether a transaction is open: BEGIN was run, and no COMMIT or ROLLBACK since.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.lock().block.is_some()
    }

    /// Does what BEGIN does; only [`Session::end_transaction`] ends it: COMMIT and ROLLBACK as statements are refused (25000).
    ///
    /// # Errors
    /// As BEGIN.
    pub async fn begin_transaction(&self) -> Result<()> {
        self.execute("BEGIN", None).await?;
        self.lock().ends_by_call = true;
        Ok(())
    }

    /// Does what COMMIT or ROLLBACK does, however the transaction was begun.
    ///
    /// # Errors
    /// As COMMIT and ROLLBACK.
    pub async fn end_transaction(&self, commit: bool) -> Result<()> {
        self.lock().ends_by_call = false;
        self.execute(if commit { "COMMIT" } else { "ROLLBACK" }, None).await.map(|_| ())
    }

    /// The newest accounts; None: the session is nobody's.
    async fn accounts_now(&self) -> Result<Option<Arc<Accounts>>> {
        if self.identity.is_owner() {
            return Ok(None);
        }
        let accounts = self.engine.accounts(&self.engine.database().snapshot()).await?;
        accounts.of(&self.identity)?;
        Ok(Some(accounts))
    }

    /// That the user may still do what was allowed at BEGIN: what was taken away meanwhile takes no effect by COMMIT.
    async fn check_still_allowed(&self, at_begin: Option<Arc<Accounts>>) -> Result<()> {
        let (Some(id), Some(now), Some(then)) = (self.identity.id(), self.accounts_now().await?, at_begin)
        else {
            return Ok(());
        };
        if Arc::ptr_eq(&now, &then) || now.stands_as(id, &then) {
            return Ok(());
        }
        let message = format!("the rights of user {} were changed since BEGIN", self.identity.name());
        Err(Error::new(ErrorKind::Conflict, message)
            .map(|e| e.with_sqlstate("40001").with_hint("the transaction was rolled back: run it again")))
    }

    pub(super) fn block(&self) -> Option<Arc<TransactionBlock>> {
        self.lock().block.clone()
    }

    /// What the next statement reads.
    pub(super) fn snapshot(&self) -> Snapshot {
        match self.block() {
            Some(block) => block.snapshot(),
            None => self.engine.database().snapshot(),
        }
    }

    pub(super) async fn transaction(
        &self,
        statement: &TransactionStatement,
        settings: &Settings,
    ) -> Result<Output> {
        let ends_by_call = self.lock().ends_by_call;
        let verb = match statement {
            TransactionStatement::Commit | TransactionStatement::Rollback if ends_by_call => {
                return Err(wrong(
                    "25000",
                    "a call of the client began this transaction, and a call ends it",
                )
                .map(|e| e.with_hint("commit or roll back by the driver, or turn its autocommit on")));
            }
            TransactionStatement::Begin { read_only } => {
                if self.in_transaction() {
                    return Err(wrong("25001", "a transaction is open already")
                        .map(|e| e.with_hint("SAVEPOINT name marks a point to come back to")));
                }
                let db = self.engine.database();
                if db.follows() {
                    upkeep::refresh(db).await?;
                }
                let repeats = self.repeats_commit().await?;
                let block = Arc::new(TransactionBlock::begin(Arc::clone(db), *read_only));
                let accounts = self.accounts_now().await?;
                let mut inner = self.lock();
                (inner.block, inner.accounts_at_begin) = (Some(block), accounts);
                return Ok(done("BEGIN").with_notes(repeats));
            }
            // Taken first: whatever happens, the transaction has ended.
            TransactionStatement::Commit => {
                let (block, accounts) = {
                    let mut inner = self.lock();
                    (inner.block.take().ok_or_else(none_open)?, inner.accounts_at_begin.take())
                };
                if let Err(error) = self.check_still_allowed(accounts).await {
                    block.rollback().await;
                    return Err(error);
                }
                let (info, given) = (&settings.info, settings.given.as_ref());
                let committed = Awaited::of_task().committing(|last_word| async move {
                    block.commit(commit_options(info, given, last_word)).await
                });
                let receipt = committed.await?;
                if let Some(given) = given {
                    given.made(&receipt);
                }
                "COMMIT"
            }
            TransactionStatement::Rollback => {
                let block = {
                    let mut inner = self.lock();
                    let block = inner.block.take().ok_or_else(none_open)?;
                    // It was for this COMMIT.
                    inner.settings.commit_id = None;
                    block
                };
                block.rollback().await;
                "ROLLBACK"
            }
            TransactionStatement::Savepoint(name) => {
                self.block().ok_or_else(none_open)?.savepoint(&ident_text(name));
                "SAVEPOINT"
            }
            TransactionStatement::RollbackTo(name) => {
                self.block().ok_or_else(none_open)?.rollback_to(&ident_text(name))?;
                "ROLLBACK"
            }
            TransactionStatement::Release(name) => {
                self.block().ok_or_else(none_open)?.release(&ident_text(name))?;
                "RELEASE"
            }
        };
        Ok(done(verb))
    }
}

fn none_open() -> Error {
    wrong("25P01", "no transaction is open").map(|e| e.with_hint("BEGIN opens one"))
}

fn wrong(sqlstate: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message).map(|e| e.with_sqlstate(sqlstate))
}
