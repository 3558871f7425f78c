//! Typing SQL.
//!
//! Owns: prompts, history, Ctrl-C and Ctrl-D between statements. Does not own: running statements (`shell`).

use std::io;
use std::path::PathBuf;

use cairn_engine::Session;
use rustyline::error::ReadlineError;

use crate::Runtimes;
use crate::editor::{self, LineEditor};
use crate::history;
use crate::report;
use crate::script::{Piece, Splitter};
use crate::shell::{Ended, Shell};
use crate::style::Style;
use crate::terminal::{say, say_text};

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
}

impl Repl {
    fn new(shell: &Shell) -> rustyline::Result<Self> {
        let mut editor = editor::editor(shell.connection(), Style::of(&io::stdout()))?;
        let history = history::file();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history, splitter: Splitter::default() })
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
        let input = self.editor.readline(prompt)?;
        Ok(input.split('\n').flat_map(|line| self.splitter.push_line(line)).collect())
    }

    fn run_pieces(&mut self, pieces: &[Piece], shell: &mut Shell, runtimes: &Runtimes) -> Option<u8> {
        for piece in pieces {
            self.remember(piece);
        }
        for piece in pieces {
            shell.set_width(self.editor.dimensions().map(|(columns, _)| usize::from(columns)));
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
    fn remember(&mut self, piece: &Piece) {
        let entry = match piece {
            Piece::Statement(statement) if Session::holds_secret(&statement.text) => return,
            Piece::Statement(statement) => format!("{};", statement.text),
            Piece::Command { text, .. } => text.clone(),
        };
        if self.editor.add_history_entry(entry).is_ok()
            && let Some(path) = &self.history
        {
            let _ = self.editor.append_history(path);
        }
    }
}
