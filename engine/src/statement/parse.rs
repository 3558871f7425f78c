//! From text to [`Statement`].
//!
//! Owns: the grammar of Cairn's own statements, and one clear answer for each word a later version brings.

use std::time::Duration;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{self, CascadeOption, Ident, ObjectType, TruncateIdentityOption};
use datafusion::sql::sqlparser::parser::{IsOptional, Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::place::{name_of, position_of};
use super::{
    DropKind, DropStatement, ExplainStatement, NESTING_MAX, STATEMENT_BYTES_MAX, Show, Statement, guard,
};
use crate::copy::{CopyDirection, CopyOptions, CopyStatement, CopySubject};
use crate::dialect::{CairnDialect, fold_operators, fold_struct_types};
use crate::error::{Error, Position, Result};

/// First words of statements that a later version brings.
const LATER: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BACKUP",
    "BEGIN",
    "CALL",
    "CANCEL",
    "COMMENT",
    "COMMIT",
    "COMPACT",
    "DEALLOCATE",
    "DECLARE",
    "DETACH",
    "DO",
    "END",
    "ESTIMATE",
    "EXECUTE",
    "GRANT",
    "IMPORT",
    "INSTALL",
    "KILL",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "NOTIFY",
    "OPTIMIZE",
    "PAUSE",
    "PRAGMA",
    "PREPARE",
    "REFRESH",
    "REINDEX",
    "RELEASE",
    "REPLACE",
    "RESTORE",
    "RESUME",
    "RETRY",
    "REVOKE",
    "ROLLBACK",
    "RUN",
    "SAVEPOINT",
    "START",
    "SUBSCRIBE",
    "UNDELETE",
    "UNLISTEN",
    "VACUUM",
];

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
    let statement = statement(&mut parser)?;
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token();
    if next.token != Token::EOF {
        return Err(unexpected("the end of the statement", &next));
    }
    Ok(statement)
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
    let tokens = super::script::tokenize(sql)?;
    Ok(Parser::new(&CairnDialect)
        .with_tokens_with_locations(fold_struct_types(fold_operators(tokens)))
        .with_recursion_limit(NESTING_MAX))
}

fn statement(parser: &mut Parser<'_>) -> Result<Statement> {
    let first = parser.peek_token();
    let Token::Word(word) = &first.token else {
        // A parenthesised query, or nonsense that the parser names.
        return classify(parser);
    };
    if word.quote_style.is_some() {
        return Err(unexpected("a statement", &first));
    }
    let word = word.value.to_ascii_uppercase();
    if LATER.contains(&word.as_str()) {
        return Err(later(&first, parser, &word));
    }
    match word.as_str() {
        "CHECKPOINT" => {
            parser.next_token();
            let table = if take(parser, "TABLE") {
                Some(parser.parse_object_name(false).map_err(syntax)?)
            } else {
                None
            };
            Ok(Statement::Checkpoint(table))
        }
        "VERIFY" => verify(parser),
        "WAIT" => wait(parser),
        "SHOW" => show(parser),
        "USE" => {
            parser.next_token();
            take(parser, "SCHEMA");
            Ok(Statement::Use(parser.parse_identifier().map_err(syntax)?))
        }
        "SET" => set(parser),
        "RESET" => {
            parser.next_token();
            let name = setting_name(parser)?;
            Ok(Statement::Reset((name != "all").then_some(name)))
        }
        "COPY" => copy(parser),
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
        "SELECT" | "WITH" | "VALUES" | "TABLE" | "FROM" | "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" => {
            classify(parser)
        }
        _ => Err(unexpected("a statement", &first)),
    }
}

