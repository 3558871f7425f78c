//! The grammar of COPY.
//!
//! Owns: its words and the pairs of its WITH clause. Does not own: what the options mean (`crate::copy`).

use datafusion::sql::sqlparser::ast::{self, Ident};
use datafusion::sql::sqlparser::parser::{IsOptional, Parser};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::item::name_columns_of;
use super::place::name_of;
use super::token::{syntax, syntax_error, take, unexpected};
use super::{Statement, fetch, guard, precedence};
use crate::copy::{CopyDirection, CopyOptions, CopyStatement, CopySubject};
use crate::error::{Error, Result};

/// COPY, which comes next.
pub(super) fn copy(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let subject = if parser.consume_token(&Token::LParen) {
        let mut query = parser.parse_query().map_err(syntax)?;
        parser.expect_token(&Token::RParen).map_err(syntax)?;
        name_columns_of(&mut query);
        precedence::settle_within(&mut *query);
        if guard::check(&ast::Statement::Query(query.clone()))?.fetches {
            fetch::as_limit(&mut *query)?;
        }
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
