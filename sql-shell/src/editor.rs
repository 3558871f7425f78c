//! The line editor: colours and completion while typing.
//!
//! Owns: the glue between the editor and `complete`, `highlight`; file names. Does not own: what is done with a line.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::path::Path;

use rustyline::completion::{Completer, Pair};
use rustyline::config::CompletionType;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, Config, Context, Editor, Helper};

use crate::complete::{self, Completion, is_command};
use crate::connection::Connection;
use crate::highlight;
use crate::history;
use crate::script::Splitter;
use crate::style::{Paint, Style};

/// Each key paints anew all of what is edited as a whole.
const EDITED_BYTES_MAX: usize = 16 << 10;

/// The editor with our helper.
pub(crate) type LineEditor = Editor<SqlHelper, DefaultHistory>;

/// Makes an editor.
///
/// # Errors
/// When the terminal can't be used.
pub(crate) fn editor(connection: &Connection, style: Style) -> rustyline::Result<LineEditor> {
    let config = Config::builder()
        .max_history_size(history::ENTRIES_MAX)?
        .history_ignore_dups(true)?
        .auto_add_history(false)
        .completion_type(CompletionType::List)
        .color_mode(if style.is_on() { ColorMode::Enabled } else { ColorMode::Disabled })
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(SqlHelper { connection: connection.clone(), style, pending: RefCell::default() }));
    Ok(editor)
}

/// Colours and candidates for the statement being typed.
pub(crate) struct SqlHelper {
    connection: Connection,
    style: Style,
    /// The lines of a very long statement before those being edited.
    pending: RefCell<String>,
}

impl SqlHelper {
    /// The next line goes on from `pending`.
    pub(crate) fn set_pending(&self, pending: &str) {
        pending.clone_into(&mut self.pending.borrow_mut());
    }
}

impl Helper for SqlHelper {}

impl Validator for SqlHelper {
    /// A statement is edited as a whole until its `;` is there.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let goes_on = self.pending.borrow().is_empty() && is_open(context.input());
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// Whether a statement in `input` waits for its `;`. What is too long to be edited as a whole is taken line by line.
fn is_open(input: &str) -> bool {
    if input.len() > EDITED_BYTES_MAX {
        return false;
    }
    let mut splitter = Splitter::default();
    for line in input.split('\n') {
        splitter.push_line(line);
    }
    splitter.is_open()
}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        if !self.style.is_on() {
            return Cow::Borrowed(line);
        }
        Cow::Owned(highlight::line(&self.pending.borrow(), line, self.style))
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        Cow::Owned(self.style.paint(Paint::Strong, prompt))
    }

    fn highlight_char(&self, _line: &str, _pos: usize, kind: CmdKind) -> bool {
        self.style.is_on() && kind != CmdKind::MoveCursor
    }
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let pending = self.pending.borrow();
        let before = format!("{pending}{}", &line[..pos]);
        let completion = complete::at_cursor(&before, &line[pos..], &self.connection.names());
        let (start, pairs) = match completion {
            Completion::Words { start, candidates } => (start, candidates.into_iter().map(word).collect()),
            // A server's files are not to be seen from here; those of the shell's own commands are.
            Completion::File { .. } if !self.connection.is_local() && !is_command(&before) => {
                (before.len(), Vec::new())
            }
            Completion::File { start, kinds } => {
                let end = if is_command(&before) || line[pos..].starts_with('\'') { "" } else { "'" };
                files(start, &before[start..], kinds, end)
            }
        };
        // A word begun on an earlier line, such as a string, can't be replaced from this one.
        Ok(start.checked_sub(pending.len()).map_or((pos, Vec::new()), |start| (start, pairs)))
    }
}

fn word(text: String) -> Pair {
    Pair { display: text.clone(), replacement: text }
}

/// Files whose path begins with `typed`, which stands at byte `start`; the answer replaces the last part of the path, and puts `end`
/// behind the name of a file. Those whose names end with one of `kinds`, and directories; where there are none, all.
fn files(start: usize, typed: &str, kinds: &[&str], end: &str) -> (usize, Vec<Pair>) {
    let split = typed.rfind('/').map_or(0, |slash| slash + 1);
    let (dir, prefix) = typed.split_at(split);
    let dir = if dir.is_empty() { Path::new(".") } else { Path::new(dir) };
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let hidden = name.starts_with('.') && !prefix.starts_with('.');
            let is_dir = entry.path().is_dir();
            (name.starts_with(prefix) && !hidden).then(|| if is_dir { format!("{name}/") } else { name })
        })
        .collect();
    names.sort();
    let is_meant = |name: &String| {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| kinds.iter().any(|kind| ending.eq_ignore_ascii_case(kind)))
    };
    let is_directory = |name: &String| name.ends_with('/');
    if names.iter().any(|name| is_meant(name) && !is_directory(name)) {
        names.retain(|name| is_meant(name) || is_directory(name));
    }
    let pair = |name: String| {
        let end = if is_directory(&name) { "" } else { end };
        Pair { replacement: format!("{name}{end}"), display: name }
    };
    (start + split, names.into_iter().map(pair).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_edited_until_they_end() {
        for open in ["select", "select 1\n  + 2", "select 'a;\n", "select 1; select"] {
            assert!(is_open(open), "{open}");
        }
        for whole in ["", "select 1;", "select\n 1 ;", ".tables", "-- nothing", "select 1; -- done"] {
            assert!(!is_open(whole), "{whole}");
        }
        assert!(!is_open(&"x\n".repeat(EDITED_BYTES_MAX)));
    }

    #[test]
    fn file_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data.csv"), "").unwrap();
        fs::create_dir(dir.path().join("days")).unwrap();
        fs::write(dir.path().join(".dark"), "").unwrap();
        let typed = format!("{}/da", dir.path().display());
        let (start, pairs) = files(5, &typed, &[], "");
        assert_eq!(start, 5 + typed.len() - 2);
        let names: Vec<_> = pairs.into_iter().map(|p| p.replacement).collect();
        assert_eq!(names, ["data.csv", "days/"]);
        assert!(files(0, "/no/such/dir/x", &[], "").1.is_empty());

        fs::write(dir.path().join("data.md"), "").unwrap();
        let of_kind = |kinds: &[&str]| {
            let (_, pairs) = files(5, &typed, kinds, "'");
            pairs.into_iter().map(|p| p.replacement).collect::<Vec<_>>()
        };
        assert_eq!(of_kind(&["CSV", "tsv"]), ["data.csv'", "days/"]);
        // Better any than none.
        assert_eq!(of_kind(&["parquet"]), ["data.csv'", "data.md'", "days/"]);
    }
}
