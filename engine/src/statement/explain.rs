//! The grammar of EXPLAIN.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::parse::statement;
use super::token::{holds_another, peek_is, syntax, take, unexpected};
use super::{ExplainStatement, Statement};
use crate::error::{Error, Result};

/// EXPLAIN, which comes next.
pub(super) fn explain(parser: &mut Parser<'_>) -> Result<Statement> {
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
    let refused =
        || Error::not_supported_yet(format!("EXPLAIN {}", first.token.to_string().to_ascii_uppercase()));
    if holds_another(parser) {
        return Err(refused());
    }
    let explained = statement(parser)?;
    match explained {
        Statement::Query(_) | Statement::Dml(_) | Statement::CreateTable(_) | Statement::CreateIndex(_) => {
            Ok(Statement::Explain(ExplainStatement {
                analyze,
                verbose,
                format,
                statement: Box::new(explained),
            }))
        }
        _ => Err(refused()),
    }
}

fn on(parser: &mut Parser<'_>) -> bool {
    if take(parser, "FALSE") || take(parser, "OFF") {
        return false;
    }
    let _ = take(parser, "TRUE") || take(parser, "ON");
    true
}

fn starts_query_in_parentheses(parser: &Parser<'_>) -> bool {
    ["SELECT", "WITH", "VALUES"].iter().any(|w| peek_is(parser, 1, w))
        || parser.peek_nth_token_ref(1).token == Token::LParen
}
