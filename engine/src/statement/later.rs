//! Words of statements that a later version brings: one clear answer for each.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::place::position_of;
use super::token::unexpected;
use crate::error::{Error, Result};

/// First words of statements that a later version brings.
pub(super) const LATER: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "ATTACH",
    "BACKUP",
    "CALL",
    "COMMENT",
    "DECLARE",
    "DETACH",
    "DO",
    "ESTIMATE",
    "IMPORT",
    "INSTALL",
    "LISTEN",
    "LOAD",
    "LOCK",
    "NOTIFY",
    "OPTIMIZE",
    "PRAGMA",
    "REFRESH",
    "REPLACE",
    "RESTORE",
    "SUBSCRIBE",
    "UNDELETE",
    "UNLISTEN",
];

/// Refuses CREATE and DROP of what later versions bring, naming it.
pub(super) fn object_kind(parser: &mut Parser<'_>, verb: &str) -> Result<()> {
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
    if ["TABLE", "VIEW", "SCHEMA", "INDEX"].contains(&what.as_str()) {
        return Ok(());
    }
    const KNOWN: &[&str] = &[
        "INDEX",
        "TAG",
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

/// The error for a statement that begins with one of [`LATER`].
pub(super) fn later(first: &TokenWithSpan, parser: &Parser<'_>, word: &str) -> Error {
    let second = match parser.peek_nth_token(1).token {
        Token::Word(w) if w.quote_style.is_none() => {
            let upper = w.value.to_ascii_uppercase();
            // Only words that belong to the statement's name.
            const SECOND: &[&str] =
                &["TABLE", "DATABASE", "INDEX", "QUERY", "USER", "INTO", "FROM", "VIEW", "SCHEMA"];
            if SECOND.contains(&upper.as_str()) { format!(" {upper}") } else { String::new() }
        }
        _ => String::new(),
    };
    let error = Error::not_supported_yet(format!("{word}{second}"));
    match position_of(first.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}
