//! The engine: one open database with one query runtime, shared by its sessions.
//!
//! Owns: the database handle, memory and spill limits, the template of every session's planner state. Does not own: anything
//! of one session (`session`). Closing the engine closes the database.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use async_trait::async_trait;
use cairn_storage::id::UserId;
use cairn_storage::metrics::ObjectFigures;
use cairn_storage::{Database, ErrorKind, OpenOptions, Root, Snapshot};
use datafusion::catalog::Session as PlannerSession;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::{QueryPlanner, SessionState};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{Documentation, LogicalPlan};
use datafusion::object_store::ObjectStore;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;

use crate::catalog::CATALOG;
use crate::config::DEFAULT_SCHEMA;
use crate::defaults::{self, Defaults, DefaultsCache};
use crate::dialect::types::CairnTypes;
use crate::dml::DmlPlanner;
use crate::error::{Error, Result};
use crate::file_access::FileAccess;
use crate::log::StatementLog;
use crate::memory::MemoryOfQueries;
use crate::metrics::{StatementFigures, StatementMetrics};
use crate::rights::{AccountCache, Accounts, Identity, Passwords};
use crate::rules::PlannedJoins;
use crate::running::RunningStatements;
use crate::search::{EachPlanner, Searches};
use crate::session::{PartOfMemory, Session, SessionLimits};
use crate::statement::NESTING_MAX;
use crate::stores::{EngineStores, SessionStores, UrlAccess};

/// Share of the machine's memory queries may use when no limit is given.
const MEMORY_SHARE: (u64, u64) = (7, 10);
/// Limit when the machine's memory is not known.
const MEMORY_FALLBACK_BYTES: usize = 4 << 30;
/// Of the memory queries may use, columns that are kept decoded take at most one in so many bytes.
const COLUMN_CACHE_SHARE: usize = 4;
/// As much as one in so many bytes, and no less than this, is what is kept of footers, key filters and indexes beside it, at most.
const SEGMENT_CACHE_SHARE: usize = 8;
const SEGMENT_CACHE_LEAST: usize = 32 << 20;
/// Tables whose part of a plan is made at the same time.
const LEAVES_AT_ONCE: usize = 16;
/// Between the least and the largest key of a side that a hash join holds, for its keys to be places of an array: 1 MiB of them.
const KEYS_IN_AN_ARRAY: usize = 1 << 18;
/// Memory consumers named in an out-of-memory error.
const CONSUMERS_NAMED: NonZeroUsize = match NonZeroUsize::new(5) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

/// How to open an [`Engine`].
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// How to open the database.
    pub storage: OpenOptions,
    /// Bytes that queries may use together before they spill or fail; None: 70 % of the machine's memory.
    pub memory_limit: Option<usize>,
    /// Parts a query runs in at the same time; None: one per core.
    pub partitions: Option<usize>,
    /// Where queries spill to; None: the system's temporary folder.
    pub spill_directory: Option<PathBuf>,
    /// Stores that statements use in place of those of buckets (`s3://bucket`), whatever their credentials; for tests.
    pub stores: Vec<(String, Arc<dyn ObjectStore>)>,
}

