//! `STRUCT(a INT, b TEXT)` and `TIMESTAMPTZ('+02:00')` as types.
//!
//! Owns: folding such a type into one token before the parser, which has no grammar for it in PostgreSQL's dialect, sees
//! it. `types` unfolds it again. A call of the function `struct(a, b)` is left alone.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// Folds every STRUCT type, and every TIMESTAMPTZ of a zone, among `tokens` into one quoted word that holds its text.
pub(crate) fn fold_types(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| is_word(&t.token, "struct") || is_word(&t.token, "timestamptz")) {
        return tokens;
    }
    let mut folded: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let end = if is_word(&token.token, "struct") && in_type_position(&folded) {
            struct_end(&tokens, at)
        } else if is_word(&token.token, "timestamptz") {
            zoned_end(&tokens, at)
        } else {
            None
        };
        if let Some(end) = end {
            let text: String = tokens[at..=end].iter().map(|t| t.token.to_string()).collect();
            folded.push(TokenWithSpan {
                token: Token::Word(Word {
                    value: text,
                    quote_style: Some('"'),
                    keyword: datafusion::sql::sqlparser::keywords::Keyword::NoKeyword,
                }),
                span: token.span,
            });
            at = end + 1;
        } else {
            folded.push(token.clone());
            at += 1;
        }
    }
    folded
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// A type stands after `::`, after AS, or after a column's name.
fn in_type_position(before: &[TokenWithSpan]) -> bool {
    let last = before.iter().rev().find(|t| !matches!(t.token, Token::Whitespace(_)));
    match last.map(|t| &t.token) {
        Some(Token::DoubleColon) => true,
        Some(Token::Word(w)) => {
            const EXPRESSION_STARTS: &[&str] = &[
                "select",
                "where",
                "default",
                "and",
                "or",
                "not",
                "in",
                "by",
                "on",
                "then",
                "else",
                "when",
                "having",
                "distinct",
                "returning",
                "values",
                "between",
                "like",
                "case",
                "all",
                "limit",
                "offset",
                "from",
                "join",
            ];
            w.quote_style.is_some() || !EXPRESSION_STARTS.contains(&w.value.to_ascii_lowercase().as_str())
        }
        _ => false,
    }
}

/// The closing parenthesis of `TIMESTAMPTZ ( [digits ,] 'zone' )`; None when there is no zone.
fn zoned_end(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let solid = |(_, t): &(usize, &TokenWithSpan)| !matches!(t.token, Token::Whitespace(_));
    let mut solid = tokens.iter().enumerate().skip(start + 1).filter(solid).map(|(at, t)| (at, &t.token));
    let Some((_, Token::LParen)) = solid.next() else { return None };
    let mut next = solid.next()?;
    if let Token::Number(..) = next.1 {
        let Some((_, Token::Comma)) = solid.next() else { return None };
        next = solid.next()?;
    }
    let Token::SingleQuotedString(_) = next.1 else { return None };
    match solid.next()? {
        (at, Token::RParen) => Some(at),
        _ => None,
    }
}

/// The closing parenthesis of `STRUCT ( name type …`; None when this is no type.
fn struct_end(tokens: &[TokenWithSpan], start: usize) -> Option<usize> {
    let mut solid = tokens[start + 1..].iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    if solid.next()?.token != Token::LParen {
        return None;
    }
    let (Token::Word(_), Token::Word(second)) = (&solid.next()?.token, &solid.next()?.token) else {
        return None;
    };
    if second.quote_style.is_none()
        && ["as", "is", "and", "or", "in", "like"].contains(&second.value.to_ascii_lowercase().as_str())
    {
        return None;
    }
    let mut depth = 0_usize;
    for (offset, token) in tokens[start..].iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(start + offset);
                }
            }
            _ => {}
        }
    }
    None
}
