//! Statements: what one means, before anything is looked up.
//!
//! Owns: the closed list of statements a session runs, their syntax (`parse` and what it calls), what is refused although it parses (`guard`),
//! cutting scripts (`script`). Does not own: names (`catalog`), effects (`ddl`, `dml`, `copy`, `session`).

mod account;
mod at_zone;
mod cast;
mod chain;
mod copy;
mod exact;
mod explain;
mod fetch;
mod fingerprint;
mod grouping;
mod guard;
mod item;
mod job;
mod kind;
mod known;
mod lambda;
mod later;
mod listed;
mod merge;
mod nested;
mod parameters;
mod parse;
mod place;
mod placeholder;
mod precedence;
mod prepare;
mod scope;
mod script;
mod secret;
mod series;
mod setting;
mod shape;
mod show;
mod sorted;
mod store_secret;
mod token;
mod transaction;
mod values;
pub(crate) mod walk;

use std::time::Duration;

use cairn_storage::JobKind;
use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, ObjectName};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::copy::CopyStatement;
use crate::error::Position;
use crate::rights::{Right, Secret, UserLimit};
use crate::stores::StoreSecret;

pub(crate) use exact::{compare_exactly, compare_exactly_in};
pub(crate) use fingerprint::{fingerprint, tables};
pub(crate) use item::{column_names, computed_name, name_returned};
pub use kind::StatementKind;
pub(crate) use lambda::lambda;
pub(crate) use listed::query_lists;
pub(crate) use nested::settle_nested;
pub use parameters::Parameter;
pub(crate) use parameters::{Parameters, wrong_count};
pub(crate) use parse::{parse, parse_expression, parse_query};
pub(crate) use place::{ident_position, name_of, object_position, schema_and_name};
pub(crate) use scope::{refuse_one_name_twice, tables_in_from, tell_tables_apart};
pub use script::ScriptStatement;
pub(crate) use script::{split, statement_complete};
pub(crate) use secret::holds_secret;
pub(crate) use series::series_in_zone;
pub(crate) use shape::{Shape, call_session_words, inspect, keep_pseudo_columns_out};
pub(crate) use sorted::sort_by_hidden_columns;
pub(crate) use token::syntax_of;
pub(crate) use values::select_values;

/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting of expressions, subqueries and parentheses in a statement.
pub const NESTING_MAX: usize = 128;
/// Most operators, joins and queries chained to each other, which make a tree as deep as they are many.
pub(crate) const CHAIN_MAX: usize = 1_000;

/// One statement.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// SELECT, VALUES, WITH …: rows and no change.
    Query(Box<ast::Query>),
    /// INSERT, UPDATE, DELETE, MERGE; with WITH before it, a query whose body is the change.
    Dml(Box<ast::Statement>),
    /// CREATE TABLE, with or without AS.
    CreateTable(Box<ast::CreateTable>),
    /// ALTER TABLE.
    AlterTable(Box<ast::AlterTable>),
    /// CREATE VIEW.
    CreateView(Box<ast::CreateView>),
    /// CREATE INDEX.
    CreateIndex(Box<ast::CreateIndex>),
    /// REINDEX TABLE t | INDEX i.
    Reindex(Reindex),
    /// CREATE SCHEMA.
    CreateSchema {
        /// Its name.
        name: ObjectName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP TABLE, VIEW or SCHEMA.
    Drop(DropStatement),
    /// TRUNCATE.
    Truncate {
        /// Tables.
        tables: Vec<ObjectName>,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// COPY, either way.
    Copy(CopyStatement),
    /// EXPLAIN of a statement.
    Explain(ExplainStatement),
    /// DESCRIBE t.
    Describe(ObjectName),
    /// SHOW ….
    Show(Show),
    /// SET name = value; None: DEFAULT.
    Set {
        /// Lower-cased setting.
        name: String,
        /// Value as text.
        value: Option<String>,
    },
    /// RESET name; None: RESET ALL.
    Reset(Option<String>),
    /// SET name = value FOR DATABASE; without a value RESET name FOR DATABASE, without a name RESET ALL FOR DATABASE.
    SetForDatabase {
        /// Lower-cased setting.
        name: Option<String>,
        /// Value as text.
        value: Option<String>,
    },
    /// USE schema.
    Use(Ident),
    /// CHECKPOINT [TABLE t].
    Checkpoint(Option<ObjectName>),
    /// COMPACT [TABLE t].
    Compact(Option<ObjectName>),
    /// VACUUM [[TABLE] t].
    Vacuum(Option<ObjectName>),
    /// RUN, RETRY, CANCEL, PAUSE and RESUME JOB(S).
    Jobs(JobStatement),
    /// VERIFY [DATABASE | TABLE t] [DEEP] [REPAIR [DRY RUN]].
    Verify {
        /// One table, or all.
        table: Option<ObjectName>,
        /// DEEP: whether objects agree with each other.
        deep: bool,
        /// REPAIR; None: nothing is changed.
        repair: Option<Repair>,
    },
    /// WARM TABLE t.
    Warm(ObjectName),
    /// BEGIN, COMMIT, ROLLBACK and savepoints.
    Transaction(TransactionStatement),
    /// Users, roles and grants.
    Account(Box<AccountStatement>),
    /// CREATE SECRET, DROP SECRET.
    Secret(Box<SecretStatement>),
    /// PREPARE name AS ….
    Prepare(PrepareStatement),
    /// EXECUTE name (…).
    Execute(ExecuteStatement),
    /// DEALLOCATE name; None: ALL.
    Deallocate(Option<Ident>),
    /// KILL QUERY id.
    KillQuery(u64),
    /// WAIT FOR VERSION n [TIMEOUT 's'].
    WaitForVersion {
        /// Commit version.
        version: u64,
        /// How long at most.
        timeout: Duration,
    },
}

/// What is done with jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobStatement {
    /// RUN
    Run {
        /// JOB kind.
        kind: Option<JobKind>,
        /// ON t, FOR TABLE t.
        table: Option<ObjectName>,
        /// LIMIT
        limit: Option<u64>,
        /// What fails makes the statement fail.
        strict: bool,
    },
    /// RETRY JOB
    Retry(u64),
    /// RETRY JOBS [FOR TABLE t]
    RetryAll(Option<ObjectName>),
    /// CANCEL JOB
    Cancel(u64),
    /// PAUSE
    Pause(JobsNamed),
    /// RESUME
    Resume(JobsNamed),
}

