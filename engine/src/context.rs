//! Everything one statement runs with. Made once per attempt of a statement; a retry after a conflict makes a new one.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use cairn_storage::id::{CommitId, CommitVersion, UserId};
use cairn_storage::transaction::TransactionBlock;
use cairn_storage::wal::CommitInfo;
use cairn_storage::{CommitOptions, CommitReceipt, Database, LastWord, Snapshot, Transaction};
use datafusion::common::ParamValues;
use datafusion::execution::context::SessionState;

use crate::config::zone_of;
use crate::engine::Engine;
use crate::error::Result;
use crate::rights::{Accounts, Rights};
use crate::rules::PlannedJoins;
use crate::search::Searches;
use crate::session::Awaited;

/// Progress of a long statement, read by the shell.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows read or written so far.
    pub rows: AtomicU64,
    /// Bytes of input read so far.
    pub bytes: AtomicU64,
    /// Bytes of input in all; 0 when not known.
    pub bytes_total: AtomicU64,
}

/// The id that a client gave a commit, for the one statement that makes it.
#[derive(Clone, Debug)]
pub(crate) struct GivenCommit {
    id: CommitId,
    /// The version of the commit that has had the id all along.
    repeats: Arc<OnceLock<CommitVersion>>,
}

impl GivenCommit {
    pub(crate) fn new(id: CommitId) -> Self {
        Self { id, repeats: Arc::default() }
    }

    pub(crate) fn id(&self) -> CommitId {
        self.id
    }

    /// The version of the commit that has the id; None: none was met that had it before.
    pub(crate) fn repeats(&self) -> Option<CommitVersion> {
        self.repeats.get().copied()
    }

    /// What became of a commit with the id.
    pub(crate) fn made(&self, receipt: &CommitReceipt) {
        if receipt.repeated {
            self.found(receipt.version);
        }
    }

    /// A commit has the id already.
    pub(crate) fn found(&self, version: CommitVersion) {
        // No two commits have it.
        self.repeats.get_or_init(|| version);
    }
}

/// How to commit for `info`, under the id that was `given`.
pub(crate) fn commit_options(
    info: &CommitInfo,
    given: Option<&GivenCommit>,
    last_word: LastWord,
) -> CommitOptions {
    CommitOptions { info: info.clone(), commit_id: given.map(GivenCommit::id), last_word }
}

/// One attempt at one statement.
#[derive(Clone)]
pub struct StatementContext {
    /// The database.
    pub db: Arc<Database>,
    /// The version every table of the statement is read at.
    pub snapshot: Snapshot,
    /// The transaction that the statement is one of; None: it is one of its own.
    pub(crate) block: Option<Arc<TransactionBlock>>,
    /// DataFusion's state; its catalog resolves names against `snapshot`.
    pub state: Arc<SessionState>,
    /// What searches share.
    pub(crate) searches: Arc<Searches>,
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// What the session may do.
    pub(crate) rights: Rights,
    /// Whose is what the statement makes; None: the owner's of the database.
    pub(crate) owner: Option<UserId>,
    /// Schema that unqualified names resolve in.
    pub search_path: String,
    /// Whether tables show `_row_id` and `_version`.
    pub(crate) pseudo_columns: bool,
    /// `$n` parameters.
    pub params: Option<ParamValues>,
    /// Who commits.
    pub info: CommitInfo,
    /// The id its commit was given.
    pub(crate) given: Option<GivenCommit>,
    /// Progress counters of this statement.
    pub progress: Arc<Progress>,
}

impl StatementContext {
    /// The session's time zone; None: UTC.
    pub(crate) fn zone(&self) -> Option<Arc<str>> {
        zone_of(self.state.config_options())
    }

    /// Users, roles and grants at the statement's version.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn accounts(&self) -> Result<Arc<Accounts>> {
        self.engine.accounts(&self.snapshot).await
    }

    /// Commits in the statement's name, or hands its changes to the transaction it is one of.
    ///
    /// # Errors
    /// `Conflict` when a fresh snapshot may succeed; what storage says of the rows. Nothing has changed then.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<CommitReceipt> {
        let receipt = commit(self.block.as_deref(), &self.info, self.given.as_ref(), transaction).await?;
        if let Some(joins) = self.joins() {
            joins.commit();
        }
        Ok(receipt)
    }

    /// What is known of the joins of this attempt; None: it is none of a statement.
    pub(crate) fn joins(&self) -> Option<Arc<PlannedJoins>> {
        self.state.config().get_extension()
    }

    /// Whether the commit was there before the statement, which has changed nothing then.
    pub(crate) fn is_repeated(&self) -> bool {
        self.given.as_ref().is_some_and(|given| given.repeats().is_some())
    }
}

/// As [`StatementContext::commit`].
///
/// # Errors
/// As there; `Cancelled` when the statement was given up while it did not yield.
pub(crate) async fn commit(
    block: Option<&TransactionBlock>,
    info: &CommitInfo,
    given: Option<&GivenCommit>,
    transaction: Transaction,
) -> Result<CommitReceipt> {
    let committed = Awaited::of_task().committing(|last_word| async move {
        match block {
            Some(block) => block.add(transaction, &last_word).await,
            None => transaction.commit(commit_options(info, given, last_word)).await,
        }
    });
    let receipt = committed.await?;
    if let Some(given) = given {
        given.made(&receipt);
    }
    Ok(receipt)
}
