//! Cutting input into statements and dot commands, line by line.
//!
//! Owns: where a statement ends and on which line it began, in bounded memory (one statement). Does not own: running.
//! A line that starts with `.` or `\` where no statement is open is a command of the shell, without `;`.

use crate::lex::{self, Kind};

/// One thing to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A statement, without its `;`.
    Statement(Statement),
    /// A shell command, such as `.tables`.
    Command {
        /// The line, trimmed.
        text: String,
        /// Its line in the input.
        line: u64,
    },
}

/// A statement's text and where its first character stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The text, from the first character that is neither blank nor comment to before the `;`.
    pub(crate) text: String,
    /// Line, from 1.
    pub(crate) line: u64,
    /// Column in characters, from 1.
    pub(crate) column: u64,
}

/// Gathers lines until statements are complete.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    open: String,
    /// Bytes of `open` whose tokens can't change any more.
    scanned: usize,
    /// Whether `open` holds more than blanks and comments.
    begun: bool,
    /// Where `open` starts in the input, counted from 0.
    line: u64,
    column: u64,
}

impl Splitter {
    /// Whether a statement has begun and waits for its `;`.
    pub(crate) fn is_open(&self) -> bool {
        self.begun || lex::token_at(&self.open, self.scanned).is_some_and(|t| !t.closed)
    }

    /// The unfinished text.
    pub(crate) fn pending(&self) -> &str {
        &self.open
    }

    /// Forgets the unfinished text.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes one line (without its line end) and returns what became complete.
    pub(crate) fn push_line(&mut self, line: &str) -> Vec<Piece> {
        let trimmed = line.trim();
        if !self.is_open() && trimmed.starts_with(['.', '\\']) {
            self.skip_open();
            let piece = Piece::Command { text: trimmed.to_owned(), line: self.line + 1 };
            self.line += 1;
            self.column = 0;
            return vec![piece];
        }
        self.open.push_str(line);
        self.open.push('\n');
        self.take_complete()
    }

    /// What is left at the end of the input: a last statement without `;`.
    pub(crate) fn finish(&mut self) -> Option<Piece> {
        let all = self.open.len();
        let piece = (self.is_open()).then(|| self.statement(all)).flatten();
        self.clear();
        piece
    }

    fn take_complete(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(token) = lex::token_at(&self.open, self.scanned) {
            if !token.closed {
                break;
            }
            self.scanned = token.range.end;
            match token.kind {
                Kind::Semicolon => {
                    pieces.extend(self.statement(token.range.start));
                    self.drop_front(token.range.end);
                }
                Kind::Space | Kind::Comment => {}
                Kind::Word | Kind::QuotedName | Kind::Text | Kind::Number | Kind::Punctuation => {
                    self.begun = true
                }
            }
        }
        if !self.begun && self.scanned == self.open.len() {
            self.skip_open();
        }
        pieces
    }

    /// The statement in the first `end` bytes; None when there are only blanks and comments.
    fn statement(&self, end: usize) -> Option<Piece> {
        let mut start = 0;
        while let Some(token) = lex::token_at(&self.open, start) {
            if token.range.start >= end {
                return None;
            }
            if !matches!(token.kind, Kind::Space | Kind::Comment) || !token.closed {
                break;
            }
            start = token.range.end;
        }
        let (line, column) = advance(self.line, self.column, &self.open[..start]);
        let text = self.open[start..end].trim_end().to_owned();
        (!text.is_empty()).then_some(Piece::Statement(Statement { text, line: line + 1, column: column + 1 }))
    }

    fn drop_front(&mut self, end: usize) {
        (self.line, self.column) = advance(self.line, self.column, &self.open[..end]);
        self.open.drain(..end);
        self.scanned = 0;
        self.begun = false;
    }

    fn skip_open(&mut self) {
        let all = self.open.len();
        self.drop_front(all);
    }
}

/// Line and column (from 0) after `text`.
fn advance(line: u64, column: u64, text: &str) -> (u64, u64) {
    match text.rfind('\n') {
        None => (line, column + text.chars().count() as u64),
        Some(at) => (line + text.matches('\n').count() as u64, text[at + 1..].chars().count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(script: &str) -> Vec<(String, u64, u64)> {
        let mut splitter = Splitter::default();
        let mut pieces: Vec<Piece> = script.lines().flat_map(|l| splitter.push_line(l)).collect();
        pieces.extend(splitter.finish());
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Statement(s) => (s.text, s.line, s.column),
                Piece::Command { text, line } => (text, line, 0),
            })
            .collect()
    }

    fn check(script: &str, expected: &[(&str, u64, u64)]) {
        let expected: Vec<_> = expected.iter().map(|(t, l, c)| ((*t).to_owned(), *l, *c)).collect();
        assert_eq!(cut(script), expected, "{script}");
    }

    #[test]
    fn statements_know_where_they_began() {
        check("select 1; select 2;", &[("select 1", 1, 1), ("select 2", 1, 11)]);
        check("-- first\n\nselect\n  1;\n  select 2", &[("select\n  1", 3, 1), ("select 2", 5, 3)]);
        check("select 'a;\nb' ; select 3;", &[("select 'a;\nb'", 1, 1), ("select 3", 2, 6)]);
        check("/* ; */ select 1 -- ;\n;", &[("select 1 -- ;", 1, 9)]);
    }

    #[test]
    fn empty_statements_are_nothing() {
        check("", &[]);
        check(";;\n ; -- only this\n", &[]);
        check("/* never closed", &[("/* never closed", 1, 1)]);
    }

    #[test]
    fn commands_stand_between_statements_only() {
        check(
            ".mode csv\nselect 1;\n  \\dt\nselect\n.5;",
            &[(".mode csv", 1, 0), ("select 1", 2, 1), ("\\dt", 3, 0), ("select\n.5", 4, 1)],
        );
        check("select $$\n.tables\n$$;", &[("select $$\n.tables\n$$", 1, 1)]);
        check("select 1;\n-- x\n.tables", &[("select 1", 1, 1), (".tables", 3, 0)]);
    }

    #[test]
    fn an_open_statement_is_known() {
        let mut splitter = Splitter::default();
        assert!(splitter.push_line("select").is_empty());
        assert!(splitter.is_open());
        splitter.clear();
        assert!(!splitter.is_open());
        splitter.push_line("  -- nothing yet");
        assert!(!splitter.is_open());
        splitter.push_line("/* still");
        assert!(splitter.is_open());
    }
}
