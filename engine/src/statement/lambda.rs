//! Lambdas: `x -> x + 1`, `(x, i) -> x * i`, `lambda x, i: x * i`.
//!
//! `->` is PostgreSQL's operator of JSON as well, and what stands before it may be a name there, too. What tells them apart is the place: the second
//! argument of a function that takes a lambda is one, and nothing else is. So the parameters and the sign behind them are folded into one token,
//! before the parser sees them, and [`lambda`] reads it. Owns: that, and `x.a` for a member of a parameter. Does not own: which functions those are
//! (`cairn_udfs`), what a lambda means (the planner).

use std::ops::ControlFlow;

use cairn_storage::ErrorKind;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, OneOrManyWithParens,
};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer, Word};

use super::nested::{member, members_by_text};
use super::place::{name_of, position_of};
use super::walk;
use crate::dialect::CairnDialect;
use crate::error::{Error, Result};

/// Lambdas within each other. Each is planned several times to learn its type, and so are those in it, each time.
const LAMBDAS_MAX: usize = 5;
/// Tokens that the parameters of a lambda have at most: no function gives a lambda more than three.
const HEAD_TOKENS_MAX: usize = 16;

/// A pair of parentheses, brackets or braces.
struct Level {
    /// They are those of a call whose second argument is a lambda.
    takes_lambda: bool,
    commas: usize,
    in_lambda: bool,
}

/// Folds the parameters of every lambda among `tokens` into one token.
///
/// # Errors
/// `ResourceExhausted` (54001), with the place, for lambdas too deep within each other.
pub(super) fn fold(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    if !tokens.iter().any(|token| matches!(token.token, Token::Arrow | Token::Colon)) {
        return Ok(tokens);
    }
    let mut folded = Vec::with_capacity(tokens.len());
    let mut levels: Vec<Level> = Vec::new();
    // The last token is the name of a function that takes a lambda.
    let mut is_called = false;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        folded.push(token.clone());
        at += 1;
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                let takes_lambda = is_called && token.token == Token::LParen;
                levels.push(Level { takes_lambda, commas: 0, in_lambda: false });
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                levels.pop();
            }
            Token::Comma => {
                let rest = &tokens[at..];
                let pieces = levels.last_mut().and_then(|level| {
                    level.commas += 1;
                    let head = if level.takes_lambda && level.commas == 1 { head(rest) } else { None };
                    level.in_lambda = head.is_some();
                    head
                });
                if let Some(pieces) = pieces {
                    let head = joined(&rest[..pieces]);
                    if levels.iter().filter(|level| level.in_lambda).count() > LAMBDAS_MAX {
                        return Err(too_deep(&head));
                    }
                    folded.push(head);
                    at += pieces;
                }
            }
            _ => {}
        }
        is_called = matches!(&token.token, Token::Word(word) if cairn_udfs::takes_lambda(&word.value));
    }
    Ok(folded)
}

/// How many of `tokens` are the parameters of a lambda with the sign behind them; None: something else comes.
fn head(tokens: &[TokenWithSpan]) -> Option<usize> {
    let solid = tokens.iter().enumerate().filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    let solid: Vec<(usize, &Token)> =
        solid.map(|(at, token)| (at, &token.token)).take(HEAD_TOKENS_MAX).collect();
    let (is_keyword, mut rest) = match solid.as_slice() {
        [(_, Token::Word(word)), rest @ ..]
            if is_lambda(word) && !matches!(rest, [(_, Token::Arrow), ..]) =>
        {
            (true, rest)
        }
        all => (false, all),
    };
    let is_enclosed = matches!(rest, [(_, Token::LParen), ..]);
    if is_enclosed {
        rest = &rest[1..];
    }
    loop {
        let [(_, Token::Word(_)), behind @ ..] = rest else { return None };
        match behind {
            [(_, Token::Comma), more @ ..] if is_keyword || is_enclosed => rest = more,
            _ => {
                rest = behind;
                break;
            }
        }
    }
    if is_enclosed {
        let [(_, Token::RParen), behind @ ..] = rest else { return None };
        rest = behind;
    }
    match rest {
        [(at, Token::Colon), ..] if is_keyword => Some(at + 1),
        [(at, Token::Arrow), ..] if !is_keyword => Some(at + 1),
        _ => None,
    }
}

