//! A session: the one way in. Text of one statement goes in, an [`Output`] comes out.
//!
//! Owns: a session's settings and its transaction, waiting for a permit, one pinned snapshot per attempt of a statement, retries
//! after conflicts, and with joins by sorting where memory is short.
//! Does not own: what statements do (`ddl`, `dml`, `copy`, `show`, `upkeep`). A session runs one statement at a time; the rows of
//! an earlier one may still be read, they keep the snapshot they were planned at.
//!
//! Cancel safety: dropping the future of [`Session::execute`] or its rows cancels the statement; until its commit
//! is durable nothing has changed. On threads of its own (`SessionLimits::threads`) it may go on for a while and changes nothing
//! either (`task`).

mod asked;
mod describe;
mod direct;
mod expiry;
mod ingest;
mod jobs;
mod limits;
mod many;
mod memory;
mod named;
mod panics;
mod pin;
mod plan;
mod prepared;
mod query;
mod relations;
mod repair;
mod repeat;
mod secrets;
mod show;
mod sorted;
mod sorts;
mod task;
mod template;
#[cfg(test)]
mod tests;
mod transaction;
mod upkeep;
mod words;
mod zone;

pub use describe::{Description, Parameter};
pub use limits::SessionLimits;
pub use relations::{Relation, RelationKind};
pub use repair::repair_batch;

#[cfg(test)]
pub(crate) use asked::Asked;
pub(crate) use asked::{carried, may_go_on};
pub(crate) use memory::PartOfMemory;
pub(crate) use named::{NamedStatements, type_name};
pub(crate) use query::{plan as plan_query, with_values};
pub(crate) use show::{identifier, rows};
pub(crate) use task::{Awaited, keep_places};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_storage::transaction::TransactionBlock;
use cairn_storage::{ErrorKind, JobRow, JobStatus, Snapshot};
use datafusion::catalog::EmptyCatalogProviderList;
use datafusion::common::ParamValues;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::catalog::{self, SnapshotCatalog};
use crate::config::Settings;
use crate::context::{GivenCommit, Progress, StatementContext};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::measure::ReadMeters;
use crate::metrics::Watch;
use crate::output::Output;
use crate::rights::{self, Accounts, Identity, Rights, UserLimit, UserLimits};
use crate::rules::PlannedJoins;
use crate::running::{StatementProgress, Whose};
use crate::statement::{
    self, JobStatement, ScriptStatement, Shape, Statement, StatementKind, TransactionStatement,
};
use crate::stores::SessionStores;

use crate::system::SystemSource;
use crate::{copy, ddl, defaults, dml};
use direct::Direct;
use limits::StatementLimits;
use prepared::{Prepared, PreparedStatements};
use template::Templates;

/// Attempts at a statement that conflicts with other commits.
const ATTEMPTS: u32 = 8;

/// One session on an [`Engine`].
#[derive(Debug)]
pub struct Session {
    engine: Arc<Engine>,
    identity: Identity,
    limits: SessionLimits,
    /// Shared by all sessions of its user.
    user_memory: Option<Arc<PartOfMemory>>,
    /// The session's own.
    memory: Arc<PartOfMemory>,
    files: Arc<FileAccess>,
    stores: Arc<SessionStores>,
    /// What it has prepared by name.
    named: Arc<NamedStatements>,
    /// What `system.queries` calls it.
    number: u64,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    settings: Settings,
    /// Planner state with the registries. Between statements nobody else holds it, so that pointing it at the next
    /// statement's catalog copies nothing; while rows of an earlier statement hold it, it is copied.
    state: Arc<SessionState>,
    progress: Arc<Progress>,
    prepared: PreparedStatements,
    templates: Templates,
    /// What the session could do lately.
    rights: Rights,
    /// Between BEGIN and COMMIT or ROLLBACK.
    block: Option<Arc<TransactionBlock>>,
    /// Only a call ends it, no statement.
    ends_by_call: bool,
    /// What its user was allowed at BEGIN.
    accounts_at_begin: Option<Arc<Accounts>>,
    /// What the next answer is to tell.
    notice: Option<String>,
}

