//! What sort of statement one is: what figures are kept apart by, and what a request without a session cannot run.

use datafusion::sql::sqlparser::ast;

use super::Statement;

/// What sort of statement one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatementKind {
    /// SELECT, VALUES, WITH … SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY, either way.
    Copy,
    /// CREATE, ALTER, DROP, TRUNCATE, REINDEX.
    Ddl,
    /// BEGIN, COMMIT, ROLLBACK and savepoints.
    Transaction,
    /// SET, RESET, USE, CREATE SECRET, DROP SECRET, PREPARE, DEALLOCATE: what a session keeps.
    Setting,
    /// Any, described for a client and not run.
    Prepare,
    /// EXPLAIN, SHOW, DESCRIBE, CHECKPOINT, COMPACT, VACUUM, VERIFY, WARM, WAIT, KILL, those about jobs, and what is no statement at all.
    Other,
}

impl StatementKind {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Copy,
        Self::Ddl,
        Self::Transaction,
        Self::Setting,
        Self::Prepare,
        Self::Other,
    ];

    /// Its name in figures and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Copy => "copy",
            Self::Ddl => "ddl",
            Self::Transaction => "transaction",
            Self::Setting => "setting",
            Self::Prepare => "prepare",
            Self::Other => "other",
        }
    }

    pub(crate) fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Query(_) => Self::Select,
            Statement::Dml(dml) => of_change(dml),
            Statement::Copy(_) => Self::Copy,
            Statement::CreateTable(_)
            | Statement::AlterTable(_)
            | Statement::CreateView(_)
            | Statement::CreateIndex(_)
            | Statement::CreateSchema { .. }
            | Statement::Account(_)
            | Statement::SetForDatabase { .. }
            | Statement::Reindex(_)
            | Statement::Drop(_)
            | Statement::Truncate { .. } => Self::Ddl,
            Statement::Transaction(_) => Self::Transaction,
            Statement::Set { .. }
            | Statement::Reset(_)
            | Statement::Use(_)
            | Statement::Secret(_)
            | Statement::Prepare(_)
            | Statement::Deallocate(_) => Self::Setting,
            Statement::Explain(_)
            | Statement::Describe(_)
            | Statement::Show(_)
            | Statement::Checkpoint(_)
            | Statement::Compact(_)
            | Statement::Vacuum(_)
            | Statement::Jobs(_)
            | Statement::Verify { .. }
            | Statement::Warm(_)
            | Statement::Execute(_)
            | Statement::KillQuery(_)
            | Statement::WaitForVersion { .. } => Self::Other,
        }
    }
}

fn of_change(statement: &ast::Statement) -> StatementKind {
    match statement {
        ast::Statement::Insert(_) => StatementKind::Insert,
        ast::Statement::Update(_) => StatementKind::Update,
        ast::Statement::Delete(_) => StatementKind::Delete,
        ast::Statement::Merge(_) => StatementKind::Merge,
        // WITH … before a change: the change is the query's body.
        ast::Statement::Query(query) => match query.body.as_ref() {
            ast::SetExpr::Insert(change)
            | ast::SetExpr::Update(change)
            | ast::SetExpr::Delete(change)
            | ast::SetExpr::Merge(change) => of_change(change),
            _ => StatementKind::Other,
        },
        _ => StatementKind::Other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statement::parse;

    #[test]
    fn kinds() {
        for (sql, kind) in [
            ("SELECT 1", "select"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "select"),
            ("VALUES (1)", "select"),
            ("INSERT INTO t VALUES (1)", "insert"),
            ("WITH a AS (SELECT 1 AS x) INSERT INTO t SELECT x FROM a", "insert"),
            ("UPDATE t SET a = 1", "update"),
            ("WITH a AS (SELECT 1) DELETE FROM t", "delete"),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN DO NOTHING", "merge"),
            ("COPY t TO 'x.csv'", "copy"),
            ("CREATE TABLE t AS SELECT 1", "ddl"),
            ("ALTER TABLE t ADD COLUMN a INT", "ddl"),
            ("BEGIN", "transaction"),
            ("SET search_path = 'a'", "setting"),
            ("DROP SECRET a", "setting"),
            ("SHOW TABLES", "other"),
        ] {
            assert_eq!(StatementKind::of(&parse(sql).unwrap()).name(), kind, "{sql}");
        }
        for (i, kind) in StatementKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, i);
        }
    }
}
