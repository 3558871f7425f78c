//! Ids that clients give their commits, so that a statement whose outcome they do not know can be run once more.
//!
//! Owns: which statement takes the id that the session was given (`SET commit_id`), and what one answers whose commit is there
//! already: that it went well, with a note; it has changed nothing then. Does not own: looking for ids (storage).
//!
//! An id is that of the next statement that commits, or tries to, and of no other, whatever comes of it: whoever goes on with another
//! statement must not have that one taken for the first, and two that run side by side must not both have it. To run a statement again
//! is to give the id again.

use cairn_storage::ErrorKind;
use datafusion::arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;
use futures::future::BoxFuture;

use super::describe::Description;
use super::direct::one_batch;
use super::{Session, done, upkeep};
use crate::config::Settings;
use crate::context::GivenCommit;
use crate::copy::CopyDirection;
use crate::error::Result;
use crate::output::Output;
use crate::statement::{
    AccountKind, AccountStatement, DropKind, Statement, StatementKind, TransactionStatement,
};

impl Session {
    /// Takes the id that `from` was given for its next commit; this session's next commit has it then.
    pub fn take_commit_id(&self, from: &Self) {
        // One lock at a time: two sessions may take from each other.
        let id = from.lock().settings.commit_id.take();
        if id.is_some() {
            self.lock().settings.commit_id = id;
        }
    }

    /// What to tell a client that gave the next commit an id which a commit has already; None: none has it, or none was given.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn repeats_commit(&self) -> Result<Option<String>> {
        let Some(id) = self.lock().settings.commit_id else { return Ok(None) };
        let given = GivenCommit::new(id);
        Ok(self.find(&given).await?.then(|| note(&given)).flatten())
    }

    /// The id for the commit of `statement`, if that makes one and the session was given an id for it.
    pub(super) fn given_for(&self, statement: &Statement) -> Option<GivenCommit> {
        let mut inner = self.lock();
        let open = inner.block.is_some();
        let commits = match statement {
            Statement::Transaction(TransactionStatement::Commit) => open && !inner.ends_by_call,
            statement => changes(statement) && !open,
        };
        if commits { inner.settings.commit_id.take().map(GivenCommit::new) } else { None }
    }

    /// The same for rows that a client sends.
    pub(super) fn given_for_rows(&self) -> Option<GivenCommit> {
        let mut inner = self.lock();
        if inner.block.is_none() { inner.settings.commit_id.take().map(GivenCommit::new) } else { None }
    }

    /// What `statement` answers when a commit with the id of `settings` is there already; None: none is.
    ///
    /// # Errors
    /// Storage errors.
    pub(super) async fn repeated(
        &self,
        statement: &Statement,
        settings: &Settings,
    ) -> Result<Option<Output>> {
        let Some(given) = &settings.given else { return Ok(None) };
        Ok(match self.find(given).await? {
            true => Some(self.answer_again(statement, settings, given).await),
            false => None,
        })
    }

    /// What `statement`, which came to `result`, answers in view of the id of `settings`.
    ///
    /// # Errors
    /// That of `result`, unless a commit with the id is there all the same.
    pub(super) async fn settled(
        &self,
        statement: &Statement,
        settings: &Settings,
        result: Result<Output>,
    ) -> Result<Output> {
        let Some(given) = &settings.given else { return result };
        match result {
            Ok(output) => Ok(output.with_notes(note(given))),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => Err(error),
            // By an attempt that had lost its client: what this one met is what that one did.
            Err(error) => match self.find(given).await {
                Ok(true) => Ok(self.answer_again(statement, settings, given).await),
                Ok(false) | Err(_) => Err(error),
            },
        }
    }

    /// The same for rows that a client sends, by how many were written.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn settled_rows(&self, settings: &Settings, result: Result<u64>) -> Result<u64> {
        let Some(given) = &settings.given else { return result };
        match result {
            Err(error) if error.kind() != ErrorKind::OutcomeUnknown => match self.find(given).await {
                Ok(true) => Ok(0),
                Ok(false) | Err(_) => Err(error),
            },
            result => result,
        }
    }

    /// Whether a commit with the id is there.
    pub(super) async fn find(&self, given: &GivenCommit) -> Result<bool> {
        let db = self.engine.database();
        if db.follows() {
            upkeep::refresh(db).await?;
        }
        let found = db.earlier_commit(given.id()).await?;
        if let Some(found) = &found {
            given.found(found.version);
        }
        Ok(found.is_some())
    }

    /// What a statement answers whose commit is there already: the columns it would have, and no rows.
    async fn answer_again(&self, statement: &Statement, settings: &Settings, given: &GivenCommit) -> Output {
        if let Statement::Transaction(_) = statement {
            let block = {
                let mut inner = self.lock();
                inner.accounts_at_begin = None;
                inner.block.take()
            };
            if let Some(block) = block {
                block.rollback().await;
            }
        }
        if let Statement::Dml(change) = statement
            && returns_rows(change)
            // What it changed then may not be there any more.
            && let Ok(description) = self.described_again(statement, settings).await
            && let Some(columns) = description.columns
        {
            return one_batch(RecordBatch::new_empty(columns)).with_notes(note(given));
        }
        without_effect(statement).with_notes(note(given))
    }

    // Boxed, as in `attempt`.
    pub(super) fn described_again<'a>(
        &'a self,
        statement: &'a Statement,
        settings: &'a Settings,
    ) -> BoxFuture<'a, Result<Description>> {
        Box::pin(self.describe_now(statement, settings))
    }
}

