//! The terminal around the shell: its width, and messages beside the results.

use std::io::{self, IsTerminal, Write};

use rustyline::Editor;
use rustyline::history::DefaultHistory;

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    pub(crate) columns: usize,
    pub(crate) lines: usize,
}

impl Screen {
    /// That of what an editor says; None when it has no size.
    pub(crate) fn of((columns, lines): (u16, u16)) -> Option<Self> {
        let screen = Self { columns: columns.into(), lines: lines.into() };
        (screen.columns > 0 && screen.lines > 0).then_some(screen)
    }
}

/// The terminal that standard output goes to; None when it goes elsewhere.
pub(crate) fn screen() -> Option<Screen> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let mut editor = Editor::<(), DefaultHistory>::new().ok()?;
    editor.dimensions().and_then(Screen::of)
}

/// A line on standard error. Where nobody can read it, nothing happens.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on standard error, as it is.
pub(crate) fn say_text(text: &str) {
    let mut stderr = io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}
