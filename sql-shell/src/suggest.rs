//! "did you mean": the word that was meant by one with a slip in it.
//!
//! Owns: how near is near enough, and words of statements the engine gave no hint about. Does not own: names of tables, columns and
//! functions (the engine hints at them).

use cairn_engine::Session;
use strsim::damerau_levenshtein;

use crate::failure::Failure;
use crate::keywords::{STARTS, is_keyword};
use crate::lex::{self, Kind};

/// SQLSTATE of a syntax error.
const SYNTAX: &str = "42601";

/// The word nearest to `typed`; None: none is near.
pub(crate) fn nearest<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase();
    // A slip or two, and most of the letters right.
    let most = match typed.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        _ => 2,
    };
    let distance = |word: &str| damerau_levenshtein(&typed, &word.to_ascii_lowercase());
    let near = words.into_iter().map(|word| (distance(word), word)).filter(|(distance, _)| *distance <= most);
    // Of several, the one as long as what was typed: letters are swapped more often than left out.
    near.min_by_key(|(distance, word)| (*distance, word.len().abs_diff(typed.len()))).map(|(_, word)| word)
}

/// `failure` of the statement `text` with the keyword that was meant, where a syntax error has no hint.
pub(crate) fn with_keyword(failure: Failure, text: &str) -> Failure {
    if failure.sqlstate != SYNTAX || failure.hint.is_some() {
        return failure;
    }
    match meant(&failure, text) {
        Some(word) => failure.with_hint(format!("did you mean {word}?")),
        None => failure,
    }
}

/// The keyword meant by the word at the error, or by the one before it: there the parser may have taken it for a name.
fn meant(failure: &Failure, text: &str) -> Option<&'static str> {
    let position = failure.position?;
    let tokens = lex::tokens(text);
    let words: Vec<_> = tokens.iter().filter(|t| !matches!(t.kind, Kind::Space | Kind::Comment)).collect();
    let (mut line, mut column, mut byte) = (1, 1, 0);
    for c in text.chars() {
        if (line, column) == (position.line, position.column) {
            break;
        }
        (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        byte += c.len_utf8();
    }
    let at = words.iter().position(|t| t.range.end > byte).unwrap_or(words.len());
    let near = |at: usize| {
        let token = words.get(at).filter(|t| t.kind == Kind::Word)?;
        let word = &text[token.range.clone()];
        let choices = if at == 0 { STARTS } else { Session::keywords() };
        if is_keyword(word) { None } else { nearest(word, choices.iter().copied()) }
    };
    near(at).or_else(|| near(at.checked_sub(1)?))
}

#[cfg(test)]
mod tests {
    use cairn_engine::Position;

    use super::*;

    fn hint(text: &str, column: u64) -> Option<String> {
        let position = Some(Position { line: 1, column });
        let failure = Failure { position, ..Failure::new(SYNTAX, "syntax error") };
        with_keyword(failure, text).hint.map(String::from)
    }

    #[test]
    fn words_with_a_slip_are_found() {
        assert_eq!(nearest("tabels", [".tables", "tables"]), Some("tables"));
        assert_eq!(nearest("x", ["xy"]), None);
        assert_eq!(nearest("nothing", ["tables"]), None);
    }

    #[test]
    fn keywords_are_hinted_at() {
        assert_eq!(hint("SELCT 1", 1).as_deref(), Some("did you mean SELECT?"));
        assert_eq!(hint("SELECT * FORM t", 15).as_deref(), Some("did you mean FROM?"));
        assert_eq!(hint("SELECT * FROM t WEHRE a = 1", 23).as_deref(), Some("did you mean WHERE?"));
        assert_eq!(hint("SELECT 1 +", 11), None);
        assert_eq!(hint("SELECT (1", 10), None);
    }

    #[test]
    fn other_hints_stay() {
        let failure = Failure::new(SYNTAX, "x").with_hint("y");
        assert_eq!(with_keyword(failure.clone(), "SELCT 1"), failure);
        let other = Failure::new("42P01", "x");
        assert_eq!(with_keyword(other.clone(), "SELCT 1"), other);
    }
}
