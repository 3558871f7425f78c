//! Cutting a script into statements.
//!
//! Owns: finding the `;` that end statements, outside comments, strings and dollar quotes. Does not own: whether what stands
//! between them is right.

use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::token::syntax_error;
use crate::dialect::CairnDialect;
use crate::error::Result;

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptStatement {
    /// Its text, without the `;`, comments inside kept.
    pub text: String,
    /// Line of the script it begins on, from 1.
    pub line: u64,
}

/// Cuts `sql` at each `;`; empty statements are left out.
///
/// # Errors
/// `InvalidInput` (42601) with the place when a quote or comment never ends.
pub(crate) fn split(sql: &str) -> Result<Vec<ScriptStatement>> {
    let tokens = tokenize(sql)?;
    let offsets = LineOffsets::new(sql);
    let mut statements = Vec::new();
    let mut span: Option<(Location, Location)> = None;
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                statements.extend(span.take().map(|s| cut(sql, &offsets, s)));
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => span = Some((span.map_or(token.span.start, |s| s.0), token.span.end)),
        }
    }
    statements.extend(span.map(|s| cut(sql, &offsets, s)));
    Ok(statements)
}

/// Whether `sql`, as typed so far, is whole statements: it ends with `;`, or holds nothing but blanks and comments.
#[must_use]
pub(crate) fn statement_complete(sql: &str) -> bool {
    match tokenize(sql) {
        Ok(tokens) => {
            let last = tokens.iter().rev().find(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF));
            last.is_none_or(|t| t.token == Token::SemiColon)
        }
        // A quote, dollar quote or comment is still open.
        Err(_) => false,
    }
}

pub(super) fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(&CairnDialect, sql).tokenize_with_location().map_err(|e| {
        let error = syntax_error(&e.message);
        match super::place::position_of(e.location) {
            Some(position) => error.at(position),
            None => error,
        }
    })
}

fn cut(sql: &str, offsets: &LineOffsets, (start, end): (Location, Location)) -> ScriptStatement {
    let text = sql.get(offsets.byte(sql, start)..offsets.byte(sql, end)).unwrap_or_default();
    ScriptStatement { text: text.trim().to_owned(), line: start.line }
}

/// Byte offset of each line of a text.
struct LineOffsets(Vec<usize>);

impl LineOffsets {
    fn new(sql: &str) -> Self {
        Self(std::iter::once(0).chain(sql.match_indices('\n').map(|(i, _)| i + 1)).collect())
    }

    fn byte(&self, sql: &str, location: Location) -> usize {
        let line = usize::try_from(location.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.0.get(line).copied() else { return sql.len() };
        let column = usize::try_from(location.column.saturating_sub(1)).unwrap_or(usize::MAX);
        sql[start..].char_indices().nth(column).map_or(sql.len(), |(i, _)| start + i)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_at_semicolons_outside_quotes_and_comments() {
        let cases: &[(&str, &[(&str, u64)])] = &[
            ("", &[]),
            (";;", &[]),
            ("-- nothing\n", &[]),
            ("SELECT 1", &[("SELECT 1", 1)]),
            ("SELECT 1;\n\nSELECT ';';", &[("SELECT 1", 1), ("SELECT ';'", 3)]),
            ("SELECT $$a;b$$ ; SELECT \"a;\" -- ; no\n;", &[("SELECT $$a;b$$", 1), ("SELECT \"a;\"", 1)]),
            ("/* ; */ SELECT /* ; */ 'é;'; VALUES (1)", &[("SELECT /* ; */ 'é;'", 1), ("VALUES (1)", 1)]),
        ];
        for (sql, expected) in cases {
            let got: Vec<_> = split(sql).unwrap().into_iter().map(|s| (s.text, s.line)).collect();
            let expected: Vec<_> = expected.iter().map(|(t, l)| ((*t).to_owned(), *l)).collect();
            assert_eq!(got, expected, "{sql}");
        }
        assert!(split("SELECT 'open").is_err());
    }

    #[test]
    fn a_statement_is_complete_at_its_semicolon() {
        for (sql, complete) in [
            ("", true),
            ("-- c", true),
            ("SELECT 1", false),
            ("SELECT 1;", true),
            ("SELECT ';", false),
            ("SELECT ';'; -- c", true),
            ("SELECT 1; SELECT", false),
            ("/* ;", false),
            ("SELECT $$ ;", false),
        ] {
            assert_eq!(statement_complete(sql), complete, "{sql}");
        }
    }
}
