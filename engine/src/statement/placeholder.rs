//! Placeholders written `?`, as ODBC, JDBC and SQLite have them: numbered from the left, they are `$1`, `$2`, ….
//!
//! Owns: their numbers, and how many parameters a statement may have. Does not own: that `?` is no operator (`dialect`).

use std::collections::HashSet;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::place::position_of;
use super::token::syntax_error;
use crate::error::{Error, Result};

/// Most parameters of a statement, and the largest `$n`; as in PostgreSQL's protocol.
const PARAMETERS_MAX: usize = 65_535;

/// `tokens` with a number for every `?`.
///
/// # Errors
/// 42601 for a statement that has `?` beside `$n`: nobody could say which number it has; 54000 for too many parameters. Both with
/// the place.
pub(super) fn number(mut tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let (mut marks, mut named) = (0_usize, HashSet::<String>::new());
    for token in &mut tokens {
        let Token::Placeholder(name) = &mut token.token else { continue };
        let fits = if *name == "?" {
            marks += 1;
            *name = format!("${marks}");
            marks <= PARAMETERS_MAX
        } else if name.starts_with('?') {
            return Err(at(token, syntax_error(&format!("expected ? or $n, found {}", token.token))));
        } else {
            if !named.contains(name.as_str()) {
                named.insert(name.clone());
            }
            named.len() <= PARAMETERS_MAX && (!is_number(name) || number_of(&name[1..]).is_some())
        };
        if !fits {
            return Err(at(token, too_many()));
        }
        if marks > 0 && !named.is_empty() {
            return Err(at(token, syntax_error("a statement has placeholders ? or $n, not both")));
        }
    }
    Ok(tokens)
}

/// The number of a parameter that has one as its name.
pub(super) fn number_of(name: &str) -> Option<usize> {
    name.parse::<usize>().ok().filter(|number| *number <= PARAMETERS_MAX)
}

/// Whether a placeholder is `$` and digits.
fn is_number(placeholder: &str) -> bool {
    placeholder.len() > 1 && placeholder.bytes().skip(1).all(|byte| byte.is_ascii_digit())
}

fn too_many() -> Error {
    let message = format!("a statement has at most {PARAMETERS_MAX} parameters");
    Error::new(ErrorKind::ResourceExhausted, message).map(|e| {
        e.with_sqlstate("54000")
            .with_hint("bind many rows to fewer parameters, or give a list as one parameter")
    })
}

fn at(token: &TokenWithSpan, error: Error) -> Error {
    match position_of(token.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr};

    use super::PARAMETERS_MAX;
    use crate::error::Position;
    use crate::statement::{Statement, parse};

    /// The query with its items as they were written, without the names they get.
    fn parsed(sql: &str) -> String {
        match parse(sql) {
            Ok(Statement::Query(mut query)) => {
                if let SetExpr::Select(select) = query.body.as_mut() {
                    for item in &mut select.projection {
                        if let SelectItem::ExprWithAlias { expr, .. } = item {
                            *item = SelectItem::UnnamedExpr(expr.clone());
                        }
                    }
                }
                query.to_string()
            }
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
        assert_eq!(parsed("SELECT ?1"), "42601 syntax error: expected ? or $n, found ?1");
    }

    #[test]
    fn question_marks_are_no_part_of_operators() {
        for operator in [
            "=", "!=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "^", "||", "&", "|", "#", "<<",
            ">>", "~", "~*", "!~", "!~*", "@>", "<@", "->", "->>", "<->", "<#>", "<+>", "<=>",
        ] {
            let spaced = parsed(&format!("SELECT a {operator} ?"));
            assert!(spaced.ends_with(" $1"), "{operator}: {spaced}");
            assert_eq!(parsed(&format!("SELECT a{operator}?")), spaced);
            assert_eq!(parsed(&format!("SELECT ?{operator}a")), parsed(&format!("SELECT ? {operator} a")));
            let both = parsed(&format!("SELECT ? {operator} ?"));
            assert!(both.starts_with("SELECT $1 ") && both.ends_with(" $2"), "{operator}: {both}");
            assert_eq!(parsed(&format!("SELECT ?{operator}?")), both);
        }
        assert_eq!(parsed("SELECT -?, ~?"), "SELECT -$1, bit_not($2)");
        assert_eq!(parsed("SELECT ?::int, a[?]"), "SELECT $1::INT, a[$2]");
        assert_eq!(parsed("SELECT ?-- it's\n, 1"), "SELECT $1, 1");
        assert_eq!(parsed("SELECT a>?/* it's */"), "SELECT a > $1");
    }

    #[test]
    fn places_stay_where_they_were_written() {
        for (sql, column) in [("SELECT a\n>=? ?", 5), ("SELECT a\n||? ?", 5), ("SELECT a\n<->? ?", 6)] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.position(), Some(Position { line: 2, column }), "{sql}: {}", error.message());
        }
        let error = parse("SELECT\n  a >=$65536").unwrap_err();
        assert_eq!(error.position(), Some(Position { line: 2, column: 7 }));
    }

    #[test]
    fn parameters_have_a_largest_number() {
        let marks = |count: usize| format!("SELECT ?{}", ", ?".repeat(count - 1));
        let names = |count: usize| {
            format!("SELECT $a0{}", (1..count).map(|n| format!(", $a{n}")).collect::<String>())
        };
        for sql in ["SELECT $65535".to_owned(), marks(PARAMETERS_MAX), names(PARAMETERS_MAX)] {
            parse(&sql).unwrap_or_else(|error| panic!("{} {}", &sql[..13], error.message()));
        }
        for sql in [
            "SELECT $65536".to_owned(),
            "SELECT $99999999".to_owned(),
            "SELECT $99999999999999999999999".to_owned(),
            marks(PARAMETERS_MAX + 1),
            names(PARAMETERS_MAX + 1),
        ] {
            let error = parse(&sql).unwrap_err();
            let told = (error.sqlstate(), error.message());
            assert_eq!(told, ("54000", "a statement has at most 65535 parameters"), "{}", &sql[..13]);
        }
    }
}
