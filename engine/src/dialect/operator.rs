//! `<->` and `<+>` as one token.
//!
//! Owns: the operators of vectors that hold a sign, which the lexer cuts where a signed number may begin (`a<-1`). The others come
//! out of it whole.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Folds every `<->` and `<+>` that is written without space into one operator.
pub(crate) fn fold_operators(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !(0..tokens.len()).any(|at| cut(&tokens[at..]).is_some()) {
        return tokens;
    }
    let mut folded = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        match cut(&tokens[at..]) {
            Some((operator, pieces)) => {
                let token = Token::CustomBinaryOperator(operator.to_owned());
                let span = tokens[at].span.union(&tokens[at + pieces - 1].span);
                folded.push(TokenWithSpan { token, span });
                at += pieces;
            }
            None => {
                folded.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    folded
}

/// The operator that `tokens` begin with, and in how many pieces it is. Blanks are tokens, too.
fn cut(tokens: &[TokenWithSpan]) -> Option<(&'static str, usize)> {
    match tokens {
        [a, b, ..] if a.token == Token::Lt && b.token == Token::Arrow => Some(("<->", 2)),
        [a, b, c, ..] if a.token == Token::Lt && b.token == Token::Plus && c.token == Token::Gt => {
            Some(("<+>", 3))
        }
        _ => None,
    }
}
