//! The grammar of SET and RESET, and names of settings.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::Statement;
use super::token::{peek_is, syntax, take, unexpected};
use crate::error::{Error, Result};

/// `name[.name…]`, or `TIME ZONE`, lower-cased.
pub(super) fn setting_name(parser: &mut Parser<'_>) -> Result<String> {
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

/// SET, which comes next.
pub(super) fn set(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    if peek_is(parser, 0, "TRANSACTION")
        || peek_is(parser, 0, "ROLE")
        || (peek_is(parser, 0, "LOCAL") && !matches!(parser.peek_nth_token(1).token, Token::Eq))
    {
        let word = parser.peek_token().token.to_string().to_ascii_uppercase();
        return Err(Error::not_supported_yet(format!("SET {word}")));
    }
    let of_session = take(parser, "SESSION");
    let name = setting_name(parser)?;
    let zone = name == "timezone";
    if !take(parser, "TO") && !parser.consume_token(&Token::Eq) && !zone {
        return Err(unexpected("= or TO", &parser.peek_token()));
    }
    let mut value = String::new();
    let token = parser.next_token();
    match &token.token {
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("default") => {
            return whose(parser, of_session, name, None);
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
    whose(parser, of_session, name, Some(value))
}

/// `[FOR DATABASE]` behind a value.
fn whose(
    parser: &mut Parser<'_>,
    of_session: bool,
    name: String,
    value: Option<String>,
) -> Result<Statement> {
    Ok(match !of_session && for_database(parser)? {
        true => Statement::SetForDatabase { name: Some(name), value },
        false => Statement::Set { name, value },
    })
}

fn for_database(parser: &mut Parser<'_>) -> Result<bool> {
    if !take(parser, "FOR") {
        return Ok(false);
    }
    if take(parser, "DATABASE") { Ok(true) } else { Err(unexpected("DATABASE", &parser.peek_token())) }
}

/// RESET, which comes next.
pub(super) fn reset(parser: &mut Parser<'_>) -> Result<Statement> {
    parser.next_token();
    let name = setting_name(parser)?;
    let name = (name != "all").then_some(name);
    Ok(match for_database(parser)? {
        true => Statement::SetForDatabase { name, value: None },
        false => Statement::Reset(name),
    })
}
