//! `<+>` as one token.
//!
//! Owns: the one operator that the lexer, which takes `<+` for a comparison with a signed number, cuts in three. The
//! other operators of vectors come out of it whole.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Folds every `<`, `+`, `>` without space between them into one operator.
pub(crate) fn fold_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_cut = |at: &[TokenWithSpan]| matches!(at, [a, b, c] if a.token == Token::Lt && b.token == Token::Plus && c.token == Token::Gt);
    if !tokens.windows(3).any(is_cut) {
        return tokens;
    }
    let mut folded = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        match tokens.get(at..at + 3) {
            Some(three) if is_cut(three) => {
                let token = Token::CustomBinaryOperator("<+>".to_owned());
                folded.push(TokenWithSpan { token, span: three[0].span.union(&three[2].span) });
                at += 3;
            }
            _ => {
                folded.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    folded
}
