//! Errors as people read them.
//!
//! ```text
//! error[42P01]: table "x" not found
//!  --> notes.sql, line 2, column 15
//!   |
//! 2 | SELECT * FROM x
//!   |               ^
//! hint: …
//! ```

use cairn_engine::{Position, Session};
use unicode_width::UnicodeWidthStr;

use crate::failure::Failure;
use crate::script::Statement;
use crate::style::{Paint, Style};

/// Columns of a source line shown around the caret.
const EXCERPT_WIDTH: usize = 100;

/// The failure of `statement`, found in the file `source` (None: typed, or given by `-c`). Ends with a line end.
pub(crate) fn statement_error(
    failure: &Failure,
    statement: &Statement,
    source: Option<&str>,
    style: Style,
) -> String {
    text(failure, Some((statement, source)), style)
}

/// A failure outside any statement, such as opening the database.
pub(crate) fn error(failure: &Failure, style: Style) -> String {
    text(failure, None, style)
}

/// A failure of the shell's own, such as a file that can't be read.
pub(crate) fn plain(message: &str, style: Style) -> String {
    format!("{} {message}\n", style.paint(Paint::Error, "error:"))
}

fn text(failure: &Failure, place: Option<(&Statement, Option<&str>)>, style: Style) -> String {
    let label = style.paint(Paint::Error, &format!("error[{}]:", failure.sqlstate));
    let mut text = format!("{label} {}\n", failure.message.trim_end());
    if let Some((statement, source)) = place {
        push_place(&mut text, failure.position, statement, source, style);
    }
    for (name, value) in [("detail:", &failure.detail), ("hint:", &failure.hint)] {
        if let Some(value) = value {
            text.push_str(&format!("{} {}\n", style.paint(Paint::Strong, name), value.trim_end()));
        }
    }
    text
}

fn push_place(
    text: &mut String,
    position: Option<Position>,
    statement: &Statement,
    source: Option<&str>,
    style: Style,
) {
    let file = source.map(|name| format!("{name}, ")).unwrap_or_default();
    let line_in_statement = position.and_then(|p| {
        let line = usize::try_from(p.line.checked_sub(1)?).ok()?;
        Some((p, statement.text.lines().nth(line)?))
    });
    // What may hold a password is told apart by its place alone.
    let quotable = line_in_statement.filter(|_| !Session::holds_secret(&statement.text));
    let Some((position, source_line)) = quotable else {
        // Without a place in the statement, a script's reader still wants to know which statement it was.
        if source.is_some() {
            text.push_str(&format!(" --> {file}line {}\n", statement.line));
        }
        return;
    };
    let line = statement.line + position.line - 1;
    let column = if position.line == 1 { statement.column + position.column - 1 } else { position.column };
    let (excerpt, caret) = excerpt(source_line, position.column);
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let bar = style.paint(Paint::Faint, "|");
    text.push_str(&format!(" --> {file}line {line}, column {column}\n"));
    text.push_str(&format!("{margin} {bar}\n"));
    text.push_str(&format!("{} {bar} {excerpt}\n", style.paint(Paint::Faint, &number)));
    text.push_str(&format!("{margin} {bar} {}{}\n", " ".repeat(caret), style.paint(Paint::Error, "^")));
}

/// The part of `line` around character `column` (from 1), and the screen column of that character in it (from 0).
fn excerpt(line: &str, column: u64) -> (String, usize) {
    let characters: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1).min(characters.len());
    let start = if characters.len() <= EXCERPT_WIDTH { 0 } else { column.saturating_sub(EXCERPT_WIDTH / 2) };
    let end = characters.len().min(start + EXCERPT_WIDTH);
    let mut before: String = characters[start..column].iter().collect();
    if start > 0 {
        before.insert(0, '…');
    }
    let after: String = characters[column..end.max(column)].iter().collect();
    let more = if end < characters.len() { "…" } else { "" };
    let caret = before.width();
    (format!("{before}{after}{more}").trim_end().to_owned(), caret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> Failure {
        Failure {
            position: Some(Position { line: 2, column: 15 }),
            ..Failure::new("42P01", "table \"x\" not found").with_hint("did you mean \"y\"?")
        }
    }

    fn statement(text: &str) -> Statement {
        Statement { text: text.to_owned(), line: 7, column: 3 }
    }

    #[test]
    fn the_caret_stands_under_the_name() {
        let statement = statement("SELECT *\n         FROM x");
        assert_eq!(
            text(&missing(), Some((&statement, Some("notes.sql"))), Style::PLAIN),
            "error[42P01]: table \"x\" not found\n \
             --> notes.sql, line 8, column 15\n  \
               |\n\
             8 |          FROM x\n  \
               |               ^\n\
             hint: did you mean \"y\"?\n"
        );
    }

    #[test]
    fn the_first_line_counts_from_the_statement() {
        let failure = Failure { position: Some(Position { line: 1, column: 8 }), hint: None, ..missing() };
        let shown = text(&failure, Some((&statement("SELECT oops"), None)), Style::PLAIN);
        assert!(shown.contains(" --> line 7, column 10\n"), "{shown}");
        assert!(shown.ends_with("7 | SELECT oops\n  |        ^\n"), "{shown}");
    }

    #[test]
    fn wide_characters_and_long_lines() {
        assert_eq!(excerpt("日本 x", 4), ("日本 x".to_owned(), 5));
        assert_eq!(excerpt("\tx", 2), (" x".to_owned(), 1));
        assert_eq!(excerpt("abc", 99), ("abc".to_owned(), 3));
        let long = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let (shown, caret) = excerpt(&long, 301);
        assert_eq!(shown.chars().nth(caret), Some('X'));
        assert!(shown.starts_with('…') && shown.ends_with('…'));
        assert!(shown.width() <= EXCERPT_WIDTH + 2);
    }

    #[test]
    fn a_place_outside_the_text_is_not_shown() {
        let failure = Failure { position: Some(Position { line: 9, column: 1 }), ..missing() };
        let shown = text(&failure, Some((&statement("SELECT 1"), None)), Style::PLAIN);
        assert_eq!(shown, "error[42P01]: table \"x\" not found\nhint: did you mean \"y\"?\n");
        let nowhere = Failure { position: None, hint: None, ..missing() };
        let shown = text(&nowhere, Some((&statement("SELECT 1"), Some("a.sql"))), Style::PLAIN);
        assert_eq!(shown, "error[42P01]: table \"x\" not found\n --> a.sql, line 7\n");
    }

    #[test]
    fn passwords_are_not_quoted() {
        let failure = Failure { position: Some(Position { line: 1, column: 13 }), hint: None, ..missing() };
        let create = statement("CREATE USER bob PASWORD 'hunter2'");
        for source in [None, Some("users.sql")] {
            let shown = text(&failure, Some((&create, source)), Style::PLAIN);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn colours_only_when_asked() {
        assert!(!text(&missing(), None, Style::PLAIN).contains('\x1b'));
        assert!(text(&missing(), None, Style::COLOUR).starts_with("\x1b[1;31merror[42P01]:\x1b[0m"));
    }
}
