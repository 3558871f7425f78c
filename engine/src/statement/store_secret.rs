//! The grammar of secrets for object storage: CREATE SECRET and DROP SECRET, as DuckDB spells them.
//!
//! Owns: a grammar whose errors never show a value: what was found may be a secret. Does not own: what an option may be
//! (`crate::stores`).

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::account::{end, found, name, words};
use super::place::position_of;
use super::token::{peek_is, syntax_error, take};
use super::{SecretStatement, Statement};
use crate::error::{Error, Result};
use crate::rights::Secret;
use crate::stores::{SecretOption, StoreSecret};

/// How long a secret may be meant to live.
const LIVES: [&str; 3] = ["TEMPORARY", "TEMP", "PERSISTENT"];

/// Whether CREATE or DROP, which comes next, is about a secret.
pub(super) fn is_next(parser: &Parser<'_>) -> bool {
    let mut n = 1;
    if peek_is(parser, n, "OR") && peek_is(parser, n + 1, "REPLACE") {
        n += 2;
    }
    if LIVES.iter().any(|word| peek_is(parser, n, word)) {
        n += 1;
    }
    peek_is(parser, n, "SECRET")
}

/// CREATE or DROP of a secret, which comes next.
pub(super) fn secret(parser: &mut Parser<'_>) -> Result<Statement> {
    let creates = take(parser, "CREATE");
    if !creates {
        parser.next_token();
    }
    let replace = words(parser, &["OR", "REPLACE"])?;
    if take(parser, "PERSISTENT") {
        return Err(Error::not_supported_yet("PERSISTENT SECRET").map(|e| {
            e.with_hint(
                "a secret lives in its session: leave PERSISTENT out, and give it again in the next one",
            )
        }));
    }
    let _ = take(parser, "TEMPORARY") || take(parser, "TEMP");
    if (replace && !creates) || !take(parser, "SECRET") {
        return Err(found(parser, "SECRET"));
    }
    let statement = if creates {
        let if_not_exists = words(parser, &["IF", "NOT", "EXISTS"])?;
        if replace && if_not_exists {
            return Err(syntax_error("OR REPLACE and IF NOT EXISTS do not go together"));
        }
        SecretStatement::Create {
            name: name(parser)?,
            replace,
            if_not_exists,
            secret: Box::new(options(parser)?),
        }
    } else {
        let if_exists = words(parser, &["IF", "EXISTS"])?;
        SecretStatement::Drop { name: name(parser)?, if_exists }
    };
    end(parser)?;
    Ok(Statement::Secret(Box::new(statement)))
}

/// `(TYPE s3, KEY_ID '…', …)`, in any order.
fn options(parser: &mut Parser<'_>) -> Result<StoreSecret> {
    if !parser.consume_token(&Token::LParen) {
        return Err(found(parser, "(TYPE s3, …)"));
    }
    let mut options: Vec<(SecretOption, Secret)> = Vec::new();
    loop {
        let option = option(parser, &options)?;
        let value = value(parser, option)?;
        options.push((option, value));
        if parser.consume_token(&Token::RParen) {
            return StoreSecret::new(&options);
        }
        if !parser.consume_token(&Token::Comma) {
            return Err(found(parser, ", or )"));
        }
    }
}

fn option(parser: &mut Parser<'_>, given: &[(SecretOption, Secret)]) -> Result<SecretOption> {
    let place = position_of(parser.peek_token_ref().span.start);
    if take(parser, "PROVIDER") {
        return Err(Error::not_supported_yet("PROVIDER of a secret")
            .map(|e| e.with_hint("without a secret, the credentials of the environment are used")));
    }
    let word = name(parser)?;
    let option = SecretOption::of_word(&word.value).filter(|_| word.quote_style.is_none());
    if let Some(option) = option.filter(|option| given.iter().all(|(other, _)| other != option)) {
        return Ok(option);
    }
    let words: Vec<&str> = SecretOption::ALL.iter().map(|option| option.word()).collect();
    let error = syntax_error("each option of a secret stands there once, under its name")
        .map(|e| e.with_hint(format!("options: {}", words.join(", "))));
    Err(match place {
        Some(place) => error.at(place),
        None => error,
    })
}

fn value(parser: &mut Parser<'_>, option: SecretOption) -> Result<Secret> {
    let text = match &parser.peek_token_ref().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
        Token::DollarQuotedString(text) => text.value.clone(),
        Token::Word(word) if option.takes_word() && word.quote_style.is_none() => word.value.clone(),
        _ => return Err(found(parser, &format!("the value of {} in single quotes", option.word()))),
    };
    parser.next_token();
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::statement::parse;

    #[test]
    fn no_error_and_no_tree_shows_a_value() {
        for (sql, state) in [
            ("CREATE SECRET a (TYPE s3, KEY_ID 'hunter2', SECRET 'hunter2', SESSION_TOKEN $$hunter2$$)", ""),
            ("CREATE SECRET a (TYPE s3, KEY_ID hunter2, SECRET 'x')", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET hunter2)", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x' 'hunter2')", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', hunter2)", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID = 'hunter2')", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', KEY_ID 'hunter2')", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'y', hunter2 'z')", "42601"),
            ("CREATE SECRET a TYPE s3, SECRET 'hunter2'", "42601"),
            ("CREATE SECRET 'hunter2'", "42601"),
            ("CREATE SECRET (TYPE s3, SECRET 'hunter2')", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'y') 'hunter2'", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'y'); 'hunter2'", "42601"),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'hunter2", "42601"),
            ("CREATE SECRET a (TYPE hunter2, KEY_ID 'x', SECRET 'y')", "22023"),
            ("CREATE SECRET a (TYPE s3, SECRET 'hunter2')", "22023"),
            ("CREATE SECRET a (TYPE s3, SECRET $$hunter2$$, KEY_ID E'hunter2')", ""),
            ("CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'y', SCOPE 'hunter2')", "22023"),
            ("CREATE PERSISTENT SECRET a (TYPE s3, KEY_ID 'x', SECRET 'hunter2')", "0A000"),
            ("CREATE SECRET a (TYPE s3, PROVIDER hunter2)", "0A000"),
            ("CREATE OR REPLACE SECRET IF NOT EXISTS a (SECRET 'hunter2')", "42601"),
            ("EXPLAIN CREATE SECRET a (TYPE s3, KEY_ID 'x', SECRET 'hunter2')", "0A000"),
            ("ALTER SECRET a (SECRET 'hunter2')", "0A000"),
            ("DROP SECRET a 'hunter2'", "42601"),
            ("DROP OR REPLACE SECRET a", "42601"),
            ("DROP PERSISTENT SECRET a", "0A000"),
        ] {
            let (shown, got) = match parse(sql) {
                Ok(statement) => (format!("{statement:?}"), ""),
                Err(error) => (format!("{error:?}"), error.sqlstate()),
            };
            assert_eq!(got, state, "{sql}: {shown}");
            assert!(!shown.contains("hunter2"), "{sql}: {shown}");
        }
    }
}
