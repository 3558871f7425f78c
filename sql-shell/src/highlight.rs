//! SQL text with its colours.

use crate::keywords::is_keyword;
use crate::lex::{self, Kind};
use crate::style::{Paint, Style};

/// `line` painted, as the continuation of `pending` (so that a string opened on an earlier line stays a string).
pub(crate) fn line(pending: &str, line: &str, style: Style) -> String {
    if !style.is_on() || (pending.is_empty() && line.starts_with(['.', '\\'])) {
        return line.to_owned();
    }
    let whole = format!("{pending}{line}");
    let mut painted = String::with_capacity(line.len() * 2);
    for token in lex::tokens(&whole) {
        let start = token.range.start.max(pending.len());
        if token.range.end <= start {
            continue;
        }
        let text = &whole[start..token.range.end];
        match paint(token.kind, &whole[token.range.clone()]) {
            // Each line is painted for itself: the editor may start a screen row in the middle.
            Some(paint) => {
                for (i, part) in text.split('\n').enumerate() {
                    if i > 0 {
                        painted.push('\n');
                    }
                    painted.push_str(&style.paint(paint, part));
                }
            }
            None => painted.push_str(text),
        }
    }
    painted
}

fn paint(kind: Kind, text: &str) -> Option<Paint> {
    match kind {
        Kind::Word => is_keyword(text).then_some(Paint::Keyword),
        Kind::Text => Some(Paint::Text),
        Kind::Number => Some(Paint::Number),
        Kind::Comment => Some(Paint::Faint),
        Kind::Space | Kind::QuotedName | Kind::Semicolon | Kind::Punctuation => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(painted: &str) -> String {
        let mut text = String::new();
        let mut rest = painted;
        while let Some(at) = rest.find('\x1b') {
            text.push_str(&rest[..at]);
            let end = rest[at..].find('m').map_or(rest.len(), |i| at + i + 1);
            rest = &rest[end..];
        }
        text + rest
    }

    #[test]
    fn painting_changes_no_character() {
        for text in ["SELECT 'a', 1 FROM t -- done", "select é from \"x y\"", "/* open", "'a\nb' x"] {
            assert_eq!(plain(&line("", text, Style::COLOUR)), text);
            assert_eq!(line("", text, Style::PLAIN), text);
        }
    }

    #[test]
    fn a_string_goes_on_over_lines() {
        let painted = line("select 'a\n", "b' from", Style::COLOUR);
        assert_eq!(plain(&painted), "b' from");
        assert!(painted.starts_with("\x1b[32mb'"), "{painted:?}");
    }

    #[test]
    fn commands_are_left_alone() {
        assert_eq!(line("", ".tables select", Style::COLOUR), ".tables select");
    }
}
