//! Words a client can complete: names at the newest version, functions, keywords, settings. Of a user's session, names are
//! those that it could see when its last statement ran.

use cairn_storage::JobKind;
use cairn_storage::schema::ColumnType;

use super::Session;
use crate::catalog::INFORMATION_SCHEMA;
use crate::config::SETTINGS;
use crate::error::Result;
use crate::rights::Rights;
use crate::statement::{column_names, parse_query};
use crate::system;

/// Keywords of statements Cairn runs, for completion and highlighting.
const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANTI",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "BYTEA",
    "CANCEL",
    "CASCADE",
    "CASE",
    "CAST",
    "CHECKPOINT",
    "COLUMN",
    "COLUMNS",
    "COMMIT",
    "COMPACT",
    "CONFLICT",
    "COPY",
    "CREATE",
    "CROSS",
    "CURRENT",
    "CURRENT_DATE",
    "CURRENT_TIMESTAMP",
    "DATABASE",
    "DATE",
    "DEALLOCATE",
    "DECIMAL",
    "DEEP",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DO",
    "DOUBLE",
    "DROP",
    "DRY",
    "ELSE",
    "END",
    "EXCEPT",
    "EXCLUDE",
    "EXCLUDED",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FETCH",
    "FILTER",
    "FIRST",
    "FOLLOWING",
    "FOR",
    "FROM",
    "FULL",
    "FUNCTIONS",
    "GRANT",
    "GROUP",
    "GROUPING",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOB",
    "JOBS",
    "JOIN",
    "JSON",
    "KEY",
    "KILL",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MATCHED",
    "MERGE",
    "NATURAL",
    "NOSUPERUSER",
    "NOT",
    "NOTHING",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PASSWORD",
    "PAUSE",
    "PRECEDING",
    "PREPARE",
    "PRIMARY",
    "PRIVILEGES",
    "RANGE",
    "REAL",
    "RECURSIVE",
    "REINDEX",
    "RELEASE",
    "RENAME",
    "REPAIR",
    "REPLACE",
    "RESET",
    "RESTRICT",
    "RESUME",
    "RETRY",
    "RETURNING",
    "REVOKE",
    "RIGHT",
    "ROLE",
    "ROLLBACK",
    "ROW",
    "ROWS",
    "RUN",
    "SAVEPOINT",
    "SCHEMA",
    "SCHEMAS",
    "SECRET",
    "SECRETS",
    "SELECT",
    "SEMI",
    "SET",
    "SHOW",
    "SIMILAR",
    "SMALLINT",
    "START",
    "STRICT",
    "STRUCT",
    "SUPERUSER",
    "TABLE",
    "TABLES",
    "TEXT",
    "THEN",
    "TIME",
    "TIMEOUT",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TINYINT",
    "TO",
    "TRANSACTION",
    "TRUE",
    "TRUNCATE",
    "UNBOUNDED",
    "UNION",
    "UNNEST",
    "UNSIGNED",
    "UPDATE",
    "USE",
    "USER",
    "USING",
    "VACUUM",
    "VALUES",
    "VECTOR",
    "VERIFY",
    "VERSION",
    "VERSIONS",
    "VIEW",
    "WAIT",
    "WARM",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
];

/// Whether a name must be quoted because it is a keyword.
pub(super) fn is_reserved(name: &str) -> bool {
    KEYWORDS.binary_search(&name.to_ascii_uppercase().as_str()).is_ok()
}

impl Session {
    /// Schemas, sorted.
    #[must_use]
    pub fn schemas(&self) -> Vec<String> {
        let (snapshot, seen) = (self.snapshot(), self.seen());
        let schemas = snapshot.catalog().schemas().filter(|schema| seen.sees_schema(&snapshot, schema));
        let mut names: Vec<String> = schemas.map(str::to_owned).collect();
        names.extend([system::SCHEMA.to_owned(), INFORMATION_SCHEMA.to_owned()]);
        names.sort_unstable();
        names
    }

    /// Columns of a table or view in order; None for names that aren't there, and for a view whose text does not say them.
    #[must_use]
    pub fn columns(&self, schema: &str, table: &str) -> Option<Vec<String>> {
        if system::is_system_schema(schema) {
            return system::schema_of(table).map(|s| s.fields().iter().map(|f| f.name().clone()).collect());
        }
        let (snapshot, seen) = (self.snapshot(), self.seen());
        if let Some(view) = snapshot.catalog().view(schema, table) {
            let shows = seen.sees(view.owner, schema, table);
            // Planning each view would take long where there are many.
            return parse_query(&view.sql).ok().filter(|_| shows).and_then(|query| column_names(&query));
        }
        let def = snapshot.catalog().table(schema, table)?;
        if !seen.sees(def.owner, schema, table) {
            return None;
        }
        Some(def.columns.iter().map(|c| c.name.clone()).collect())
    }