/// JOB id, or JOBS [kind].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobsNamed {
    /// One.
    One(u64),
    /// All, or those of a kind.
    All(Option<JobKind>),
}

/// A statement that gets a name.
#[derive(Clone, Debug)]
pub(crate) struct PrepareStatement {
    /// Name.
    pub(crate) name: Ident,
    /// Types of the first parameters.
    pub(crate) types: Vec<DataType>,
    /// A query or a change.
    pub(crate) statement: Box<Statement>,
    /// Its text.
    pub(crate) text: String,
    /// Where that begins.
    begins: Location,
}

/// A statement by its name, with values for its parameters.
#[derive(Clone, Debug)]
pub(crate) struct ExecuteStatement {
    /// Name.
    pub(crate) name: Ident,
    /// Values.
    pub(crate) values: Vec<ast::Expr>,
}

/// What begins and ends transactions of several statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransactionStatement {
    /// BEGIN, START TRANSACTION
    Begin {
        /// READ ONLY
        read_only: bool,
    },
    /// COMMIT, END
    Commit,
    /// ROLLBACK
    Rollback,
    /// SAVEPOINT name
    Savepoint(Ident),
    /// ROLLBACK TO SAVEPOINT name
    RollbackTo(Ident),
    /// RELEASE SAVEPOINT name
    Release(Ident),
}

/// What changes the secrets of a session.
#[derive(Clone, Debug)]
pub(crate) enum SecretStatement {
    /// CREATE SECRET
    Create {
        /// Name.
        name: Ident,
        /// OR REPLACE.
        replace: bool,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// What stands in parentheses.
        secret: Box<StoreSecret>,
    },
    /// DROP SECRET
    Drop {
        /// Name.
        name: Ident,
        /// IF EXISTS.
        if_exists: bool,
    },
}

