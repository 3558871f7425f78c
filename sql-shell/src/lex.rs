//! The words of SQL text, as far as an editor needs them.
//!
//! Owns: where strings, comments, names, numbers and statements begin and end. Does not own: grammar; the engine
//! parses. Every byte of the text belongs to exactly one token, so tokens can be painted and joined again.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Blanks and line ends.
    Space,
    /// `-- …` or `/* … */`, nested.
    Comment,
    /// An unquoted name or keyword.
    Word,
    /// `"…"`.
    QuotedName,
    /// `'…'`, `E'…'` or `$tag$…$tag$`.
    Text,
    /// A number.
    Number,
    /// `;`.
    Semicolon,
    /// Any other character.
    Punctuation,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its bytes in the text.
    pub(crate) range: Range<usize>,
    /// False for a string, quoted name or block comment whose end is missing.
    pub(crate) closed: bool,
}

/// All tokens of `text`.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(token) = token_at(text, at) {
        at = token.range.end;
        all.push(token);
    }
    all
}

/// The token that starts at byte `at` (a character boundary); None at the end.
pub(crate) fn token_at(text: &str, at: usize) -> Option<Token> {
    let rest = text.get(at..)?;
    let first = rest.chars().next()?;
    let made = |kind, length: usize| Token { kind, range: at..at + length, closed: true };
    let ended = |kind, length: Option<usize>| Token {
        kind,
        range: at..at + length.unwrap_or(rest.len()),
        closed: length.is_some(),
    };
    Some(match first {
        c if c.is_whitespace() => made(Kind::Space, run(rest, char::is_whitespace)),
        '-' if rest.starts_with("--") => made(Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => ended(Kind::Comment, block_comment(rest)),
        '\'' => ended(Kind::Text, quoted(rest, 1, '\'', false)),
        'e' | 'E' if rest[1..].starts_with('\'') => ended(Kind::Text, quoted(rest, 2, '\'', true)),
        '"' => ended(Kind::QuotedName, quoted(rest, 1, '"', false)),
        '$' => match dollar_tag(rest) {
            Some(tag) => {
                let body = &rest[tag.len()..];
                ended(Kind::Text, body.find(tag).map(|i| i + 2 * tag.len()))
            }
            None => made(Kind::Word, 1 + run(&rest[1..], |c| c.is_ascii_digit())),
        },
        ';' => made(Kind::Semicolon, 1),
        c if c.is_ascii_digit() => made(Kind::Number, number(rest)),
        c if c.is_alphabetic() || c == '_' => {
            made(Kind::Word, run(rest, |c| c.is_alphanumeric() || c == '_' || c == '$'))
        }
        c => made(Kind::Punctuation, c.len_utf8()),
    })
}

/// Bytes of the longest prefix whose characters all satisfy `wanted`.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

/// Length of a quoted token that opens with `open` bytes; a doubled quote stands for itself.
fn quoted(text: &str, open: usize, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = text[open..].char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
            } else {
                return Some(open + i + 1);
            }
        }
    }
    None
}

fn block_comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// `$$` or `$name$` at the start of `text`.
fn dollar_tag(text: &str) -> Option<&str> {
    let name = run(&text[1..], |c| c.is_alphanumeric() || c == '_');
    let starts_with_digit = text[1..].starts_with(|c: char| c.is_ascii_digit());
    (!starts_with_digit && text[1 + name..].starts_with('$')).then(|| &text[..name + 2])
}

fn number(text: &str) -> usize {
    let mut length = run(text, |c| c.is_ascii_digit() || c == '_');
    if let Some(fraction) = text[length..].strip_prefix('.') {
        length += 1 + run(fraction, |c| c.is_ascii_digit());
    }
    if let Some(exponent) = text[length..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let digits = run(&exponent[sign..], |c| c.is_ascii_digit());
        if digits > 0 {
            length += 1 + sign + digits;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(Kind, &str)]) {
        let found = tokens(text);
        let found: Vec<_> = found.iter().map(|t| (t.kind, &text[t.range.clone()])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_byte_belongs_to_one_token() {
        let text = "sélect 'a''b;' /* x /* y */ ; */, E'\\'', $q$ ; $q$, \"n\"\"m\", 1.5e-3 -- end;\n;";
        let joined: String = tokens(text).iter().map(|t| &text[t.range.clone()]).collect();
        assert_eq!(joined, text);
        let semicolons = tokens(text).iter().filter(|t| t.kind == Kind::Semicolon).count();
        assert_eq!(semicolons, 1);
    }

    #[test]
    fn kinds() {
        check("a1 $2", &[(Kind::Word, "a1"), (Kind::Space, " "), (Kind::Word, "$2")]);
        check("1e", &[(Kind::Number, "1"), (Kind::Word, "e")]);
        check("'a\\'", &[(Kind::Text, "'a\\'")]);
        check("$$a;b$$", &[(Kind::Text, "$$a;b$$")]);
        check(
            "x<=>y",
            &[
                (Kind::Word, "x"),
                (Kind::Punctuation, "<"),
                (Kind::Punctuation, "="),
                (Kind::Punctuation, ">"),
                (Kind::Word, "y"),
            ],
        );
    }

    #[test]
    fn a_missing_end_is_seen() {
        for text in ["'abc", "\"abc", "/* abc", "$x$ abc", "E'\\'"] {
            assert!(tokens(text).last().is_some_and(|t| !t.closed), "{text}");
        }
    }
}
