//! From text to [`Statement`].
//!
//! Owns: which grammar a statement has, and the short ones; sorting what the parser's own grammar gives. Does not own: the
//! longer grammars (`copy`, `explain`, `setting`, `show`), words of later versions (`later`).

use std::time::Duration;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{self, CascadeOption, ObjectType, TruncateIdentityOption};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::account;
use super::copy::copy;
use super::explain::explain;
use super::later::{LATER, later, object_kind};
use super::merge::merge;
use super::prepare::{deallocate, execute, kill, prepare, text_from};
use super::setting::{reset, set};
use super::show::show;
use super::store_secret;
use super::token::{peek_is, syntax, syntax_error, take, unexpected};
use super::transaction::transaction;
use super::{
    DropKind, DropStatement, ExplainStatement, NESTING_MAX, Reindex, Repair, STATEMENT_BYTES_MAX, Statement,
    chain, fetch, guard, item, job, lambda, placeholder, precedence,
};
use crate::dialect::{CairnDialect, fold_operators, fold_types, order_identity_options};
use crate::error::{Error, Result};

/// Parses exactly one statement; a `;` may end it.
///
/// # Errors
/// `InvalidInput` (42601, with the place) for syntax, 54000/54001 for a statement too long or nested too deep, `Unsupported`
/// (0A000) for words of later versions.
pub(crate) fn parse(sql: &str) -> Result<Statement> {
    let mut parser = parser_of(sql)?;
    while parser.consume_token(&Token::SemiColon) {}
    if parser.peek_token_ref().token == Token::EOF {
        return Err(syntax_error("the statement is empty"));
    }
    let mut statement = statement(&mut parser)?;
    if let Statement::Prepare(prepared) = &mut statement {
        text_from(sql, prepared.begins).clone_into(&mut prepared.text);
    }
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token();
    match (next.token == Token::EOF, &statement) {
        (true, _) => Ok(statement),
        // What is left over may be the rest of a password.
        (false, Statement::Account(_) | Statement::Secret(_)) => {
            Err(syntax_error("expected the end of the statement"))
        }
        (false, parsed) => {
            let error = unexpected("the end of the statement", &next);
            let verb = match parsed {
                Statement::Compact(None) => "COMPACT",
                Statement::Checkpoint(None) => "CHECKPOINT",
                _ => return Err(error),
            };
            match &next.token {
                Token::Word(name) => {
                    let hint = format!("for one table write {verb} TABLE {name}");
                    Err(error.map(|e| e.with_hint(hint)))
                }
                _ => Err(error),
            }
        }
    }
}

/// Parses a query, as stored for a view.
///
/// # Errors
/// As for [`parse`].
pub(crate) fn parse_query(sql: &str) -> Result<Box<ast::Query>> {
    match parse(sql)? {
        Statement::Query(query) => Ok(query),
        _ => Err(syntax_error("a query was expected")),
    }
}

/// Parses an expression that stands in a text, as the filter of a search does.
///
/// # Errors
/// As for [`parse`].
pub(crate) fn parse_expression(sql: &str) -> Result<ast::Expr> {
    let mut parser = parser_of(sql)?;
    let mut expr = parser.parse_expr().map_err(syntax)?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(unexpected("the end of the expression", &next));
    }
    precedence::settle_within(&mut expr);
    Ok(expr)
}

fn parser_of(sql: &str) -> Result<Parser<'static>> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("the statement has {} bytes; at most {STATEMENT_BYTES_MAX} are allowed", sql.len()),
        )
        .map(|e| {
            e.with_sqlstate("54000")
                .with_hint("load many rows with COPY … FROM, or several INSERT statements")
        }));
    }
    let tokens = placeholder::number(super::script::tokenize(sql)?)?;
    chain::check(&tokens)?;
    let tokens = order_identity_options(tokens);
    Ok(Parser::new(&CairnDialect)
        .with_tokens_with_locations(lambda::fold(fold_types(fold_operators(tokens)))?)
        .with_recursion_limit(NESTING_MAX))
}

