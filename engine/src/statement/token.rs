//! Single tokens of our own grammars, and the errors of syntax.
//!
//! Owns: taking words, what was expected and found, the parser's errors as ours with their place.

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::NESTING_MAX;
use super::place::position_of;
use crate::error::{Error, Position};

/// Whether the token `n` ahead is `word`.
pub(super) fn peek_is(parser: &Parser<'_>, n: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(n).token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Takes `word` if it comes next.
pub(super) fn take(parser: &mut Parser<'_>, word: &str) -> bool {
    let found = peek_is(parser, 0, word);
    if found {
        parser.next_token();
    }
    found
}

/// Whether a statement comes next that has another one in it. Those are in no other: however many stand in a row, nothing may go down
/// into each of them, which would use up the stack.
pub(super) fn holds_another(parser: &Parser<'_>) -> bool {
    ["EXPLAIN", "DESCRIBE", "DESC", "PREPARE"].iter().any(|word| peek_is(parser, 0, word))
}

/// The error for a token that does not belong where it stands.
pub(super) fn unexpected(expected: &str, found: &TokenWithSpan) -> Error {
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

/// An error of syntax without a place.
pub(super) fn syntax_error(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("syntax error: {message}")).map(|e| e.with_sqlstate("42601"))
}

/// [`syntax_of`] by value.
pub(super) fn syntax(error: ParserError) -> Error {
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
