//! How deep the tree of a statement may get where no parenthesis shows it.
//!
//! `a + b + c`, `x OR y OR z`, `v::t::t` and `FROM a, b, c` become trees as deep as they are long, and whatever visits a tree, or
//! only frees it, goes down by recursion. The parser's own limit (`NESTING_MAX`) counts what it goes down itself. Owns: counting
//! the links of such chains among the tokens, before there is a tree.

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::CHAIN_MAX;
use super::place::position_of;
use crate::error::{Error, Result};

/// What stands between two parentheses, or at the top.
#[derive(Default)]
struct Level {
    /// Links of the levels around it.
    outer: usize,
    /// Links of the expression that is being read.
    links: usize,
    /// Relations joined to those before them.
    joined: usize,
    /// Queries that UNION and its like put behind each other.
    queries: usize,
    /// Whether commas stand between relations.
    in_from: bool,
    /// Whether the expression ends in a comparison: `a = 1 OR b = 2` is as deep as it has ORs, `a = b = c` as comparisons.
    compared: bool,
}

impl Level {
    fn total(&self) -> usize {
        self.outer + self.links + self.joined + self.queries
    }

    fn next_expression(&mut self) {
        (self.links, self.compared) = (0, false);
    }

    fn take(&mut self, token: &Token) {
        match token {
            Token::Comma if self.in_from => {
                self.next_expression();
                self.joined += 1;
            }
            Token::Comma => self.next_expression(),
            Token::SemiColon => *self = Self::default(),
            Token::Word(word) => self.keyword(word.keyword),
            Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => {
                self.links += usize::from(self.compared);
                self.compared = true;
            }
            Token::Number(..) | Token::Placeholder(_) | Token::Period | Token::RArrow | Token::EOF => {}
            Token::Whitespace(_) | Token::SingleQuotedString(_) => {}
            // Operators of every kind.
            _ => self.links += 1,
        }
    }

    fn keyword(&mut self, keyword: Keyword) {
        match keyword {
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::ON => self.next_expression(),
            Keyword::SELECT => {
                self.next_expression();
                (self.joined, self.in_from) = (0, false);
            }
            Keyword::FROM => {
                self.next_expression();
                self.in_from = true;
            }
            Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::SET => {
                self.next_expression();
                self.in_from = false;
            }
            Keyword::AND | Keyword::OR => {
                self.links += 1;
                self.compared = false;
            }
            Keyword::NOT
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::IN
            | Keyword::BETWEEN => self.links += 1,
            Keyword::JOIN => self.joined += 1,
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => self.queries += 1,
            _ => {}
        }
    }
}

/// Refuses chains that are too long.
///
/// # Errors
/// `ResourceExhausted` (54001), with the place of the link that is one too many.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    for token in tokens {
        let nested = levels.len() > 1;
        let Some(level) = levels.last_mut() else { break };
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // A call or an index behind another: `f(x)(y)`, `a[1][1]`.
                level.links += 1;
                let outer = level.total();
                levels.push(Level { outer, ..Level::default() });
            }
            // With one too many the parser says so.
            Token::RParen | Token::RBracket | Token::RBrace if nested => {
                levels.pop();
            }
            token => level.take(token),
        }
        if levels.last().is_some_and(|level| level.total() > CHAIN_MAX) {
            return Err(too_long(token));
        }
    }
    Ok(())
}

fn too_long(token: &TokenWithSpan) -> Error {
    let message = format!("more than {CHAIN_MAX} operators, joins or queries are chained to each other");
    let error = Error::new(ErrorKind::ResourceExhausted, message).map(|e| {
        e.with_sqlstate("54001")
            .with_hint("IN (…) takes any number of values; a table to join takes any number of conditions")
    });
    match position_of(token.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::statement::{CHAIN_MAX, parse};

    #[test]
    fn long_chains_are_refused_before_there_is_a_tree() {
        let many = 20_000;
        for sql in [
            format!("SELECT 1{}", "+1".repeat(many)),
            format!("SELECT 1 WHERE 1=1{}", " OR 1=1".repeat(many)),
            format!("SELECT 1{}", "::int".repeat(many)),
            format!("SELECT a{}", "[1]".repeat(many)),
            format!("SELECT {} true", "NOT ".repeat(many)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(many)),
            format!("SELECT 1 FROM t{}", " JOIN t ON true".repeat(many)),
            format!("SELECT 1 FROM t{}", ", t".repeat(many)),
            format!("SELECT 'a'{}", " || 'a'".repeat(many)),
            format!("SELECT a{}", " IS NULL".repeat(many)),
            format!("CREATE VIEW v AS SELECT 1{}", " - 1".repeat(many)),
            format!("SELECT {}1{}", "(1+1+".repeat(600), ")".repeat(600)),
        ] {
            let error = parse(&sql).unwrap_err();
            assert_eq!(error.sqlstate(), "54001", "{} {}", &sql[..40], error.message());
        }
    }

    #[test]
    fn long_lists_are_not_chains() {
        let many = 20_000;
        for sql in [
            format!("SELECT a FROM t WHERE b IN (0{})", ", -1".repeat(many)),
            format!("INSERT INTO t VALUES (1 + 1, -2){}", ", (-3, 4 * 5)".repeat(many)),
            format!("SELECT a + b{} FROM t", ", a - b".repeat(many)),
            format!("SELECT CASE{} END", " WHEN a = 1 THEN b + 1".repeat(500)),
            format!("SELECT 1{}", "+1".repeat(CHAIN_MAX - 1)),
            format!("SELECT a FROM t ORDER BY a{}", ", b".repeat(CHAIN_MAX + 1)),
        ] {
            parse(&sql).unwrap_or_else(|error| panic!("{} {}", &sql[..40], error.message()));
        }
    }
}