/// The statement that comes next.
pub(super) fn statement(parser: &mut Parser<'_>) -> Result<Statement> {
    let first = parser.peek_token();
    let Token::Word(word) = &first.token else {
        // A parenthesised query, or nonsense that the parser names.
        return classify(parser);
    };
    if word.quote_style.is_some() {
        return Err(unexpected("a statement", &first));
    }
    let word = word.value.to_ascii_uppercase();
    if matches!(word.as_str(), "CREATE" | "ALTER" | "DROP") && account::is_next(parser) {
        return account::account(parser);
    }
    if matches!(word.as_str(), "CREATE" | "DROP") && store_secret::is_next(parser) {
        return store_secret::secret(parser);
    }
    if LATER.contains(&word.as_str()) && !(word == "ALTER" && peek_is(parser, 1, "TABLE")) {
        return Err(later(&first, parser, &word));
    }
    match word.as_str() {
        "CHECKPOINT" => Ok(Statement::Checkpoint(of_table(parser)?)),
        "COMPACT" => Ok(Statement::Compact(of_table(parser)?)),
        "VACUUM" => job::vacuum(parser),
        "RUN" => job::run(parser),
        "RETRY" => job::retry(parser),
        "CANCEL" => job::cancel(parser),
        "PAUSE" => job::pause(parser),
        "RESUME" => job::resume(parser),
        "VERIFY" => verify(parser),
        "REINDEX" => reindex(parser),
        "WARM" => {
            parser.next_token();
            if !take(parser, "TABLE") {
                return Err(unexpected("TABLE", &parser.peek_token()));
            }
            Ok(Statement::Warm(parser.parse_object_name(false).map_err(syntax)?))
        }
        "WAIT" => wait(parser),
        "SHOW" => show(parser),
        "USE" => {
            parser.next_token();
            take(parser, "SCHEMA");
            Ok(Statement::Use(parser.parse_identifier().map_err(syntax)?))
        }
        "SET" => set(parser),
        "RESET" => reset(parser),
        "COPY" => copy(parser),
        "PREPARE" => prepare(parser),
        "EXECUTE" => execute(parser),
        "DEALLOCATE" => deallocate(parser),
        "KILL" => kill(parser),
        "MERGE" => {
            let merge = merge(parser)?;
            sorted(merge)
        }
        "GRANT" | "REVOKE" => account::grant(parser),
        "EXPLAIN" => explain(parser),
        "DESCRIBE" | "DESC" => {
            parser.next_token();
            if starts_query(parser) {
                return Ok(Statement::Explain(ExplainStatement {
                    analyze: false,
                    verbose: false,
                    format: None,
                    statement: Box::new(statement(parser)?),
                }));
            }
            take(parser, "TABLE");
            Ok(Statement::Describe(parser.parse_object_name(false).map_err(syntax)?))
        }
        "CREATE" | "DROP" => {
            object_kind(parser, &word)?;
            classify(parser)
        }
        "ALTER" | "SELECT" | "WITH" | "VALUES" | "TABLE" | "FROM" | "INSERT" | "UPDATE" | "DELETE"
        | "TRUNCATE" | "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => {
            classify(parser)
        }
        _ => Err(unexpected("a statement", &first)),
    }
}

/// Runs the parser's own grammar and sorts the result.
fn classify(parser: &mut Parser<'_>) -> Result<Statement> {
    sorted(parser.parse_statement().map_err(syntax)?)
}

/// Checks a statement of the parser's tree and sorts it.
fn sorted(mut parsed: ast::Statement) -> Result<Statement> {
    // As they are written, whatever else they become.
    item::name_columns(&mut parsed);
    precedence::settle(&mut parsed);
    if guard::check(&parsed)?.fetches {
        fetch::as_limit(&mut parsed)?;
    }
    if let Some(statement) = transaction(&parsed) {
        return statement;
    }
    if guard::change_below_with(&parsed).is_some() {
        return Ok(Statement::Dml(Box::new(parsed)));
    }
    Ok(match parsed {
        ast::Statement::Query(query) => Statement::Query(query),
        dml @ (ast::Statement::Insert(_)
        | ast::Statement::Update(_)
        | ast::Statement::Delete(_)
        | ast::Statement::Merge(_)) => Statement::Dml(Box::new(dml)),
        ast::Statement::CreateTable(table) => Statement::CreateTable(Box::new(table)),
        ast::Statement::AlterTable(alter) => Statement::AlterTable(Box::new(alter)),
        ast::Statement::CreateView(view) => Statement::CreateView(Box::new(view)),
        ast::Statement::CreateIndex(index) => Statement::CreateIndex(Box::new(index)),
        ast::Statement::CreateSchema {
            schema_name,
            if_not_exists,
            with,
            options,
            default_collate_spec,
            clone,
        } => {
            if with.is_some() || options.is_some() || default_collate_spec.is_some() || clone.is_some() {
                return Err(Error::not_supported_yet("an option of CREATE SCHEMA"));
            }
            match schema_name {
                ast::SchemaName::Simple(name) => Statement::CreateSchema { name, if_not_exists },
                _ => return Err(Error::not_supported_yet("CREATE SCHEMA … AUTHORIZATION")),
            }
        }
        ast::Statement::Drop {
            object_type,
            if_exists,
            names,
            cascade,
            restrict: _,
            purge,
            temporary,
            table,
        } => {
            let kind = match object_type {
                ObjectType::Table => DropKind::Table,
                ObjectType::View => DropKind::View,
                ObjectType::Schema => DropKind::Schema,
                ObjectType::Index => DropKind::Index,
                other => return Err(Error::not_supported_yet(format!("DROP {other}"))),
            };
            if purge || temporary || table.is_some() {
                return Err(Error::not_supported_yet("this form of DROP"));
            }
            Statement::Drop(DropStatement { kind, names, if_exists, cascade })
        }
        ast::Statement::Truncate(truncate) => {
            if truncate.partitions.is_some()
                || truncate.on_cluster.is_some()
                || matches!(truncate.identity, Some(TruncateIdentityOption::Restart))
                || matches!(truncate.cascade, Some(CascadeOption::Cascade))
                || truncate.table_names.iter().any(|t| t.only || t.has_asterisk)
            {
                return Err(Error::not_supported_yet("an option of TRUNCATE"));
            }
            Statement::Truncate {
                tables: truncate.table_names.into_iter().map(|t| t.name).collect(),
                if_exists: truncate.if_exists,
            }
        }
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            return Err(Error::not_supported_yet(words.join(" ")));
        }
    })
}