fn is_lambda(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case("lambda")
}

/// As one token that is shown as they are. No operator begins with a letter, a quote or a parenthesis.
fn joined(tokens: &[TokenWithSpan]) -> TokenWithSpan {
    let solid = || tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let texts: Vec<String> = solid().map(|token| token.token.to_string()).collect();
    let mut spans = solid().map(|token| token.span);
    let first = spans.next().unwrap_or_else(Span::empty);
    let span = spans.next_back().map_or(first, |last| first.union(&last));
    TokenWithSpan { token: Token::CustomBinaryOperator(texts.join(" ")), span }
}

fn too_deep(head: &TokenWithSpan) -> Error {
    let message = format!("more than {LAMBDAS_MAX} lambdas are within each other");
    let error = Error::new(ErrorKind::ResourceExhausted, message).map(|e| {
        e.with_sqlstate("54001").with_hint("make the inner lists in a query in FROM, or flatten them before")
    });
    match position_of(head.span.start) {
        Some(position) => error.at(position),
        None => error,
    }
}

/// The lambda that comes next; None: something else does.
pub(crate) fn lambda(parser: &mut Parser<'_>) -> Option<std::result::Result<Expr, ParserError>> {
    let next = parser.peek_token_ref();
    let Token::CustomBinaryOperator(head) = &next.token else { return None };
    if !head.starts_with(|first: char| first.is_alphanumeric() || matches!(first, '_' | '"' | '(')) {
        return None;
    }
    let syntax = if head.ends_with(':') { LambdaSyntax::LambdaKeyword } else { LambdaSyntax::Arrow };
    let (is_enclosed, span) = (head.contains('('), next.span);
    let tokens = Tokenizer::new(&CairnDialect, head).tokenize().ok()?;
    let words = tokens.into_iter().filter_map(|token| match token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    let names: Vec<Ident> = words
        .skip(usize::from(syntax == LambdaSyntax::LambdaKeyword))
        .map(|word| word.into_ident(span))
        .collect();
    parser.next_token();
    Some(parser.parse_expr().map(|mut body| {
        read_members(&mut body, &names);
        let mut parameters = names.into_iter().map(|name| LambdaFunctionParameter { name, data_type: None });
        let params = match (parameters.len(), is_enclosed) {
            (1, false) => parameters.next().map(OneOrManyWithParens::One),
            _ => None,
        };
        Expr::Lambda(LambdaFunction {
            params: params.unwrap_or_else(|| OneOrManyWithParens::Many(parameters.collect())),
            body: Box::new(body),
            syntax,
        })
    }))
}

/// `x.a` is `x['a']` where `x` is a parameter: to the planner it would be a column of a table.
fn read_members(body: &mut Expr, names: &[Ident]) {
    let names: Vec<String> = names.iter().map(name_of).collect();
    let _: ControlFlow<()> = walk::expressions_mut(body, |expr| {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let [first, members @ ..] = parts.as_slice()
                    && names.contains(&name_of(first))
                {
                    let access_chain = members.iter().map(member).collect();
                    let root = Box::new(Expr::Identifier(first.clone()));
                    *expr = Expr::CompoundFieldAccess { root, access_chain };
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } if matches!(root.as_ref(), Expr::Identifier(first) if names.contains(&name_of(first))) =>
            {
                members_by_text(access_chain);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::statement::{Statement, parse};

    /// The statement, or its SQLSTATE; a call of `f` is one of `list_transform`.
    fn parsed(sql: &str) -> String {
        match parse(&sql.replace("f(", "list_transform(")) {
            Ok(Statement::Query(query)) => query.to_string().replace("list_transform(", "f("),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.sqlstate().to_owned(),
        }
    }

    #[test]
    fn a_lambda_is_the_second_argument_of_a_function_that_takes_one() {
        for (sql, expected) in [
            ("f(a, x->x+1)", "f(a, x -> x + 1)"),
            ("LIST_FILTER(a,(x, i) -> x > i)", "LIST_FILTER(a, (x, i) -> x > i)"),
            ("f(a, (x) -> x)", "f(a, (x) -> x)"),
            ("f(a, lambda x: x + 1)", "f(a, lambda x : x + 1)"),
            ("f(a, LAMBDA x, \"I\" : x)", "f(a, lambda x, \"I\" : x)"),
            ("f(a, lambda (x, y):x)", "f(a, lambda x, y : x)"),
            ("f(a, lambda -> lambda + 1)", "f(a, lambda -> lambda + 1)"),
            ("f(a, /* its */ x -- element\n -> x)", "f(a, x -> x)"),
            ("f([1, 2], x -> f(x, y -> x + y))", "f([1, 2], x -> f(x, y -> x + y))"),
            ("reduce(a, (x, y) -> x || y, j -> 'k')", "reduce(a, (x, y) -> x || y, j -> 'k')"),
            ("f(j -> 'k', x -> x -> 'k' = 'v')", "f(j -> 'k', x -> x -> 'k' = 'v')"),
            ("f(a, x -> x.b.\"C\" + t.b)", "f(a, x -> x['b']['C'] + t.b)"),
            ("f(a, x -> x.b[1].c || t.b[1])", "f(a, x -> x['b'][1]['c'] || t.b[1])"),
            ("json_set(j, j -> 'k', 1)", "json_set(j, j -> 'k', 1)"),
            ("f(j ->> 'k')", "f(j ->> 'k')"),
        ] {
            assert_eq!(
                parsed(&format!("SELECT {sql} AS a FROM t")),
                format!("SELECT {expected} AS a FROM t")
            );
        }
        for wrong in
            ["f(a, lambda x -> x)", "f(a, (x, y): x)", "f(a, x ->)", "f(a, lambda x:)", "f(a, x INT -> x)"]
        {
            assert_eq!(parsed(&format!("SELECT {wrong}")), "42601", "{wrong}");
        }
        let lambda = |sql: &str| match parse(sql) {
            Ok(Statement::Query(query)) => format!("{query:?}").matches("LambdaFunction {").count(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            lambda("SELECT reduce(j -> 'k', (x, y) -> y -> 'k', j -> 'k'), j -> 'k', f(a, j -> 'k')"),
            1
        );
    }

    #[test]
    fn what_a_lambda_says_is_written_and_read_again() {
        for sql in ["SELECT f(a, (x, i) -> x * i) AS a", "SELECT f(a, lambda x, i : x * i) AS a"] {
            assert_eq!(parsed(sql), sql);
        }
    }

    #[test]
    fn lambdas_are_read_once_and_not_too_deep() {
        let nested = |levels: usize, inner: &str| {
            format!("SELECT {}{inner}{}", "f(a, x -> ".repeat(levels), ")".repeat(levels))
        };
        let begun = Instant::now();
        assert_ne!(parsed(&nested(5, "1")), "54001");
        assert_eq!(parsed(&nested(6, "1")), "54001");
        assert_eq!(parsed(&nested(5, "1 +")), "42601");
        assert_eq!(parsed(&nested(5_000, "1")), "54001");
        // One behind the other is not within each other.
        assert_ne!(parsed(&format!("SELECT {}a{}", "f(".repeat(20), ", x -> x)".repeat(20))), "54001");
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_subquery_in_a_lambda_is_refused() {
        for sql in [
            "SELECT f(a, x -> (SELECT max(b) FROM t))",
            "SELECT f(a, x -> x IN (SELECT b FROM t))",
            "SELECT f(a, x -> f(b, y -> EXISTS (SELECT 1)))",
        ] {
            assert_eq!(parsed(sql), "0A000", "{sql}");
        }
        assert_ne!(parsed("SELECT f((SELECT a FROM t), x -> x)"), "0A000");
    }
}