impl Inner {
    /// Lets go of the last statement's snapshot, unless its rows are still read.
    fn unpin(&mut self) {
        if Arc::strong_count(&self.state) == 1 {
            Arc::make_mut(&mut self.state).register_catalog_list(Arc::new(EmptyCatalogProviderList));
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(
        engine: Arc<Engine>,
        identity: Identity,
        limits: SessionLimits,
        files: FileAccess,
        stores: Arc<SessionStores>,
    ) -> Self {
        let user_memory = identity.id().map(|id| engine.user_memory(id));
        let (state, memory) = limits.state(engine.template(), user_memory.as_ref());
        let state = Arc::new(state);
        let rights = Rights::before_any(&identity);
        let mut settings = Settings::default();
        settings.info.user = identity.name().to_owned();
        let inner = Inner {
            settings,
            state,
            progress: Arc::default(),
            prepared: PreparedStatements::default(),
            templates: Templates::default(),
            rights,
            block: None,
            ends_by_call: false,
            accounts_at_begin: None,
            notice: None,
        };
        let files = Arc::new(files);
        let inner = Arc::new(Mutex::new(inner));
        let (named, number) = (Arc::default(), engine.running().next_session());
        let session =
            Self { engine, identity, limits, user_memory, memory, files, stores, named, number, inner };
        session.reconfigure(&mut session.lock());
        session
    }

    /// Runs exactly one statement.
    ///
    /// # Errors
    /// What is wrong with the statement, with its place where known; 07001 for a value that no parameter takes. Nothing has
    /// changed then. `OutcomeUnknown` alone leaves open whether a commit became durable.
    pub async fn execute(&self, sql: &str, params: Option<ParamValues>) -> Result<Output> {
        let mut watch = self.watch(sql);
        let result = self.execute_watched(sql, params, &mut watch).await;
        watch.over(result.map(|output| self.told(output)))
    }

    /// `output` with what the session has to tell.
    fn told(&self, output: Output) -> Output {
        let notice = self.lock().notice.take();
        output.with_notes(notice)
    }

    async fn execute_watched(
        &self,
        sql: &str,
        params: Option<ParamValues>,
        watch: &mut Watch,
    ) -> Result<Output> {
        let (prepared, params) = self.executed(self.prepare(sql)?, params, watch.running()).await?;
        watch.is(&prepared.statement);
        let given = self.given_for(&prepared.statement);
        if let Some(params) = &params {
            prepared.take(params)?;
        }
        match self.take_defaults().await {
            // It tells what is damaged.
            Err(_) if matches!(&prepared.statement, Statement::Verify { .. }) => {}
            taken => taken?,
        }
        let limits = self.admit(waits_its_turn(&prepared.statement), watch).await?;
        let settings = self.begun(given, watch);
        let limits = if is_at_once(&prepared.statement) { limits.here() } else { limits };
        let (timeout, zone) = (settings.statement_timeout, settings.zone());
        let shown = |output| zone::shown(output, zone.as_ref());
        let short = prepared.direct.as_ref().filter(|direct| direct.is_short());
        let is_tried = short.is_some();
        if let Some(short) = short {
            let read =
                direct::run(self, &settings, params.as_ref(), &prepared.statement, Some(short)).boxed();
            if let Some(output) = limits.try_here(timeout, read).await.transpose() {
                return self.files.answer(output.map(shown));
            }
        }
        let session = self.handle();
        // Boxed: it is large, and whoever calls this holds it.
        let statement = async move {
            let direct = prepared.direct.as_ref().filter(|_| !is_tried);
            session.run(&prepared, direct, &settings, params).await
        };
        let statement = statement.boxed();
        self.files.answer(limits.run(timeout, statement).await.map(shown))
    }

    fn watch(&self, sql: &str) -> Watch {
        let whose = {
            let inner = self.lock();
            Whose {
                session: self.number,
                user_id: self.identity.id(),
                user: inner.settings.info.user.clone(),
                client: inner.settings.client.clone(),
                memory: Arc::clone(&self.memory),
            }
        };
        let log = self.engine.log().map(|log| (Arc::clone(log), whose.user.clone(), whose.client.clone()));
        Watch::begin(self.engine.metrics(), sql, self.engine.running().begin(sql, whose), log)
    }

    /// Takes the values that the database has for sessions that begin, before the first statement needs one.
    async fn take_defaults(&self) -> Result<()> {
        if self.lock().settings.has_begun() {
            return Ok(());
        }
        let snapshot = self.engine.database().snapshot();
        let (mut defaults, notice) = match self.engine.defaults(&snapshot).await {
            Err(error) if defaults::is_damage(&error) => (Arc::default(), Some(defaults::notice(&error))),
            read => (read?, None),
        };
        if defaults.get("search_path").is_some_and(|schema| !defaults::is_schema(&snapshot, schema)) {
            // Dropped since.
            Arc::make_mut(&mut defaults).remove("search_path");
        }
        let mut inner = self.lock();
        if !inner.settings.has_begun() {
            inner.settings.begin(&defaults);
            inner.notice = notice;
            if !defaults.is_empty() {
                self.reconfigure(&mut inner);
            }
        }
        Ok(())
    }

    /// The settings of a statement that begins now, and that `watch` tells the progress of.
    fn begun(&self, given: Option<GivenCommit>, watch: &Watch) -> Settings {
        let mut inner = self.lock();
        inner.progress = Arc::default();
        watch.running().tells(&inner.progress);
        Settings { given, ..inner.settings.clone() }
    }

    /// What the user may use.
    async fn own_limits(&self) -> Result<UserLimits> {
        let own = match self.identity.id() {
            Some(id) => {
                let accounts = self.engine.accounts(&self.engine.database().snapshot()).await?;
                accounts.account(id).map(|account| account.limits).unwrap_or_default()
            }
            None => UserLimits::default(),
        };
        if let Some(memory) = &self.user_memory {
            memory.set_limit(
                own.of(UserLimit::Memory).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            );
        }
        Ok(own)
    }

    /// What the next statement may use; when it `waits`, it may run now, and until it and `watch` have ended.
    async fn admit(&self, waits: bool, watch: &mut Watch) -> Result<StatementLimits> {
        let own = self.own_limits().await?;
        let mut place = None;
        if let (true, Some(queue)) = (waits, &self.limits.queue) {
            let user = match self.identity.is_owner() {
                true => self.lock().settings.info.user.clone(),
                false => self.identity.name().to_owned(),
            };
            let most = own.of(UserLimit::Concurrency).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            let entered = tokio::select! {
                biased;
                entered = queue.enter(&user, most) => entered,
                error = watch.running().killed() => Err(error),
            };
            let permit = Arc::new(entered?);
            watch.holds(Arc::clone(&permit));
            place = Some(permit);
        }
        watch.running().is_admitted();
        Ok(self.limits.of_statement(own, place, Some(watch.running())))
    }

    /// Whose session it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What sort of statement `sql` is.
    ///
    /// # Errors
    /// What is wrong with its syntax.
    pub fn statement_kind(&self, sql: &str) -> Result<StatementKind> {
        let prepared = self.prepare(sql)?;
        // What is not there is told when it is executed.
        let prepared = self.executed_statement(&prepared).unwrap_or(prepared);
        Ok(StatementKind::of(&prepared.statement))
    }

    /// Cuts a script into statements, at each `;` outside quotes and comments.
    ///
    /// # Errors
    /// `InvalidInput` (42601) when a quote or comment never ends.
    pub fn split(sql: &str) -> Result<Vec<ScriptStatement>> {
        statement::split(sql)
    }

    /// Whether `sql`, as typed so far, is whole statements.
    #[must_use]
    pub fn statement_complete(sql: &str) -> bool {
        statement::statement_complete(sql)
    }

    /// Whether `sql`, whole or cut off, right or wrong, may hold a password or a key: such text belongs into no history and no log.
    #[must_use]
    pub fn holds_secret(sql: &str) -> bool {
        statement::holds_secret(sql)
    }

    /// Progress of the statement that runs, or ran last.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.lock().progress)
    }

    /// How far the statement is that the session, or one forked from it, began last of those that run; None: none runs. It is asked
    /// for beside the statement, and waits for nothing.
    #[must_use]
    pub fn running_statement(&self) -> Option<StatementProgress> {
        self.engine.running().newest_of(self.number).map(|statement| statement.how_far())
    }

    /// Jobs that run now, as those may know who may read `system.jobs`; others are told of none.
    #[must_use]
    pub fn running_jobs(&self) -> Vec<JobRow> {
        if self.seen().superuser("read system.jobs").is_err() {
            return Vec::new();
        }
        let mut jobs = self.engine.database().jobs();
        jobs.retain(|job| job.status == JobStatus::Running.as_str());
        jobs
    }

    /// The engine the session works on.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Names the session's commits carry, and `current_user`. A user's session has that of the user, whatever is given.
    pub fn set_user(&self, user: &str) {
        if !self.identity.is_owner() {
            return;
        }
        let mut inner = self.lock();
        inner.settings.info.user = user.to_owned();
        self.reconfigure(&mut inner);
    }

    /// Where the session's statements come from, as logs name it.
    pub fn set_client(&self, client: &str) {
        client.clone_into(&mut self.lock().settings.client);
    }

    /// Does what SET does.
    ///
    /// # Errors
    /// A setting that is not there or cannot be set, a value it does not take.
    pub fn configure(&self, name: &str, value: &str) -> Result<()> {
        self.set(name, Some(value)).map(|_| ())
    }

    /// A session beside this one, in no transaction, with the same settings, and with its secrets and prepared statements: those of
    /// later as well.
    #[must_use]
    pub fn fork(&self) -> Self {
        let (identity, limits) = (self.identity.clone(), self.limits.clone());
        let (files, stores) = (FileAccess::clone(&self.files), Arc::clone(&self.stores));
        let mut fork = Self::new(Arc::clone(&self.engine), identity, limits, files, stores);
        fork.named = Arc::clone(&self.named);
        fork.number = self.number;
        fork.adopt_settings(self);
        fork
    }

    /// The session itself once more, for a task that outlives a call.
    fn handle(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            identity: self.identity.clone(),
            limits: self.limits.clone(),
            user_memory: self.user_memory.clone(),
            memory: Arc::clone(&self.memory),
            named: Arc::clone(&self.named),
            number: self.number,
            files: Arc::clone(&self.files),
            stores: Arc::clone(&self.stores),
            inner: Arc::clone(&self.inner),
        }
    }