fn starts_query(parser: &Parser<'_>) -> bool {
    parser.peek_token_ref().token == Token::LParen
        || ["SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE"].iter().any(|w| peek_is(parser, 0, w))
}

fn verify(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let mut table = None;
    if take(parser, "TABLE") {
        table = Some(parser.parse_object_name(false).map_err(syntax)?);
    } else {
        take(parser, "DATABASE");
    }
    let deep = take(parser, "DEEP");
    let repair = match take(parser, "REPAIR") {
        false => None,
        true if !take(parser, "DRY") => Some(Repair::Run),
        true if take(parser, "RUN") => Some(Repair::DryRun),
        true => return Err(unexpected("RUN", &parser.peek_token())),
    };
    Ok(Statement::Verify { table, deep, repair })
}

/// The word of the statement, and TABLE with its name where that follows.
fn of_table(parser: &mut Parser<'_>) -> Result<Option<ast::ObjectName>> {
    parser.next_token();
    if !take(parser, "TABLE") {
        return Ok(None);
    }
    parser.parse_object_name(false).map(Some).map_err(syntax)
}

fn reindex(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let index = take(parser, "INDEX");
    if !index && !take(parser, "TABLE") {
        return Err(unexpected("TABLE or INDEX", &parser.peek_token()));
    }
    let name = parser.parse_object_name(false).map_err(syntax)?;
    Ok(Statement::Reindex(if index { Reindex::Index(name) } else { Reindex::Table(name) }))
}