/// One open database and its query runtime.
pub struct Engine {
    db: Arc<Database>,
    searches: Arc<Searches>,
    metrics: Arc<StatementMetrics>,
    running: Arc<RunningStatements>,
    log: OnceLock<Arc<dyn StatementLog>>,
    template: SessionState,
    functions: Vec<(String, &'static str)>,
    memory_limit: usize,
    partitions: usize,
    accounts: AccountCache,
    defaults: DefaultsCache,
    passwords: Passwords,
    stores: Arc<EngineStores>,
    /// The memory of users with sessions.
    user_memory: Mutex<HashMap<UserId, Weak<PartOfMemory>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("root", &self.db.root().to_string()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the database at `root`.
    ///
    /// # Errors
    /// Whatever keeps the database from opening (lock, damage, newer format), or the spill folder from being made.
    pub async fn open(root: Root, options: EngineOptions) -> Result<Arc<Self>> {
        let memory_limit = options.memory_limit.unwrap_or_else(default_memory_limit);
        let mut storage = options.storage;
        let segments_max = (memory_limit / SEGMENT_CACHE_SHARE).max(SEGMENT_CACHE_LEAST);
        storage.segment_cache_bytes = storage.segment_cache_bytes.min(segments_max);
        let db = Database::open(root, storage).await?;
        let stores = options.stores;
        Self::over(db, Some(memory_limit), options.partitions, options.spill_directory, &stores)
    }

    /// An engine over a database opened elsewhere; `stores` as in [`EngineOptions`].
    ///
    /// # Errors
    /// `InvalidInput` when the spill folder cannot be used, or one of `stores` is of no bucket.
    pub fn over(
        db: Arc<Database>,
        memory_limit: Option<usize>,
        partitions: Option<usize>,
        spill_directory: Option<PathBuf>,
        stores: &[(String, Arc<dyn ObjectStore>)],
    ) -> Result<Arc<Self>> {
        let memory_limit = memory_limit.unwrap_or_else(default_memory_limit);
        let columns = db.options().column_cache_bytes.unwrap_or(memory_limit / COLUMN_CACHE_SHARE);
        db.columns().set_limit(columns);
        let partitions = partitions
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .clamp(1, 1024);
        let queries = MemoryOfQueries::new(memory_limit, Arc::clone(db.columns()));
        let runtime = runtime(queries, spill_directory)?;
        let stores = Arc::new(EngineStores::new(stores, Arc::clone(&runtime))?);
        crate::session::keep_places();
        let calls = Arc::new(cairn_udfs::BoundedCalls::new(memory_limit));
        let mut builder = SessionStateBuilder::new_with_default_features()
            // Beside the rule also for expressions outside a plan.
            .with_config(base_config(partitions).with_extension(Arc::clone(&calls)))
            .with_runtime_env(runtime)
            .with_type_planner(Arc::new(CairnTypes))
            .with_analyzer_rule(Arc::new(cairn_udfs::zones::ZonedTimes))
            .with_analyzer_rule(Arc::new(cairn_udfs::CheckedIntegers::default()))
            .with_analyzer_rule(Arc::new(cairn_udfs::vector::VectorCasts))
            .with_analyzer_rule(calls)
            .with_analyzer_rule(Arc::new(cairn_udfs::EmptySubqueries::default()))
            .with_query_planner(Arc::new(CairnQueryPlanner::new()));
        let searches = Arc::new(Searches::new(Arc::clone(&db)));
        builder = crate::search::register(builder, &searches);
        builder = crate::rules::register(builder);
        crate::files::register(&mut builder);
        let mut template = builder.build();
        cairn_udfs::register(&mut template, env!("CARGO_PKG_VERSION"), memory_limit)?;
        cairn_udfs::register_series(&mut template);
        template.register_udf(Arc::new(cairn_udfs::constant("current_database", CATALOG)))?;
        let functions = functions(&template);
        Ok(Arc::new(Self {
            db,
            searches,
            metrics: Arc::default(),
            running: Arc::default(),
            log: OnceLock::new(),
            template,
            functions,
            memory_limit,
            partitions,
            accounts: AccountCache::default(),
            defaults: DefaultsCache::default(),
            passwords: Passwords::new(),
            stores,
            user_memory: Mutex::default(),
        }))
    }

    /// A new session with default settings, of whoever opened the database: it may do everything.
    #[must_use]
    pub fn session(self: &Arc<Self>) -> Session {
        let stores = Arc::new(SessionStores::new(Arc::clone(&self.stores), UrlAccess::All));
        Session::new(Arc::clone(self), Identity::owner(), SessionLimits::default(), FileAccess::All, stores)
    }

    /// A new session of `identity`, which has its rights and no others, within `limits`. Of the files of this machine it
    /// touches none but those below `limits.copy_root`, the owner's too, and of object storage nothing but what lies below `limits.copy_urls`.
    #[must_use]
    pub fn session_as(self: &Arc<Self>, identity: Identity, limits: SessionLimits) -> Session {
        let files = limits.copy_root.clone().map_or(FileAccess::None, FileAccess::Below);
        let (prefixes, endpoints) = (limits.copy_urls.clone(), limits.copy_endpoints.clone());
        let access = UrlAccess::Below { prefixes, endpoints };
        let stores = Arc::new(SessionStores::new(Arc::clone(&self.stores), access));
        Session::new(Arc::clone(self), identity, limits, files, stores)
    }

    /// The user of that name and password. Names are as stored: `CREATE USER Bob` makes `bob`. Takes about as long for a
    /// user that is not there as for a wrong password, and some at a time wait for each other.
    ///
    /// # Errors
    /// `Unauthenticated` (28P01), the same for both; storage errors.
    pub async fn authenticate(&self, name: &str, password: &str) -> Result<Identity> {
        self.refresh().await?;
        let accounts = self.accounts(&self.db.snapshot()).await?;
        let account = accounts.named(name);
        let passes =
            self.passwords.verify(password, account.and_then(|a| a.phc().map(str::to_owned))).await?;
        match account.and_then(|account| Some((account, account.phc()?))) {
            Some((account, phc)) if passes => Ok(Identity::user(&account.name, account.id, phc)),
            _ => Err(Error::new(ErrorKind::Unauthenticated, "there is no user of that name and password")),
        }
    }

    /// That `identity` may still be let in by what let it in: its user is there, with the same password. For servers, whose
    /// sessions outlive a call.
    ///
    /// # Errors
    /// `Unauthenticated` (28000) when it may not; storage errors.
    pub async fn check_login(&self, identity: &Identity) -> Result<()> {
        self.refresh().await?;
        let accounts = self.accounts(&self.db.snapshot()).await?;
        match accounts.of(identity)? {
            Some(account) if !identity.came_by(account.phc()) => {
                let message = format!("the password of user {} was changed since the login", identity.name());
                Err(Error::new(ErrorKind::Unauthenticated, message)
                    .map(|e| e.with_sqlstate("28000").with_hint("log in again")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether there is a user: somebody who can be authenticated.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn has_users(&self) -> Result<bool> {
        self.refresh().await?;
        let accounts = self.accounts(&self.db.snapshot()).await?;
        Ok(accounts.accounts().any(|account| !account.is_role()))
    }

    /// Catches up with the writer when this is a reader.
    async fn refresh(&self) -> Result<()> {
        if self.db.follows() {
            self.db.refresh().await?;
        }
        Ok(())
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Arc<Database> {
        &self.db
    }

    /// Closes the database: what is in the log becomes segments when that is worth it, the lock is released.
    ///
    /// # Errors
    /// What the storage cannot do; everything acknowledged stays durable.
    pub async fn close(&self) -> Result<()> {
        Ok(self.db.close().await?)
    }

    /// Statements since the opening.
    #[must_use]
    pub fn statement_figures(&self) -> StatementFigures {
        self.metrics.figures()
    }

    /// What requests for files on object storage have counted; None: there were none.
    pub(crate) fn file_figures(&self) -> Option<ObjectFigures> {
        self.stores.figures()
    }

    /// From now on `log` hears of every statement; the first log set stays.
    pub fn set_log(&self, log: Arc<dyn StatementLog>) {
        self.log.get_or_init(|| log);
    }

    pub(crate) fn log(&self) -> Option<&Arc<dyn StatementLog>> {
        self.log.get()
    }

    pub(crate) fn metrics(&self) -> &Arc<StatementMetrics> {
        &self.metrics
    }

    /// Statements that run now.
    pub(crate) fn running(&self) -> &Arc<RunningStatements> {
        &self.running
    }

    /// Bytes queries use now, of those that count against the limit.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.template.runtime_env().memory_pool.reserved()
    }

    /// Bytes that queries have spilled to disk and still hold there.
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        self.template.runtime_env().disk_manager.used_disk_space()
    }

    /// Bytes queries may use together.
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// Parts a query runs in by default.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// SQL functions as (name, kind), sorted.
    pub(crate) fn functions(&self) -> &[(String, &'static str)] {
        &self.functions
    }

    /// What is said about the function `name` of that kind.
    pub(crate) fn documentation(&self, name: &str, kind: &str) -> Option<&Documentation> {
        let state = &self.template;
        match kind {
            "scalar" => match state.scalar_functions().get(name) {
                Some(function) => function.documentation(),
                None => state.higher_order_functions().get(name)?.documentation(),
            },
            "aggregate" => state.aggregate_functions().get(name)?.documentation(),
            "window" => state.window_functions().get(name)?.documentation(),
            _ => None,
        }
    }

    /// What searches share.
    pub(crate) fn searches(&self) -> &Arc<Searches> {
        &self.searches
    }

    /// Users, roles and grants at `snapshot`.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn accounts(&self, snapshot: &Snapshot) -> Result<Arc<Accounts>> {
        self.accounts.at(snapshot, &self.template).await
    }

    /// The settings that sessions begin with at `snapshot`.
    ///
    /// # Errors
    /// Storage errors.
    pub(crate) async fn defaults(&self, snapshot: &Snapshot) -> Result<Arc<Defaults>> {
        self.defaults.at(snapshot, &self.template).await
    }

    /// What is to be told of the settings that the database keeps for sessions; None: they can be read.
    pub async fn damaged_settings(&self) -> Option<String> {
        let read = self.defaults(&self.db.snapshot()).await;
        read.err().filter(defaults::is_damage).map(|error| defaults::notice(&error))
    }

    /// The memory of all sessions of a user.
    pub(crate) fn user_memory(&self, user: UserId) -> Arc<PartOfMemory> {
        // Nothing panics while holding it.
        let mut users = self.user_memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = users.get(&user).and_then(Weak::upgrade) {
            return memory;
        }
        users.retain(|_, memory| memory.strong_count() > 0);
        let whole = Arc::clone(&self.template.runtime_env().memory_pool);
        let memory = Arc::new(PartOfMemory::of_user(whole));
        users.insert(user, Arc::downgrade(&memory));
        memory
    }

    /// What hashes passwords.
    pub(crate) fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// State a session starts from.
    pub(crate) fn template(&self) -> &SessionState {
        &self.template
    }

    /// Configuration before a session's settings.
    pub(crate) fn session_config(&self) -> SessionConfig {
        base_config(self.partitions)
    }
}

fn base_config(partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(partitions)
        .with_collect_statistics(true);
    let options = config.options_mut();
    options.execution.time_zone = Some(cairn_udfs::zones::UTC.to_owned());
    // Late filtering inside the Parquet reader costs 29 % over TPC-H.
    options.execution.parquet.pushdown_filters = false;
    // Leaves of a plan compute little and may wait for footers in an object store.
    options.execution.planning_concurrency = LEAVES_AT_ONCE;
    // Looking up a key in an array of places is cheaper than hashing it, also where few of the places are taken.
    options.execution.perfect_hash_join_small_build_threshold = KEYS_IN_AN_ARRAY;
    options.sql_parser.collect_spans = true;
    // NESTING_MAX is not zero; a refusal would keep the default.
    let _ = options.set("datafusion.sql_parser.recursion_limit", &NESTING_MAX.to_string());
    config
}

fn runtime(queries: MemoryOfQueries, spill_directory: Option<PathBuf>) -> Result<Arc<RuntimeEnv>> {
    let mode = match spill_directory {
        Some(directory) => DiskManagerMode::Directories(vec![directory]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let pool = TrackConsumersPool::new(queries, CONSUMERS_NAMED);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
        .build_arc()
        .map_err(|e| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("the folder to spill to cannot be used: {}", e.strip_backtrace()),
            )
        })
}

fn default_memory_limit() -> usize {
    let total_kib: Option<u64> = std::fs::read_to_string("/proc/meminfo").ok().and_then(|info| {
        info.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
    });
    total_kib
        .and_then(|kib| usize::try_from(kib.saturating_mul(1024) / MEMORY_SHARE.1 * MEMORY_SHARE.0).ok())
        .unwrap_or(MEMORY_FALLBACK_BYTES)
}

fn functions(state: &SessionState) -> Vec<(String, &'static str)> {
    let mut names: Vec<(String, &'static str)> = state
        .scalar_functions()
        .keys()
        .map(|n| (n.clone(), "scalar"))
        .chain(state.higher_order_functions().keys().map(|n| (n.clone(), "scalar")))
        .chain(state.aggregate_functions().keys().map(|n| (n.clone(), "aggregate")))
        .chain(state.window_functions().keys().map(|n| (n.clone(), "window")))
        .chain(state.table_functions().keys().map(|n| (n.clone(), "table")))
        .chain([(crate::search::FUNCTION.to_owned(), "table")])
        .chain(["current_schema", "current_user", "session_user", "user"].map(|n| (n.to_owned(), "scalar")))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// DataFusion's physical planner with the plan nodes of Cairn.
#[derive(Debug)]
struct CairnQueryPlanner;

impl CairnQueryPlanner {
    fn new() -> Self {
        Self
    }
}

#[async_trait]
impl QueryPlanner for CairnQueryPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn PlannerSession,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let nodes: Vec<Arc<dyn ExtensionPlanner + Send + Sync>> =
            vec![Arc::new(DmlPlanner), Arc::new(EachPlanner)];
        let planner = DefaultPhysicalPlanner::with_extension_planners(nodes);
        let planned = planner.create_physical_plan(plan, session).await?;
        if let Some(joins) = session.config().get_extension::<PlannedJoins>() {
            joins.look_at(&planned)?;
        }
        Ok(planned)
    }
}