    /// Takes the settings that `other` has now, but for `commit_id`, which is one session's ([`take_commit_id`](Self::take_commit_id)).
    pub fn adopt_settings(&self, other: &Self) {
        let mut settings = other.lock().settings.clone();
        let mut inner = self.lock();
        settings.commit_id = inner.settings.commit_id;
        inner.settings = settings;
        self.reconfigure(&mut inner);
    }

    /// The statement that `sql` is; the text of a recent one is not parsed again.
    fn prepare(&self, sql: &str) -> Result<Arc<Prepared>> {
        if let Some(prepared) = self.lock().prepared.get(sql) {
            return Ok(prepared);
        }
        let prepared = Arc::new(Prepared::new(statement::parse(sql)?, sql));
        self.lock().prepared.put(sql, &prepared);
        Ok(prepared)
    }

    async fn run(
        &self,
        prepared: &Prepared,
        direct: Option<&Direct>,
        settings: &Settings,
        params: Option<ParamValues>,
    ) -> Result<Output> {
        if settings.given.is_none() {
            return self.run_once(prepared, direct, settings, params).await;
        }
        let statement = &prepared.statement;
        let under_its_id = async {
            if let Some(output) = self.repeated(statement, settings).await? {
                return Ok(output);
            }
            let result = self.run_once(prepared, direct, settings, params).await;
            self.settled(statement, settings, result).await
        };
        Box::pin(under_its_id).await
    }