/// What changes users, roles and grants.
#[derive(Clone, Debug)]
pub(crate) enum AccountStatement {
    /// CREATE USER
    CreateUser {
        /// Name.
        name: Ident,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// PASSWORD.
        password: Secret,
        /// SUPERUSER.
        superuser: bool,
        /// WITH (…); 0 is none.
        limits: Vec<(UserLimit, u64)>,
    },
    /// ALTER USER
    AlterUser {
        /// Name.
        name: Ident,
        /// PASSWORD.
        password: Option<Secret>,
        /// SUPERUSER or NOSUPERUSER.
        superuser: Option<bool>,
        /// WITH (…); 0 takes one away.
        limits: Vec<(UserLimit, u64)>,
    },
    /// CREATE ROLE
    CreateRole {
        /// Name.
        name: Ident,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP USER, DROP ROLE
    Drop {
        /// Which of the two.
        kind: AccountKind,
        /// Names.
        names: Vec<Ident>,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// GRANT role TO user
    GrantRole {
        /// Roles.
        roles: Vec<Ident>,
        /// Users and roles.
        to: Vec<Ident>,
    },
    /// REVOKE role FROM user
    RevokeRole {
        /// Roles.
        roles: Vec<Ident>,
        /// Users and roles.
        from: Vec<Ident>,
    },
    /// GRANT rights ON … TO …
    Grant {
        /// Which.
        rights: RightsWanted,
        /// On what.
        on: GrantOn,
        /// Users, roles, PUBLIC.
        to: Vec<Ident>,
    },
    /// REVOKE rights ON … FROM …
    Revoke {
        /// Which.
        rights: RightsWanted,
        /// On what.
        on: GrantOn,
        /// Users, roles, PUBLIC.
        from: Vec<Ident>,
    },
}

/// Who has a session, or stands for several who have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccountKind {
    /// USER
    User,
    /// ROLE
    Role,
}

/// Rights as written.
#[derive(Clone, Debug)]
pub(crate) enum RightsWanted {
    /// ALL [PRIVILEGES]
    All,
    /// Some.
    These(Vec<Right>),
}

/// What rights are given on.
#[derive(Clone, Debug)]
pub(crate) enum GrantOn {
    /// DATABASE
    Database,
    /// SCHEMA s, …
    Schemas(Vec<Ident>),
    /// [TABLE | VIEW] t, …
    Tables(Vec<ObjectName>),
}

/// DROP of one kind of object.
#[derive(Clone, Debug)]
pub(crate) struct DropStatement {
    /// Kind.
    pub(crate) kind: DropKind,
    /// Objects.
    pub(crate) names: Vec<ObjectName>,
    /// IF EXISTS.
    pub(crate) if_exists: bool,
    /// CASCADE.
    pub(crate) cascade: bool,
}

/// What DROP removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropKind {
    /// TABLE
    Table,
    /// VIEW
    View,
    /// SCHEMA
    Schema,
    /// INDEX
    Index,
}

/// What VERIFY … REPAIR does about findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// REPAIR DRY RUN: says what it would do.
    DryRun,
    /// REPAIR: does it.
    Run,
}

impl Repair {
    /// As it is written.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::DryRun => "VERIFY … REPAIR DRY RUN",
            Self::Run => "VERIFY … REPAIR",
        }
    }
}

/// What REINDEX builds anew.
#[derive(Clone, Debug)]
pub(crate) enum Reindex {
    /// All indexes of a table.
    Table(ObjectName),
    /// One index.
    Index(ObjectName),
}

/// EXPLAIN with its options.
#[derive(Clone, Debug)]
pub(crate) struct ExplainStatement {
    /// Runs the statement and shows measured figures.
    pub(crate) analyze: bool,
    /// Every step of the planner.
    pub(crate) verbose: bool,
    /// FORMAT of the plan: `indent`, `tree`, `pgjson` or `graphviz`.
    pub(crate) format: Option<String>,
    /// What is explained.
    pub(crate) statement: Box<Statement>,
}

/// What SHOW shows.
#[derive(Clone, Debug)]
pub(crate) enum Show {
    /// SHOW TABLES [FROM s].
    Tables {
        /// Schema; the session's when None.
        schema: Option<Ident>,
    },
    /// SHOW SCHEMAS.
    Schemas,
    /// SHOW COLUMNS FROM t.
    Columns(ObjectName),
    /// SHOW CREATE TABLE t or SHOW CREATE VIEW v.
    Create(ObjectName),
    /// SHOW VERSIONS.
    Versions,
    /// SHOW COMMIT 'id'.
    Commit(String, Option<Position>),
    /// SHOW STATS [FOR TABLE t].
    Stats {
        /// Only this table's.
        table: Option<ObjectName>,
    },
    /// SHOW FUNCTIONS.
    Functions,
    /// SHOW SECRETS.
    Secrets,
    /// SHOW JOBS [FOR TABLE t] [LIKE 'pattern'] [WHERE …].
    Jobs {
        /// Only this table's.
        table: Option<ObjectName>,
        /// Kinds like this only.
        like: Option<String>,
        /// Those this is true of only.
        filter: Option<Box<Expr>>,
    },
    /// SHOW setting.
    Setting(String, Option<Position>),
    /// SHOW ALL.
    All,
}