fn wait(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    for word in ["FOR", "VERSION"] {
        if !take(parser, word) {
            return Err(unexpected(word, &parser.peek_token()));
        }
    }
    let version = parser.parse_literal_uint().map_err(syntax)?;
    let mut timeout = Duration::from_secs(30);
    if take(parser, "TIMEOUT") {
        let token = parser.next_token();
        let text = match &token.token {
            Token::Number(n, _) => n.clone(),
            Token::SingleQuotedString(s) => s.clone(),
            _ => return Err(unexpected("a number of seconds", &token)),
        };
        timeout = crate::config::parse_duration(&text, Duration::from_secs(1))?;
    }
    Ok(Statement::WaitForVersion { version, timeout })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_sorted() {
        for (sql, kind) in [
            ("SELECT 1", "Query"),
            ("(SELECT 1)", "Query"),
            ("VALUES (1);", "Query"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "Query"),
            ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING *", "Dml"),
            ("UPDATE t SET a = 1 FROM u WHERE t.b = u.b RETURNING _row_id", "Dml"),
            ("DELETE FROM t USING u WHERE t.a = u.a", "Dml"),
            ("WITH u AS (SELECT 1) DELETE FROM t USING u", "Dml"),
            (
                "MERGE INTO t AS x USING (SELECT 1 AS a) AS s ON x.a = s.a WHEN MATCHED AND s.a > 1 THEN DO NOTHING \
                 WHEN MATCHED THEN UPDATE SET b = 1, c = DEFAULT WHEN NOT MATCHED BY TARGET THEN INSERT (a) VALUES (s.a) \
                 WHEN NOT MATCHED BY SOURCE THEN DELETE",
                "Dml",
            ),
            ("MERGE INTO t USING s ON t.a = s.a WHEN NOT MATCHED THEN INSERT DEFAULT VALUES;", "Dml"),
            ("WITH s AS (SELECT 1) MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "Dml"),
            (
                "CREATE TABLE t (a BIGINT PRIMARY KEY, b TINYINT UNSIGNED, c TEXT[], d STRUCT(x INT, y STRUCT(z TEXT))) WITH (sort = 'a')",
                "CreateTable",
            ),
            ("CREATE TABLE t AS SELECT struct(1, 2) AS s", "CreateTable"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "CreateView"),
            ("ALTER TABLE IF EXISTS s.t ADD COLUMN IF NOT EXISTS a VECTOR(3)", "AlterTable"),
            ("ALTER TABLE t DROP a CASCADE, ALTER b TYPE BIGINT, ALTER COLUMN c SET NOT NULL", "AlterTable"),
            ("ALTER TABLE t SET (sort = 'a')", "AlterTable"),
            ("CREATE SCHEMA IF NOT EXISTS s", "CreateSchema"),
            ("DROP TABLE IF EXISTS a, b CASCADE", "Drop"),
            ("CREATE INDEX ON t USING hnsw (e vector_l2_ops) WITH (m = 16)", "CreateIndex"),
            ("DROP INDEX i", "Drop"),
            ("REINDEX TABLE t", "Reindex"),
            ("TRUNCATE t", "Truncate"),
            ("TRUNCATE TABLE t", "Truncate"),
            ("COPY t (a, b) FROM 'x.csv' WITH (format 'csv', header, delimiter ',')", "Copy"),
            ("COPY (SELECT 1) TO 'x.parquet' WITH (partition_by (a, b))", "Copy"),
            ("EXPLAIN ANALYZE SELECT 1", "Explain"),
            ("EXPLAIN (ANALYZE, FORMAT tree) SELECT 1", "Explain"),
            ("EXPLAIN DELETE FROM t", "Explain"),
            ("DESCRIBE s.t", "Describe"),
            ("SHOW TABLES", "Show"),
            ("SHOW COLUMNS FROM t", "Show"),
            ("SHOW CREATE TABLE t", "Show"),
            ("SHOW JOBS FOR TABLE t", "Show"),
            ("SHOW search_path", "Show"),
            ("SHOW datafusion.execution.batch_size", "Show"),
            ("SET TIME ZONE 'UTC'", "Set"),
            ("SET statement_timeout = '5 s'", "Set"),
            ("RESET ALL", "Reset"),
            ("USE app", "Use"),
            ("CHECKPOINT TABLE t", "Checkpoint"),
            ("COMPACT", "Compact(None"),
            ("COMPACT TABLE s.t", "Compact(Some"),
            ("VACUUM;", "Vacuum(None"),
            ("VACUUM TABLE s.t", "Vacuum(Some"),
            ("VACUUM t", "Vacuum(Some"),
            ("RUN JOBS FOR TABLE t LIMIT 3 STRICT", "Jobs(Run { kind: None, table: Some"),
            ("RUN JOB compact ON s.t", "Jobs(Run { kind: Some(Compact), table: Some"),
            ("RUN JOB 'checkpoint'", "Jobs(Run { kind: Some(Checkpoint), table: None"),
            ("RETRY JOB 7", "Jobs(Retry(7"),
            ("RETRY JOBS FOR TABLE t", "Jobs(RetryAll(Some"),
            ("CANCEL JOB 7", "Jobs(Cancel(7"),
            ("PAUSE JOB 7;", "Jobs(Pause(One(7"),
            ("PAUSE JOBS", "Jobs(Pause(All(None"),
            ("RESUME JOBS build_index", "Jobs(Resume(All(Some(BuildIndex"),
            ("SHOW JOBS FOR TABLE t LIKE 'comp%' WHERE attempts > 1", "Show(Jobs { table: Some"),
            ("VERIFY", "Verify { table: None, deep: false, repair: None }"),
            ("VERIFY DATABASE DEEP", "Verify { table: None, deep: true, repair: None }"),
            ("VERIFY TABLE t REPAIR", "Verify { table: Some"),
            ("VERIFY REPAIR", "Verify { table: None, deep: false, repair: Some(Run) }"),
            ("verify deep repair dry run;", "Verify { table: None, deep: true, repair: Some(DryRun) }"),
            ("WARM TABLE s.t", "Warm"),
            ("SHOW COMMIT '6f1c9d0e-3a52-4d7e-9b1f-0c8a7e5d2b43'", "Show(Commit"),
            ("SHOW commit_id", "Show(Setting"),
            ("WAIT FOR VERSION 7 TIMEOUT '5 s'", "WaitForVersion"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'k', SECRET 's', REGION 'eu')", "Secret"),
            (
                "create or replace temporary secret a (type 's3', key_id 'k', secret 's', use_ssl true);",
                "Secret",
            ),
            ("DROP SECRET IF EXISTS a", "Secret"),
            ("SHOW SECRETS", "Show"),
            ("SHOW STATS", "Show(Stats { table: None"),
            ("SHOW STATS FOR TABLE s.t", "Show(Stats { table: Some"),
            ("PREPARE p (INT, TEXT) AS SELECT $1, $2", "Prepare"),
            ("EXECUTE p", "Execute"),
            ("EXECUTE p (1 + 1, NULL);", "Execute"),
            ("DEALLOCATE PREPARE p", "Deallocate(Some"),
            ("DEALLOCATE ALL", "Deallocate(None"),
            ("KILL QUERY 7", "KillQuery(7"),
        ] {
            let parsed = parse(sql).map_err(|e| format!("{sql}: {e}")).unwrap();
            let debug = format!("{parsed:?}");
            assert!(debug.starts_with(kind), "{sql}: {debug}");
        }
    }

    #[test]
    fn words_of_later_versions_are_named() {
        for (sql, word) in [
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", "SERIALIZABLE"),
            ("COMMIT AND CHAIN", "AND CHAIN"),
            ("CREATE UNIQUE INDEX i ON t (a)", "CREATE UNIQUE INDEX"),
            ("CREATE TAG 'x'", "CREATE TAG"),
            ("CREATE TEMP TABLE t (a INT)", "CREATE TEMP TABLE"),
            ("CREATE EXTERNAL TABLE t STORED AS csv LOCATION 'x'", "CREATE EXTERNAL TABLE"),
            ("CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS $$ SELECT 1 $$", "CREATE FUNCTION"),
            ("ALTER VIEW v AS SELECT 1", "ALTER VIEW"),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE OUTPUT id", "OUTPUT of MERGE"),
            (
                "WITH m AS (MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE) SELECT 1",
                "MERGE inside a query",
            ),
            ("SELECT * FROM t VERSION AS OF 3", "VERSION AS OF"),
            ("SELECT * FROM t TIMESTAMP AS OF '2026-01-01'", "TIMESTAMP AS OF"),
            ("SELECT * FROM t FOR SYSTEM_TIME AS OF '2026-01-01'", "FOR SYSTEM_TIME AS OF"),
            ("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE"),
            ("SELECT * FROM t FOR UPDATE", "FOR UPDATE"),
            ("SELECT * FROM text_search('t', 'e', $1)", "text_search"),
            ("EXPLAIN CHECKPOINT", "EXPLAIN CHECKPOINT"),
        ] {
            let error = parse(sql)
                .err()
                .unwrap_or_else(|| Error::new(ErrorKind::Internal, format!("{sql} was accepted")));
            assert_eq!(
                (error.sqlstate(), error.message().contains(word)),
                ("0A000", true),
                "{sql}: {}",
                error.message()
            );
        }
    }

    #[test]
    fn syntax_errors_have_a_place() {
        for (sql, line, column) in [
            ("SELEC 1", 1, 1),
            ("SELECT 1\nFROM )", 2, 6),
            ("SELECT 1 2 3", 1, 10),
            ("CREATE TABEL t (a INT)", 1, 8),
            ("SHOW", 1, 5),
            ("SHOW COMMIT 7", 1, 13),
            ("WARM t", 1, 6),
            ("RUN t", 1, 5),
            ("PAUSE JOBS tidy", 1, 12),
            ("CANCEL JOBS", 1, 8),
            ("VERIFY REPAIR DRY t", 1, 19),
            ("VERIFY REPAIR DEEP", 1, 15),
            ("MERGE INTO t USING s ON true", 0, 0),
            ("MERGE INTO t USING s ON true WHEN NOT MATCHED THEN DELETE", 1, 52),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN INSERT VALUES (1)", 1, 48),
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.sqlstate(), "42601", "{sql}");
            let place = error.position().map(|p| (p.line, p.column));
            // The end of the text has no place in the parser.
            if line > 0 && sql != "SHOW" {
                assert_eq!(place, Some((line, column)), "{sql}: {}", error.message());
            }
        }
        let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
        assert_eq!(parse(&deep).unwrap_err().sqlstate(), "54001");
        assert_eq!(parse("").unwrap_err().sqlstate(), "42601");
        let error = parse("COMPACT u").unwrap_err();
        assert_eq!(error.hint(), Some("for one table write COMPACT TABLE u"));
    }
}