    // A statement's future is put into a box, whole, each time: what the direct ones do not need is in boxes of its own, here and where
    // they commit, so that it is small.
    async fn run_once(
        &self,
        prepared: &Prepared,
        direct: Option<&Direct>,
        settings: &Settings,
        params: Option<ParamValues>,
    ) -> Result<Output> {
        match &prepared.statement {
            Statement::Set { name, value } => self.set(name, value.as_deref()),
            Statement::Reset(name) => self.reset(name.as_deref()),
            Statement::Use(name) => {
                self.set("search_path", Some(&statement::name_of(name)))?;
                Ok(done("USE"))
            }
            Statement::Transaction(statement) => Box::pin(self.transaction(statement, settings)).await,
            Statement::Secret(statement) => self.secret(statement),
            Statement::Prepare(statement) => Box::pin(self.prepare_named(statement, settings)).await,
            Statement::Deallocate(name) => self.deallocate(name.as_ref()),
            Statement::KillQuery(id) => Box::pin(self.kill(*id)).await,
            Statement::WaitForVersion { version, timeout } => {
                Box::pin(upkeep::wait_for_version(self.engine.database(), *version, *timeout)).await
            }
            _ => self.retry(prepared, direct, settings, params).await,
        }
    }

    /// Runs attempts until one does not conflict.
    async fn retry(
        &self,
        prepared: &Prepared,
        direct: Option<&Direct>,
        settings: &Settings,
        params: Option<ParamValues>,
    ) -> Result<Output> {
        match direct::run(self, settings, params.as_ref(), &prepared.statement, direct).await {
            Ok(Some(output)) => return Ok(output),
            // Planned, and tried again as often as any other.
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
        Box::pin(self.retry_planned(prepared, settings, params)).await
    }

    async fn retry_planned(
        &self,
        prepared: &Prepared,
        settings: &Settings,
        params: Option<ParamValues>,
    ) -> Result<Output> {
        let statement = &prepared.statement;
        let shape = shape_of(statement);
        let mut attempt = 1;
        let mut may_expire = expiry::may_be_met_by(statement) && !self.in_transaction();
        let mut missed: Option<Error> = None;
        let mut sorts = false;
        loop {
            let held = self.memory.reserved();
            let (context, catalog) = self.context_of(&shape, settings, params.clone(), sorts).await?;
            let mut result = self.attempt(&context, &catalog, settings, &shape, prepared).await;
            if (may_expire || missed.is_some()) && expiry::is_possible_at(&context.db) {
                result = expiry::with_first_rows(result).await;
            }
            let can_sort = context.joins().is_some_and(|joins| joins.can_sort());
            let why_not = context.joins().and_then(|joins| joins.why_not());
            if (can_sort || why_not.is_some()) && sorted::answers_rows(statement) {
                result = sorted::begun(result).await;
            }
            if let Some(why_not) = why_not {
                result = result.map_err(|error| sorted::told(error, why_not));
            }
            if sorts {
                result = result.map(|output| output.with_notes([sorted::NOTE.to_owned()]));
            }
            let (state, snapshot) = (Arc::clone(&context.state), context.snapshot.clone());
            drop((context, catalog));
            let result = match result {
                Ok(Output::Rows(rows)) => return Ok(Output::Rows(pin::pinned(rows, state, &self.inner))),
                other => other,
            };
            drop(state);
            self.lock().unpin();
            match result {
                Err(error) if can_sort && sorted::is_short(&error) => {
                    sorts = true;
                    sorted::given_back(&self.memory, held).await;
                }
                Err(error) if may_expire && error.kind() == ErrorKind::SnapshotExpired => {
                    may_expire = false;
                    upkeep::refresh_past(self.engine.database(), &snapshot).await?;
                    missed = Some(error);
                }
                Err(error) if missed.as_ref().is_some_and(|missed| expiry::is_same(missed, &error)) => {
                    return Err(expiry::missed_again(self.engine.database(), &error));
                }
                Err(error)
                    if error.kind() == ErrorKind::Conflict
                        && attempt < ATTEMPTS
                        && !self.in_transaction() =>
                {
                    // A little longer each time, and not in step with the others that lost.
                    let jitter = u64::from(std::process::id() ^ attempt.wrapping_mul(2_654_435_761)) % 1_000;
                    tokio::time::sleep(Duration::from_micros((500 << attempt) + jitter)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    // Boxed: the statements' futures are large, and each is proven Send here, where its lifetimes have a name.
    fn attempt<'a>(
        &'a self,
        context: &'a StatementContext,
        catalog: &'a SnapshotCatalog,
        settings: &'a Settings,
        shape: &'a Shape,
        prepared: &'a Prepared,
    ) -> BoxFuture<'a, Result<Output>> {
        match &prepared.statement {
            Statement::Query(query) => {
                // What is kept of a query is its ordinary plan.
                let sorts = context.joins().is_some_and(|joins| joins.sorts());
                let text = prepared.text.as_ref().filter(|_| !sorts);
                Box::pin(self.query(context, shape, text, query))
            }
            Statement::Dml(statement) => Box::pin(async move {
                let prepared = query::prepare(context, shape, statement)?;
                dml::plan_and_run(context, &prepared).await
            }),
            Statement::Explain(explain) => Box::pin(query::explain(context, shape, explain)),
            Statement::Copy(copy) => Box::pin(copy::run(context, copy.clone())),
            Statement::CreateTable(table) => Box::pin(ddl::create_table(context, shape, table)),
            Statement::AlterTable(alter) => Box::pin(ddl::alter_table(context, catalog, alter)),
            Statement::CreateView(view) => Box::pin(ddl::create_view(context, catalog, view)),
            Statement::CreateIndex(index) => Box::pin(ddl::create_index(context, index)),
            Statement::Reindex(what) => Box::pin(ddl::reindex(context, what)),
            Statement::CreateSchema { name, if_not_exists } => {
                Box::pin(ddl::create_schema(context, name, *if_not_exists))
            }
            Statement::Drop(drop) => Box::pin(ddl::drop(context, drop)),
            Statement::Truncate { tables, if_exists } => Box::pin(ddl::truncate(context, tables, *if_exists)),
            Statement::Describe(name) => Box::pin(show::describe(context, catalog, name)),
            Statement::Show(what) => Box::pin(show::show(context, catalog, settings, &self.engine, what)),
            Statement::Account(account) => Box::pin(rights::run(context, account)),
            Statement::SetForDatabase { name, value } => {
                Box::pin(defaults::run(context, name.as_deref(), value.as_deref()))
            }
            Statement::Checkpoint(table) => Box::pin(upkeep::checkpoint(context, table.as_ref())),
            Statement::Compact(table) => Box::pin(upkeep::compact(context, table.as_ref())),
            Statement::Vacuum(table) => Box::pin(upkeep::vacuum(context, table.as_ref())),
            Statement::Jobs(statement) => Box::pin(jobs::run(context, statement)),
            Statement::Verify { table, repair: Some(asked), .. } => {
                Box::pin(repair::repair(context, table.as_ref(), *asked))
            }
            Statement::Verify { table, deep, repair: None } => {
                Box::pin(upkeep::verify(context, table.as_ref(), *deep))
            }
            Statement::Warm(table) => Box::pin(upkeep::warm(context, table)),
            Statement::Set { .. }
            | Statement::Reset(_)
            | Statement::Use(_)
            | Statement::Secret(_)
            | Statement::Prepare(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::KillQuery(_)
            | Statement::Transaction(_)
            | Statement::WaitForVersion { .. } => {
                Box::pin(async { Err(Error::new(ErrorKind::Internal, "the statement needs no snapshot")) })
            }
        }
    }

    /// Pins the newest snapshot and points the planner's names at it.
    async fn context(
        &self,
        shape: &Shape,
        settings: &Settings,
        params: Option<ParamValues>,
    ) -> Result<(StatementContext, SnapshotCatalog)> {
        self.context_of(shape, settings, params, false).await
    }

    /// The same for an attempt that joins by sorting, if it `sorts`.
    async fn context_of(
        &self,
        shape: &Shape,
        settings: &Settings,
        params: Option<ParamValues>,
        sorts: bool,
    ) -> Result<(StatementContext, SnapshotCatalog)> {
        let db = self.engine.database();
        let block = self.block();
        if db.follows() && block.is_none() {
            upkeep::refresh(db).await?;
        }
        let snapshot = block.as_ref().map_or_else(|| db.snapshot(), |block| block.snapshot());
        let rights = self.rights(&snapshot).await?;
        let system = SystemSource {
            engine: Arc::clone(&self.engine),
            snapshot: snapshot.clone(),
            settings: settings.clone(),
            rights: rights.clone(),
            named: Arc::clone(&self.named),
        };
        let (path, seen) = (&settings.search_path, rights.clone());
        let catalog = SnapshotCatalog::new(snapshot.clone(), Arc::new(system), path, shape, seen);
        let (state, progress) = {
            let mut inner = self.lock();
            let state = Arc::make_mut(&mut inner.state);
            state.register_catalog_list(Arc::new(catalog.clone()));
            state.mark_start_execution();
            state.config_mut().set_extension(Arc::new(PlannedJoins::new(sorts)));
            (Arc::clone(&inner.state), Arc::clone(&inner.progress))
        };
        let state = if shape.is_measured { ReadMeters::measuring(&state, db) } else { state };
        let state = if sorts { Arc::new(sorted::state(&state)?) } else { state };
        catalog.bind(&state, shape).await?;
        let context = StatementContext {
            db: Arc::clone(db),
            snapshot,
            block,
            state,
            searches: Arc::clone(self.engine.searches()),
            search_path: settings.search_path.clone(),
            pseudo_columns: shape.pseudo_columns,
            engine: Arc::clone(&self.engine),
            rights,
            owner: self.identity.id(),
            params,
            info: settings.info.clone(),
            given: settings.given.clone(),
            progress,
        };
        Ok((context, catalog))
    }

    /// What the session may do with `snapshot`.
    async fn rights(&self, snapshot: &Snapshot) -> Result<Rights> {
        if self.identity.is_owner() {
            return Ok(Rights::All);
        }
        let accounts = self.engine.accounts(snapshot).await?;
        let newest = match self.in_transaction() {
            true => Some(self.engine.accounts(&self.engine.database().snapshot()).await?),
            false => None,
        };
        let rights = Rights::of(&self.identity, &accounts, newest.as_ref())?;
        self.lock().rights = rights.clone();
        Ok(rights)
    }

    /// Ends the statements that this session and its [forks](Self::fork) run now, as KILL QUERY does. For whoever is about to drop the future or the rows of one: they
    /// may not yield for long, and ask whether they are to end before they do.
    pub fn end_running(&self) {
        let running = self.engine.running().all();
        running
            .iter()
            .filter(|running| running.whose.session == self.number)
            .for_each(|running| running.kill());
    }

    /// KILL QUERY: one's own, or anybody's when a superuser says so.
    async fn kill(&self, id: u64) -> Result<Output> {
        let rights = self.rights(&self.snapshot()).await?;
        let running = self.engine.running().find(id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no statement with the id {id} runs"))
                .map(|e| e.with_hint("SELECT id, statement FROM system.queries"))
        })?;
        if rights.user().is_some_and(|user| running.whose.user_id != Some(user)) {
            rights.superuser("end the statements of others")?;
        }
        running.kill();
        Ok(done("KILL QUERY"))
    }

    fn set(&self, name: &str, value: Option<&str>) -> Result<Output> {
        let mut changed = self.lock().settings.clone();
        changed.set(name, value)?;
        if name == "commit_id" {
            // Nothing is planned by it, and some set it before every statement.
            self.lock().settings.commit_id = changed.commit_id;
            return Ok(done("SET"));
        }
        let snapshot = self.snapshot();
        let schema = &changed.search_path;
        if name == "search_path" && !defaults::is_schema(&snapshot, schema) {
            return Err(catalog::unknown_schema(&snapshot, &self.seen(), schema));
        }
        let mut inner = self.lock();
        inner.settings = changed;
        self.reconfigure(&mut inner);
        Ok(done("SET"))
    }

    fn reset(&self, name: Option<&str>) -> Result<Output> {
        if let Some(name) = name {
            self.set(name, None)?;
        } else {
            let mut inner = self.lock();
            inner.settings.reset_all();
            self.reconfigure(&mut inner);
        }
        Ok(done("RESET"))
    }

    /// Carries changed settings into the planner's state.
    fn reconfigure(&self, inner: &mut Inner) {
        let mut config = self.engine.session_config();
        inner.settings.apply(&mut config);
        config.set_extension(Arc::clone(&self.files));
        config.set_extension(Arc::clone(&self.stores));
        // What a condition means may depend on them.
        inner.prepared = PreparedStatements::default();
        inner.templates = Templates::default();
        let state = Arc::make_mut(&mut inner.state);
        *state.config_mut() = config;
        let user = if inner.settings.info.user.is_empty() { "cairn" } else { &inner.settings.info.user };
        let constants = [
            ("current_schema", inner.settings.search_path.as_str()),
            ("current_user", user),
            ("session_user", user),
            ("user", user),
        ];
        for (name, value) in constants {
            // The registry of a state takes any scalar function.
            let _ = state.register_udf(Arc::new(cairn_udfs::constant(name, value)));
        }
    }

    /// The planner's state as the last statement left it: its functions and settings, no names.
    fn state(&self) -> Arc<SessionState> {
        Arc::clone(&self.lock().state)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it; if something did, the settings are still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shape_of(statement: &Statement) -> Shape {
    match statement {
        Statement::Query(query) => statement::inspect(&ast::Statement::Query(query.clone())),
        Statement::Dml(dml) => statement::inspect(dml),
        Statement::Explain(explain) => {
            let mut shape = shape_of(&explain.statement);
            shape.is_measured = explain.analyze;
            shape
        }
        Statement::CreateTable(table) => match &table.query {
            Some(query) => statement::inspect(&ast::Statement::Query(query.clone())),
            None => Shape::default(),
        },
        Statement::Copy(copy) => match &copy.subject {
            copy::CopySubject::Query(query) => statement::inspect(&ast::Statement::Query(query.clone())),
            copy::CopySubject::Table { .. } => Shape::default(),
        },
        // A view's names are resolved by the view.
        _ => Shape::default(),
    }
}

/// Whether a statement ends at once whatever it is given: it needs no thread of its own, so what is open can always be ended.
fn is_at_once(statement: &Statement) -> bool {
    match statement {
        Statement::Transaction(statement) => !matches!(statement, TransactionStatement::Commit),
        Statement::Set { .. }
        | Statement::Reset(_)
        | Statement::Use(_)
        | Statement::Secret(_)
        | Statement::Deallocate(_)
        | Statement::KillQuery(_) => true,
        _ => false,
    }
}

/// Whether a statement needs a permit of the queue. Those that end a transaction, or wait for the commits of others, must not wait
/// for somebody who may be waiting for them; those that only look at definitions or change accounts are how a busy server is
/// looked after.
fn waits_its_turn(statement: &Statement) -> bool {
    match statement {
        Statement::Query(_)
        | Statement::Dml(_)
        | Statement::Explain(_)
        | Statement::Copy(_)
        | Statement::CreateTable(_)
        | Statement::AlterTable(_)
        | Statement::CreateView(_)
        | Statement::CreateIndex(_)
        | Statement::Reindex(_)
        | Statement::CreateSchema { .. }
        | Statement::Drop(_)
        | Statement::Truncate { .. }
        | Statement::Checkpoint(_)
        | Statement::Compact(_)
        | Statement::Vacuum(_)
        | Statement::Jobs(JobStatement::Run { .. })
        | Statement::Verify { .. }
        | Statement::Warm(_) => true,
        Statement::Set { .. }
        | Statement::Reset(_)
        | Statement::Use(_)
        | Statement::Transaction(_)
        | Statement::WaitForVersion { .. }
        | Statement::Account(_)
        | Statement::SetForDatabase { .. }
        | Statement::Secret(_)
        | Statement::Jobs(
            JobStatement::Retry(_)
            | JobStatement::RetryAll(_)
            | JobStatement::Cancel(_)
            | JobStatement::Pause(_)
            | JobStatement::Resume(_),
        )
        | Statement::Prepare(_)
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::KillQuery(_)
        | Statement::Describe(_)
        | Statement::Show(_) => false,
    }
}

fn done(verb: &'static str) -> Output {
    Output::Done { verb, notes: Vec::new() }
}