/// What to tell of a commit that was there before.
pub(super) fn note(given: &GivenCommit) -> Option<String> {
    let version = given.repeats()?;
    Some(format!("commit {} is there already, at version {version}: nothing was changed now", given.id()))
}

/// Whether a statement commits when it is one of its own.
fn changes(statement: &Statement) -> bool {
    match statement {
        Statement::Dml(_)
        | Statement::CreateTable(_)
        | Statement::AlterTable(_)
        | Statement::CreateView(_)
        | Statement::CreateIndex(_)
        | Statement::CreateSchema { .. }
        | Statement::Drop(_)
        | Statement::Truncate { .. }
        | Statement::Account(_)
        | Statement::SetForDatabase { .. } => true,
        Statement::Copy(copy) => matches!(copy.direction, CopyDirection::From),
        Statement::Query(_)
        | Statement::Explain(_)
        | Statement::Describe(_)
        | Statement::Show(_)
        | Statement::Set { .. }
        | Statement::Reset(_)
        | Statement::Use(_)
        | Statement::Checkpoint(_)
        | Statement::Compact(_)
        | Statement::Vacuum(_)
        | Statement::Jobs(_)
        | Statement::Verify { .. }
        | Statement::Warm(_)
        | Statement::Reindex(_)
        | Statement::Secret(_)
        | Statement::Prepare(_)
        // What it runs is asked for in its place.
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::KillQuery(_)
        | Statement::Transaction(_)
        | Statement::WaitForVersion { .. } => false,
    }
}

/// Whether a change has a RETURNING.
fn returns_rows(change: &ast::Statement) -> bool {
    match change {
        ast::Statement::Insert(insert) => insert.returning.is_some(),
        ast::Statement::Update(update) => update.returning.is_some(),
        ast::Statement::Delete(delete) => delete.returning.is_some(),
        ast::Statement::Merge(merge) => merge.output.is_some(),
        // WITH … before a change: the change is the query's body.
        ast::Statement::Query(query) => match query.body.as_ref() {
            ast::SetExpr::Insert(change)
            | ast::SetExpr::Update(change)
            | ast::SetExpr::Delete(change)
            | ast::SetExpr::Merge(change) => returns_rows(change),
            _ => false,
        },
        _ => false,
    }
}

/// What a statement without rows answers when it finds nothing to do.
fn without_effect(statement: &Statement) -> Output {
    let affected = |verb| Output::Affected { verb, rows: 0, notes: Vec::new() };
    match statement {
        Statement::Dml(_) => affected(match StatementKind::of(statement) {
            StatementKind::Update => "UPDATE",
            StatementKind::Delete => "DELETE",
            StatementKind::Merge => "MERGE",
            _ => "INSERT",
        }),
        Statement::Copy(_) => affected("COPY"),
        Statement::Truncate { .. } => affected("TRUNCATE"),
        Statement::CreateTable(table) if table.query.is_some() => affected("CREATE TABLE"),
        Statement::CreateTable(_) => done("CREATE TABLE"),
        Statement::AlterTable(_) => done("ALTER TABLE"),
        Statement::CreateView(_) => done("CREATE VIEW"),
        Statement::CreateIndex(_) => done("CREATE INDEX"),
        Statement::CreateSchema { .. } => done("CREATE SCHEMA"),
        Statement::Drop(drop) => done(match drop.kind {
            DropKind::Table => "DROP TABLE",
            DropKind::View => "DROP VIEW",
            DropKind::Schema => "DROP SCHEMA",
            DropKind::Index => "DROP INDEX",
        }),
        Statement::Account(account) => done(match account.as_ref() {
            AccountStatement::CreateUser { .. } => "CREATE USER",
            AccountStatement::AlterUser { .. } => "ALTER USER",
            AccountStatement::CreateRole { .. } => "CREATE ROLE",
            AccountStatement::Drop { kind: AccountKind::User, .. } => "DROP USER",
            AccountStatement::Drop { kind: AccountKind::Role, .. } => "DROP ROLE",
            AccountStatement::GrantRole { .. } | AccountStatement::Grant { .. } => "GRANT",
            AccountStatement::RevokeRole { .. } | AccountStatement::Revoke { .. } => "REVOKE",
        }),
        Statement::SetForDatabase { value: Some(_), .. } => done("SET"),
        Statement::SetForDatabase { value: None, .. } => done("RESET"),
        // The others take no id.
        _ => done("COMMIT"),
    }
}