/// Runs the parser's own grammar and sorts the result.
fn classify(parser: &mut Parser<'_>) -> Result<Statement> {
    let parsed = parser.parse_statement().map_err(syntax)?;
    guard::check(&parsed)?;
    Ok(match parsed {
        ast::Statement::Query(query) => Statement::Query(query),
        dml @ (ast::Statement::Insert(_) | ast::Statement::Update(_) | ast::Statement::Delete(_)) => {
            Statement::Dml(Box::new(dml))
        }
        ast::Statement::CreateTable(table) => Statement::CreateTable(Box::new(table)),
        ast::Statement::CreateView(view) => Statement::CreateView(Box::new(view)),
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

/// Refuses CREATE and DROP of what later versions bring, naming it.
fn object_kind(parser: &mut Parser<'_>, verb: &str) -> Result<()> {
    let mut n = 1;
    let mut skipped = Vec::new();
    let kind = loop {
        let token = parser.peek_nth_token(n);
        let Token::Word(word) = &token.token else { return Err(unexpected("TABLE, VIEW or SCHEMA", &token)) };
        let word = word.value.to_ascii_uppercase();
        match word.as_str() {
            "OR" => n += 1,
            "REPLACE" => n += 1,
            "UNIQUE" | "TEMP" | "TEMPORARY" | "UNLOGGED" | "GLOBAL" | "LOCAL" | "MATERIALIZED"
            | "EXTERNAL" | "RECURSIVE" => {
                skipped.push(word);
                n += 1;
            }
            _ => break word,
        }
    };
    skipped.push(kind);
    let what = skipped.join(" ");
    if ["TABLE", "VIEW", "SCHEMA"].contains(&what.as_str()) {
        return Ok(());
    }
    const KNOWN: &[&str] = &[
        "INDEX",
        "TAG",
        "USER",
        "ROLE",
        "FUNCTION",
        "DATABASE",
        "TRIGGER",
        "SEQUENCE",
        "TYPE",
        "DOMAIN",
        "EXTENSION",
        "TABLE",
        "VIEW",
        "MACRO",
        "SECRET",
        "PROCEDURE",
        "POLICY",
        "SERVER",
        "AGGREGATE",
        "STAGE",
    ];
    if skipped.last().is_some_and(|kind| KNOWN.contains(&kind.as_str())) {
        let token = parser.peek_token();
        let error = Error::not_supported_yet(format!("{verb} {what}"));
        return Err(match position_of(token.span.start) {
            Some(position) => error.at(position),
            None => error,
        });
    }
    Err(unexpected("TABLE, VIEW or SCHEMA", &parser.peek_nth_token(n)))
}

fn later(first: &TokenWithSpan, parser: &Parser<'_>, word: &str) -> Error {
    let second = match parser.peek_nth_token(1).token {
        Token::Word(w) if w.quote_style.is_none() => {
            let upper = w.value.to_ascii_uppercase();
            // Only words that belong to the statement's name.
            const SECOND: &[&str] = &[
                "TABLE",
                "DATABASE",
                "INDEX",
                "JOB",
                "JOBS",
                "QUERY",
                "TRANSACTION",
                "USER",
                "INTO",
                "FROM",
                "VIEW",
                "SCHEMA",
            ];
            if SECOND.contains(&upper.as_str()) { format!(" {upper}") } else { String::new() }
        }
        _ => String::new(),
    };
    let error = Error::not_supported_yet(format!("{word}{second}"));
    let error = if ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"].contains(&word) {
        error.map(|e| e.with_hint("every statement is its own transaction for now"))
    } else {
        error
    };
    match position_of(first.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}

fn verify(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let mut table = None;
    if take(parser, "TABLE") {
        table = Some(parser.parse_object_name(false).map_err(syntax)?);
    } else {
        take(parser, "DATABASE");
    }
    // Every checksum is read either way; DEEP is accepted so that scripts stay right when the shallow form gets faster.
    take(parser, "DEEP");
    if peek_is(parser, 0, "REPAIR") {
        return Err(Error::not_supported_yet("VERIFY … REPAIR"));
    }
    Ok(Statement::Verify { table })
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

fn show(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let token = parser.peek_token();
    let Token::Word(word) = &token.token else { return Err(unexpected("what to show", &token)) };
    let place = position_of(token.span.start);
    let shown = match word.value.to_ascii_uppercase().as_str() {
        "TABLES" => {
            parser.next_token();
            let schema = if take(parser, "FROM") || take(parser, "IN") {
                Some(parser.parse_identifier().map_err(syntax)?)
            } else {
                None
            };
            Show::Tables { schema }
        }
        "SCHEMAS" => {
            parser.next_token();
            Show::Schemas
        }
        "COLUMNS" => {
            parser.next_token();
            if !take(parser, "FROM") && !take(parser, "IN") {
                return Err(unexpected("FROM", &parser.peek_token()));
            }
            Show::Columns(parser.parse_object_name(false).map_err(syntax)?)
        }
        "CREATE" => {
            parser.next_token();
            if !take(parser, "TABLE") && !take(parser, "VIEW") {
                return Err(unexpected("TABLE or VIEW", &parser.peek_token()));
            }
            Show::Create(parser.parse_object_name(false).map_err(syntax)?)
        }
        "VERSIONS" => {
            parser.next_token();
            Show::Versions
        }
        "FUNCTIONS" => {
            parser.next_token();
            Show::Functions
        }
        "JOBS" => {
            parser.next_token();
            let mut table = None;
            if take(parser, "FOR") {
                if !take(parser, "TABLE") {
                    return Err(unexpected("TABLE", &parser.peek_token()));
                }
                table = Some(parser.parse_object_name(false).map_err(syntax)?);
            }
            if peek_is(parser, 0, "WHERE") {
                return Err(Error::not_supported_yet("SHOW JOBS … WHERE")
                    .map(|e| e.with_hint("SELECT … FROM system.jobs WHERE …")));
            }
            Show::Jobs { table }
        }
        "STATS" => {
            return Err(
                Error::not_supported_yet("SHOW STATS").map(|e| e.with_hint("SELECT * FROM system.tables"))
            );
        }
        "ALL" => {
            parser.next_token();
            Show::All
        }
        _ => Show::Setting(setting_name(parser)?, place),
    };
    Ok(Statement::Show(shown))
}

/// `name[.name…]`, or `TIME ZONE`, lower-cased.
fn setting_name(parser: &mut Parser<'_>) -> Result<String> {
    if peek_is(parser, 0, "TIME") && peek_is(parser, 1, "ZONE") {
        parser.next_token();
        parser.next_token();
        return Ok("timezone".to_owned());
    }
    let mut name = parser.parse_identifier().map_err(syntax)?.value.to_lowercase();
    while parser.consume_token(&Token::Period) {
        name.push('.');
        name.push_str(&parser.parse_identifier().map_err(syntax)?.value.to_lowercase());
    }
    Ok(name)
}

fn set(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    if peek_is(parser, 0, "TRANSACTION")
        || peek_is(parser, 0, "ROLE")
        || (peek_is(parser, 0, "LOCAL") && !matches!(parser.peek_nth_token(1).token, Token::Eq))
    {
        let word = parser.peek_token().token.to_string().to_ascii_uppercase();
        return Err(Error::not_supported_yet(format!("SET {word}")));
    }
    if peek_is(parser, 0, "SESSION") {
        parser.next_token();
    }
    let name = setting_name(parser)?;
    let zone = name == "timezone";
    if !take(parser, "TO") && !parser.consume_token(&Token::Eq) && !zone {
        return Err(unexpected("= or TO", &parser.peek_token()));
    }
    let mut value = String::new();
    let token = parser.next_token();
    match &token.token {
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("default") => {
            return Ok(Statement::Set { name, value: None });
        }
        Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => value.push_str(s),
        Token::DollarQuotedString(s) => value.push_str(&s.value),
        Token::Word(w) => {
            value.push_str(&if w.quote_style.is_some() { w.value.clone() } else { w.value.to_lowercase() })
        }
        Token::Number(n, _) => value.push_str(n),
        sign @ (Token::Minus | Token::Plus) => {
            let number = parser.next_token();
            let Token::Number(n, _) = &number.token else { return Err(unexpected("a value", &number)) };
            value.push_str(&format!("{sign}{n}"));
        }
        _ => return Err(unexpected("a value", &token)),
    }
    Ok(Statement::Set { name, value: Some(value) })
}

fn explain(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let (mut analyze, mut verbose, mut format) = (false, false, None);
    if parser.peek_token_ref().token == Token::LParen && !starts_query_in_parentheses(parser) {
        parser.next_token();
        loop {
            let token = parser.next_token();
            let Token::Word(word) = &token.token else {
                return Err(unexpected("an option of EXPLAIN", &token));
            };
            match word.value.to_ascii_uppercase().as_str() {
                "ANALYZE" => analyze = on(parser),
                "VERBOSE" => verbose = on(parser),
                "FORMAT" => {
                    format = Some(parser.next_token().token.to_string().trim_matches('\'').to_lowercase())
                }
                _ => return Err(unexpected("ANALYZE, VERBOSE or FORMAT", &token)),
            }
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen).map_err(syntax)?;
    } else {
        loop {
            if take(parser, "ANALYZE") {
                analyze = true;
            } else if take(parser, "VERBOSE") {
                verbose = true;
            } else if take(parser, "FORMAT") {
                format = Some(parser.next_token().token.to_string().trim_matches('\'').to_lowercase());
            } else {
                break;
            }
        }
    }
    let first = parser.peek_token();
    let explained = statement(parser)?;
    match explained {
        Statement::Query(_) | Statement::Dml(_) | Statement::CreateTable(_) => {
            Ok(Statement::Explain(ExplainStatement {
                analyze,
                verbose,
                format,
                statement: Box::new(explained),
            }))
        }
        _ => {
            Err(Error::not_supported_yet(format!("EXPLAIN {}", first.token.to_string().to_ascii_uppercase())))
        }
    }
}

fn on(parser: &mut Parser<'_>) -> bool {
    if take(parser, "FALSE") || take(parser, "OFF") {
        return false;
    }
    let _ = take(parser, "TRUE") || take(parser, "ON");
    true
}

fn copy(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let subject = if parser.consume_token(&Token::LParen) {
        let query = parser.parse_query().map_err(syntax)?;
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        guard::check(&ast::Statement::Query(query.clone()))?;
        CopySubject::Query(query)
    } else {
        let name = parser.parse_object_name(false).map_err(syntax)?;
        let columns = if parser.peek_token_ref().token == Token::LParen {
            parser.parse_parenthesized_column_list(IsOptional::Mandatory, false).map_err(syntax)?
        } else {
            Vec::new()
        };
        CopySubject::Table { name, columns }
    };
    let direction = if take(parser, "TO") {
        CopyDirection::To
    } else if take(parser, "FROM") {
        CopyDirection::From
    } else {
        return Err(unexpected("FROM or TO", &parser.peek_token()));
    };
    if direction == CopyDirection::From && matches!(subject, CopySubject::Query(_)) {
        return Err(syntax_error("COPY (query) can only go TO a file"));
    }
    let token = parser.next_token();
    let path = match &token.token {
        Token::SingleQuotedString(path) => path.clone(),
        Token::Word(w) if ["STDIN", "STDOUT", "PROGRAM"].contains(&w.value.to_ascii_uppercase().as_str()) => {
            return Err(Error::not_supported_yet(format!("COPY … {}", w.value.to_ascii_uppercase())));
        }
        _ => return Err(unexpected("a path in single quotes", &token)),
    };
    let options = CopyOptions::parse(&copy_options(parser)?)?;
    Ok(Statement::Copy(CopyStatement { direction, subject, path, options }))
}

/// `[WITH] (name [value], …)` as names and values; a name alone is `true`, a list is joined by commas.
fn copy_options(parser: &mut Parser<'_>) -> Result<Vec<(String, String)>> {
    let mut options: Vec<(String, String)> = Vec::new();
    let with = take(parser, "WITH");
    if !parser.consume_token(&Token::LParen) {
        if with {
            return Err(unexpected("(", &parser.peek_token()));
        }
        return Ok(options);
    }
    loop {
        let token = parser.peek_token();
        let name = name_of(&parser.parse_identifier().map_err(syntax)?);
        // `name = value` is accepted as well as `name value`.
        let _ = parser.consume_token(&Token::Eq);
        let value = option_value(parser)?;
        if options.iter().any(|(earlier, _)| *earlier == name) {
            return Err(unexpected(&format!("option {name} only once"), &token));
        }
        options.push((name, value));
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(syntax)?;
    Ok(options)
}

fn option_value(parser: &mut Parser<'_>) -> Result<String> {
    if matches!(parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        return Ok("true".to_owned());
    }
    let token = parser.next_token();
    Ok(match &token.token {
        Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => s.clone(),
        Token::Number(n, _) => n.clone(),
        Token::Minus => {
            let number = parser.next_token();
            let Token::Number(n, _) = &number.token else { return Err(unexpected("a number", &number)) };
            format!("-{n}")
        }
        Token::Word(w) => name_of(&w.clone().into_ident(token.span)),
        Token::LParen => {
            let mut items = Vec::new();
            loop {
                let item: Ident = parser.parse_identifier().map_err(syntax)?;
                items.push(name_of(&item));
                if !parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            items.join(",")
        }
        _ => return Err(unexpected("a value", &token)),
    })
}

fn peek_is(parser: &Parser<'_>, n: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(n).token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn take(parser: &mut Parser<'_>, word: &str) -> bool {
    let found = peek_is(parser, 0, word);
    if found {
        parser.next_token();
    }
    found
}

fn starts_query(parser: &Parser<'_>) -> bool {
    parser.peek_token_ref().token == Token::LParen
        || ["SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE"].iter().any(|w| peek_is(parser, 0, w))
}

fn starts_query_in_parentheses(parser: &Parser<'_>) -> bool {
    ["SELECT", "WITH", "VALUES"].iter().any(|w| peek_is(parser, 1, w))
        || parser.peek_nth_token_ref(1).token == Token::LParen
}

fn unexpected(expected: &str, found: &TokenWithSpan) -> Error {
    let found_text = if found.token == Token::EOF {
        "the end of the statement".to_owned()
    } else {
        found.token.to_string()
    };
    let error = syntax_error(&format!("expected {expected}, found {found_text}"));
    match position_of(found.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}

pub(super) fn syntax_error(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("syntax error: {message}")).map(|e| e.with_sqlstate("42601"))
}

fn syntax(error: ParserError) -> Error {
    syntax_of(&error)
}

/// The parser's error as ours, with the place its text names.
pub(crate) fn syntax_of(error: &ParserError) -> Error {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return Error::new(
                ErrorKind::ResourceExhausted,
                format!("the statement is nested more than {NESTING_MAX} levels deep"),
            )
            .map(|e| {
                e.with_sqlstate("54001")
                    .with_hint("break it up with WITH, or use IN (…) for long chains of OR")
            });
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
    };
    let (message, position) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), place_of(place)),
        None => (text.to_owned(), None),
    };
    let message = match message.strip_prefix("Expected: ").and_then(|m| m.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, found the end of the statement"),
        Some((expected, found)) => format!("expected {expected}, found {found}"),
        None => message,
    };
    let error = syntax_error(&message);
    match position {
        Some(position) => error.at(position),
        None => error,
    }
}

/// `1, Column: 8`
fn place_of(text: &str) -> Option<Position> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
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
            (
                "CREATE TABLE t (a BIGINT PRIMARY KEY, b TINYINT UNSIGNED, c TEXT[], d STRUCT(x INT, y STRUCT(z TEXT))) WITH (sort = 'a')",
                "CreateTable",
            ),
            ("CREATE TABLE t AS SELECT struct(1, 2) AS s", "CreateTable"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "CreateView"),
            ("CREATE SCHEMA IF NOT EXISTS s", "CreateSchema"),
            ("DROP TABLE IF EXISTS a, b CASCADE", "Drop"),
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
            ("VERIFY DATABASE DEEP", "Verify"),
            ("WAIT FOR VERSION 7 TIMEOUT '5 s'", "WaitForVersion"),
        ] {
            let parsed = parse(sql).map_err(|e| format!("{sql}: {e}")).unwrap();
            let debug = format!("{parsed:?}");
            assert!(debug.starts_with(kind), "{sql}: {debug}");
        }
    }

    #[test]
    fn words_of_later_versions_are_named() {
        for (sql, word) in [
            ("BEGIN", "BEGIN"),
            ("COMMIT", "COMMIT"),
            ("CREATE UNIQUE INDEX i ON t (a)", "CREATE UNIQUE INDEX"),
            ("CREATE INDEX ON t USING hnsw (e)", "CREATE INDEX"),
            ("CREATE TAG 'x'", "CREATE TAG"),
            ("CREATE TEMP TABLE t (a INT)", "CREATE TEMP TABLE"),
            ("CREATE EXTERNAL TABLE t STORED AS csv LOCATION 'x'", "CREATE EXTERNAL TABLE"),
            ("CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS $$ SELECT 1 $$", "CREATE FUNCTION"),
            ("DROP INDEX i", "DROP INDEX"),
            ("ALTER TABLE t ADD COLUMN a INT", "ALTER TABLE"),
            ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "MERGE INTO"),
            ("VACUUM", "VACUUM"),
            ("COMPACT TABLE t", "COMPACT TABLE"),
            ("RUN JOBS", "RUN JOBS"),
            ("KILL QUERY 1", "KILL QUERY"),
            ("SELECT * FROM t VERSION AS OF 3", "VERSION AS OF"),
            ("SELECT * FROM t TIMESTAMP AS OF '2026-01-01'", "TIMESTAMP AS OF"),
            ("SELECT * FROM t FOR SYSTEM_TIME AS OF '2026-01-01'", "FOR SYSTEM_TIME AS OF"),
            ("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE"),
            ("SELECT * FROM t FOR UPDATE", "FOR UPDATE"),
            ("SELECT * FROM vector_search('t', 'e', $1)", "vector_search"),
            ("EXPLAIN CHECKPOINT", "EXPLAIN CHECKPOINT"),
            ("VERIFY TABLE t REPAIR", "VERIFY … REPAIR"),
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
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.sqlstate(), "42601", "{sql}");
            let place = error.position().map(|p| (p.line, p.column));
            // The end of the text has no place in the parser.
            if sql != "SHOW" {
                assert_eq!(place, Some((line, column)), "{sql}: {}", error.message());
            }
        }
        let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
        assert_eq!(parse(&deep).unwrap_err().sqlstate(), "54001");
        assert_eq!(parse("").unwrap_err().sqlstate(), "42601");
    }
}