    /// VECTOR columns of a table, in order.
    #[must_use]
    pub fn vector_columns(&self, schema: &str, table: &str) -> Vec<String> {
        let snapshot = self.snapshot();
        let def = snapshot.catalog().table(schema, table);
        let def = def.filter(|def| self.seen().sees(def.owner, schema, table));
        let columns = def.map(|def| def.columns.iter());
        let vectors =
            columns.into_iter().flatten().filter(|c| matches!(c.column_type, ColumnType::Vector(_)));
        vectors.map(|c| c.name.clone()).collect()
    }

    /// Indexes as (schema, name), sorted.
    #[must_use]
    pub fn indexes(&self) -> Vec<(String, String)> {
        let (snapshot, seen) = (self.snapshot(), self.seen());
        let catalog = snapshot.catalog();
        let mut names: Vec<(String, String)> = Vec::new();
        for schema in catalog.schemas() {
            let tables = catalog.tables(schema).filter(|t| seen.sees(t.owner, schema, &t.name));
            let own = tables.flat_map(|t| &t.indexes);
            names.extend(own.map(|index| (schema.to_owned(), index.name.clone())));
        }
        names.sort_unstable();
        names
    }

    /// Options of CREATE INDEX and the values of those that have a list of them.
    #[must_use]
    pub fn index_options() -> &'static [(&'static str, &'static [&'static str])] {
        crate::ddl::INDEX_OPTIONS
    }

    /// Operator classes of CREATE INDEX.
    #[must_use]
    pub fn operator_classes() -> &'static [&'static str] {
        crate::ddl::OPERATOR_CLASSES
    }

    /// Named arguments of `vector_search` and the values of those that have a list of them.
    #[must_use]
    pub fn search_arguments() -> &'static [(&'static str, &'static [&'static str])] {
        crate::search::ARGUMENTS
    }

    /// SQL functions that stand in FROM, sorted.
    #[must_use]
    pub fn table_functions(&self) -> Vec<String> {
        let tables = self.engine.functions().iter().filter(|(_, kind)| *kind == "table");
        tables.map(|(name, _)| name.clone()).collect()
    }

    /// SQL functions, sorted.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        let mut names: Vec<String> = self.engine.functions().iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }

    /// Keywords in capitals, sorted: one list for completion, highlighting and quoting.
    #[must_use]
    pub fn keywords() -> &'static [&'static str] {
        KEYWORDS
    }

    /// Kinds of jobs, as RUN JOB takes them.
    #[must_use]
    pub fn job_kinds() -> Vec<&'static str> {
        JobKind::ALL.map(JobKind::as_str).to_vec()
    }

    /// Names of time zones, sorted.
    #[must_use]
    pub fn time_zones() -> Vec<&'static str> {
        let mut names: Vec<&'static str> = cairn_udfs::zones::zone_names().collect();
        names.sort_unstable();
        names
    }

    /// Settings, sorted.
    #[must_use]
    pub fn settings(&self) -> Vec<&'static str> {
        SETTINGS.iter().map(|s| s.name).collect()
    }

    /// Those that SET may change.
    #[must_use]
    pub fn changeable_settings() -> Vec<&'static str> {
        SETTINGS.iter().filter(|s| s.changeable).map(|s| s.name).collect()
    }

    /// Statements prepared by name, sorted.
    #[must_use]
    pub fn prepared(&self) -> Vec<String> {
        self.named.all().into_iter().map(|(name, _)| name).collect()
    }

    /// Users and roles that show, sorted.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn accounts(&self) -> Result<Vec<String>> {
        let (snapshot, seen) = (self.snapshot(), self.seen());
        let accounts = self.engine.accounts(&snapshot).await?;
        let shown = accounts.accounts().filter(|account| match account.is_role() {
            true => seen.is_in(account.id),
            false => seen.user().is_none_or(|own| own == account.id),
        });
        let mut names: Vec<String> = shown.map(|account| account.name.clone()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What shows.
    pub(super) fn seen(&self) -> Rights {
        self.lock().rights.clone()
    }

    /// Schema that unqualified names resolve in.
    #[must_use]
    pub fn search_path(&self) -> String {
        self.lock().settings.search_path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_sorted() {
        assert!(KEYWORDS.is_sorted());
        assert!(is_reserved("select") && !is_reserved("notes"));
    }
}
