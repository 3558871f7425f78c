//! The grammar of PREPARE, EXECUTE, DEALLOCATE and KILL QUERY.

use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use super::parse::statement;
use super::place::position_of;
use super::precedence;
use super::token::{holds_another, syntax, take, unexpected};
use super::{ExecuteStatement, PrepareStatement, Statement};
use crate::dialect::types::column_type;
use crate::error::{Error, Result};

/// PREPARE, which comes next. Its text is put in by whoever has it: see [`text_from`].
pub(super) fn prepare(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let name = parser.parse_identifier().map_err(syntax)?;
    let mut types: Vec<DataType> = Vec::new();
    if parser.consume_token(&Token::LParen) {
        let written = parser.parse_comma_separated(Parser::parse_data_type).map_err(syntax)?;
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        for written in &written {
            types.push(column_type(written)?.arrow());
        }
    }
    if !take(parser, "AS") {
        return Err(unexpected("AS", &parser.peek_token()));
    }
    let first = parser.peek_token();
    let refused = || {
        let error = Error::not_supported_yet(format!("PREPARE of {}", first.token))
            .map(|e| e.with_hint("queries, INSERT, UPDATE, DELETE and MERGE can be prepared"));
        match position_of(first.span.start) {
            Some(position) => error.at(position),
            None => error,
        }
    };
    if holds_another(parser) {
        return Err(refused());
    }
    let prepared = statement(parser)?;
    if !matches!(prepared, Statement::Query(_) | Statement::Dml(_)) {
        return Err(refused());
    }
    let (statement, begins) = (Box::new(prepared), first.span.start);
    Ok(Statement::Prepare(PrepareStatement { name, types, statement, text: String::new(), begins }))
}

/// The text of `sql` from `begins` on, without what ends it.
pub(super) fn text_from(sql: &str, begins: Location) -> &str {
    let line = usize::try_from(begins.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let column = usize::try_from(begins.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let before: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &sql[before..];
    let start = rest.char_indices().nth(column).map_or(rest.len(), |(start, _)| start);
    rest[start..].trim_end_matches(|c: char| c.is_whitespace() || c == ';')
}

/// EXECUTE, which comes next.
pub(super) fn execute(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let name = parser.parse_identifier().map_err(syntax)?;
    let mut values = Vec::new();
    if parser.consume_token(&Token::LParen) {
        values = parser.parse_comma_separated0(Parser::parse_expr, Token::RParen).map_err(syntax)?;
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        values.iter_mut().for_each(precedence::settle_within);
    }
    Ok(Statement::Execute(ExecuteStatement { name, values }))
}

/// DEALLOCATE, which comes next.
pub(super) fn deallocate(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    take(parser, "PREPARE");
    if take(parser, "ALL") {
        return Ok(Statement::Deallocate(None));
    }
    Ok(Statement::Deallocate(Some(parser.parse_identifier().map_err(syntax)?)))
}

/// KILL QUERY, which comes next.
pub(super) fn kill(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    if !take(parser, "QUERY") {
        return Err(unexpected("QUERY", &parser.peek_token()));
    }
    Ok(Statement::KillQuery(parser.parse_literal_uint().map_err(syntax)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::statement::parse;

    #[test]
    fn a_prepared_statement_keeps_its_text() {
        for (sql, text) in [
            ("PREPARE p AS SELECT $1", "SELECT $1"),
            (
                "prepare \"é\" (INT, TEXT) AS\n  /* é */ UPDATE t\nSET a = 'é;' ;\n ;",
                "UPDATE t\nSET a = 'é;'",
            ),
            (";;\nPREPARE p AS VALUES (1);", "VALUES (1)"),
        ] {
            let Statement::Prepare(prepared) = parse(sql).unwrap() else { panic!("{sql}") };
            assert_eq!(prepared.text, text, "{sql}");
        }
    }

    #[test]
    fn only_queries_and_changes_are_prepared() {
        for sql in ["PREPARE p AS CREATE TABLE t (a INT)", "PREPARE p AS PREPARE q AS SELECT 1"] {
            assert_eq!(parse(sql).unwrap_err().sqlstate(), "0A000", "{sql}");
        }
        // Each in the other would use up the stack.
        for row in ["PREPARE p AS ", "EXPLAIN ", "EXPLAIN PREPARE p AS "] {
            let sql = format!("{}SELECT 1", row.repeat(20_000));
            assert_eq!(parse(&sql).unwrap_err().sqlstate(), "0A000", "{row}");
        }
        for sql in ["PREPARE p SELECT 1", "EXECUTE p(", "KILL 1", "KILL QUERY x", "DEALLOCATE"] {
            assert_eq!(parse(sql).unwrap_err().sqlstate(), "42601", "{sql}");
        }
    }
}
