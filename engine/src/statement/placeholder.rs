//! Placeholders written `?`, as ODBC, JDBC and SQLite have them: numbered from the left, they are `$1`, `$2`, ….

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::place::position_of;
use super::token::syntax_error;
use crate::error::Result;

/// `tokens` with a number for every `?`, which the tokenizer takes for an operator of PostgreSQL's.
///
/// # Errors
/// 42601 for a statement that has `?` beside `$n`: nobody could say which number it has.
pub(super) fn number(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let (mut marks, mut named) = (0_usize, false);
    for token in &mut tokens {
        match token.token {
            Token::Question => {
                marks += 1;
                token.token = Token::Placeholder(format!("${marks}"));
            }
            Token::Placeholder(_) => named = true,
            _ => continue,
        }
        if named && marks > 0 {
            let error = syntax_error("a statement has placeholders ? or $n, not both");
            return Err(match position_of(token.span.start) {
                Some(position) => error.at(position),
                None => error,
            });
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use crate::statement::{Statement, parse};

    fn parsed(sql: &str) -> String {
        match parse(sql) {
            Ok(Statement::Query(query)) => query.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{} {}", error.sqlstate(), error.message()),
        }
    }

    #[test]
    fn question_marks_are_numbered_from_the_left() {
        assert_eq!(
            parsed("SELECT ?, a FROM t WHERE a = ? AND b <> '?' LIMIT ?"),
            "SELECT $1, a FROM t WHERE a = $2 AND b <> '?' LIMIT $3"
        );
        for sql in ["SELECT ?, $1", "SELECT $1, ?"] {
            assert_eq!(parsed(sql), "42601 syntax error: a statement has placeholders ? or $n, not both");
        }
    }
}
