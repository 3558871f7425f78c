//! `GENERATED … AS IDENTITY (START WITH 1 INCREMENT BY 2)`: its options in any order.
//!
//! Owns: putting them into the one order that the parser has a grammar for, before it sees them. What it does not know it leaves alone, for
//! the parser to name. Does not own: what they mean (`ddl::identity`).

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// First words of the options, in the parser's order.
const ORDER: [&str; 6] = ["increment", "minvalue", "maxvalue", "start", "cache", "cycle"];

/// Orders the options of every identity column among `tokens`.
pub(crate) fn order_identity_options(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 0;
    while let Some(found) = tokens[at..].iter().position(|t| is_word(&t.token, "identity")) {
        let word = at + found;
        at = word + 1;
        let options = if ends_generated_as(&tokens[..word]) { options_in(&tokens, at) } else { None };
        if let Some(options) = options
            && let Some(ordered) = ordered(&tokens[options.clone()])
        {
            tokens.splice(options, ordered);
        }
    }
    tokens
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

/// Whether the last words are `ALWAYS AS` or `BY DEFAULT AS`.
fn ends_generated_as(tokens: &[TokenWithSpan]) -> bool {
    let mut last = tokens.iter().rev().map(|t| &t.token).filter(|token| !is_blank(token));
    let (Some(last), Some(before)) = (last.next(), last.next()) else { return false };
    is_word(last, "as") && (is_word(before, "always") || is_word(before, "default"))
}

/// What stands in the parentheses that come next.
fn options_in(tokens: &[TokenWithSpan], from: usize) -> Option<Range<usize>> {
    let open = from + tokens[from..].iter().position(|t| !is_blank(&t.token))?;
    if tokens[open].token != Token::LParen {
        return None;
    }
    let close = open + tokens[open..].iter().position(|t| t.token == Token::RParen)?;
    Some(open + 1..close)
}

/// The options in the parser's order; None: something else is among them.
fn ordered(tokens: &[TokenWithSpan]) -> Option<Vec<TokenWithSpan>> {
    let mut options: Vec<(usize, Vec<TokenWithSpan>)> = Vec::new();
    // NO begins an option that its next word names.
    let mut no = false;
    for token in tokens {
        let word = &token.token;
        if let Some(place) = ORDER.iter().position(|first| is_word(word, first)) {
            match options.last_mut() {
                Some(last) if no => {
                    last.0 = place;
                    last.1.push(token.clone());
                }
                _ => options.push((place, vec![token.clone()])),
            }
            no = false;
        } else if is_word(word, "no") {
            options.push((ORDER.len(), vec![token.clone()]));
            no = true;
        } else if let Some(last) = options.last_mut() {
            if !goes_on(word) {
                return None;
            }
            last.1.push(token.clone());
        } else if !is_blank(word) {
            return None;
        }
    }
    options.sort_by_key(|(place, _)| *place);
    Some(options.into_iter().flat_map(|(_, tokens)| tokens).collect())
}

/// Whether it may stand behind the first word of an option.
fn goes_on(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::Number(..) | Token::Plus | Token::Minus)
        || is_word(token, "with")
        || is_word(token, "by")
}
