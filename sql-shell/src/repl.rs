//! Typing SQL.
//!
//! Owns: prompts, history, Ctrl-C and Ctrl-D between statements. Does not own: running statements (`shell`).

use std::io;
use std::path::PathBuf;

use cairn_engine::Session;
use rustyline::error::ReadlineError;

use crate::Runtimes;
use crate::command::Command;
use crate::edit;
use crate::editor::{self, LineEditor};
use crate::history;
use crate::report;
use crate::script::{Piece, Splitter};
use crate::shell::{Ended, Shell};
use crate::style::Style;
use crate::terminal::{Screen, say, say_text};

const PROMPT: &str = "cairn> ";
/// While a transaction is open.
const PROMPT_OPEN: &str = "cairn*> ";
const PROMPT_MORE: &str = "   ...> ";

/// Reads and runs statements until the user leaves; returns the exit code. Must not be called inside a runtime.
pub(crate) fn run(shell: &mut Shell, runtimes: &Runtimes) -> u8 {
    match Repl::new(shell) {
        Ok(mut repl) => repl.run(shell, runtimes),
        Err(error) => {
            say_text(&report::plain(
                &format!("the terminal can't be used: {error}"),
                Style::of(&io::stderr()),
            ));
            1
        }
    }
}

struct Repl {
    editor: LineEditor,
    history: Option<PathBuf>,
    splitter: Splitter,
    /// What the next line begins with, from an editor.
    begun: String,
}

impl Repl {
    fn new(shell: &mut Shell) -> rustyline::Result<Self> {
        let mut editor = editor::editor(shell.connection(), Style::of(&io::stdout()))?;
        let history = history::file();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        editor.history().iter().for_each(|typed| shell.remember(typed.clone()));
        Ok(Self { editor, history, splitter: Splitter::default(), begun: String::new() })
    }

    fn run(&mut self, shell: &mut Shell, runtimes: &Runtimes) -> u8 {
        loop {
            match self.read(shell.connection().in_transaction()) {
                Ok(pieces) => {
                    if let Some(code) = self.run_pieces(&pieces, shell, runtimes) {
                        return code;
                    }
                }
                Err(ReadlineError::Interrupted) => {
                    let open = self.splitter.is_open();
                    self.splitter.clear();
                    // What was typed is cleared; leaving by a second Ctrl-C would lose the next line too.
                    if !open {
                        say("(Ctrl-D or .quit leaves)");
                    }
                }
                Err(ReadlineError::Eof) => return 0,
                Err(error) => {
                    say_text(&report::plain(
                        &format!("the terminal can't be read: {error}"),
                        Style::of(&io::stderr()),
                    ));
                    return 1;
                }
            }
        }
    }

    /// One edited line, which may hold several when it was pasted. `open`: whether a transaction is.
    fn read(&mut self, open: bool) -> rustyline::Result<Vec<Piece>> {
        if !self.splitter.is_open() {
            // Places in errors count from the statement, not from the start of the session.
            self.splitter.clear();
        }
        if let Some(helper) = self.editor.helper() {
            helper.set_pending(self.splitter.pending());
        }
        let prompt = match (self.splitter.is_open(), open) {
            (true, _) => PROMPT_MORE,
            (false, true) => PROMPT_OPEN,
            (false, false) => PROMPT,
        };
        let begun = std::mem::take(&mut self.begun);
        let input = self.editor.readline_with_initial(prompt, (begun.as_str(), ""))?;
        Ok(input.split('\n').flat_map(|line| self.splitter.push_line(line)).collect())
    }

    fn run_pieces(&mut self, pieces: &[Piece], shell: &mut Shell, runtimes: &Runtimes) -> Option<u8> {
        for piece in pieces {
            self.remember(piece, shell);
        }
        for piece in pieces {
            shell.set_screen(self.editor.dimensions().and_then(Screen::of));
            if let Piece::Command { text, .. } = piece
                && let Ok(Command::Edit(file)) = Command::parse(text)
            {
                match self.edit(file.as_deref(), shell, runtimes) {
                    Some(code) => return Some(code),
                    None => continue,
                }
            }
            match runtimes.block_on(shell.run_piece(piece, None)) {
                Ended::Well | Ended::Failed => {}
                // What was pasted behind it was meant for the session that is gone.
                Ended::Cancelled | Ended::Lost => break,
                Ended::Unread => return Some(0),
                Ended::Exit(code) => return Some(code),
            }
        }
        None
    }

    /// Every statement is one entry, written at once so that a crash keeps it; but one that may hold a password is none.
    fn remember(&mut self, piece: &Piece, shell: &mut Shell) {
        let entry = match piece {
            Piece::Statement(statement) if Session::holds_secret(&statement.text) => return,
            Piece::Statement(statement) => format!("{};", statement.text),
            Piece::Command { text, .. } => text.clone(),
        };
        shell.remember(entry.clone());
        if self.editor.add_history_entry(entry).is_ok()
            && let Some(path) = &self.history
        {
            let _ = self.editor.append_history(path);
        }
    }

    /// `.edit`: the file, or the last statement, in an editor. What it has when the user leaves is run, and a statement without its `;`
    /// is what the next line begins with.
    fn edit(&mut self, file: Option<&str>, shell: &mut Shell, runtimes: &Runtimes) -> Option<u8> {
        let last = shell.last_statement().map(|text| format!("{text};\n")).unwrap_or_default();
        let text = match edit::edited(file, &last) {
            Ok(text) => text,
            Err(message) => {
                say_text(&report::plain(&message, Style::of(&io::stderr())));
                return None;
            }
        };
        // Left as it was, there is nothing to do.
        if file.is_none() && text == last {
            return None;
        }
        self.splitter.clear();
        let pieces: Vec<Piece> = text.lines().flat_map(|line| self.splitter.push_line(line)).collect();
        if let Some(Piece::Statement(open)) = self.splitter.finish() {
            self.begun = open.text;
        }
        // A command in it may be to edit again.
        self.run_pieces(&pieces, shell, runtimes)
    }
}
